"""The multi-scale discriminator (Wang et al. 2018, section 3.2)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

import p2pkit
from p2pkit.contracts import DiscriminatorOutput
from p2pkit.errors import RecipeError
from p2pkit_hd.pyramid import halved


class HDMultiscale(nn.Module):
    """PatchGANs of one form, each on images of half the size of the one before.

    The first looks at details, the last at the whole. Their weights differ.

    Args:
        scales: how many scales there are, each of half the size of the one before.
        layers: strided convolutions of each; 3 give patches of 70 pixels of its own scale.
        width: channels of the first convolution.
    """

    has_features = True

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        scales: Annotated[int, Field(ge=1, le=6)] = 3,
        layers: Annotated[int, Field(ge=1, le=8)] = 3,
        width: Annotated[int, Field(gt=0)] = 64,
    ) -> None:
        super().__init__()
        channels = {"source_channels": source_channels, "target_channels": target_channels}
        self.layers = layers
        self.smallest_size = (((3 << layers) - 1) << (scales - 1)) + 1  # halving rounds up
        self.scales = nn.ModuleList(
            p2pkit.create("discriminators", "patchgan", **channels, layers=layers, width=width, norm="instance")
            for _ in range(scales)
        )

    def forward(self, source: Tensor, image: Tensor, features: bool = False) -> list[Tensor] | DiscriminatorOutput:
        """Logits [N, 1, h, w], the finest scale first, for ``image`` [N, Ct, H, W] beside ``source`` [N, Cs, H, W].

        With ``features``, a DiscriminatorOutput that has each block's output too, scale by scale.

        Raises:
            RecipeError: the images are too small for the coarsest scale.
        """
        side = min(image.shape[2:])
        if side < self.smallest_size:
            raise RecipeError(
                f"discriminator: {len(self.scales)} scales of {self.layers} layers take images of {self.smallest_size} "
                f"pixels or more on each side, and these have {side}; lower discriminator.scales or "
                "discriminator.layers, or train on larger images (transform.load_size, transform.crop_size)"
            )
        output = DiscriminatorOutput([], [])
        for number, discriminator in enumerate(self.scales):
            if number:
                source, image = halved(source), halved(image)
            one = discriminator(source, image, features=True)
            output.logits.extend(one.logits)
            output.features.extend(one.features)
        return output if features else output.logits
