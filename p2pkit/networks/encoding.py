"""A network that sees encoded sources, and takes the sources themselves."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

_PASSED_ON = ("size_multiple", "smallest_size")
"""What others ask a network for by name (see contracts)."""


class Encoded(nn.Module):
    """A generator or discriminator behind an encoding (contracts.Encoding), called as it would be without one."""

    def __init__(self, encoding: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.encoding, self.network = encoding, network
        for name in _PASSED_ON:
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))

    def forward(self, source: Tensor, *arguments: Any, **keywords: Any) -> Any:
        """What the network makes of the encoded ``source`` [N, Cs, H, W] and all else that it is given."""
        return self.network(self.encoding(source), *arguments, **keywords)
