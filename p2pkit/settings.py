"""A recipe's sections of fixed keys: one class each, as all parts of p2pkit read them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from p2pkit.errors import did_you_mean
from p2pkit.run_contracts import Position
from p2pkit.utils.paths import usable_path

Size = PositiveInt | Annotated[tuple[PositiveInt, PositiveInt], Field(title="[height, width]")]
"""A side of a square, or [height, width], in pixels."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_A_DURATION = 'a duration such as "90s", "5m" or "1h30m"'
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_EPOCHS = re.compile(r"(\d+) epochs?")


def seconds_in(duration: str) -> float:
    """The seconds in a duration such as ``"90s"``, ``"5m"`` or ``"1h30m"``. Raises ValueError for anything else."""
    parts = _DURATION.findall(duration)
    if not parts or "".join(map("".join, parts)) != duration:
        raise ValueError(_A_DURATION)
    total = 0.0
    for number, unit in parts:
        total += float(number) * _UNITS[unit]
    if total <= 0:
        raise ValueError(f"{_A_DURATION}, longer than nothing")
    return total


def _checked_duration(value: str) -> str:
    seconds_in(value)
    return value


def _checked_order(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise ValueError("the lower number first, then a higher one")
    return value


def _checked_name(value: str) -> str:
    if not value.strip(".") or set(value) & set("/\\\0"):
        raise ValueError("the name of a folder, without / and \\")
    return value


def _checked_tracker(value: str) -> str:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS  # imports torch, so only where a recipe names a tracker

    if value not in LOGGER_TYPE_TO_CLASS:
        known = sorted(LOGGER_TYPE_TO_CLASS)
        raise ValueError(f"one of: {', '.join(known)}{did_you_mean(value, known)}")
    return value


Duration = Annotated[str, AfterValidator(_checked_duration), Field(title=_A_DURATION)]
BadData = Literal["stop", "skip"]
Interval = PositiveInt | Annotated[str, Field(pattern=r"^[1-9]\d* epochs?$", title='text such as "5 epochs"')]


LoaderCache = Literal["none", "memory", "disk", "device"]


def _checked_cache(value: Any) -> Any:
    """``value``, with the present words for true and false, which the recipes in the folders of earlier runs have."""
    return ("memory" if value else "none") if isinstance(value, bool) else value


class Section(BaseModel):
    """A recipe section of fixed keys; an unknown key is an error. What is written below a key is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class RunSettings(Section):
    """``[run]``: what the run is called and the seed that all its randomness is counted from."""

    name: Annotated[str, AfterValidator(_checked_name)]
    """Runs go to runs/NAME/DATE-TIME; by default the name of the recipe's file."""
    seed: NonNegativeInt = 0
    """All randomness of the run is a function of it."""
    trackers: list[Annotated[str, AfterValidator(_checked_tracker)]] = []
    """Where losses, rates, metrics and pictures go as well: "tensorboard", "wandb" or another that Accelerate knows."""


Percent = Annotated[float, Field(ge=0, le=100)]


Bounds = Annotated[tuple[float, float], AfterValidator(_checked_order)]
LAB_L, LAB_AB = "lab_L", "lab_ab"
LAB_RANGES: Mapping[str, tuple[float, float]] = {LAB_L: (0.0, 100.0), LAB_AB: (-110.0, 110.0)}
"""What is taken of files as CIELAB, and the values that are -1 and 1 then: a and b of sRGB lie between -108 and 99."""
_CHANNELS, _COLOUR = r"^(rgb|gray|first [1-9]\d*|lab_L|lab_ab)$", r"^(drop|white|black|#[0-9a-fA-F]{6})$"

_SOME_CHANNELS = '"rgb", "gray", "lab_L", "lab_ab", or "first N" with a number from 1 on, such as "first 3"'
_A_COLOUR = '"drop", "white", "black", or a colour of six digits, "#rrggbb"'


def _checked_channels(value: str) -> str:
    if not re.search(_CHANNELS, value):
        raise ValueError(_SOME_CHANNELS)
    return value


def _checked_colour(value: str) -> str:
    if not re.search(_COLOUR, value):
        raise ValueError(_A_COLOUR)
    return value


def _checked_range(value: Any) -> Any:
    """``value`` with tuples for lists; raises ValueError, in one sentence where each form of a range would have one."""
    if value in (None, "auto", "type"):
        return value
    several = isinstance(value, list | tuple) and value and all(isinstance(each, list | tuple) for each in value)
    bounds = [tuple(each) if isinstance(each, list | tuple) else () for each in (value if several else [value])]
    for each in bounds:
        if len(each) != 2 or not all(type(one) in (int, float) and math.isfinite(one) for one in each):
            raise ValueError('[low, high], a list with one of these for each channel, "auto" or "type"')
        _checked_order(each)
    return bounds if several else bounds[0]


# the patterns are for editors, which know them by the schema
Channels = Annotated[
    str, AfterValidator(_checked_channels), Field(title=_SOME_CHANNELS, json_schema_extra={"pattern": _CHANNELS})
]
Colour = Annotated[str, AfterValidator(_checked_colour), Field(title=_A_COLOUR, json_schema_extra={"pattern": _COLOUR})]


class SideSettings(Section):
    """``[source]`` and ``[target]``: which values become -1 and 1, those outside being clipped; and which mean nothing.

    Without range and percentiles it is "type" for pixels of 8 bits and for sources behind an encoding, else "auto".
    """

    channels: Channels | None = None
    """What is taken of files: "rgb", "gray", "first 3" or another number of the first channels; by default all.

    "lab_L" and "lab_ab" are the lightness, and the colours a and b, of CIELAB.
    """
    alpha: Colour | None = None
    """Of 2 or 4 channels, the last of which is alpha: "drop" it, or put "white", "black" or "#rrggbb" behind it."""
    palette: Literal["colours", "indices"] | None = None
    """What files with a palette are; by default indices for encodings of class maps, else colours."""
    range: Annotated[
        Bounds | Annotated[list[Bounds], Field(min_length=1)] | Literal["auto", "type"] | None,
        BeforeValidator(_checked_range),
    ] = None
    """[low, high]; "auto", what sampled training pairs hold; "type", all that an integer holds, or 0 to 1 of floats.

    A list of [low, high] has one for each channel. By default it is 0 to 100 of "lab_L", -110 to 110 of "lab_ab".
    """
    mapping: Literal["linear", "logarithmic"] = "linear"
    """How values from low to high become -1 to 1; logarithmic ones are above 0."""
    percentiles: Annotated[tuple[Percent, Percent], AfterValidator(_checked_order)] | None = None
    """The range is that between these percentiles of the values of all training pairs, found before the run."""
    nodata: float | Literal["nan"] | None = None
    """The value that means "nothing here", beside the one that a file names itself (GDAL's nodata)."""
    fill: float | None = None
    """What takes the place of values that mean "nothing here"; without it a pair that has some cannot be used."""
    mask: Literal["nodata"] | None = None
    """ "nodata": where values mean "nothing here", the target does not count, as under a mask of 0."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> SideSettings:
        if self.range is not None and self.percentiles is not None:
            raise ValueError("either range or percentiles; leave one of them out")
        if self.alpha is not None and (self.channels or "").startswith("first "):
            raise ValueError(f'no alpha beside channels = "{self.channels}", which takes channels as they are')
        if self.channels in LAB_RANGES and (self.nodata is not None or self.palette == "indices"):
            raise ValueError(f'no nodata, and no palette = "indices", beside channels = "{self.channels}"')
        changed = self.range not in (None, LAB_RANGES[LAB_L]) or self.percentiles or self.mapping != "linear"
        if self.channels == LAB_L and changed:
            raise ValueError(f'no range, percentiles or mapping beside channels = "{LAB_L}", all of which is taken')
        return self


class SourceSettings(SideSettings):
    """``[source]``, and ``[source.NAME]`` for one of several, which has the keys of ``[source]`` where it has none."""

    resampling: Literal["bicubic", "nearest"] | None = None
    """How it is resized; by default as its encoding says, bicubic without one."""


class MaskSettings(Section):
    """``[mask]``: which stored values weigh 0 and 1; by default 0 and all that an integer's type holds, 0 to 1 of
    floats."""

    range: Bounds | None = None
    """[low, high], the stored values that weigh 0 and 1; those between weigh in proportion."""


class LoaderSettings(Section):
    """``[loader]``: how pairs become batches."""

    batch_size: PositiveInt = 1
    """Pairs in a step, over all processes together; 1 in the paper's runs."""
    workers: NonNegativeInt = 2
    """Processes that read ahead, for each process that trains; 0 reads in that one itself."""
    cache: Annotated[LoaderCache, BeforeValidator(_checked_cache)] = "none"
    """Keep decoded or drawn samples: in "memory", each process its own; on "disk", for all processes and later runs; on
    the "device" too, where they are augmented then, without workers."""
    bad_data: BadData = "stop"
    """What a pair that cannot be used does to a run: end it, or give its place to the next one that can."""
    timeout: Duration = "10m"
    """How long a batch is awaited from the workers before the run ends: they may be stopped, or a server silent."""


class TransformSettings(Section):
    """``[transform]``: resize to ``load_size``, crop ``crop_size`` at random, flip (paper section 6.2)."""

    load_size: Size | None = None
    """Pixels to resize images to first: a side, or [height, width]; by default they stay as stored (the paper: 286)."""
    reduced_jpeg: bool = False
    """Decode large JPEGs at a half, a quarter or an eighth, still twice ``load_size`` or more: faster, other pixels."""
    keep_aspect: bool = False
    """Resize both sides by one factor, the smallest at which the image covers ``load_size``."""
    crop_size: Size | None = None
    """Pixels to crop at random then: a side, or [height, width]; by default the whole image (the paper: 256)."""
    crops_per_image: PositiveInt = 1
    """How many crops an epoch takes of each image."""
    flip: bool = False
    """Then mirror half of the pairs, left to right."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> TransformSettings:
        if self.keep_aspect and self.load_size is None:
            raise ValueError("load_size beside keep_aspect; add load_size, or leave keep_aspect out")
        if self.reduced_jpeg and self.load_size is None:
            raise ValueError("load_size beside reduced_jpeg; add load_size, or leave reduced_jpeg out")
        if self.crops_per_image > 1 and self.crop_size is None:
            raise ValueError("crop_size beside crops_per_image; add crop_size, or leave crops_per_image out")
        return self


class DiscriminatorAugmentationSettings(Section):
    """``[discriminator_augmentation]``: how the discriminator's images are transformed in training; not by default."""

    policy: list[Literal["colour", "translation", "cutout"]] = []
    """Which ones: "colour" (brightness, saturation, contrast), "translation" (by up to an eighth), "cutout" (half)."""
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    """With which each transform is applied to each image; with ``adaptive_target`` the highest that it may become."""
    adaptive_target: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Let the probability begin at 0, and hold the mean sign of logits of real images at this (ADA: 0.6)."""
    adaptive_images: PositiveInt = 500_000
    """Real images after which an adaptive probability can have gone from 0 to 1."""


class DataSettings(Section):
    """The keys that every data set has beside its parameters."""

    split: Annotated[float, Field(ge=0, lt=1)] | None = None
    """The share of the train set that becomes the val set, where there is none; by default a tenth of 20 pairs or more
    where there is no test set either; 0 for none."""
    fingerprint: Literal["whole"] | None = None
    """By what a change of the data is seen: "whole" files, or by default each one's size and bytes at three places."""
    obtain: str | None = None
    """How to get the data, in a sentence: said where it is not there, and `p2pkit check` then checks all the rest."""


class LossSettings(Section):
    """The keys that every loss has beside its parameters."""

    weight: NonNegativeFloat = 1.0
    """What both of the loss's terms are multiplied by."""


class OptimizerSettings(Section):
    """The keys that every optimizer has beside its parameters."""

    clip_gradient_norm: Annotated[float, Field(gt=0)] | None = None
    """Scale gradients down to this norm, over all of a network's weights; by default they stay as they are."""


class ScheduleSettings(Section):
    """The keys that every schedule has beside its parameters."""

    warmup: NonNegativeInt = 0
    """Steps over which the rate rises to that of the schedule."""


FIXED_KEYS: Mapping[str, type[Section]] = {
    "datasets": DataSettings, "losses": LossSettings, "optimizers": OptimizerSettings, "schedules": ScheduleSettings,
}  # fmt: skip
"""For each kind of component, the keys of its table in a recipe that are not parameters of the component."""


class TrainSettings(Section):
    """``[train]``: what ends the run (the limit that comes first), and what is written on the way."""

    epochs: PositiveInt | None = None
    """How often the train set is gone through; 200, as in the paper, where no limit is given."""
    max_steps: PositiveInt | None = None
    """Steps of the optimizers after which the run ends."""
    max_time: Duration | None = None
    """Time of the clock after which the run ends, measuring included: "90s", "5m" or "1h30m"."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision: "bf16" or "fp16" halve the memory of activations on GPUs that have them; "no" is float32."""
    init_from: Annotated[Path, AfterValidator(usable_path)] | None = None
    """A model file or a run folder whose weights the networks begin with, as far as they fit."""
    accumulate: PositiveInt = 1
    """Into how many parts a process's share of a batch is cut; they are made one after another, for one step."""
    activation_checkpointing: bool = False
    """Keep fewer activations, and compute them again going backwards: less memory, more time, the same numbers."""
    compile: bool = False
    """Compile the networks (torch.compile), which is meant for GPUs and takes minutes before the first step."""
    cuda_graphs: bool = False
    """On a GPU, record a step once and replay it where that can be done."""
    deterministic: bool = False
    """Use algorithms that give the same bits each time on a GPU, which are slower; on a CPU all are so."""
    sync_norm: bool = False
    """Batch norm's statistics over the batches of all processes."""
    collective_timeout: Duration = "10m"
    """How long processes look for each other, and wait for one that does not answer."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep an exponential moving average (EMA) of the generator's weights, and use it in place of the generator."""
    checkpoint_every: Interval = "1 epoch"
    """A number of steps, or "1 epoch", "5 epochs", between checkpoints, from which a run can be resumed."""
    keep_checkpoints: PositiveInt = 2
    """How many of the last checkpoints stay on disk, beside the best."""
    sample_every: PositiveInt = 500
    """Steps between sample grids, pictures of source, output and target."""
    log_every: PositiveInt = 50
    """Steps between lines of metrics.jsonl, each the mean of the losses over those steps."""


class ValidationSettings(Section):
    """``[validation]``: when metrics are taken, on which set, and what the finished model is compared with."""

    split: Literal["val", "test"] = "val"
    """The set that metrics are taken on. Where there is no val set, the test set serves as both."""
    every: Interval | None = None
    """Also measure while training, and keep the best: by ``monitor``."""
    monitor: str | None = None
    """The number that decides which checkpoint is the best; by default lpips, or the first of the first metric."""
    patience: PositiveInt | None = None
    """End the run once so many validations in a row have not been better than the best."""
    baseline: Literal["all", "none", "source", "mean_target", "class_mean_colour", "nearest_source"] = "all"
    """The trivial translators that the finished model is measured beside: all that go with the data, or one."""
    max_images: PositiveInt = 200
    """At most so many images of that set are measured, the first ones."""


def steps_in(interval: int | str, steps_per_epoch: int) -> int:
    """The steps in an interval that is given in steps or in epochs."""
    if isinstance(interval, int):
        return interval
    match = _EPOCHS.fullmatch(interval)
    assert match is not None
    return int(match[1]) * steps_per_epoch


def height_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """A size as (height, width)."""
    return (size, size) if isinstance(size, int) else size


@dataclass(frozen=True)
class Limits:
    """What ends a run: a number of steps, a time, or both, and then whichever comes first."""

    steps: int | None
    seconds: float | None
    steps_per_epoch: int

    @classmethod
    def of(cls, settings: TrainSettings, steps_per_epoch: int) -> Limits:
        """The limits in a recipe's ``[train]``, in steps and seconds."""
        steps = min(settings.max_steps or math.inf, (settings.epochs or math.inf) * steps_per_epoch)
        seconds = seconds_in(settings.max_time) if settings.max_time else None
        return cls(None if steps == math.inf else int(steps), seconds, steps_per_epoch)

    def position(self, step: int, seconds: float) -> Position:
        """Where the run is after some steps and seconds; with a progress of 1 or more it is over."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return Position(max(by_steps, by_time), step, step / self.steps_per_epoch)
