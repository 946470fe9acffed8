"""Planes of volumes: NIfTI files, DICOM series, TIFF stacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from p2pkit.builtin.datasets.paired_folders import pairs_in_folders
from p2pkit.contracts import NO_IMAGE, Sample, SampleHeader, Split
from p2pkit.data.discovery import DEFAULT_SIDES, fingerprint_of, key_of, refuse_missing
from p2pkit.data.pairing import STEM, Pairs
from p2pkit.errors import DataError, listed
from p2pkit.images.discovery import Found
from p2pkit.images.names import ending, without_image_ending
from p2pkit.images.volumes import Volume, gathered, open_volume, refuse_unequal
from p2pkit.utils.progress import Progress, is_main_process

SHOWN = 3
SAME_PLACE = 1e-2
"""By how much two affines may differ, in millimetres."""


class _Volumes(NamedTuple):
    """What belongs together, all of one shape."""

    sources: Sequence[Volume]
    target: Volume
    mask: Volume | None
    key: str
    group: str

    @property
    def each(self) -> list[Volume]:
        """All of them."""
        return [*self.sources, self.target, *([self.mask] if self.mask else [])]


class VolumeSlices:
    """Planes of volumes: NIfTI files, folders with the .dcm files of a DICOM series, multi-frame DICOM, TIFF stacks.

    Folders are found, and what is in them is paired, as by paired_folders. A volume is an array
    [height, width, planes] with the axes of its file; source, target and mask are of one shape.

    Args:
        root: the folder of the data set.
        source: the name of the folder of sources, below ``root`` or below each split, or a list of several, which are
            sources of these names. Where neither it nor ``target`` is set and there are no such folders, A is
            translated to B.
        target: the name of the folder of targets, likewise; both may be one folder where there are patterns.
        mask: the name of the folder of masks, likewise: how much each voxel of a target counts.
        source_pattern: how names of sources hold the stem of their pair: "{stem}_t1", or "{group}_{stem}"; of several
            sources a list too, if they differ.
        target_pattern: the same of targets.
        mask_pattern: the same of masks.
        axis: which axis of the array is walked: 2 for the planes of stacks and series and the third axis of NIfTI, 0
            for planes across the rows, 1 for planes across the columns.
        neighbours: how many planes on each side are channels of a source too, in their order; at the ends the last one
            is repeated.
        skip_empty: leave out planes whose target has one value throughout. All targets are read for that first.
    """

    def __init__(
        self, split: Split, root: Path, source: str | list[str] = DEFAULT_SIDES[0], target: str = DEFAULT_SIDES[1],
        source_pattern: str | list[str] = STEM, target_pattern: str = STEM, mask: str | None = None,
        mask_pattern: str = STEM, axis: Annotated[int, Field(ge=0, le=2)] = 2,
        neighbours: Annotated[int, Field(ge=0)] = 0, skip_empty: bool = False,
    ) -> None:  # fmt: skip
        refuse_missing(root)
        self._root, self._axis, self._neighbours, self._skip_empty = root, axis, neighbours, skip_empty
        patterns = source_pattern, target_pattern, mask_pattern
        found = pairs_in_folders(root, split, (source, target, mask), patterns, _of_volumes)
        self._names = found.names
        self.notices, self.problems = [*found.notices], [*found.problems]
        self._volumes = self._opened(found)
        counts = [each.target.shape[axis] for each in self._volumes]
        self._places = [(place, plane) for place, count in enumerate(counts) for plane in range(count)]
        if skip_empty:
            self._leave_out_empty(split)
        first = self._volumes[0] if self._volumes else None
        self.target_ending = "" if first is None else _ending(first.target.path)
        orientation = "" if first is None else first.sources[0].orientation
        self.planes: dict[str, Any] = {"axis": axis, "neighbours": neighbours, "orientation": orientation}

    @property
    def source_files(self) -> list[Path]:
        """The files of all sources, all those of a series: none of them may be in two sets."""
        return [file for each in self._volumes for source in each.sources for file in source.files]

    @property
    def target_files(self) -> list[Path]:
        """The files of targets."""
        return [file for each in self._volumes for file in each.target.files]

    @property
    def mask_files(self) -> list[Path]:
        """The files of masks."""
        return [file for each in self._volumes if each.mask for file in each.mask.files]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        place, plane = self._places[index]
        volumes, axis = self._volumes[place], self._axis
        sources: list[Any] = [source.plane(plane, axis, self._neighbours) for source in volumes.sources]
        source = dict(zip(self._names, sources, strict=True)) if self._names else sources[0]
        mask = volumes.mask.plane(plane, axis) if volumes.mask else None
        return Sample(source, volumes.target.plane(plane, axis), self.key(index), mask)

    def header(self, index: int) -> SampleHeader:
        """The shapes of the sample at ``index``, without reading anything."""
        volumes, key = self._volumes[self._places[index][0]], self.key(index)
        size = volumes.target.plane_shape(self._axis)
        source, target = (*size, 2 * self._neighbours + 1), (*size, 1)
        mask = target if volumes.mask else NO_IMAGE
        if self._names:
            return SampleHeader.of_sources(dict.fromkeys(self._names, source), target, key, mask)
        return SampleHeader(source, target, key, mask)

    def key(self, index: int) -> str:
        """The key of the sample at ``index``: its volume's path without the ending, and the number of the plane."""
        place, plane = self._places[index]
        return f"{self._volumes[place].key}#plane_{plane:04}"

    def group(self, index: int) -> str:
        """What keeps planes in one set: their volume, or the group that patterns give this."""
        return self._volumes[self._places[index][0]].group

    def fingerprint(self) -> str:
        """A digest of the files, of what sources are called, and of which planes are samples."""
        planes = f"axis {self._axis}, {self._neighbours} neighbours{', without empty' * self._skip_empty}"
        files = [file for each in self._volumes for volume in each.each for file in volume.files]
        return fingerprint_of(self._root, files, planes, *self._names, *["masked"] * bool(self.mask_files))

    def _opened(self, found: Pairs) -> list[_Volumes]:
        """The volumes of the pairs that can be used; of others there is a problem."""
        opened, failures, count = list[_Volumes](), list[str](), len(found.names) or 1
        with Progress("looking at volumes", len(found.files), "pair", shown=is_main_process(), brief=True) as progress:
            for place, files in enumerate(found.files):
                try:
                    volumes = [open_volume(file) for file in files]
                    refuse_unequal(volumes, "two volumes of a pair")
                    key = key_of(without_image_ending(files[0]), self._root)
                    group, mask = found.groups[place] if found.groups else "", volumes[-1] if found.masked else None
                    opened.append(_Volumes(volumes[:count], volumes[count], mask, key, group or key))
                except DataError as error:
                    failures.append(str(error))
                progress.advance()
        if failures:
            several = f"{len(failures)} of {len(found.files)} pairs of volumes cannot be used:"
            self.problems.append(several + listed(failures, SHOWN))
        self.notices += dict.fromkeys(notice for each in opened for volume in each.each for notice in volume.notices)
        self.notices += _in_space(opened, self._root)
        return opened

    def _leave_out_empty(self, split: Split) -> None:
        count, kept = len(self._places), list[tuple[int, int]]()
        with Progress("looking for empty planes", count, "plane", shown=is_main_process(), brief=True) as progress:
            for place, plane in self._places:
                if not _is_empty(self._volumes[place].target, plane, self._axis):
                    kept.append((place, plane))
                progress.advance()
        self._places = kept
        if len(kept) < count:
            found = f"{count - len(kept)} of the {count} planes of the {split} set are left out"
            self.notices.append(f"{self._root}: {found}, for their targets have one value throughout (skip_empty)")


