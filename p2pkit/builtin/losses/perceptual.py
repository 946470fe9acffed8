"""Perceptual loss: distances between a trained network's features (Johnson et al. 2016, section 3.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from p2pkit.builtin.timm_networks import Arguments, Backbone, FrozenFeatures
from p2pkit.contracts import Step
from p2pkit.errors import RecipeError

Index = Annotated[int, Field(ge=0)]
DISTANCES = {"l1": F.l1_loss, "l2": F.mse_loss}


class Perceptual(nn.Module):
    """The distance between the features of target and fake in a frozen network of timm.

    For vgg16, layers 0 to 3 are the paper's relu1_2, relu2_2, relu3_3 and relu4_3.

    Args:
        backbone: the name of the network.
        pretrained: take its published weights, from the Hugging Face cache or the network; without it they are random.
        weights: take the weights in this file instead (.safetensors, or a state dict of PyTorch).
        layers: which feature maps count, the finest being 0.
        layer_weights: how much each of them counts; all the same (1) if not given.
        distance: "l1", the mean absolute difference of features (as pix2pixHD has it), or "l2", the mean squared one
            (the paper's).
        timm: further arguments of the network, for timm.create_model.
    """

    def __init__(
        self,
        target_channels: int,
        backbone: Backbone = "vgg16",
        pretrained: bool = True,
        weights: Path | None = None,
        layers: Annotated[tuple[Index, ...], Field(min_length=1)] = (0, 1, 2, 3),
        layer_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None,
        distance: Literal["l1", "l2"] = "l1",
        timm: Arguments | None = None,
    ) -> None:
        super().__init__()
        each = (1.0,) * len(layers) if layer_weights is None else layer_weights
        if len(each) != len(layers) or len(set(layers)) != len(layers):
            raise RecipeError(
                f"layers = {list(layers)}, layer_weights = {list(each)}: expected different layers, each with a weight"
            )
        # the network gives them in its own order
        ordered = sorted(zip(layers, each, strict=True))
        self.layer_weights = [weight for _, weight in ordered]
        indices = [layer for layer, _ in ordered]
        self.features = FrozenFeatures(backbone, target_channels, pretrained, weights, timm, out_indices=indices)
        self.distance = DISTANCES[distance]

    def generator_loss(self, step: Step) -> Tensor:
        """The weighted sum of the distances, over all layers."""
        with torch.no_grad():
            wanted = self.features(step.target)
        found = self.features(step.fake)
        distances = [self.distance(one, other) for one, other in zip(found, wanted, strict=True)]
        return torch.stack([weight * one for weight, one in zip(self.layer_weights, distances, strict=True)]).sum()
