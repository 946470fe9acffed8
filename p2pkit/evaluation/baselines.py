"""Trivial translators that a model has to beat before it has learnt anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from p2pkit.errors import DataError
from p2pkit.evaluation.driver import GROUND_TRUTH, Driver, Measured, RoundResult, Translate
from p2pkit.networks.fitting import resize
from p2pkit.utils.progress import Progress

CLASS_MEAN = "class_mean_colour"
PAIRS = 1000
"""Trivial translators are made of at most so many training pairs, evenly spread."""
PAIRS_A_ROUND = 16
SHARE = 1 / 3
"""The part of the time that is left for measuring in which they are made."""
LEVELS = 4
"""Source colours are quantised to this many levels a channel: enough for label maps, robust to JPEG's noise."""
FLAT = 0.06
"""Colours of a label map deviate from their class's by no more than this, of the 2 from -1 to 1: JPEG's noise."""
MOST_COLOURS = 1024
THUMBNAIL = 32
"""Sources are compared at so many pixels a side."""
_FACTOR = 1_000_003
"""Odd, so that no channel falls out of a code however many there are; codes of many channels overflow, and may."""


class SourceItself:
    """Gives back the source; a gray one for targets of any number of channels, others only for as many.

    For targets ``scale`` times as large it is enlarged by bicubic interpolation, super-resolution's usual baseline.
    """

    def __init__(self, target_channels: int, scale: int = 1) -> None:
        self._channels, self._scale = target_channels, scale

    def __call__(self, source: Tensor) -> Tensor:
        """Sources [1, Cs, H, W] to outputs [1, Ct, scale * H, scale * W]."""
        return resize(source[0], _enlarged(source, self._scale))[None].expand(-1, self._channels, -1, -1)


