"""The coarse-to-fine generator (Wang et al. 2018, section 3.1; layers in their appendix)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from p2pkit.networks.layers import initialise
from p2pkit.networks.reference import Shapes
from p2pkit_hd.pyramid import halved

FIRST, DOUBLING = 4, 3
"""In the authors' list of layers: the place behind the first convolution, and how many a halving or doubling is."""
HALVINGS_OF_RESNET = 2

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

    channels_last = True

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

    def reference_layers(self) -> Mapping[str, str]:
        """What the authors' implementation calls the layers that have tensors; the output is in the last enhancer."""
        layers = {f"trunk.{name}": there for name, there in self.trunk.reference_layers().items()}
        return {**layers, "output.1": self.trunk.reference_end}


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

    @staticmethod
    def from_reference(shapes: Shapes) -> dict[str, Any] | None:
        """The parameters of the authors' "global" generator with tensors of these ``shapes``; None for other networks.

        With two halvings it is the network that p2pkit calls ``resnet``, with instance norm and without dropout.
        """
        trunk = _trunk_in(shapes)
        end = f"model.{FIRST + 2 * DOUBLING * trunk['halvings'] + trunk['blocks'] + 1}.weight" if trunk else ""
        if trunk is None or len(shapes.get(end, ())) != 4 or trunk["halvings"] == HALVINGS_OF_RESNET:
            return None
        return {**trunk, "target_channels": shapes[end][0]}


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

    @staticmethod
    def from_reference(shapes: Shapes) -> dict[str, Any] | None:
        """The parameters of the authors' "local" generator with tensors of these ``shapes``; None for others."""
        trunk, enhancers, blocks = _trunk_in(shapes), 0, 0
        while f"model{enhancers + 1}_1.1.weight" in shapes:
            enhancers += 1
        while f"model1_2.{blocks}.conv_block.1.weight" in shapes:
            blocks += 1
        first, end = f"model{enhancers}_1.1.weight", f"model{enhancers}_2.{blocks + DOUBLING + 1}.weight"
        if trunk is None or len(shapes.get(first, ())) != 4 or len(shapes.get(end, ())) != 4:
            return None
        own = {"enhancers": enhancers, "enhancer_blocks": blocks, "width": shapes[first][0]}
        return {**trunk, **own, "target_channels": shapes[end][0]}


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

    @property
    def reference_end(self) -> str:
        """Where the authors' "global" generator has its output layer."""
        return f"model.{FIRST + 2 * DOUBLING * self.settings.halvings + self.settings.blocks + 1}"

    def reference_layers(self) -> Mapping[str, str]:
        """What the authors call its layers: a single list of them, in which residual blocks are one each."""
        layers, place = {"layers.0.1": "model.1"}, FIRST
        for number in range(1, len(self.layers)):
            if isinstance(self.layers[number], _ResidualBlock):
                layers |= _block_names(f"layers.{number}", f"model.{place}")
                place += 1
            else:
                layers[f"layers.{number}.0"] = f"model.{place}"
                place += DOUBLING
        return layers


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

    @property
    def reference_end(self) -> str:
        """Where the authors' "local" generator has its output layer."""
        return f"model{self.settings.enhancers}_2.{len(self.up) + DOUBLING}"

    def reference_layers(self) -> Mapping[str, str]:
        """What the authors call its layers; they count enhancers from the innermost."""
        layers = {f"coarse.{name}": there for name, there in self.coarse.reference_layers().items()}
        down, up = (f"model{self.settings.enhancers}_{half}" for half in (1, 2))
        last = len(self.up) - 1
        layers |= {"down.0.1": f"{down}.1", "down.1.0": f"{down}.{FIRST}", f"up.{last}.0": f"{up}.{last}"}
        for number in range(last):
            layers |= _block_names(f"up.{number}", f"{up}.{number}")
        return layers


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


def _trunk_in(shapes: Shapes) -> dict[str, Any] | None:
    """What the authors' global network has for channels of sources, width, halvings and blocks."""
    first, halvings, blocks = shapes.get("model.1.weight", ()), 0, 0
    while f"model.{FIRST + DOUBLING * halvings}.weight" in shapes:
        halvings += 1
    place = FIRST + DOUBLING * halvings
    while f"model.{place + blocks}.conv_block.1.weight" in shapes:
        blocks += 1
    if len(first) != 4 or not halvings:
        return None
    return {"source_channels": first[1], "width": first[0], "halvings": halvings, "blocks": blocks}


def _block_names(here: str, there: str) -> dict[str, str]:
    return {f"{here}.layers.{place}": f"{there}.conv_block.{place}" for place in (1, 5)}


def _first(source_channels: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(source_channels, channels, 7), *_activated(channels))


def _halving(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, 2, 1), *_activated(2 * channels))


def _doubling(channels: int) -> nn.Module:
    up = nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, output_padding=1)
    return nn.Sequential(up, *_activated(channels // 2))


def _activated(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)  # in place: memory is what limits the size of images
