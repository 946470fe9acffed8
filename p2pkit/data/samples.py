"""What a recipe trains and validates on: its sets, whatever a data set gives, and what all of their samples share."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from p2pkit.contracts import NO_IMAGE, Sample, SampleHeader, Split, ValueRange, dtype_range
from p2pkit.data.augmentation import TensorPair
from p2pkit.data.bad_samples import SkipBadSamples
from p2pkit.errors import DataError, P2PKitError, RecipeError, in_one_line, is_out_of_memory
from p2pkit.images.formats import ChannelsOfPalette
from p2pkit.images.pixels import (
    LARGEST_CHANNELS_FIRST,
    NONE_MISSING,
    SMALLEST_SIDE,
    Missing,
    StoredPixels,
    as_indices,
    normalize,
    nothing_there,
)
from p2pkit.settings import BadData
from p2pkit.utils.seeds import derived, seeded

if TYPE_CHECKING:
    from p2pkit.data.adapter import Kind

DERIVED = ("auto", "percentiles", "default", "labels")
"""The rules by which the range of a side is, or may be, found in the pixels."""
ANY_RANGE = 0.0, 1.0
"""Serves where pixels are only to be looked at."""
FEW = 8
"""Of so many images, evenly spread, a run looks at the values, and at more where they are odd."""
LITTLE = 0.2
"""Values that take up less than this share of the range that becomes [-1, 1] are reported."""


class Samples:
    """One set of a data set as p2pkit reads it, whatever its author has made (contracts.PairedDataset and its kin).

    ``[index]`` is a Sample of arrays [H, W, C]. An unpaired data set is two of these, the sources and beside them, as
    ``targets``, the targets; a sample of theirs has one side alone. ``header(index)`` and ``shards`` are there where
    the data set has them.
    """

    def __init__(
        self, dataset: Any, origin: str, split: Split, seed: int = 0, kind: Kind = "pair", cache: bool = False,
        indices: bool = False,
    ) -> None:  # fmt: skip
        """``origin`` is what messages call the data set, ``seed`` the run's; ``cache`` keeps what has been read.

        With ``indices`` sources are numbers of classes: those of files with few bits are not stretched to 8.

        Raises:
            RecipeError: it is not a map-style data set, it is unpaired without targets, or its shards do not hold its
                samples.
        """
        self.origin, self.split, self.notices = origin, split, getattr(dataset, "notices", ())
        self.target_ending, self.stored_as = getattr(dataset, "target_ending", ""), getattr(dataset, "stored_as", "")
        self.problems = getattr(dataset, "problems", ())
        self.targets: Samples | None = None
        """The targets of an unpaired data set; None for pairs."""
        self._dataset, self._seed, self._kind, self._fingerprint = dataset, seed, kind, ""
        self._indices = indices
        self._cache: dict[int, Sample] | None = {} if cache else None
        one_by_one = hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset)
        if not one_by_one or not hasattr(dataset, "__len__"):
            found = f"{origin} makes a {type(dataset).__name__}, which lacks len() or [index]"
            raise RecipeError(f"{found}; expected a map-style data set")
        if kind == "pair" and getattr(dataset, "paired", True) is False:
            if not callable(getattr(dataset, "target", None)) or not isinstance(getattr(dataset, "targets", None), int):
                raise RecipeError(f"{origin} has paired = False, but not both target(index) and targets, their number")
            self._kind, self.targets = "source", Samples(dataset, origin, split, seed, "target", cache=cache)
        of_targets = kind == "target"
        self._read: Callable[[int], Any] = dataset.target if of_targets else dataset.__getitem__
        self._length = int(dataset.targets if of_targets else self._call("len()", dataset.__len__))
        read_header = getattr(dataset, "target_header" if of_targets else "header", None)
        if callable(read_header) or not self._length:
            self._read_header: Any = read_header
            self.header = self._checked_header
        if self.targets is None and not of_targets and hasattr(dataset, "shards"):
            self.shards = dataset.shards
            if sum(self.shards) != self._length:
                raise RecipeError(f"{origin}: its shards hold {sum(self.shards)} samples, but len() is {self._length}")

    def __len__(self) -> int:
        return self._length

    def __getstate__(self) -> dict[str, Any]:
        # what has been read is not sent to a worker
        return {**vars(self), "_cache": None if self._cache is None else {}}

    def read(self, index: int, epoch: int = 0) -> Sample:
        """The sample at ``index``, as a data set that draws has it in ``epoch``: a function of seed, epoch and index.

        With the cache it is that of the first epoch, whoever comes to it first, and when.

        Raises:
            DataError: it cannot be read, or is not of a form that p2pkit takes.
        """
        if not 0 <= index < self._length:
            raise IndexError(f"there is no sample {index} among {self._length}")
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        with seeded(derived(self._seed, self._kind, 0 if self._cache is not None else epoch, index)):
            given = self._call(f"[{index}]", self._read, index)
        ready = type(given) is Sample and self._kind == "pair" and given.key.isascii() and bool(given.key)
        for image in given[:2] if ready else ():
            ready &= isinstance(image, np.ndarray) and image.ndim == 3 and image.dtype.kind in "iufb" and image.size > 0
            # masks, and channels that come first, are refused by as_sample
            ready = ready and not isinstance(image, np.ma.MaskedArray)
            ready = ready and (image.shape[0] > LARGEST_CHANNELS_FIRST or image.shape[2] < SMALLEST_SIDE)
        sample: Sample = given
        if not ready:
            from p2pkit.data.adapter import as_sample

            sample = as_sample(given, self._kind, self._named(index), self._placed(f"[{index}]"))
        if self._indices and isinstance(sample.source, StoredPixels):
            sample = sample._replace(source=as_indices(sample.source))
        if self._cache is not None:
            self._cache[index] = sample
        return sample

    __getitem__ = read

    def draws(self) -> bool:
        """Whether the data set draws from the global random states where it gives a sample, the first for one."""
        following = []
        for reading in (True, False):
            with seeded(0):
                if reading and self._length:
                    with suppress(DataError):
                        self._call("[0]", self._read, 0)
                following.append((random.random(), np.random.random(), float(torch.rand(()))))
        return following[0] != following[1] or (self.targets is not None and self.targets.draws())

    def fingerprint(self) -> str:
        """A text that changes when the set does, its targets too: the data set's own, or one of its content.

        Raises:
            RecipeError: the data set's own is not a text.
        """
        if self._fingerprint:
            return self._fingerprint
        own = getattr(self._dataset, "fingerprint", None)
        if callable(own):
            found = self._call("fingerprint()", own)
            if not isinstance(found, str) or not found:
                raise RecipeError(f"{self.origin}: its fingerprint() gives {found!r}, expected a text")
        else:
            from p2pkit.data.adapter import fingerprint_of_content

            targets = f" {self.targets.fingerprint()}" if self.targets else ""
            found = fingerprint_of_content(self.__getitem__, self._length) + targets
        self._fingerprint = found
        return self._fingerprint

    def _checked_header(self, index: int) -> SampleHeader:
        """The header at ``index``; raises DataError where it cannot be read, or is not one."""
        given = self._call(f"header({index})", self._read_header, index)
        if self._indices and isinstance(given, SampleHeader) and isinstance(given.source[2], ChannelsOfPalette):
            given = given._replace(source=(*given.source[:2], 1))
        match given:
            case SampleHeader((int(), int(), int()), (int(), int(), int()), str(key)) if self._kind == "pair":
                if key.isascii():
                    return given
        from p2pkit.data.adapter import as_header

        return as_header(given, self._kind, self._named(index), self._placed(f"header({index})"))

    def _named(self, index: int) -> str:
        """What a sample without a key is called."""
        return f"{self.split}_{'' if self._kind == 'pair' else f'{self._kind}_'}{index:05}"

    def _call(self, what: str, method: Callable[..., Any], *arguments: Any) -> Any:
        """What the data set's ``method`` gives; an exception is a DataError that names the data set."""
        try:
            return method(*arguments)
        except Exception as error:
            if isinstance(error, P2PKitError) or is_out_of_memory(error):
                raise
            raise DataError(f"{self._placed(what)} fails: {in_one_line(error)}") from error

    def _placed(self, what: str) -> str:
        """What messages call a part of the set."""
        return f"{self.origin}: {what} of its {self.split} {self._kind + 's' if self._kind != 'pair' else 'set'}"


