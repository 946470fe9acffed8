"""Values of pixels before a run: the range that is "auto", and what is odd about what each side holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from accelerate import Accelerator

from p2pkit.contracts import ValueRange
from p2pkit.data.sets import DERIVED, LITTLE, Data
from p2pkit.data.value_ranges import find_percentiles
from p2pkit.data.value_statistics import Looked, Statistics, look_at_values, plural, side_values
from p2pkit.distributed.collectives import on_main_process
from p2pkit.errors import DataError
from p2pkit.images.pixels import Reading
from p2pkit.utils.progress import print_line

NUMBERS = -32768.0, 65535.0
"""Between these lie the numbers that may stand in label maps; float32 keeps them all apart."""
MARGIN = 0.01
"""Values that are no farther beyond a range than this share of it are not worth a word."""
AS_THEY_ARE = ({"uint8"}, {"uint16"})
"""The types of label maps whose own range holds all of their numbers, and no more than need be."""


class FoundValues(NamedTuple):
    """What has been found in the pixels of each side: its range, if that is derived; what they hold; what is odd."""

    ranges: dict[str, ValueRange]
    looked: Looked
    notices: list[str]

    @property
    def statistics(self) -> dict[str, Statistics]:
        """What training images hold, by side."""
        return self.looked.sets.get("train", {})

    @property
    def sampled(self) -> bool:
        """Whether there are images that have not been looked at."""
        of_all = [held for sides in self.looked.sets.values() for held in sides.values()]
        return any(held.images + len(self.looked.unread) < held.of for held in of_all)

    def lines(self, data: Data) -> Iterator[str]:
        """Which values become -1 to 1, where that has been found, and why."""
        for side, (low, high) in self.ranges.items():
            values = side_values(data, side)
            if values.rule != "labels":
                why = "as its percentiles say" if values.percentiles else "as measured (auto)"
                yield f"{side}: values from {low:g} to {high:g} become -1 to 1, {why}: {self.statistics[side].shown}"

    def of_percentiles(self, data: Data) -> dict[str, ValueRange]:
        """The ranges that are of all training images already, however many have been looked at."""
        return {side: values for side, values in self.ranges.items() if side_values(data, side).percentiles}

    def beyond(self, every: FoundValues) -> Iterator[str]:
        """Notices on ranges that were measured, and beyond which there are values among those of ``every`` image."""
        for side, (low, high) in self.ranges.items():
            held, measured = every.statistics[side], self.statistics[side]
            if (held.low, held.high) != (measured.low, measured.high):
                yield (
                    f"{plural(side)} hold values {held.shown}; a run measures {low:g} to {high:g} on {measured.images} "
                    f"of them, and clips what is beyond. Set {side}.range to keep it"
                )


def find_values(data: Data, sides: Sequence[str] | None = None, every: bool = False) -> FoundValues:
    """The ranges of ``sides`` (all unless given) that a recipe asks to be found, and what is odd about their values.

    Looks at 128 samples of each set, or at ``every`` one; ranges are those of the train set, percentiles of all of it.

    Raises:
        DataError: a pair cannot be read and the policy is to stop, none can, all values of a side are the same, label
            maps hold what are no numbers of classes, or masks next to no weights.
    """
    if sides is None:
        sides = ["source", "target"]
        with suppress(DataError):  # if none can be used, the look at all of them says so
            sides = [*data.first.header.sides, *(["mask"] if data.first.mask is not None else [])]
    percentiles = {}
    for side in sides:
        asked = side_values(data, side).percentiles
        if asked and data.ranges[side] is None:  # else they are known
            percentiles[side] = asked
    found = FoundValues(find_percentiles(data, percentiles), look_at_values(data, sides, every), [])
    for side, held in found.statistics.items():
        values = side_values(data, side)
        if side == "mask":
            found.notices.extend(_of_masks(held, data.mask_range))
            for split in {"train", data.validation.split} & found.looked.sets.keys():
                _refuse_masked_out(found.looked.sets[split]["mask"], data.mask_range)
            continue
        if values.rule == "labels":
            every_set = [sets[side] for sets in found.looked.sets.values() if side in sets]
            if numbers := _of_labels(every_set, data.ranges[side]):
                found.ranges[side] = numbers
            continue
        if values.rule == "auto" or (values.rule == "default" and held.wide and len(held.dtypes) == 1):
            if held.low < held.high and (held.low, held.high) != held.range_of_type:  # floats beyond it are an error
                found.ranges[side] = held.low, held.high
            elif held.low == held.high:
                of_type = f"all values are {held.low:g}, which is not a range: that of their type is taken"
                found.notices.append(f"{side}: {of_type}; set {side}.range for another one")
        chosen = found.ranges.get(side) or data.ranges[side]
        if values.reading.logarithmic and chosen is not None and chosen[0] <= 0:
            raise DataError(
                f'{side}.mapping = "logarithmic" is of values above 0, and these go from {chosen[0]:g} on; set '
                f"{side}.range, beyond which values are clipped"
            )
        found.notices.extend(_odd_values(side, held, values.reading, chosen))
        found.notices.extend(_said_by_files(side, held, values.reading, chosen))
        if chosen is not None and values.rule in DERIVED and not values.percentiles:
            others = [sets[side] for split, sets in found.looked.sets.items() if split != "train" and side in sets]
            found.notices.extend(values_beyond(side, others, chosen))
    return found


def values_beyond(side: str, sets: Sequence[Statistics], values: ValueRange) -> Iterator[str]:
    """Notices on sets, other than the train set, with values well beyond the range that training has found."""
    margin = MARGIN * (values[1] - values[0])
    for held in sets:
        if held.low < values[0] - margin or held.high > values[1] + margin:
            too = ", for metrics too" if side == "target" else ""
            yield (
                f"{plural(side)} of the {held.called} set hold values {held.shown}, beyond {values[0]:g} to "
                f"{values[1]:g}, the range of the train set: they are clipped{too}. Set {side}.range to keep them"
            )


def with_found_values(data: Data, sides: Sequence[str], accelerator: Accelerator) -> Data:
    """The data with the ranges of ``sides`` that the main process finds and prints, and what is odd about their values.

    Raises:
        DataError: as :func:`find_values`.
    """

    def find() -> str:
        found = find_values(data, sides)
        for line in found.lines(data):
            print_line(line)
        for notice in found.notices:
            print_line(f"NOTICE: {notice}")
        return json.dumps([found.ranges, found.notices])

    ranges, notices = json.loads(on_main_process(accelerator, find))
    return data.with_ranges({side: (low, high) for side, (low, high) in ranges.items()}, notices)


def _of_masks(held: Statistics, values: ValueRange | None) -> Iterator[str]:
    """Notices on masks that leave all, or nothing in full, to count; a DataError where next to nothing counts."""
    low, high = values or (0.0, (held.range_of_type or (0.0, 1.0))[1])
    if held.high <= low:
        return  # they are refused, as those of any set are
    if held.high - low < LITTLE * (high - low):
        raise DataError(
            f"masks hold values {held.shown}, and {high:g} is a weight of 1, so that next to nothing counts; set "
            f"mask.range, as in mask.range = [0, {max(1.0, held.high):g}], or save weights as 0 to {high:g}"
        )
    if held.low >= high:
        yield f"masks hold values {held.shown}: every pixel counts in full, as it would without masks"
    elif held.high < high - MARGIN * (high - low):
        yield (
            f"masks hold values {held.shown}, and {high:g} is a weight of 1, so that no pixel counts in full. If those "
            f"of {held.high:g} shall, set mask.range = [{low:g}, {held.high:g}]"
        )


def _refuse_masked_out(held: Statistics, values: ValueRange | None) -> None:
    """Raise DataError for masks of a set that let nothing count: nothing could be learnt, or measured."""
    low = values[0] if values else 0.0
    if held.images and held.high <= low:
        raise DataError(
            f"masks hold values {held.shown}, and {low:g} is a weight of 0, so that nothing counts; make masks that "
            f"are higher where the target counts{', or set mask.range' if values else ''}"
        )


def _of_labels(sets: Sequence[Statistics], known: ValueRange | None) -> ValueRange | None:
    """The range in which the numbers of label maps keep apart; None where that of their type does, or one is known.

    Raises:
        DataError: they are not whole numbers of classes.
    """
    low, high = min(held.low for held in sets), max(held.high for held in sets)
    if not all(held.whole for held in sets) or not NUMBERS[0] <= low <= high <= NUMBERS[1]:
        raise DataError(
            f"the sources hold values {low:g} to {high:g}, but label maps hold the numbers of classes: whole ones from "
            f"{NUMBERS[0]:.0f} to {NUMBERS[1]:.0f}; save them so, or leave [encoding] out"
        )
    if known is not None:
        return None
    dtypes = {dtype for held in sets for dtype in held.dtypes}
    return None if dtypes in AS_THEY_ARE else (NUMBERS[0] if low < 0 else 0.0, NUMBERS[1])


def _odd_values(side: str, found: Statistics, reading: Reading, values: ValueRange | None) -> Iterator[str]:
    """Notices on values that make little use of their range; ``values`` is None for that of their type."""
    if len(found.dtypes) > 1 and values is None:
        yield (
            f"{plural(side)} are of several types ({_counted(found.dtypes)}), each of which has its own range; set "
            f"{side}.range if their values mean the same"
        )
    of_range = values or found.range_of_type
    if found.low >= found.high or of_range is None:
        return
    low, high = of_range
    if reading.logarithmic and low <= 0:
        return  # it is refused where it is used
    used = reading.share((found.low, found.high), of_range)
    inner = reading.share((found.inner_low, found.inner_high), of_range)
    if used < LITTLE:
        yield (
            f"{plural(side)} hold values {found.shown}, which is {used:.1%} of the range {low:g} to {high:g} that "
            f"becomes -1 to 1: to the networks they are nearly of one shade. Set {side}.range = [{found.low:g}, "
            f"{found.high:g}]"
        )
    elif 0 < inner < LITTLE / 2 and found.wide:
        yield (
            f"{plural(side)}: all but a few values lie between {found.inner_low:g} and {found.inner_high:g}, which is "
            f"{inner:.1%} of the range {low:g} to {high:g} that becomes -1 to 1. Set {side}.percentiles = [0.1, 99.9] "
            "to clip the others"
        )


def _said_by_files(side: str, found: Statistics, reading: Reading, values: ValueRange | None) -> Iterator[str]:
    """Notices on what files say of their values."""
    if found.profiles:
        yield (
            f"{found.profiles.total()} of {found.images} {plural(side)} have a colour profile "
            f"({_counted(found.profiles)}), which is not used: their numbers are taken as stored"
        )
    fill = reading.fill
    if found.missing and reading.masked:
        shown = "in the middle of the range" if fill is None else f"{fill:g}"
        yield (
            f"{found.missing / found.values:.2%} of the values of {plural(side)} mean that nothing is there; they are "
            f"{shown} to the networks, and do not count"
        )
    elif found.missing and fill is not None:
        low, high = values or (fill, fill)
        seen = min(max(fill, low), high)
        clipped = "" if seen == fill else f", which is clipped to {seen:g}, the end of the range"
        yield (
            f"{found.missing / found.values:.2%} of the values of {plural(side)} mean that nothing is there, and are "
            f"{fill:g} to the networks, as {side}.fill says{clipped}"
        )


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in found.most_common())