class MeanTarget:
    """The mean of all training targets, pixel by pixel; resized to each image where sizes differ.

    Targets are ``scale`` times as high and wide as sources.
    """

    def __init__(self, scale: int = 1) -> None:
        self._scale = scale
        self._sum: Tensor | None = None

    def add(self, source: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        """Take in a training pair [C, H, W] in [-1, 1], of which as much counts as a mask [1, H, W] says."""
        weights = torch.ones_like(target[:1]) if mask is None else mask
        both = torch.cat([target.double() * weights, weights.double()])
        self._sum = both if self._sum is None else self._sum + _resized(both, self._sum.shape[1:])

    def __call__(self, source: Tensor) -> Tensor:
        """Sources [1, Cs, H, W] to outputs [1, Ct, scale * H, scale * W]."""
        assert self._sum is not None
        sums, weights = self._sum[:-1], self._sum[-1:]
        everywhere = sums.sum(dim=(1, 2), keepdim=True) / weights.sum()  # for places at which no pair counts
        mean = torch.where(weights > 0, sums / weights.clamp(min=1e-9), everywhere)
        return _resized(mean.float(), _enlarged(source, self._scale))[None]


class ClassMeanColour:
    """Paints every pixel with the mean target colour, over the training pairs, of its source colour.

    On label maps that is the mean colour of each class. Sources of more than 1024 colours are none.
    """

    def __init__(self, encode: Translate | None = None) -> None:
        self._encode = encode or (lambda source: source)
        self._sums: dict[int, Tensor] = {}
        """By code: how many pixels, the sums of target colours, of source colours, and of the squares of these."""
        self.too_many = False

    def add(self, source: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        """Take in a training pair [C, H, W] in [-1, 1], of which as much counts as a mask [1, H, W] says."""
        if self.too_many:
            return
        source = self._encode(source[None])[0]
        codes, places = torch.unique(_codes(source), return_inverse=True)
        self.too_many = len(self._sums.keys() | set(codes.tolist())) > MOST_COLOURS
        if self.too_many:
            self._sums.clear()
            return
        weights = torch.ones_like(target[:1]) if mask is None else mask
        values = (torch.cat([torch.ones_like(weights), target, source, source.square()]) * weights).double()
        values = values.flatten(1).T
        totals = torch.zeros(len(codes), values.shape[1], dtype=torch.float64).index_add_(0, places.flatten(), values)
        self._target_channels = len(target)
        for code, total in zip(codes.tolist(), totals, strict=True):
            self._sums[code] = self._sums[code] + total if code in self._sums else total

    @property
    def of_label_maps(self) -> bool:
        """Whether the sources' colours are few and flat, as classes are, and not shades."""
        if self.too_many:
            return False
        first, sums = 1 + self._target_channels, torch.stack(list(self._sums.values()))
        means, squares = (sums[:, first:] / sums[:, :1]).chunk(2, dim=1)
        deviations = (squares - means.square()).clamp(min=0).mean(dim=1).sqrt()
        return float((deviations * sums[:, 0]).sum() / sums[:, 0].sum()) < FLAT

    def __call__(self, source: Tensor) -> Tensor:
        """Sources [1, Cs, H, W] in [-1, 1] to outputs [1, Ct, H, W]."""
        every = torch.stack(list(self._sums.values())).sum(0)
        codes, places = torch.unique(_codes(self._encode(source)[0]), return_inverse=True)
        colours = []
        for code in codes.tolist():
            known = self._sums.get(code, every)
            known = known if known[0] > 0 else every  # a class that counts nowhere
            colours.append((known[1 : 1 + self._target_channels] / known[0]).float())
        return torch.stack(colours)[places].permute(2, 0, 1)[None]


class NearestSource:
    """Gives the target of the training source that is nearest: least squared difference of thumbnails."""

    def __init__(self, target: Callable[[int], Tensor], scale: int = 1) -> None:
        """``target`` gives the one in [-1, 1] of the pair that was added at a place, ``scale`` times as large."""
        self._target, self._scale, self._thumbnails = target, scale, list[Tensor]()

    def add(self, source: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        """Take in a training pair [C, H, W] in [-1, 1]."""
        self._thumbnails.append(_thumbnail(source[None]))

    @cached_property
    def _of_all(self) -> Tensor:
        """All thumbnails [N, Cs, h, w]; they are put together once, after the last was added."""
        return torch.stack(self._thumbnails)

    def __call__(self, source: Tensor) -> Tensor:
        """Sources [1, Cs, H, W] in [-1, 1] to outputs [1, Ct, scale * H, scale * W]."""
        differences = self._of_all - _thumbnail(source)
        nearest = int(differences.square().sum(dim=(1, 2, 3)).argmin())
        return _resized(self._target(nearest), _enlarged(source, self._scale))[None]


def measure_beside_trivial(driver: Driver, rows: Mapping[str, Translate], with_trivial: bool = True) -> Measured | None:
    """The metrics of ``rows`` of translations, and of trivial ones; None where there is nothing to measure.

    With these comes the row ground_truth, where a metric compares outputs with sources.

    Raises: as the methods of :class:`Driver`.
    """
    if not driver.validation.can_measure():
        return None
    beside: dict[str, Translate | None] = {}
    if with_trivial:
        if any(each.takes_source for each in driver.validation.metrics):
            beside[GROUND_TRUTH] = None
        beside.update(trivial_translators(driver))
    if not rows and not beside:
        return None
    return driver.measure({**rows, **beside}, f"measuring the {driver.validation.called}")


def trivial_translators(driver: Driver) -> dict[str, Translate]:
    """Those that go with the data, or the one that ``validation.baseline`` names, by name; on every process.

    Raises: as the methods of :class:`Driver`.
    """
    validation, wanted = driver.validation, driver.validation.settings.baseline
    if wanted == "none":
        return {}
    train, first = validation.train_set, validation.spec.first
    source_channels, target_channels, scale = first.source[2], first.target[2], validation.spec.scale
    made: dict[str, Translate] = {}
    is_image = source_channels == target_channels or (source_channels == 1 and validation.encoding is None)
    if wanted in ("all", "source") and validation.colours:
        made["source"] = validation.colours.gray
    elif wanted in ("all", "source") and is_image and len(first.parts) < 2:  # several together are no image
        made["source"] = SourceItself(target_channels, scale)
    if len(train) and wanted != "source":
        seen: list[int] = []
        by_class = ClassMeanColour(validation.encoding)
        nearest = NearestSource(lambda place: validation.tensors(train, seen[place])[0].target, scale)
        learning: dict[str, Any] = {"mean_target": MeanTarget(scale), CLASS_MEAN: by_class, "nearest_source": nearest}
        if scale > 1:
            del learning[CLASS_MEAN]  # a pixel of the source has no one colour in the target
        chosen = {name: each for name, each in learning.items() if wanted in ("all", name)}
        _learn(driver, list(chosen.values()), seen)
        made.update(chosen if seen else {})
        encoded = any(part.resampling == "nearest" for part in validation.augmentation.parts)
        if CLASS_MEAN in made and (
            by_class.too_many or (wanted == "all" and not encoded and not by_class.of_label_maps)
        ):
            del made[CLASS_MEAN]
        if validation.validation_set is train:
            made.pop("nearest_source", None)  # it would find the image itself
    return made


def _learn(driver: Driver, learning: Sequence[Any], seen: list[int]) -> None:
    """Show trivial translators the training pairs that can be used; ``seen`` gets their indices."""
    validation, train, now = driver.validation, driver.validation.train_set, time.monotonic()
    count, brief = min(len(train), PAIRS), replace(driver, deadline=now + SHARE * (driver.deadline - now))

    def add(indices: Sequence[int], result: RoundResult) -> None:
        # each process sees all of them: sums in another order would be other numbers
        for index in indices:
            with suppress(DataError):  # training has not met it, or has skipped it
                sample, _ = validation.tensors(train, index)
                for each in learning:
                    each.add(*sample)
                seen.append(index)

    shown = driver.accelerator.is_main_process
    with Progress("reading train pairs for trivial rows", count, "pair", shown=shown) as progress:
        for begin in range(0, count, PAIRS_A_ROUND):
            places = range(begin, min(count, begin + PAIRS_A_ROUND))
            late = brief.agreed(partial(add, [place * len(train) // count for place in places])).late
            progress.advance(len(places))
            if late and seen:
                break
    driver.pairs_seen = len(seen)


def not_beaten(
    rows: Mapping[str, Mapping[str, float]], model: str, higher_is_better: Mapping[str, bool | None]
) -> dict[str, list[str]]:
    """For each number, the trivial rows that the row called ``model`` does not beat; numbers that it beats all in none.

    A number that is NaN beats nothing. The targets themselves are no translator.
    """
    found: dict[str, list[str]] = {}
    for number, value in rows.get(model, {}).items():
        direction = higher_is_better.get(number)
        for name, row in rows.items() if direction is not None else ():
            if name not in (model, GROUND_TRUTH) and not (value > row[number] if direction else value < row[number]):
                found.setdefault(number, []).append(name)
    return found


def by_row(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Numbers called "ROW/NAME" by row and name."""
    rows: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        row, _, name = key.partition("/")
        rows.setdefault(row, {})[name] = value
    return rows


def _codes(source: Tensor) -> Tensor:
    """A number a pixel [H, W] that stands for its colour, from an image [C, H, W] in [-1, 1]."""
    levels = ((source + 1) / 2 * (LEVELS - 1)).round().long()
    code = torch.zeros_like(levels[0])
    for channel in levels:
        code = code * _FACTOR + channel
    return code


def _thumbnail(source: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(source, THUMBNAIL)[0]


def _enlarged(source: Tensor, scale: int) -> tuple[int, int]:
    """The (height, width) of targets ``scale`` times as large as a source [1, Cs, H, W]."""
    return scale * source.shape[2], scale * source.shape[3]


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """An image [C, H, W] at another size."""
    if image.shape[1:] == tuple(size):
        return image
    return F.interpolate(image[None], tuple(size), mode="bilinear", antialias=True)[0]
