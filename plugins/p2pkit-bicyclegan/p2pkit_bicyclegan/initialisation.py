"""The weights that networks begin with."""

from __future__ import annotations

from torch import nn


def initialise(network: nn.Module) -> None:
    """Draw the weights of all convolutions and linear layers from N(0, 0.02), and make their biases 0, as pix2pix."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
