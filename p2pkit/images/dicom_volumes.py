"""DICOM volumes: the images of a series in their order in space, or the frames of one file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from struct import Struct
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pkit.errors import DataError, counted
from p2pkit.images.medical import dicom, in_units, refuse_larger_frames, refuse_tables
from p2pkit.images.pixels import described_like
from p2pkit.images.reading import failures_of
from p2pkit.utils.opening import open_regular

DICOM_ENDING = ".dcm"
SAME_DIRECTION, SAME_PLACE, UNEVEN = 1e-3, 1e-3, 0.1
"""How much direction cosines may differ, positions in millimetres, distances of planes as a share of their median."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From DICOM's axes (left, posterior, superior) to those of NIfTI."""
_GEOMETRY = {
    "ImagePositionPatient": "PlanePositionSequence", "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
}  # fmt: skip
_RESCALE = "RescaleSlope", "RescaleIntercept"


class _Plane(NamedTuple):
    """What the header of a file, or of a frame in it, says."""

    file: Path
    frame: int | None
    size: tuple[int, int]
    series: str
    number: int | None
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    rescale: tuple[Any, Any]
    """Slope and intercept of a frame, where it has its own."""


class _Frames(NamedTuple):
    """The frames of a file, whose header is read once for them all."""

    header: Any
    options: dict[str, Any]
    """What pydicom has to know of the pixels."""
    start: int
    """Where their value begins."""

    @classmethod
    def of(cls, file: Path) -> _Frames:
        """Those in a file."""
        with failures_of(file.name), open_regular(file) as stream:
            return cls.read(stream)

    @classmethod
    def read(cls, stream: IO[bytes]) -> _Frames:
        """Those in a stream."""
        header = dicom(stream, header=True)
        syntax = header.file_meta.TransferSyntaxUID
        if syntax.is_deflated:
            raise DataError("it is deflated as a whole, so its planes cannot be read one by one; write it without that")
        tag = stream.read(8)
        if len(tag) < 8:
            raise DataError("it holds no pixels")
        named = Struct("<HH" if syntax.is_little_endian else ">HH").unpack_from(tag)
        options = import_module("pydicom.pixels").as_pixel_options(
            header, pixel_keyword=import_module("pydicom.datadict").keyword_for_tag(named)
        )
        if not syntax.is_implicit_VR:
            options["pixel_vr"] = tag[4:6].decode("latin-1")
        return cls(header, options, stream.tell() + (0 if syntax.is_implicit_VR else 4))

    def numbers(self, stream: IO[bytes], index: int) -> NDArray[Any]:
        """A frame, as in the file."""
        decoder = import_module("pydicom.pixels").get_decoder(self.header.file_meta.TransferSyntaxUID)
        stream.seek(self.start)
        refuse_larger_frames(self.header, stream, index)
        stream.seek(self.start)
        numbers, _ = decoder.as_array(stream, index=index, **self.options)
        return np.asarray(numbers)


class DicomVolume:
    """A folder with the single-frame files of one series, or a file of several frames (volumes.Stored).

    Planes are in the order of their positions along the normal of the image plane; without positions in that of
    InstanceNumber, and frames in that of the file.
    """

    def __init__(self, path: Path) -> None:
        self.files: Sequence[Path] = sorted(map(path.joinpath, _names(path))) if path.is_dir() else [path]
        if not self.files:
            raise DataError(f"the folder holds no {DICOM_ENDING} files")
        planes = [plane for file in self.files for plane in _planes(file, in_series=path.is_dir())]
        _refuse_unlike(planes)
        self._planes, self.notices = _in_order(planes)
        self.shape: tuple[int, int, int] = (*planes[0].size, len(planes))
        self._frames = None if path.is_dir() else _Frames.of(path)
        self.affine: NDArray[np.float64] | None = None if self.notices else _affine(self._planes)

    def slices(self, axis: int) -> bool:
        """Whether they are the planes of the files."""
        return axis == 2

    def plane(self, index: int, axis: int) -> NDArray[Any]:
        """A plane along the last axis."""
        plane = self._planes[index]
        with failures_of(plane.file.name):
            with open_regular(plane.file) as stream:
                frames = self._frames or _Frames.read(stream)
                dataset = frames.header.copy()
                refuse_tables(dataset)
                numbers = frames.numbers(stream, plane.frame or 0)
            for name, value in zip(_RESCALE, plane.rescale, strict=True):
                if value is not None:
                    setattr(dataset, name, value)
            if numbers.shape != plane.size:
                raise DataError(f"its pixels have the shape {numbers.shape}; expected gray ones of {plane.size}")
            return in_units(np.asarray(numbers)[:, :, None], dataset)

    def whole(self) -> NDArray[Any]:
        """All of it."""
        planes = [self.plane(index, 2) for index in range(self.shape[2])]
        return described_like(np.concatenate([np.asarray(plane) for plane in planes], axis=2), planes[0])


def frames_in(file: Path) -> int:
    """The number of frames in a file."""
    return int(_header(file).get("NumberOfFrames") or 1)


def _names(folder: Path) -> list[str]:
    names = (each.name for each in folder.iterdir() if each.is_file())
    return [name for name in names if name.lower().endswith(DICOM_ENDING) and not name.startswith((".", "~$"))]


def _header(file: Path) -> Any:
    with open_regular(file) as stream:
        return dicom(stream, header=True)


