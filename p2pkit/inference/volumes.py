"""Translating volumes: plane by plane, with the neighbours that training had, into one volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.errors import DataError, counted
from p2pkit.images.names import ending
from p2pkit.images.reading import read_image
from p2pkit.images.volume_writing import volume_ending, write_volume
from p2pkit.images.volumes import ENDINGS, Volume, gathered, is_volume, open_volume, refuse_unequal
from p2pkit.inference.model_header import ModelHeader, PlanesHeader
from p2pkit.inference.odd_sources import OddSources, Seen
from p2pkit.inference.pictures import to_pixels
from p2pkit.inference.prefetch import Pass, batches, prefetch, translated
from p2pkit.inference.records import Records
from p2pkit.inference.several import several_sources
from p2pkit.inference.sources import Source, StoredAs, files_of, identity_of, part_for
from p2pkit.utils.progress import Progress, print_line

if TYPE_CHECKING:
    from p2pkit.inference.files import FileOptions, Report
    from p2pkit.inference.translator import Translator


class Job(Protocol):
    """What is to be done, as files have it."""

    @property
    def source(self) -> Source:
        """What is translated."""
        ...

    @property
    def results(self) -> Sequence[Path]:
        """Where its outputs go."""
        ...

    @property
    def made_with(self) -> Sequence[Mapping[str, Any]]:
        """What records say of each of these."""
        ...


@dataclass(frozen=True)
class VolumeSource(Source):
    """A volume to translate, or several that go together; ``file`` is the first, perhaps the folder of a series."""

    volumes: Mapping[str, Volume] = field(default_factory=dict)
    """By the names of several sources; a single one has none. Empty where one cannot be opened."""
    failure: str = ""
    """Why it cannot."""

    @property
    def first(self) -> Volume:
        """The one whose place in space the translation has. Raises DataError where one cannot be opened."""
        if self.failure:
            raise DataError(self.failure)
        return next(iter(self.volumes.values()))

    @property
    def files(self) -> Sequence[Path]:
        """The files of all of them, or the folders."""
        return [volume.path for volume in self.volumes.values()]

    def identity(self) -> Mapping[str, Any]:
        """What records know it by: its path, the size of all its files in bytes, and the last change of one."""
        known: dict[str, Any] = {name: identity_of(each.path, each.files) for name, each in self.volumes.items()}
        found: Mapping[str, Any] = known.get("", known)
        return found

    def output_ending(self, dtype: np.dtype[Any], chosen: str | None) -> str:
        """The ending of its translation; DataError where it is not written with the ending ``chosen``."""
        return self.ending if self.failure else volume_ending(self.first, dtype, chosen)


def volume_sources(header: ModelHeader, inputs: Sequence[Path], stored_as: StoredAs | None = None) -> list[Source]:
    """The sources in files and folders for a model of planes: volumes, and images that are none, each once.

    A folder with the files of a DICOM series is one volume. Tells what is odd about volumes.

    Raises:
        DataError: an input is missing, or a folder holds no images.
        PluginError: two plugins offer an image format for the ending of a file.
    """
    found = dict(each for given in inputs for each in _found(given))
    sources: list[Source] = []
    with Progress("looking at volumes", len(found), "file", brief=True) as progress:
        for path, place in found.items():
            if _is_taken(header, path):
                sources.append(_opened({"": path}, place))
            else:
                sources.append(Source.of_file(path, place, part_for(header, path, stored_as)))
            progress.advance()
    _report_odd(header, sources)
    return sources


def several_volumes(
    header: ModelHeader, inputs: Mapping[str, Path] | Sequence[Path], failures: list[str]
) -> list[Source]:
    """The same of a model with several sources, a file or a folder for each (see several.several_sources)."""
    together = several_sources(header, inputs, failures, _found)
    sources: list[Source] = []
    with Progress("looking at volumes", len(together), "sample", brief=True) as progress:
        for several in together:
            paths = {name: source.file for name, source in several.each.items() if source.file is not None}
            volumes = any(_is_taken(header, path) for path in paths.values())
            sources.append(_opened(paths, several.place) if volumes else several)
            progress.advance()
    _report_odd(header, sources)
    return sources


def _is_taken(header: ModelHeader, path: Path) -> bool:
    """Whether an input is taken as a volume: where neighbours are needed, a single plane can only be refused as one."""
    return is_volume(path) or (_planes_of(header).neighbours > 0 and ending(path) in ENDINGS)


def _opened(paths: Mapping[str, Path], place: Path) -> VolumeSource:
    volumes, failure, first = dict[str, Volume](), "", next(iter(paths.values()))
    try:
        for name, path in paths.items():
            volumes[name] = open_volume(path)
        refuse_unequal(list(volumes.values()), "sources")
    except DataError as error:
        volumes, failure = {}, str(error)
    own = ".nii.gz" if first.is_dir() else ending(first)
    return VolumeSource(str(first), place, own, partial(read_image, first), first, volumes=volumes, failure=failure)


def _report_odd(header: ModelHeader, sources: Sequence[Source]) -> None:
    """Print what is odd about volumes, and how many lie otherwise than those of training."""
    opened = [source for source in sources if isinstance(source, VolumeSource) and not source.failure]
    for notice in (notice for source in opened for volume in source.volumes.values() for notice in volume.notices):
        print_line(f"NOTICE: {notice}")
    trained = _planes_of(header).orientation
    others = Counter(source.first.orientation for source in opened)
    for code in ("", trained):
        others.pop(code, None)
    if trained and others:
        print_line(
            f"NOTICE: {others.total()} of the {len(opened)} volumes are stored in another orientation "
            f"({', '.join(others)}) than those of training ({trained}), so their planes are other ones or turned; "
            "reorient the volumes first"
        )


def _found(given: Path) -> Iterator[tuple[Path, Path]]:
    """Each image or volume of an input, with the path of its output without the ending."""
    places = dict(files_of(given))
    for path in gathered(places) if given.is_dir() else places:
        if path in places:
            yield path, places[path]
        else:
            yield path, Path(given.resolve().name) if path == given else path.relative_to(given)


def refuse_options(header: ModelHeader, options: FileOptions) -> None:
    """Raise DataError where volumes cannot be translated so, or not by this model."""
    if header.target_channels != 1 or header.scale != 1:
        made = f"{counted(header.target_channels, 'channel')}, {header.scale} times as high and wide"
        raise DataError(f"this model makes {made}, of a plane; a volume has one channel, and keeps its shape")
    if options.tile is not None:
        raise DataError("--tile: the planes of a volume are translated whole; leave it out")
    if options.stored_as not in (None, "image"):
        raise DataError(f"--as {options.stored_as}: that is of images; a volume is translated whole, so leave it out")
    if options.size == "model" and header.resize is not None:
        raise DataError("--size model: a volume keeps its shape, and its place in space; leave it out, or take native")


def _planes_of(header: ModelHeader) -> PlanesHeader:
    assert header.planes is not None
    return header.planes


def translate_volumes(
    translator: Translator, jobs: Sequence[Job], options: FileOptions, records: Records, report: Report,
    odd: OddSources,
) -> None:  # fmt: skip
    """Translate jobs whose sources are volumes, one after another; what cannot be is in ``report``.

    Memory holds the output, a few planes for each thread, and of a volume that can only be unpacked whole that too.
    """
    axis = _planes_of(translator.header).axis
    counts = []
    for job in jobs:
        volumes = _source(job).volumes
        counts.append(len(job.results) * (next(iter(volumes.values())).shape[axis] if volumes else 1))
    with Progress("translating", sum(counts), "plane") as progress:
        for job, count in zip(jobs, counts, strict=True):
            end = progress.done + count
            try:
                _translate(translator, job, options, records, odd, progress)
                report.add(job.source.name, job.results)
            except DataError as error:
                report.failures.append(str(error))
            progress.advance(end - progress.done)


def _source(job: Job) -> VolumeSource:
    assert isinstance(job.source, VolumeSource)
    return job.source


def _translate(
    translator: Translator, job: Job, options: FileOptions, records: Records, odd: OddSources, progress: Progress
) -> None:
    source, first, seen = _source(job), _source(job).first, dict[str, Seen]()
    axis = _planes_of(translator.header).axis
    for sample, result in enumerate(job.results):
        voxels = np.empty(first.shape, translator.header.target_dtype)
        look_at = partial(odd.look_at, seen=seen) if sample == 0 else None
        for index, plane in enumerate(_planes(translator, source, options, options.seed + sample, look_at)):
            np.moveaxis(voxels, axis, 0)[index] = plane
            progress.advance()
        with records.written(result, job.made_with[sample]):
            write_volume(result, voxels, first)
    odd.count(seen)


def _planes(
    translator: Translator, source: VolumeSource, options: FileOptions, seed: int, look_at: Any
) -> Iterator[NDArray[Any]]:
    """The planes [H, W] of a volume's translation, in their order; what is read goes through ``look_at`` too."""
    planes, size = _planes_of(translator.header), options.size or "source"
    height_width = source.first.plane_shape(planes.axis)

    def read(index: int) -> Tensor:
        each = {name: volume.plane(index, planes.axis, planes.neighbours) for name, volume in source.volumes.items()}
        pixels = each if translator.header.sources else each[""]
        tensor = translator.to_tensor(pixels, f"{source.name}, plane {index}")
        if look_at is not None:
            look_at(pixels, tensor)
        return translator.to_trained_size(tensor, size)

    def passes(sources: Iterator[Tensor]) -> Iterator[Pass[None]]:
        for batch in batches(sources, options.batch_size if translator.batched else 1):
            if tuple(batch[0].shape[1:]) != height_width:
                translator.tell_resizing(size)
            yield Pass(None, batch, seed)

    # one thread: what it sees is added up
    with (
        closing(prefetch(read, iter(range(source.first.shape[planes.axis])), 1, options.batch_size)) as sources,
        closing(translated(translator, passes(sources))) as made,
    ):
        for output in chain.from_iterable(outputs for _, outputs in made):
            yield to_pixels(translator.header, translator.from_trained_size(output, height_width, size))[:, :, 0]