class SampleSpec(NamedTuple):
    """The ``first`` sample, whose channels all have, and each side's range of values; None for that of its type."""

    first: SampleHeader
    source: ValueRange | None = None
    target: ValueRange | None = None
    source_missing: Missing = NONE_MISSING
    """Which of its values mean "nothing here", and what takes their place."""
    target_missing: Missing = NONE_MISSING

    def tensors(self, sample: Sample) -> TensorPair:
        """The two images of a sample as tensors in [-1, 1]; where it has one alone, that one twice.

        Raises:
            DataError: they differ in size, or in channels from those of the first pair, or a value cannot be mapped.
        """
        refuse_unlike(sample.header, self.first)
        tensors = []
        for side in ("source", "target"):
            if (image := getattr(sample, side)) is not None:
                values, missing = getattr(self, side), getattr(self, f"{side}_missing")
                tensors.append(normalize(image, f"{sample.key}, its {side}", values, missing))
        return tensors[0], tensors[-1]

    def valid(self, sample: Sample) -> Tensor | None:
        """Where the target of a sample has values, 1, and where nothing, 0: float32 [1, H, W]; None if it has all."""
        where = nothing_there(sample.target, self.target_missing.nodata)
        return None if where is None else 1.0 - torch.from_numpy(where.any(axis=2)).float()[None]


