"""Checks of a data set before it is trained on: the headers of all samples, and all pixels where that is asked for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import repeat
from math import prod
from operator import attrgetter
from typing import NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel
from torch import nn

from p2pkit.contracts import DatasetWithHeaders, Sample, SampleHeader, Split
from p2pkit.data.augmentation import Augmentation, refuse_unlike, scale_of
from p2pkit.data.loader import ONE_SIZE
from p2pkit.data.sets import LITTLE, Data
from p2pkit.errors import DataError, WriteError, listed
from p2pkit.images.formats import installed
from p2pkit.images.pixels import StoredPixels
from p2pkit.networks.fitting import refuse_unfitting
from p2pkit.utils.atomic import write_text
from p2pkit.utils.paths import cache_folder
from p2pkit.utils.progress import Progress

FEW = 8
"""Of so many images, evenly spread, a run looks at the values, and at more where they are odd."""
SHOWN, SHOWN_IN_NOTICE = 50, 3
"""How many bad samples an error lists, and how many a notice."""
SKIP = 'To train without them, set loader.bad_data = "skip"'

_NUMBERS = re.compile(r" \(and \d+ more of that shape\)|\S*[/\\.]\S*|\d+(?!\d| channels)")
"""What differs between messages that say the same, beside names of files."""

T = TypeVar("T")


class SampleRef(NamedTuple):
    """Which sample: the place of its set in ``Data.sets``, and its number there; in the order of the data set."""

    place: int
    number: int


def sample_refs(data: Data) -> list[SampleRef]:
    """All samples of all sets."""
    refs: list[SampleRef] = []
    for place, samples in enumerate(data.sets):
        refs += map(SampleRef, repeat(place), range(len(samples)))
    return refs


def scan(
    title: str, refs: Sequence[SampleRef], look: Callable[[SampleRef], T], threads: int | None = None,
    brief: bool = False,
) -> Iterator[T]:  # fmt: skip
    """What ``look`` makes of each sample, in their order; several threads look at once, unless ``threads`` is 1.

    Of what is mostly ``brief`` no line is left where it was.
    """
    with ThreadPoolExecutor(threads) as pool, Progress(title, len(refs), "pair", brief=brief) as progress:
        for found in pool.map(look, refs):
            yield found
            progress.advance()


class HeaderGroup(BaseModel):
    """Samples of one set that have the same shapes: which is the first, its header, and how many there are."""

    ref: SampleRef
    split: Split
    header: SampleHeader
    count: int


class HeaderScan(BaseModel):
    """What the headers of a data set say; ``unread`` are the samples whose headers could not be read."""

    groups: list[HeaderGroup] = []
    unread: list[SampleRef] = []
    count: int = 0
    """How many samples have been looked at."""


class Finding(NamedTuple):
    """What is wrong with so many samples."""

    message: str
    samples: int


@dataclass
class SampleChecks:
    """What each sample must be, by its shapes alone; ``first`` is a training sample that is as it should be."""

    first: SampleHeader
    augmentation: Augmentation
    batched: bool
    to_one_size: bool = False

    def refuse_unusable(self, header: SampleHeader, trained: bool) -> None:
        """Raise DataError when a sample by itself cannot be used; skipping it is a remedy."""
        refuse_unlike(header, self.first, self.to_one_size)
        for shape in header[:2]:
            if trained and any(shape):
                self.augmentation.refuse_smaller_than_crop(shape[:2], header.key)

    def refuse_size(self, header: SampleHeader, generator: nn.Module) -> None:
        """Raise DataError when a training sample's size does not go with the generator or with the first sample's."""
        for shape, first in zip(header[:2], self.first[:2], strict=True):
            if not any(shape):  # a sample of an unpaired data set has one side alone
                continue
            size = self.augmentation.sizes(shape[:2]).crop
            if shape is header.source:
                refuse_unfitting(generator, size, header.key)
            if self.batched and size != self.augmentation.sizes(first[:2]).crop:
                raise DataError(
                    f"{header.key}: it differs in size from {self.first.key}, so no batch can hold both; {ONE_SIZE}"
                )


@dataclass
class HeaderCheck:
    """All headers of a data set looked at: :meth:`scan` before anything is built, :meth:`refuse_sizes` after that.

    Data sets without headers are not looked at.
    """

    data: Data
    augmentation: Augmentation
    batched: bool
    checks: SampleChecks | None = None
    count: int = 0
    usable: list[HeaderGroup] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """What is wrong with samples that cannot be used."""
    notices: list[str] = field(default_factory=list)
    """On samples that are skipped, and on images of a pair that differ in size."""

    def scan(self, identity: str) -> str:
        """Scan the headers, kept for the next run under ``identity``; the notices, each behind the first on a line.

        Raises:
            DataError: samples cannot be used and the policy is to stop, or none can.
        """
        to_one_size = self.data.to_one_size
        if not all(map(hasattr, self.data.sets, repeat("header"))):
            if to_one_size and self.data.train.targets is None and not scale_of(self.data.first.header):
                self._report_unequal(self.data.first.header)
            return "\nNOTICE: ".join(self.notices)
        # what is taken of channels is in the headers, and not in the data's fingerprint; nor is all that files hold
        stamps = "".join(map(attrgetter("files_stamp"), self.data.sets)) if self.data.train.names_files else ""
        headers, unreadable = _scan_headers(self.data, f"{identity} {stamps} {self.data.train.taking or ''}".strip())
        self.findings, self.count = list(map(Finding, unreadable, repeat(1))), headers.count
        findings = self.findings
        first, unlike = _first_of_sides(headers.groups, to_one_size)
        if len(first) < 2:
            findings += unlike
            raise _cannot_be_used(findings, self.count)
        header = first["source"]._replace(target=first["target"].target)
        self.checks = SampleChecks(header, self.augmentation, self.batched, to_one_size)
        if to_one_size:  # so it is with all of them
            self.augmentation.refuse_smaller_than_crop(header.source[:2], header.key)
        scale, odd = scale_of(header) or 1, None
        for group in headers.groups:
            try:
                self.checks.refuse_unusable(group.header, trained=group.split == "train")
                self.usable.append(group)
                (rows, columns, _), target = group.header.source, group.header.target
                if rows and target[0] and target[:2] != (scale * rows, scale * columns):
                    odd = odd or group.header
            except DataError as error:
                findings.append(_of_group(group, error))
        if findings and self.data.bad_data == "stop":
            raise DataError(f"{_cannot_be_used(findings, self.count)}\n{SKIP}")
        if findings:
            self._report_skipped()
        if odd is not None and self.data.train.targets is None:
            self._report_unequal(odd)
        self._record_sizes()
        return "\nNOTICE: ".join(self.notices)

    def _record_sizes(self) -> None:
        for side in ("source", "target"):
            if sizes := {getattr(group.header, side)[:2] for group in self.usable} - {(0, 0)}:
                ends = {"smallest": min(sizes, key=prod), "largest": max(sizes, key=prod)}
                self.data.about.setdefault("sizes", {})[side] = {**ends, "different": len(sizes)}

    def _report_skipped(self) -> None:
        few = listed([finding.message for finding in self.findings], SHOWN_IN_NOTICE)
        skipped = sum(finding.samples for finding in self.findings)
        self.notices.append(f"{skipped} of {self.count} pairs cannot be used and are skipped:{few}")

    def _report_unequal(self, pair: SampleHeader) -> None:
        """Report that the two images of a pair differ in size: they may not show the same."""
        (height, width, _), target = pair.source, pair.target
        self.notices.append(
            f"{pair.key}: source and target differ in size, {height}x{width} and {target[0]}x{target[1]} (height x "
            "width); both are resized to transform.load_size, and must show the same"
        )

    def refuse_sizes(self, generator: nn.Module) -> None:
        """Raise DataError when training samples have sizes that the generator, or a batch, does not take."""
        if self.checks is None:
            return
        self.checks.refuse_size(self.checks.first, generator)
        findings = []
        for group in self.usable:
            try:
                if group.split == "train":
                    self.checks.refuse_size(group.header, generator)
            except DataError as error:
                findings.append(_of_group(group, error))
        if findings:
            raise _cannot_be_used(findings, self.count)


def check_pixels(data: Data, augmentation: Augmentation, batched: bool, generator: nn.Module) -> tuple[int, list[str]]:
    """Read every sample as training reads it: how many there are, and a message for each that cannot be used.

    Raises:
        DataError: no training sample can be used, or the generator takes none of that size.
    """
    data = replace(data, bad_data="skip")
    spec, sets = data.spec, data.sets
    checks = SampleChecks(spec.first, augmentation, batched, spec.to_one_size)
    checks.refuse_size(spec.first, generator)

    def wrong(ref: SampleRef) -> str | None:
        try:
            sample, trained = sets[ref.place][ref.number], sets[ref.place].split == "train"
            spec.tensors(sample)
            checks.refuse_unusable(sample.header, trained)
            if trained:
                checks.refuse_size(sample.header, generator)
        except DataError as error:
            return str(error)
        return None

    refs = sample_refs(data)
    return len(refs), [found for found in scan("reading", refs, wrong) if found]


def kind_of(message: str) -> str:
    """What a message says, whichever sample it is about: without the names of files, and most numbers."""
    # names may hold blanks: from the beginning, or a word with a / in it, to the ending
    endings = "|".join(map(re.escape, installed().endings))
    names = re.compile(rf"(?:^|(?<=\s)(?=\S*/))[^:]*?(?:{endings})\b(?=[:\s,;)]|$)", re.IGNORECASE)
    return _NUMBERS.sub("", names.sub("", message))


def by_kind(findings: Sequence[Finding]) -> list[str]:
    """A line for each kind of what is wrong: the number of samples, and what is said of the first one."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(kind_of(finding.message), []).append(finding)
    lines = []
    for alike in kinds.values():
        count = sum(finding.samples for finding in alike)
        several = f"{count} pairs cannot be used, such as" if count > 1 else "1 pair cannot be used:"
        lines.append(f"{several} {alike[0].message}")
    return lines


