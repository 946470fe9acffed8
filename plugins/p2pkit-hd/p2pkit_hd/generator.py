"""The coarse-to-fine generator (Wang et al. 2018, section 3.1; layers in their appendix)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from p2pkit.networks.layers import initialise
from p2pkit_hd.pyramid import halved

Width = Annotated[int, Field(gt=0)]
Blocks = Annotated[int, Field(ge=0)]
Halvings = Annotated[int, Field(ge=1, le=8)]


@dataclass(frozen=True)
class TrunkSettings:
    """What a trunk is made of. Weights go from one to another where these are the same."""

    source_channels: int
    width: int
    halvings: int
    blocks: int
    enhancers: int = 0
    enhancer_blocks: int | None = None

    def __str__(self) -> str:
        own = asdict(self)
        channels = own.pop("source_channels")
        if not self.enhancers:
            del own["enhancers"], own["enhancer_blocks"]
        listed = ", ".join(f"{name} = {value}" for name, value in own.items())
        name = "hd_local" if self.enhancers else "hd_global"
        return f"{name} with {listed}, for sources encoded in {channels} channels"

    @property
    def coarser(self) -> TrunkSettings:
        """The settings of the trunk that the last enhancer stands around."""
        blocks = self.enhancer_blocks if self.enhancers > 1 else None
        return replace(self, width=2 * self.width, enhancers=self.enhancers - 1, enhancer_blocks=blocks)


class HDGenerator(nn.Module):
    """A trunk, whose last features are as large as the source, and the output layer."""

    def __init__(self, settings: TrunkSettings, target_channels: int) -> None:
        super().__init__()
        self.size_multiple = 2 ** (settings.halvings + settings.enhancers)
        self.smallest_size = 2 * self.size_multiple  # the innermost blocks reflect one pixel, so two must be left
        self.trunk = _trunk(settings)
        self.output = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(settings.width, target_channels, 7), nn.Tanh())
        initialise(self)

    def forward(self, source: Tensor) -> Tensor:
        """Source [N, Cs, H, W] to target [N, Ct, H, W] in [-1, 1]."""
        target: Tensor = self.output(self.trunk(source))
        return target


class HDGlobal(HDGenerator):
    """pix2pixHD's global network: halvings down to ``width * 2^halvings`` channels, residual blocks, doublings.

    At its defaults it has 182.5 M parameters for Cityscapes' 36 channels. It takes heights and widths that are
    multiples of 2^halvings, from twice that on.

    Args:
        width: channels of the first layer; each halving doubles them.
        halvings: strided convolutions on the way down.
        blocks: residual blocks.
    """

    def __init__(
        self, source_channels: int, target_channels: int, width: Width = 64, halvings: Halvings = 4, blocks: Blocks = 9
    ) -> None:
        super().__init__(TrunkSettings(source_channels, width, halvings, blocks), target_channels)


class HDLocal(HDGenerator):
    """The global network on a smaller source, and local enhancers that double its size one after another.

    It takes heights and widths that are multiples of 2^(halvings + enhancers), from twice that on. But for the last
    enhancer it is hd_global of twice the width, or hd_local of twice the width and one enhancer less, and can begin
    with the weights of such a model (see the method pix2pix_hd).

    Args:
        width: channels of the first layer of the last enhancer; the global network has ``width * 2^enhancers``.
        enhancers: how many local enhancers there are, each of which doubles the size.
        enhancer_blocks: residual blocks of each enhancer.
        halvings: of the global network.
        blocks: residual blocks of the global network.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        width: Width = 32,
        enhancers: Annotated[int, Field(ge=1, le=4)] = 1,
        enhancer_blocks: Blocks = 3,
        halvings: Halvings = 4,
        blocks: Blocks = 9,
    ) -> None:
        settings = TrunkSettings(source_channels, width, halvings, blocks, enhancers, enhancer_blocks)
        super().__init__(settings, target_channels)


class GlobalTrunk(nn.Module):
    """The global network up to its last feature map."""

    def __init__(self, settings: TrunkSettings) -> None:
        super().__init__()
        self.settings = settings
        widths = [settings.width * 2**level for level in range(settings.halvings + 1)]
        self.layers = nn.Sequential(
            _first(settings.source_channels, settings.width),
            *[_halving(width) for width in widths[:-1]],
            *[_ResidualBlock(widths[-1]) for _ in range(settings.blocks)],
            *[_doubling(width) for width in reversed(widths[1:])],
        )

    def forward(self, source: Tensor) -> Tensor:
        """Source [N, Cs, H, W] to features [N, width, H, W]."""
        features: Tensor = self.layers(source)
        return features


class EnhancedTrunk(nn.Module):
    """A trunk on a source of half the size, and an enhancer around it that adds what the full size shows."""

    def __init__(self, settings: TrunkSettings) -> None:
        super().__init__()
        self.settings, width = settings, settings.width
        self.coarse = _trunk(settings.coarser)
        self.down = nn.Sequential(_first(settings.source_channels, width), _halving(width))
        blocks = [_ResidualBlock(2 * width) for _ in range(settings.enhancer_blocks or 0)]
        self.up = nn.Sequential(*blocks, _doubling(2 * width))

    def forward(self, source: Tensor) -> Tensor:
        """Source [N, Cs, H, W] to features [N, width, H, W]."""
        features: Tensor = self.up(self.down(source) + self.coarse(halved(source)))
        return features


def _trunk(settings: TrunkSettings) -> GlobalTrunk | EnhancedTrunk:
    return EnhancedTrunk(settings) if settings.enhancers else GlobalTrunk(settings)


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        convolutions = [(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3)) for _ in range(2)]
        self.layers = nn.Sequential(
            *convolutions[0], *_activated(channels), *convolutions[1], nn.InstanceNorm2d(channels)
        )

    def forward(self, values: Tensor) -> Tensor:
        output: Tensor = values + self.layers(values)
        return output


def _first(source_channels: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(source_channels, channels, 7), *_activated(channels))


def _halving(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, 2, 1), *_activated(2 * channels))


def _doubling(channels: int) -> nn.Module:
    up = nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, output_padding=1)
    return nn.Sequential(up, *_activated(channels // 2))


def _activated(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)  # in place: memory is what limits the size of images
