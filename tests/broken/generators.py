"""Generators that break their contract."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from p2pkit.networks.latent import Latent, SpatialNoise
from p2pkit.testing import generators
from tests.broken import Broken


class Good(nn.Module):
    """A generator as it should be."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(source_channels, 4, 3, padding=1)
        self.outer = nn.Conv2d(4, target_channels, 3, padding=1)

    def forward(self, source: Tensor) -> Tensor:
        return self.colours(self.inner(source).relu())

    def colours(self, values: Tensor) -> Tensor:
        return self.outer(values).tanh()


class WithNoise(Good):
    """A generator as it should be, with noise of all sorts and statistics of the batch."""

    size_multiple, smallest_size = 1, 2  # batch norm needs more than one value

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__(source_channels, target_channels)
        self.latent, self.mixed = Latent(2), nn.Conv2d(source_channels + 2, source_channels, 1)
        self.noise = nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.grain = SpatialNoise()

    def forward(self, source: Tensor) -> Tensor:
        latent = self.latent(source)[:, :, None, None].expand(-1, -1, *source.shape[2:])
        return super().forward(self.mixed(torch.cat([source, latent], dim=1)))

    def colours(self, values: Tensor) -> Tensor:
        return super().colours(self.noise(values + self.grain(values)))


class WithoutParameters(nn.Module):
    """A generator with nothing to train."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__()

    def forward(self, source: Tensor) -> Tensor:
        return source


def no_module(source_channels: int, target_channels: int) -> Any:
    """A generator that is a function."""
    return torch.tanh


class HalfDeclared(Good):
    """A generator that gives a multiple and no smallest size."""

    size_multiple = 4


class NoMultiple(Good):
    """A generator of which no size is a multiple."""

    size_multiple = smallest_size = 0


class OutOfRange(Good):
    """A generator without the last tanh."""

    def colours(self, values: Tensor) -> Tensor:
        return self.outer(values) * 100


class WrongChannels(Good):
    """A generator that gives as many channels as it takes."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__(source_channels, source_channels)


class ThreeChannels(Good):
    """A generator that knows colours only."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        if source_channels != 3:
            raise ValueError("only colours")
        super().__init__(source_channels, target_channels)


class Halving(Good):
    """A generator that needs even sizes and does not declare it."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__(source_channels, target_channels)
        self.inner = nn.Conv2d(source_channels, 4, 4, 2, 1)
        self.up = nn.Upsample(scale_factor=2)

    def colours(self, values: Tensor) -> Tensor:
        return super().colours(self.up(values))


class Unmoved(Good):
    """A generator that asks for a scale and ignores it."""

    def __init__(self, source_channels: int, target_channels: int, scale: int = 1) -> None:
        super().__init__(source_channels, target_channels)


class Enlarging(Good):
    """A generator as it should be, of targets of a multiple of the size."""

    def __init__(self, source_channels: int, target_channels: int, scale: int = 1) -> None:
        super().__init__(source_channels, target_channels)
        self.up = nn.Upsample(scale_factor=scale)

    def colours(self, values: Tensor) -> Tensor:
        return super().colours(self.up(values))


class DividesByDeviation(Good):
    """A generator that normalises without an epsilon."""

    def forward(self, source: Tensor) -> Tensor:
        return super().forward(source / source.std(dim=(2, 3), correction=0, keepdim=True).clamp(max=1.0))


class Unused(Good):
    """A generator with a layer that it never calls."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__(source_channels, target_channels)
        self.forgotten = nn.Conv2d(4, 4, 1)


class TimesZero(Good):
    """A generator of which a layer has no effect."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__(source_channels, target_channels)
        self.mute = nn.Conv2d(4, 4, 1)

    def colours(self, values: Tensor) -> Tensor:
        return super().colours(values + 0 * self.mute(values))


class OwnSeed(Good):
    """A generator with weights that no seed governs."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__(source_channels, target_channels)
        rng = torch.Generator()
        rng.seed()
        nn.init.normal_(self.inner.weight, generator=rng)


class OwnNoise(Good):
    """A generator with noise in training that no seed governs."""

    def colours(self, values: Tensor) -> Tensor:
        rng = torch.Generator()
        rng.seed()
        noise = torch.rand(values.shape, generator=rng) if self.training else 1
        return super().colours(values * noise)


class NoiseInTranslation(Good):
    """A generator that draws noise by itself when it translates."""

    def colours(self, values: Tensor) -> Tensor:
        return super().colours(values * torch.rand_like(values))


class UnseededNoise(Good):
    """A generator that draws noise from a random state of its own."""

    def colours(self, values: Tensor) -> Tensor:
        rng = torch.Generator()
        rng.seed()
        noise = torch.rand(values.shape, generator=rng) if not self.training else 1
        return super().colours(values * noise)


class Counting(Good):
    """A generator with a buffer that moves in translation."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__(source_channels, target_channels)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, source: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return super().forward(source)