def refuse_unlike(sample: SampleHeader, first: SampleHeader) -> None:
    """Raise DataError when the images of a sample differ in size, or in channels from those of the ``first``."""
    for side in ("source", "target"):
        found, expected = getattr(sample, side)[2], getattr(first, side)[2]
        if found not in (expected, NO_IMAGE[2]):
            raise DataError(
                f"{sample.key}: its {side} has {found} channels, that of {first.key} has {expected}; "
                "all pairs of a data set must agree"
            )
    if sample.source[:2] != sample.target[:2] and NO_IMAGE not in sample:
        sizes = " and ".join(f"{height}x{width}" for height, width, _ in (sample.source, sample.target))
        raise DataError(f"{sample.key}: source and target differ in size (height x width): {sizes}")


class SideValues(NamedTuple):
    """What a recipe says of the values of one side."""

    rule: str = "type"
    """Where the range is from: "declared", "percentiles", "auto", "type" (the pixels'), "default" ("type" for pixels
    of 8 bits, else "auto"), or "labels" (one in which the numbers of classes keep apart)."""
    percentiles: tuple[float, float] | None = None
    missing: Missing = NONE_MISSING


BY_TYPE = SideValues()


@dataclass(frozen=True)
class Data:
    """The sets of a recipe, each of which may be empty, the train set where nothing is trained.

    No sample is read before it is asked for.
    """

    train: Samples
    val: Samples
    test: Samples
    validation: Samples
    """The one that metrics are taken on: the val or the test set, empty where there is neither."""
    bad_data: BadData
    source: ValueRange | None = None
    """The range of the sources' values; None for that of their type."""
    target: ValueRange | None = None
    encoded: bool = False
    """Sources are numbers for an encoding, which mean the same in files of any type."""
    source_values: SideValues = BY_TYPE
    """What the recipe says of the sources' values."""
    target_values: SideValues = BY_TYPE
    set_notices: Sequence[str] = ()
    """What has been found on looking at all sets together."""
    found_notices: Sequence[str] = ()
    """What has been found on looking at the values of pixels."""

    @cached_property
    def sets(self) -> list[Samples]:
        """All sets: train, val and test, and after them the targets of those that are unpaired, if there are any."""
        sets = [self.train, self.val, self.test]
        return [*sets, *filter(None, map(attrgetter("targets"), sets))]

    @cached_property
    def first(self) -> Sample:
        """The first sample that can be used, of the train set if there is one: the channels are known from it.

        Of an unpaired data set its sides are the first source and the first target.

        Raises:
            DataError: it cannot be used and the policy is to stop, or none can.
        """
        found: list[Sample] = []
        # where nothing is trained, any set will do
        known = self.train if len(self.train) else self.test if len(self.test) else self.val
        for samples in filter(None, (known, known.targets)):

            def checked(index: int, samples: Samples = samples) -> Sample:
                sample = samples[index]
                # until a range is found, any will do
                source = self.source or (ANY_RANGE if self.source_values.rule in DERIVED else None)
                target = self.target or (ANY_RANGE if self.target_values.rule in DERIVED else None)
                missing = self.source_values.missing, self.target_values.missing
                SampleSpec(sample.header, source, target, *missing).tensors(sample)
                return sample

            found.append(SkipBadSamples(len(samples), self.bad_data).first_usable(0, checked)[0])
        return found[0]._replace(target=found[-1].target)

    @property
    def spec(self) -> SampleSpec:
        """What all samples must have in common with the first.

        Raises:
            RecipeError: the targets are of a type that does not hold the range of the target's values.
        """
        low, high = self.value_range("target")
        dtype = self.first.target.dtype
        if dtype.kind in "iu" and not np.iinfo(dtype).min <= low < high <= np.iinfo(dtype).max:
            raise RecipeError(f"target.range: found {low:g} to {high:g}, but targets are of {dtype}, which holds less")
        source = self.value_range("source") if self.encoded else self.source
        missing = self.source_values.missing, self.target_values.missing
        return SampleSpec(self.first.header, source, self.target, *missing)

    def unsettled(self) -> list[str]:
        """The sides whose range is to be found, or of which one of a few images has odd values, or says more."""
        found = set[str]()
        for samples in filter(None, (self.train, self.train.targets)):
            # of shards the first alone, since each has to be fetched whole
            count = samples.shards[0] if len(getattr(samples, "shards", ())) else len(samples)
            for place in range(0, count, max(1, count // FEW)):
                with suppress(DataError):  # it is reported, or skipped, where it is needed
                    sample = samples[place]
                    for side in ("source", "target"):
                        image, rule = getattr(sample, side), getattr(self, f"{side}_values").rule
                        if image is None or side in found:
                            continue
                        more = isinstance(image, StoredPixels) or image.dtype != getattr(self.first, side).dtype
                        more |= rule in ("auto", "percentiles", "labels")
                        more |= rule == "default" and image.dtype.itemsize > 1
                        used = float(image.max()) - float(image.min())
                        if more or used < LITTLE * np.ptp(self.value_range(side)):
                            found.add(side)
        return sorted(found)

    def value_range(self, side: str) -> ValueRange:
        """The range of values of "source" or "target" that becomes [-1, 1]."""
        chosen, dtype = getattr(self, side), getattr(self.first, side).dtype
        try:
            return chosen or dtype_range(dtype)
        except KeyError as error:
            raise DataError(f"{side}s are of {dtype}, which has no range of its own; set {side}.range") from error

    def with_ranges(self, found: Mapping[str, ValueRange], notices: Sequence[str] = ()) -> Data:
        """The data with the range of each side that is in ``found``, and ``notices`` on their values."""
        source, target = found.get("source", self.source), found.get("target", self.target)
        return replace(self, source=source, target=target, found_notices=notices)

    @property
    def channels(self) -> dict[str, int]:
        """What components ask for as ``source_channels`` and ``target_channels``."""
        header = self.first.header
        return {"source_channels": header.source[2], "target_channels": header.target[2]}

    @cached_property  # it looks at every file
    def fingerprint(self) -> str:
        """A text that changes when any of the sets does."""
        prints = []
        for samples in (self.train, self.val, self.test):
            if len(samples):
                prints.append(f"{'' if samples is self.train else f'{samples.split} '}{samples.fingerprint()}")
        return " + ".join(prints)

    @property
    def problems(self) -> list[str]:
        """What must be mended before training, as the data set says."""
        return list(dict.fromkeys(chain.from_iterable(map(attrgetter("problems"), self.sets))))

    @property
    def notices(self) -> list[str]:
        """What the data set wants everybody to know, and what its sets mean for validation."""
        notices = dict.fromkeys(chain.from_iterable(map(attrgetter("notices"), self.sets)))
        notices.update(dict.fromkeys([*self.set_notices, *self.found_notices]))
        if self.bad_data == "skip":
            notices |= dict.fromkeys(self.problems)
        if not len(self.validation):
            notices["no validation: the data has neither a val nor a test set"] = None
        elif self.train.targets is not None:
            losses = "choose a method and losses that need no pairs (l1 compares pairs too)"
            notices[f"the data is unpaired: metrics compare pairs, so none are taken; {losses}"] = None
        elif not len(self.val):
            seen = "metrics on it are optimistic for what has been selected by them"
            notices[f"there is no val set: the test set serves as both, so {seen}"] = None
        return list(notices)