def cannot_be_used(count: int, total: int, messages: Sequence[str]) -> DataError:
    """The error of a data set of which ``count`` of so many samples cannot be used."""
    return DataError(f"{count} of {total} pairs cannot be used:{listed(messages, SHOWN)}")


def _cannot_be_used(findings: Sequence[Finding], total: int) -> DataError:
    return cannot_be_used(sum(each.samples for each in findings), total, [each.message for each in findings])


def _first_of_sides(groups: Sequence[HeaderGroup], to_one_size: bool) -> tuple[dict[str, SampleHeader], list[Finding]]:
    """The first usable header of the train set by side, of two samples where data is unpaired; and what is unlike."""
    first, unlike = dict[str, SampleHeader](), list[Finding]()
    for group in groups:
        try:
            refuse_unlike(group.header, group.header, to_one_size)
        except DataError as error:
            unlike.append(_of_group(group, error))
            continue
        for side in ("source", "target") if group.split == "train" else ():
            if any(getattr(group.header, side)):
                first.setdefault(side, group.header)
    return first, unlike


def _of_group(group: HeaderGroup, error: DataError) -> Finding:
    more = f" (and {group.count - 1} more of that shape)" if group.count > 1 else ""
    return Finding(f"{error}{more}", group.count)


def _scan_headers(data: Data, identity: str) -> tuple[HeaderScan, list[str]]:
    """What the headers say, as far as it is known from the cache, and what is wrong with those that are unreadable.

    A file may be repaired without a change of its size, so those that could not be read are looked at each time.
    """
    known, refs, digest = HeaderScan(), sample_refs(data), hashlib.sha256(identity.encode()).hexdigest()[:32]
    caches = cache_folder()
    cache = caches and caches / "headers" / f"{digest}.json"
    sets: Sequence[DatasetWithHeaders] = data.sets
    # it is not there, not allowed, no file, or damaged
    with suppress(OSError, ValueError):
        cached = HeaderScan.model_validate_json(cache.read_bytes() if cache and cache.is_file() else b"")
        if cached.count == len(refs):
            known, refs = cached, cached.unread
    if not refs:
        return known, []

    def header(ref: SampleRef) -> SampleHeader | str:
        try:
            return sets[ref.place].header(ref.number)
        except DataError as error:
            return str(error)

    headers, messages = HeaderScan(count=known.count or len(refs)), []
    groups: dict[object, HeaderGroup] = {}
    found = list(known.groups)
    for ref, seen in zip(refs, scan("checking headers", refs, header), strict=True):
        if isinstance(seen, str):
            headers.unread.append(ref)
            messages.append(seen)
        else:
            found.append(HeaderGroup(ref=ref, split=data.sets[ref.place].split, header=seen, count=1))
    for group in sorted(found, key=attrgetter("ref")):
        kind = (group.ref.place, group.header.source, group.header.target)
        if kind in groups:
            groups[kind].count += group.count
        else:
            groups[kind] = group
    headers.groups = list(groups.values())
    with suppress(WriteError):  # the next run reads the headers again
        if cache is not None:
            write_text(cache, headers.model_dump_json())
    return headers, messages