class BatchMean(Good):
    """A generator that takes the mean of a batch from each of its images."""

    def colours(self, values: Tensor) -> Tensor:
        return super().colours(values - values.mean(dim=0, keepdim=True) if len(values) > 1 else values)


class TakesAView(Good):
    """A generator that says that it takes maps channels last, and does not."""

    channels_last = True

    def colours(self, values: Tensor) -> Tensor:
        return super().colours(values.view(len(values), -1).view(values.shape))


class TakesStrides(Good):
    """A generator that says that it takes maps channels last, and takes them for others."""

    channels_last = True

    def colours(self, values: Tensor) -> Tensor:
        flat = values.as_strided((len(values), values[0].numel()), (values[0].numel(), 1))
        return super().colours(flat.reshape(values.shape))


class HiddenWeight(Good):
    """A generator with a random tensor that is neither a parameter nor a buffer."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__(source_channels, target_channels)
        self.scale = torch.rand(4, 1, 1)

    def colours(self, values: Tensor) -> Tensor:
        return super().colours(values * self.scale)


class HiddenState(Good):
    """A generator that remembers in a plain attribute what it saw in training."""

    seen = 0.0

    def colours(self, values: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return super().colours(values + self.seen)


class Tied(Good):
    """A generator of which two layers share their weights in memory."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__(source_channels, target_channels)
        self.again = nn.Conv2d(source_channels, 4, 3, padding=1)
        self.again.weight = self.inner.weight

    def forward(self, source: Tensor) -> Tensor:
        return self.colours(self.inner(source) + self.again(source))


class KeepsItsOutput(Good):
    """A generator that keeps a tensor of the graph."""

    def colours(self, values: Tensor) -> Tensor:
        self.last = super().colours(values)
        return self.last


class FourChannels(Good):
    """A generator that takes four channels at most."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        if source_channels > 4:
            raise ValueError("four channels at most")
        super().__init__(source_channels, target_channels)


class NeverCopied(Good):
    """A generator that stands for its own copy."""

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class CopiedAnew(Good):
    """A generator whose copies have learnt nothing."""

    def __deepcopy__(self, memo: Any) -> Any:
        return CopiedAnew(self.inner.in_channels, self.outer.out_channels)


class LooksAtValues(Good):
    """A generator that asks for values as it goes."""

    def colours(self, values: Tensor) -> Tensor:
        return super().colours(values if float(values.detach().mean()) < 100 else values / 2)


BROKEN = [
    Broken("generators", check, factory, found)
    for check, factory, found in (
        (generators.is_trainable, WithoutParameters, "no parameter that requires a gradient"),
        (generators.is_trainable, no_module, "not a torch.nn.Module"),
        (generators.declares_its_sizes, HalfDeclared, "only one of them"),
        (generators.declares_its_sizes, NoMultiple, "'size_multiple': 0"),
        (generators.gives_images, OutOfRange, "values from -"),
        (generators.gives_images, WrongChannels, "[2, 1, 32, 48] instead of [2, 4, 32, 48]"),
        (generators.gives_images, ThreeChannels, "only colours"),
        (generators.takes_its_sizes, Halving, "of sources of 1x1, in evaluation mode; declare smallest_size"),
        (generators.enlarges, Unmoved, "[2, 3, 32, 48] instead of [2, 3, 64, 96], of sources of 32x48"),
        (generators.takes_constants, DividesByDeviation, "of sources that are -1 everywhere"),
        (generators.learns, Unused, "forgotten.weight has no gradient"),
        (generators.learns, TimesZero, "the gradient of mute.weight is zero everywhere"),
        (generators.follows_the_seed, OwnSeed, "weights differ between two made from one seed: inner.weight"),
        (generators.follows_the_seed, OwnNoise, "one source and one seed give different outputs"),
        (generators.leaves_no_trace, NoiseInTranslation, "Latent or SpatialNoise of p2pkit.networks.latent"),
        (generators.leaves_no_trace, UnseededNoise, "two translations of one source differ; draw noise by"),
        (generators.leaves_no_trace, Counting, "translation has changed the state: calls"),
        (generators.translates_each_by_itself, BatchMean, "between a batch and its images"),
        (generators.translates_the_faster_ways, TakesAView, "leave out channels_last"),
        (generators.translates_the_faster_ways, TakesStrides, "from those in validation"),
        (generators.can_be_saved, HiddenWeight, "neither a parameter nor a buffer"),
        (generators.can_be_saved, HiddenState, "neither a parameter nor a buffer"),
        (generators.can_be_saved, Tied, "share memory"),
        (generators.takes_two_sources, FourChannels, "four channels at most"),
        (generators.can_be_copied, KeepsItsOutput, "deepcopy protocol"),
        (generators.can_be_copied, NeverCopied, "the same weights in memory"),
        (generators.can_be_copied, CopiedAnew, "another output"),
        (generators.can_be_tried, LooksAtValues, "meta"),
    )
]
