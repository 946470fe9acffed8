"""Translating files and folders: the tree is kept, what cannot be done is reported at the end, the rest is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from p2pkit.errors import DataError
from p2pkit.images.names import ending, output_ending, tiled_ending, without_ending
from p2pkit.images.region_writing import written_in_regions
from p2pkit.images.writing import format_written, write_image
from p2pkit.inference.destinations import is_one_file, refuse_within
from p2pkit.inference.odd_sources import OddSources, Seen
from p2pkit.inference.pictures import picture_of, to_pixels
from p2pkit.inference.policy import draws_noise
from p2pkit.inference.prefetch import Pass, batches, prefetch, translated
from p2pkit.inference.records import Records
from p2pkit.inference.several import several_sources
from p2pkit.inference.sources import Source, StoredAs, file_sources
from p2pkit.inference.tiled import translate_tiled
from p2pkit.inference.tiles import Tiling
from p2pkit.inference.volumes import VolumeSource, refuse_options, several_volumes, translate_volumes, volume_sources
from p2pkit.utils.atomic import os_errors_described
from p2pkit.utils.progress import Progress, print_line

if TYPE_CHECKING:
    from p2pkit.inference.translator import Size, Translator

READERS, WRITERS = 2, 2
"""Threads that decode and encode beside the network."""
TILED = ("tif", "tiff", "npy")
"""The endings of what is written in tiles."""


@dataclass(frozen=True)
class FileOptions:
    """How files are translated: ``samples`` outputs each, with noise from ``seed`` on.

    ``batch_size`` images of one size (or tiles) go through the network together on a GPU. With ``tile`` images go
    through in tiles of so many pixels, which ``overlap`` by so many (None: an eighth), and become TIFF or NPY.
    ``skip_existing`` leaves out what is done already. ``format`` is the ending of the outputs ("png", "tif" ...); None
    is that of the training targets, or a TIFF for what PNG cannot hold. ``size`` and ``stored_as`` are as for a call of
    the Translator.
    """

    samples: int = 1
    seed: int = 0
    batch_size: int = 1
    tile: int | None = None
    overlap: int | None = None
    skip_existing: bool = False
    format: str | None = None
    size: Size | None = None
    stored_as: StoredAs | None = None

    def __post_init__(self) -> None:
        if self.format is not None:  # ".png" is meant as "png"
            object.__setattr__(self, "format", self.format.removeprefix("."))


@dataclass
class Report:
    """What became of the files: how many were translated, how many were there, and a message for each that failed."""

    done: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    outputs: list[tuple[str, Path]] = field(default_factory=list)
    """The name of a source, and a file that was written for it; several with several samples."""
    replaced: Counter[str] = field(default_factory=Counter)
    """How many outputs that were there are made anew, by what was different about them ("of another model" ...)."""

    def add(self, name: str, results: Sequence[Path], failure: str | None = None) -> None:
        """Count a source as done, with its outputs, or as one that has failed."""
        if failure is None:
            self.done += 1
            self.outputs += [(name, result) for result in results]
        else:
            self.failures.append(failure)


@dataclass(frozen=True)
class _Job:
    source: Source
    results: list[Path]
    made_with: Sequence[Mapping[str, Any]]
    """What each of the results is made with."""


@dataclass
class _Image:
    """A source on its way: as a tensor [C, H, W] in [-1, 1], then its translations, or what went wrong."""

    job: _Job
    source: Tensor | None = None
    beside: Tensor | None = None
    """The source as large as its translations, where pictures are made of both."""
    stored: tuple[int, int] = (0, 0)
    """Height and width of the source as stored."""
    outputs: list[Tensor] = field(default_factory=list)
    failure: str | None = None


def translate_files(
    translator: Translator, inputs: Sequence[Path] | Mapping[str, Path], out: Path, options: FileOptions
) -> Report:
    """Translate image files, and all images below folders, into the folder ``out``; for a model of planes volumes too.

    Of a model with several sources ``inputs`` has a file or a folder for each, by name.

    An output is called after its source, with an ending that goes with the training targets and holds its
    pixels, unless ``format`` says another; with several samples each has its number behind. With a single file as input
    ``out`` may be a file too.

    Raises:
        DataError: an input is missing, a folder of inputs holds no images, or ``out``, the generator takes no such
            tiles, or no image format is written with that ending.
        PluginError: two plugins offer an image format for the ending of a file.
        WriteError: the disk is full, or writing is not allowed.
    """
    if isinstance(inputs, Mapping) or translator.header.sources:
        return _translate_several(translator, inputs, out, options)
    refuse_within(out, inputs)
    if not is_one_file(out, of_file=len(inputs) == 1 and inputs[0].is_file()):
        return translate_sources(translator, _sources(translator, inputs, options), out, options)
    sources = _sources(translator, inputs, options) if len(inputs) == 1 else []
    # the folder of a series is one volume
    if len(sources) != 1 or (inputs[0].is_dir() and sources[0].file != inputs[0]):
        raise DataError(f"--out {out}: this is the name of one image, and there may be several; give a folder")
    return _translate_to_file(translator, sources[0], out, options)


def _translate_to_file(
    translator: Translator, source: Source, out: Path, options: FileOptions, report: Report | None = None
) -> Report:
    """Translate one source to the very name ``out``, whatever the case of its ending."""
    name = ending(out)
    if options.format is not None and f".{options.format.lower()}" != name:
        raise DataError(f"--out {out} with --format {options.format}: two formats; leave out one of them")
    place, own = without_ending(Path(out.name)), out.name[len(out.name) - len(name) + 1 :]
    options = replace(options, format=own)
    return translate_sources(translator, [replace(source, place=place)], out.parent, options, report)


def _sources(translator: Translator, inputs: Sequence[Path], options: FileOptions) -> Sequence[Source]:
    """The sources in files and folders: for a model of planes volumes too."""
    if translator.header.planes is not None:
        return volume_sources(translator.header, inputs, options.stored_as)
    return file_sources(translator.header, inputs, options.stored_as)


def _translate_several(
    translator: Translator, inputs: Sequence[Path] | Mapping[str, Path], out: Path, options: FileOptions
) -> Report:
    """The same of several sources that go together."""
    header, report = translator.header, Report()
    if not header.sources:
        raise DataError("this model takes one source, without a name; give files and folders themselves")
    if options.stored_as is not None:
        raise DataError(f'stored_as = "{options.stored_as}": several sources are files of their own; leave it out')
    given = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
    refuse_within(out, given)
    look = several_volumes if header.planes is not None else several_sources
    sources: Sequence[Source] = look(header, inputs, report.failures)
    if not is_one_file(out, of_file=len(sources) == 1 and all(path.is_file() for path in given)):
        return translate_sources(translator, sources, out, options, report)
    if len(sources) != 1:
        raise DataError(f"--out {out}: this is the name of one image, and there are several; give a folder")
    return _translate_to_file(translator, sources[0], out, options, report)


def translate_sources(
    translator: Translator, sources: Sequence[Source], out: Path, options: FileOptions, report: Report | None = None
) -> Report:
    """Translate ``sources``, each to its place below ``out``; errors are those of :func:`translate_files`.

    What is given as ``report`` is gone on with.
    """
    report, records, tiling = report or Report(), Records(), None
    if options.format is not None:
        format_written(f".{options.format.lower()}")
    if any(isinstance(source, VolumeSource) for source in sources):
        refuse_options(translator.header, options)
    options = replace(options, size=translator.chosen_size(options.size, tiled=options.tile is not None))
    if options.tile is not None:
        if options.format is not None and options.format.lower() not in TILED:
            raise DataError(f"{options.format} with tiles: tiles are written to TIFF or NPY; choose tif or npy")
        tiling = Tiling.chosen(translator.generator, options.tile, options.overlap, options.batch_size)
        options = replace(options, overlap=tiling.overlap)
    with os_errors_described(out):  # a folder that may not be looked into, a name that is too long
        jobs = _jobs(translator, sources, out, options, records, report)
    if report.replaced:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.replaced.items())
        print_line(f"NOTICE: of the outputs that are there, these are made anew: {reasons}")
    if translator.header.scale > 1 and options.size != "model":
        translator.tell_enlarging()
    if options.samples > 1 and not draws_noise(translator.generator, translator.policy):
        print_line("NOTICE: all samples of an image are the same: this model draws no noise, or it was left out")
    odd, volumes = OddSources(translator), [job for job in jobs if isinstance(job.source, VolumeSource)]
    if volumes:
        translate_volumes(translator, volumes, options, records, report, odd)
        jobs = [job for job in jobs if not isinstance(job.source, VolumeSource)]
    if tiling is None and (jobs or not volumes):
        _translate_whole(translator, jobs, options, records, report, odd)
    elif tiling is not None:
        for job in jobs:
            _translate_in_tiles(translator, job, tiling, options, records, report, odd)
    for notice in odd.notices():
        print_line(f"NOTICE: {notice}")
    return report


def _jobs(
    translator: Translator, sources: Sequence[Source], out: Path, options: FileOptions, records: Records, report: Report
) -> list[_Job]:
    """What is to be done; what cannot be or need not be is in ``report``."""
    files = {file.resolve() for source in sources for file in source.files}
    taken: dict[Path, Source] = {}
    jobs = []
    for source in sources:
        first = taken.setdefault(source.place, source)
        try:
            job = _job(translator, source, out, options)
        except DataError as error:  # a volume that cannot be written so
            report.failures.append(f"{source.name}: {error}")
            continue
        replaced = [result for result in job.results if result.resolve() in files]
        if first is not source:
            report.failures.append(
                f"{source.name}: its output {source.place} is that of {first.name}; translate one of them elsewhere"
            )
            continue
        if replaced:
            report.failures.append(
                f"{source.name}: its output would replace the source {replaced[0]}; choose another --out"
            )
            continue
        there = [
            (result, records.difference(result, made_with))
            for result, made_with in zip(job.results, job.made_with, strict=True) if result.exists()
        ]  # fmt: skip
        foreign = [result for result, difference in there if difference is None]
        differences = [difference for _, difference in there if difference]
        if foreign:
            report.failures.append(
                f"{source.name}: its output {foreign[0]} is there already, and p2pkit translate has not written it so; "
                "move it, or choose another --out"
            )
        elif options.skip_existing and len(there) == len(job.results) and not differences:
            report.skipped += 1
        else:
            report.replaced.update(differences)
            jobs.append(job)
    return jobs


def _job(translator: Translator, source: Source, out: Path, options: FileOptions) -> _Job:
    place = out / source.place
    written = _ending(translator, source, options)
    endings = [written] if options.samples == 1 else [f"_{sample}{written}" for sample in range(options.samples)]
    # all that pixels depend on
    common = {
        "norm": translator.policy.norm, "dropout": translator.policy.dropout, "precision": translator.precision,
        "size": options.size, "part": source.part, "tile": options.tile, "overlap": options.overlap,
        "batch_size": options.batch_size if translator.policy.norm == "batch" else None,
    }  # fmt: skip
    about = {"model": translator.fingerprint, "source": source.identity()}
    made_with = [{**about, "options": {"seed": options.seed + sample, **common}} for sample in range(options.samples)]
    return _Job(source, [place.with_name(place.name + each) for each in endings], made_with)


def _ending(translator: Translator, source: Source, options: FileOptions) -> str:
    if isinstance(source, VolumeSource):
        chosen = None if options.format is None else f".{options.format}"
        return source.output_ending(np.dtype(translator.header.target_dtype), chosen)
    if options.format is not None:
        return f".{options.format}"
    if options.tile is not None:
        return tiled_ending(source.ending)
    header = translator.header
    name = Path(source.place.name + source.ending)
    return output_ending(name, np.dtype(header.target_dtype), header.picture_channels, header.target_ending)


def _translate_whole(
    translator: Translator, jobs: Sequence[_Job], options: FileOptions, records: Records, report: Report,
    odd: OddSources,
) -> None:  # fmt: skip
    size = options.size or "source"

    def read(job: _Job) -> _Image:
        try:
            source = translator.to_tensor(pixels := job.source.pixels(), job.source.name)
            odd.look_at(pixels, source)
            trained = translator.to_trained_size(source, size)
            beside = (trained if size == "model" else source) if translator.header.colours else None
            return _Image(job, trained, beside, (source.shape[1], source.shape[2]))
        except DataError as error:
            return _Image(job, failure=str(error))

    def through_network(images: Iterator[_Image]) -> Generator[_Image, None, None]:
        with closing(translated(translator, _passes(translator, images, options))) as made:
            for batch, outputs in made:
                for image, output in zip(batch, outputs, strict=False):  # one that could not be read has none
                    image.outputs.append(output)
                if len(batch[0].outputs) in (0, options.samples):
                    yield from batch

    def write(image: _Image) -> tuple[_Job, str | None]:
        job, header = image.job, translator.header
        try:
            for number, output in enumerate(image.outputs):
                output = translator.from_trained_size(output, image.stored, size)
                # what describes a file is of its size and place
                whole = output.shape[1:] == image.stored and not job.source.part
                like = next(iter(job.source.files), None) if whole else None
                with records.written(job.results[number], job.made_with[number]):
                    write_image(job.results[number], to_pixels(header, picture_of(header, output, image.beside)), like)
            return job, image.failure
        except DataError as error:
            return job, f"{job.source.name}: {error}"

    with (
        Progress("translating", len(jobs), "image") as progress,
        closing(prefetch(read, iter(jobs), READERS, options.batch_size)) as images,
        closing(through_network(images)) as outputs,
        closing(prefetch(write, outputs, WRITERS)) as failures,
    ):
        for job, failure in failures:
            report.add(job.source.name, job.results, failure)
            progress.advance()


def _passes(translator: Translator, images: Iterator[_Image], options: FileOptions) -> Iterator[Pass[list[_Image]]]:
    """The images that go through the network together, for each sample; tells of resizing."""
    for batch in batches(images, options.batch_size if translator.batched else 1, _of_one_size):
        sources = [image.source for image in batch if image.source is not None]
        if any(image.source is not None and image.source.shape[1:] != image.stored for image in batch):
            translator.tell_resizing(options.size or "source")
        for sample in range(options.samples if sources else 1):
            yield Pass(batch, sources, options.seed + sample)


def _of_one_size(one: _Image, other: _Image) -> bool:
    return one.source is not None and other.source is not None and one.source.shape == other.source.shape


def _translate_in_tiles(
    translator: Translator, job: _Job, tiling: Tiling, options: FileOptions, records: Records, report: Report,
    odd: OddSources,
) -> None:  # fmt: skip
    failure, name = None, job.source.name
    try:
        source = job.source.regions()
        # what is wrong with the whole of it is known before anything is written
        translator.to_tensor(source.read(*(slice(0, min(side, tiling.size)) for side in source.shape[:2])), name)
        seen, shape = dict[str, Seen](), translator.output_shape(source.shape)
        # what describes a file is of its size and place
        like = next(iter(job.source.files), None)
        like = like if shape[:2] == source.shape[:2] and not job.source.part else None
        for sample, result in enumerate(job.results):
            with (
                records.written(result, job.made_with[sample]),
                written_in_regions(result, shape, np.dtype(translator.header.target_dtype), like) as sink,
            ):
                look = partial(odd.look_at, seen=seen)
                translate_tiled(translator, source, sink, tiling, name, options.seed + sample, look)
        odd.count(seen)
    except DataError as error:
        failure = str(error)
    report.add(name, job.results, failure)