def unsettled(data: Data) -> list[str]:
    """The sides whose range is to be found, or of which one of a few images has odd values, or says more."""
    found = set[str]() if data.first.mask is None else {"mask"}
    for samples in filter(None, (data.train, data.train.targets)):
        # of shards the first alone, since each has to be fetched whole
        count = samples.shards[0] if len(getattr(samples, "shards", ())) else len(samples)
        for place in range(0, count, max(1, count // FEW)):
            with suppress(DataError):  # it is reported, or skipped, where it is needed
                sample = samples[place]
                refuse_unlike(sample.header, data.first.header, data.to_one_size)
                for side in sample.header.sides:
                    image = getattr(sample, side) if side in Sample._fields else sample.image(side)
                    if image is None or side in found:
                        continue
                    rule, first = data.values[side].rule, getattr(data.first, side, None)
                    first = data.first.image(side) if first is None else first
                    assert first is not None
                    more = isinstance(image, StoredPixels) and bool(image.profile or not image.taken)
                    more |= image.dtype != first.dtype or rule in ("auto", "percentiles", "labels")
                    more |= rule == "default" and image.dtype.itemsize > 1
                    used = float(image.max()) - float(image.min())
                    if more or used < LITTLE * np.ptp(data.value_range(side)):
                        found.add(side)
    return sorted(found)