def _of_volumes(found: Found) -> Found:
    volumes = gathered(found.files)
    if found.folder in volumes:
        raise DataError(
            f"{found.folder}: DICOM files lie in it side by side; put those of each series into a folder of their own "
            "below it, called as their pair is"
        )
    return found._replace(files=volumes)


def _ending(path: Path) -> str:
    return ".dcm" if path.is_dir() else ending(path)


def _is_empty(volume: Volume, index: int, axis: int) -> bool:
    try:
        plane = np.asarray(volume.plane(index, axis))
    except DataError:
        return False  # it is reported, or skipped, by whoever reads it
    return bool(plane.min() == plane.max())


def _in_space(found: Sequence[_Volumes], root: Path) -> Iterable[str]:
    """Notices on volumes whose places in space are not what one would think of those of one number."""
    apart = []
    for each in found:
        affines = [volume.affine for volume in each.each if volume.affine is not None]
        if not all(np.allclose(affines[0], other, atol=SAME_PLACE) for other in affines[1:]):
            apart.append(each.key)
    if apart:
        yield (
            f"{root}: in {len(apart)} of {len(found)} pairs volumes have different affines "
            f"({', '.join(apart[:SHOWN])}{', ...' * (len(apart) > SHOWN)}): voxels are paired by their indices, so "
            "resample one to the other unless they fit"
        )
    codes = (each.sources[0].orientation for each in found)
    orientations = Counter(code for code in codes if code)
    if len(orientations) > 1:
        counts = ", ".join(f"{code} {count}" for code, count in orientations.most_common())
        yield f"{root}: volumes are stored in several orientations ({counts}); their axes are taken as stored"
