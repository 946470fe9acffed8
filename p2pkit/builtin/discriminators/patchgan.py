"""PatchGAN: a discriminator of overlapping patches (Isola et al. 2017, sections 3.2.2 and 6.1.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from p2pkit.contracts import DiscriminatorOutput
from p2pkit.errors import RecipeError
from p2pkit.networks.layers import HAS_BIAS, Norm, hold_spectral_norms, initialise, norm_layer
from p2pkit.networks.reference import Shapes, norm_in

WIDEST = 8
SMALLEST = 3
"""The side of feature maps that the two convolutions of stride 1 leave a logit of."""


class PatchGAN(nn.Module):
    """``layers`` strided 4x4 convolutions and two more of stride 1; every logit sees one patch.

    The patch is 16 pixels for 1 layer, 34 for 2, 70 for 3, 142 for 4, 286 for 5. With 0 layers all convolutions are
    1x1 and every pixel is classified by itself (the paper's PixelGAN).

    Args:
        layers: strided convolutions.
        width: channels of the first; each next one doubles them up to eight times that.
        norm: normalisation; there is none on the first convolution.
        conditional: see the image beside its source (channels concatenated), or by itself.
        spectral_norm: divide each convolution's weight by its largest singular value (Miyato et al. 2018).
        bias: whether convolutions before a norm have a bias, and with 0 layers the last one; the others always do.
            Unless set, all but those before batch norm; the PyTorch reference's is true with instance norm alone.
    """

    has_features = True

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        layers: Annotated[int, Field(ge=0, le=8)] = 3,
        width: Annotated[int, Field(gt=0)] = 64,
        norm: Norm = "batch",
        conditional: bool = True,
        spectral_norm: bool = False,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        has_bias = HAS_BIAS[norm] if bias is None else bias
        self.layers, self.conditional = layers, conditional
        channels = target_channels + (source_channels if conditional else 0)
        kernel, stride, padding = (4, 2, 1) if layers else (1, 1, 0)
        blocks = [nn.Sequential(nn.Conv2d(channels, width, kernel, stride, padding), nn.LeakyReLU(0.2))]
        channels = width
        for level in range(1, max(layers, 1) + 1):
            wider = width * min(2**level, WIDEST)
            last = level == max(layers, 1)
            conv = nn.Conv2d(channels, wider, kernel, 1 if last else stride, padding, bias=has_bias)
            blocks.append(nn.Sequential(conv, norm_layer(norm, wider), nn.LeakyReLU(0.2)))
            channels = wider
        self.blocks = nn.ModuleList(blocks)
        self.logits = nn.Conv2d(channels, 1, kernel, 1, padding, bias=layers > 0 or bias is not False)
        initialise(self)
        if spectral_norm:
            hold_spectral_norms(self)

    @staticmethod
    def from_reference(shapes: Shapes, source_channels: int, target_channels: int) -> dict[str, Any] | None:
        """The parameters of the PyTorch reference's discriminator ("basic", "n_layers", "pixel") with tensors of these
        ``shapes``, for a generator of these channels; None for other networks.
        """
        pixel, layers = "net.0.weight" in shapes, 0
        first = shapes.get("net.0.weight" if pixel else "model.0.weight", ())
        while not pixel and f"model.{3 * layers + 5}.weight" in shapes:
            layers += 1
        if len(first) != 4 or not (pixel or layers):
            return None
        norm = norm_in(shapes, *(("net.2", "net.3") if pixel else ("model.2", "model.3")))
        return {
            "layers": layers, "width": first[0], "norm": norm, "bias": norm == "instance",
            "conditional": first[1] != target_channels,
        }  # fmt: skip

    def reference_layers(self) -> Mapping[str, str]:
        """What the PyTorch reference calls the layers that have tensors."""
        network, count = "model" if self.layers else "net", len(self.blocks)
        names = {"blocks.0.0": f"{network}.0", "logits": f"{network}.{3 * count - 1}"}
        for number in range(1, count):
            names |= {f"blocks.{number}.{place}": f"{network}.{3 * number - 1 + place}" for place in (0, 1)}
        return names

    def forward(self, source: Tensor, image: Tensor, features: bool = False) -> Tensor | DiscriminatorOutput:
        """Logits [N, 1, h, w] for ``image`` [N, Ct, H, W] beside ``source`` [N, Cs, H, W].

        With ``features``, a DiscriminatorOutput that has each block's output too.

        Raises:
            RecipeError: the images are smaller than a patch's last convolutions take.
        """
        side = min(image.shape[2:])
        if self.layers and side < SMALLEST << self.layers:
            fitting = (side // SMALLEST).bit_length() - 1
            write = f'name = "patchgan" and layers = {fitting}' if fitting > 0 else 'name = "patchgan_1"'
            raise RecipeError(
                f"discriminator: {self.layers} strided layers take images of {SMALLEST << self.layers} pixels or more "
                f"on each side, and these have {side}; write {write} below [discriminator], or train on larger images "
                "(transform.load_size, transform.crop_size)"
            )
        values = torch.cat([source, image], dim=1) if self.conditional else image
        passed = []
        for block in self.blocks:
            values = block(values)
            passed.append(values)
        logits: Tensor = self.logits(values)
        return DiscriminatorOutput([logits], passed) if features else logits