def _planes(file: Path, in_series: bool) -> list[_Plane]:
    with failures_of(file.name):
        dataset = _header(file)
        frames = int(dataset.get("NumberOfFrames") or 1)
        if in_series and frames > 1:
            raise DataError(f"it has {frames} frames among single images; put it into another folder")
        if not in_series and frames == 1:
            raise DataError("it is a single image; give the folder that holds its series")
        if int(dataset.get("SamplesPerPixel") or 1) > 1:
            found = counted(dataset.SamplesPerPixel, "sample")
            raise DataError(f"its pixels have {found}; expected gray, so convert it first")
        return [_plane(file, dataset, None if in_series else frame) for frame in range(frames)]


def _plane(file: Path, dataset: Any, frame: int | None) -> _Plane:
    size = int(dataset.Rows), int(dataset.Columns)
    series, number = str(dataset.get("SeriesInstanceUID") or ""), dataset.get("InstanceNumber")
    position, orientation, spacing = (
        _numbers(_found(dataset, frame, group, name)) for name, group in _GEOMETRY.items()
    )
    slope, intercept = (
        None if name in dataset or frame is None else _found(dataset, frame, "PixelValueTransformationSequence", name)
        for name in _RESCALE
    )
    number = None if number is None else int(number)
    return _Plane(file, frame, size, series, number, position, orientation, spacing, (slope, intercept))


def _found(dataset: Any, frame: int | None, group: str, name: str) -> Any:
    """What is said of an image: by the file, or for a frame by its own functional group or the shared one."""
    if frame is not None:
        own = dataset.get("PerFrameFunctionalGroupsSequence")
        for items in ([own[frame]] if own and frame < len(own) else [], dataset.get("SharedFunctionalGroupsSequence")):
            for item in items or ():
                if sequence := item.get(group):
                    return sequence[0].get(name)
    return dataset.get(name)


def _numbers(value: Any) -> tuple[float, ...] | None:
    return tuple(float(each) for each in value) if value else None


def _refuse_unlike(planes: Sequence[_Plane]) -> None:
    """Raise DataError where images are of several series, sizes or directions."""
    first = planes[0]
    series = list(dict.fromkeys(plane.series for plane in planes))
    if len(series) > 1:
        names = f"{', '.join(series[:2])}{', ...' * (len(series) > 2)}"
        raise DataError(f"it holds {len(series)} series (SeriesInstanceUID {names}); give each a folder of its own")
    for plane in planes:
        if plane.size != first.size:
            sizes = " and ".join(f"{each.file.name} is {each.size[0]}x{each.size[1]}" for each in (first, plane))
            raise DataError(f"its images differ in size (height x width): {sizes}; give those of each size a folder")
        one, other = first.orientation, plane.orientation
        if one and other and not np.allclose(one, other, atol=SAME_DIRECTION):
            raise DataError(
                f"{plane.file.name} lies in another direction than {first.file.name}, as a localizer does; take it out"
            )


def _in_order(planes: list[_Plane]) -> tuple[list[_Plane], Sequence[str]]:
    """The planes in their order in space, and what keeps their distances from being even."""
    places = _along_normal(planes)
    if places is None:
        numbers = [plane.number for plane in planes]
        if planes[0].frame is not None:
            return planes, []
        if len(planes) > 1 and (None in numbers or len(set(numbers)) < len(numbers)):
            raise DataError(
                "the order of its images is not known: not all have ImagePositionPatient and ImageOrientationPatient, "
                "or an InstanceNumber of their own; give it as NIfTI, or write these tags"
            )
        return sorted(planes, key=lambda plane: plane.number or 0), []
    order = np.argsort(places, kind="stable")
    ordered, steps = [planes[index] for index in order], np.diff(places[order])
    if len(steps) and steps.min() < SAME_PLACE:
        place = int(steps.argmin())
        names = " and ".join(_name(plane) for plane in ordered[place : place + 2])
        raise DataError(f"two of its images are at one place: {names}; give one volume, not several in a row")
    if len(steps) and np.abs(steps - np.median(steps)).max() > UNEVEN * np.median(steps):
        place = int(np.abs(steps - np.median(steps)).argmax())
        names = " and ".join(_name(plane) for plane in ordered[place : place + 2])
        return ordered, [
            f"its planes are not evenly spaced, some may be missing: {steps[place]:g} mm between {names}, "
            f"elsewhere {np.median(steps):g} mm"
        ]
    return ordered, []


def _name(plane: _Plane) -> str:
    return plane.file.name if plane.frame is None else f"frame {plane.frame + 1}"


def _along_normal(planes: Sequence[_Plane]) -> NDArray[np.float64] | None:
    """The places of the planes along their normal, in millimetres; None where not all say it."""
    first = planes[0].orientation
    if first is None or any(plane.position is None for plane in planes):
        return None
    return np.asarray(np.array([plane.position for plane in planes]) @ np.cross(first[:3], first[3:]), np.float64)


def _affine(planes: Sequence[_Plane]) -> NDArray[np.float64] | None:
    """From (row, column, plane) to millimetres right, anterior, superior; None where the files do not say it."""
    first, last = planes[0], planes[-1]
    if first.orientation is None or first.position is None or last.position is None or first.spacing is None:
        return None
    along_row, along_column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    affine = np.eye(4)
    # PixelSpacing is that between rows, then between columns; the first direction is that in which columns follow
    affine[:3, 0], affine[:3, 1] = along_column * first.spacing[0], along_row * first.spacing[1]
    step = np.subtract(last.position, first.position) / max(1, len(planes) - 1)
    affine[:3, 2] = step if len(planes) > 1 else np.cross(along_row, along_column)
    affine[:3, 3] = first.position
    return np.asarray(LPS_TO_RAS @ affine, np.float64)
