"""A network that sees encoded sources, and takes the sources themselves, one or several, as they are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from p2pkit.contracts import Resampling
from p2pkit.networks.bicubic import Window
from p2pkit.networks.fitting import resize

_PASSED_ON = ("size_multiple", "smallest_size", "defaults_for")
"""What others ask a network for by name (see contracts)."""


class SourcePart(NamedTuple):
    """One of the sources, whose channels lie one after another in a tensor."""

    name: str
    """Empty for a single one."""
    channels: int
    resampling: Resampling = "bicubic"
    encoding: Any = None
    """An encoding (contracts.Encoding), if it has one."""

    @property
    def pictured(self) -> Any:
        """What makes pictures [N, 3, H, W] of it; None where it is a picture itself."""
        return getattr(self.encoding, "picture", None)


def split_sources(source: Tensor, parts: Sequence[SourcePart]) -> Mapping[str, Tensor]:
    """Each of the sources in a tensor [..., C, H, W], by name."""
    if len(parts) < 2:
        return {part.name: source for part in parts}
    each = torch.split(source, [part.channels for part in parts], dim=-3)
    return {part.name: own for part, own in zip(parts, each, strict=True)}


def resize_sources(
    source: Tensor, size: tuple[int, int], parts: Sequence[SourcePart], window: Window | None = None
) -> Tensor:
    """Sources [..., C, H, W] in [-1, 1] at ``size``, (height, width), each with its own resampling.

    With a ``window`` only that part of them.
    """
    each = split_sources(source, parts)
    return torch.cat([resize(each[part.name], size, part.resampling, window) for part in parts], dim=-3)


class SourceEncoding(nn.Module):
    """The encodings of several sources. Each is encoded by itself; they lie one after another along the channels."""

    def __init__(self, parts: Sequence[SourcePart]) -> None:
        super().__init__()
        self.sizes = [part.channels for part in parts]
        encodings = [part.encoding for part in parts]
        self.encodings = nn.ModuleList([nn.Identity() if each is None else each for each in encodings])
        self.channels = sum(part.channels if part.encoding is None else part.encoding.channels for part in parts)

    def forward(self, source: Tensor) -> Tensor:
        """Sources [N, Cs, H, W] in [-1, 1] to [N, channels, H, W] in [-1, 1]."""
        each = torch.split(source, self.sizes, dim=1)
        return torch.cat([encode(own) for encode, own in zip(self.encodings, each, strict=True)], dim=1)


class Encoded(nn.Module):
    """A generator or discriminator behind an encoding (contracts.Encoding), called as it would be without one.

    With ``parts``, what the sources are, it is a discriminator of images that are larger than their sources: it sees
    the sources at the image's size, each by its own resampling.
    """

    def __init__(self, encoding: nn.Module, network: nn.Module, parts: Sequence[SourcePart] = ()) -> None:
        super().__init__()
        self.encoding, self.network = encoding, network
        self.parts = [part._replace(encoding=None) for part in parts]
        for name in _PASSED_ON:
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))

    def forward(self, source: Tensor, *arguments: Any, **keywords: Any) -> Any:
        """What the network makes of the encoded ``source`` [N, Cs, H, W] and all else that it is given."""
        if self.parts:
            source = resize_sources(source, (arguments[0].shape[2], arguments[0].shape[3]), self.parts)
        return self.network(self.encoding(source), *arguments, **keywords)


def behind_encoding(network: nn.Module) -> nn.Module:
    """The network that is given what is encoded, out of an :class:`Encoded`; another one as it is."""
    return network.network if isinstance(network, Encoded) else network
