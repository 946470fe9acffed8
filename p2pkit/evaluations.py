"""Models, and folders of images, measured: functions for Python and for the command line."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from accelerate import Accelerator
from torch import Tensor

from p2pkit.build import load_data, make, validation
from p2pkit.components.catalogue import create
from p2pkit.contracts import Split, ValueRange
from p2pkit.data.augmentation import Augmentation
from p2pkit.data.checks import unsettled
from p2pkit.data.discovery import split_folders
from p2pkit.data.found_values import find_values, values_beyond
from p2pkit.data.samples import Samples
from p2pkit.data.sets import LITTLE, Data
from p2pkit.data.value_statistics import look_at_values, spread
from p2pkit.distributed.collectives import on_every_process, on_main_process
from p2pkit.errors import DataError, P2PKitError, RecipeError, Unavailable, counted, first_line
from p2pkit.evaluation.baselines import measure_beside_trivial, not_beaten
from p2pkit.evaluation.driver import Driver, ImageScores, Translate
from p2pkit.evaluation.report import bootstrap_intervals, mean_pairwise, ranked
from p2pkit.evaluation.validation import PERCEPTUAL, Measurement, Validation
from p2pkit.images.discovery import OUTPUT, discover
from p2pkit.inference.model_header import ModelHeader
from p2pkit.inference.odd_sources import OddSources
from p2pkit.inference.translator import Translator, load_model
from p2pkit.recipe.document import Overrides
from p2pkit.recipe.recipe import Recipe
from p2pkit.recipe.resolve import read_recipe
from p2pkit.runs import open_session, with_perceptual_metric
from p2pkit.settings import TrainSettings, TransformSettings
from p2pkit.utils.progress import Progress, print_line

At = Literal["model", "native"]
Folders = tuple[Path | str, Path | str]
"""Two folders of images that are paired by their names."""
OF_DATA = ("data", "source", "target", "mask", "loader", "transform", "encoding", "metrics")
"""The sections of a model's recipe that it is measured by; the others may name plugins that are not here."""
SAMPLES, SAMPLED_IMAGES = 5, 20
"""Diversity is measured between so many samples of each of at most so many sources, evenly spread."""


@dataclass(frozen=True)
class Evaluation:
    """What metrics say of a model, or of a folder of outputs, beside trivial translators."""

    row: str
    """The row that is judged: "model", or "outputs" for a folder."""
    rows: Mapping[str, Mapping[str, float]]
    """Numbers by row ("model", "source", "mean_target" ...) and name."""
    intervals: Mapping[str, tuple[float, float]]
    """95% confidence intervals of the judged row's means over images, by name (bootstrap)."""
    not_beaten: Mapping[str, Sequence[str]]
    """For each number, the trivial translators that the model is no better than; empty where it beats them all."""
    images: Sequence[ImageScores]
    """The numbers of each image, in the order of the set."""
    ranked_by: str | None
    """The number by which images are ranked; None where all are of the whole set."""
    ranked: Sequence[str]
    """The keys of the images, the best first."""
    facts: Mapping[str, Any]
    """The set, the number of images, their size and values, and what numbers were computed with."""
    diversity: float | None
    """The mean LPIPS between samples of one source; None where outputs do not depend on the seed, or without LPIPS."""


def evaluate(
    model: Path | str,
    data: Path | str | Mapping[str, Any] | Folders | None = None,
    split: Split | None = None,
    metrics: Sequence[str] | None = None,
    at: At = "model",
    device: str | None = None,
    overrides: Overrides = (),
    max_images: int | None = None,
) -> Evaluation:
    """Measure a model file, or that in a run folder, beside trivial translators.

    Args:
        model: the file, or the run folder that holds it.
        data: a recipe (a file, PLUGIN:RECIPE or tables) whose data is taken, or two folders, of sources and of their
            targets; unless given, the data of the model's own recipe.
        split: "train", "val" or "test"; unless given, test, or val where there is no test set.
        metrics: their names, with the keys that they have in the model's recipe; unless given, all of that recipe's.
        at: "model" resizes images as in training, "native" takes them as they are.
        device: "cpu", "cuda", "cuda:N", "mps", or "auto" or None for the best there is.
        overrides: what is set on top of the recipe: ``{"metrics.0.weights": "alexnet.safetensors"}``.
        max_images: at most so many, the first of the set.

    Raises:
        P2PKitError: the model, the data or a metric cannot be used.
    """
    with _processes(device) as accelerator:
        translator = on_every_process(accelerator, partial(load_model, model, device, as_validated=True))
        found = partial(data_for, translator.header, data, metrics, overrides)
        recipe, loaded = on_every_process(accelerator, found)
        chosen = loaded.test if isinstance(data, tuple) else chosen_set(loaded, split)
        if chosen.targets is not None:
            raise RecipeError("the data is unpaired, and metrics compare outputs with targets; choose other (--data)")
        for notice in loaded.set_notices if accelerator.is_main_process else ():
            print_line(f"NOTICE: {notice}")
        if data is not None or overrides:
            on_main_process(accelerator, partial(_report_odd_sources, translator, loaded, chosen, max_images))
        of_target, said = loaded.ranges["target"], loaded.values["target"]
        if of_target is not None and said.rule in ("auto", "default"):
            on_main_process(accelerator, partial(_report_clipped_targets, loaded, chosen))
        encoding = deepcopy(getattr(translator.generator, "encoding", None))
        transform = recipe.transform if at == "model" else TransformSettings()
        loaded = replace(loaded, validation=chosen, transform=transform)
        of = _validation(recipe, loaded, accelerator, metrics is None, max_images)
        sizes = Augmentation(transform, recipe.run.seed, translator.parts, scale=translator.header.scale)
        of = replace(of, augmentation=sizes, encoding=encoding and encoding.cpu())  # samples are there
        if isinstance(data, tuple):
            of = replace(of, train_set=Samples((), "two folders", "train"))
        measured = _evaluation(of, accelerator, "model", translator.tensor)
        return replace(measured, diversity=_diversity(translator, of, measured.images, accelerator))


def _report_clipped_targets(data: Data, samples: Samples) -> str:
    """Tell if targets have values beyond the range that training has found, which metrics do not see."""
    held = look_at_values(replace(data, bad_data="skip"), ["target"], splits=[samples.split]).sets
    values = data.value_range("target")
    for notice in values_beyond("target", [held[samples.split]["target"]], values):
        print_line(f"NOTICE: {notice}")
    return ""


def _report_odd_sources(translator: Translator, data: Data, samples: Samples, max_images: int | None) -> str:
    """Tell how many sources have values unlike those that the model was trained on, of 128 that are evenly spread."""
    odd, spec, count = OddSources(translator), data.spec, min(max_images or len(samples), len(samples))
    places = spread(count)
    with Progress("looking at sources", len(places), "source") as progress:
        for place in places:
            with suppress(DataError):  # reported, or skipped, where it is measured
                sample = samples[place]
                odd.look_at(sample.source, spec.tensors(sample).source)
            progress.advance()
    of = f", of {len(places)} of the {count} that were looked at" if len(places) < count else ""
    for notice in odd.notices():
        print_line(f"NOTICE: {notice}{of}")
    return ""


def compare(
    outputs: Path | str,
    targets: Path | str,
    metrics: Sequence[str] | None = None,
    overrides: Overrides = (),
    max_images: int | None = None,
) -> Evaluation:
    """Measure a folder of images against one of targets of the same names and sizes, whatever has made them.

    Arguments and errors as for :func:`evaluate`.
    """
    with _processes("cpu") as accelerator:
        recipe = _recipe({"data": _folders(outputs, targets)}, metrics, overrides)
        loaded = on_every_process(accelerator, lambda: _to_measure(load_data(recipe)))
        if unsettled(loaded):
            loaded = loaded.with_ranges(on_every_process(accelerator, partial(_one_range, loaded)))
        if loaded.spec.scale > 1:
            raise DataError(
                f"{outputs}, {targets}: targets are {loaded.spec.scale} times as high and wide as the outputs; resize "
                "the ones or the others"
            )
        if len(set(loaded.channels.values())) > 1:
            found = " and ".join(map(str, loaded.channels.values()))
            raise DataError(f"{outputs}, {targets}: the images have {found} channels; they must have as many")
        of = _validation(recipe, replace(loaded, validation=loaded.test), accelerator, metrics is None, max_images)
        for each in of.metrics:
            if each.takes_source:
                what = "compares outputs with the sources that they were made of, which two folders do not tell"
                raise RecipeError(f"{each.origin} {what}; evaluate a model, or leave it out")
        settings = of.settings.model_copy(update={"baseline": "none"})
        return _evaluation(replace(of, settings=settings), accelerator, "outputs", lambda source: source)


def _one_range(data: Data) -> dict[str, ValueRange]:
    """The range of outputs and targets that is not declared, where their type has none: what the targets hold."""
    found = find_values(data, every=True)
    output, target = (found.statistics[side] for side in ("source", "target"))
    of_target = data.ranges.get("target") or target.natural_range or found.ranges.get("target")
    if of_target is None:
        raise DataError(f"targets hold values {target.shown}, which is not a range; set target.range")
    of_output = data.ranges.get("source") or output.natural_range or of_target
    low, high = of_output
    if not low <= output.low <= output.high <= high:
        beyond = f"beyond {low:g} to {high:g}, the range that they are measured in"
        print_line(f"NOTICE: outputs hold values {output.shown}, {beyond}; they are clipped")
    elif target.high - target.low < LITTLE * (of_target[1] - of_target[0]):
        of_all = f"less than a fifth of the range {of_target[0]:g} to {of_target[1]:g} that is 0 to 1 to the metrics"
        print_line(
            f"NOTICE: targets hold values {target.shown}, {of_all}, so errors look small; set source.range and "
            f"target.range to [{target.low:g}, {target.high:g}]"
        )
    return {"source": of_output, "target": of_target}


@contextmanager
def _processes(device: str | None) -> Iterator[Accelerator]:
    """The processes that share the work, which ends with the body."""
    with open_session(TrainSettings(), device) as session:
        yield session.accelerator
        session.accelerator.end_training()


def data_for(
    header: ModelHeader, data: Path | str | Mapping[str, Any] | Folders | None, metrics: Sequence[str] | None = None,
    overrides: Overrides = (), sides: Sequence[str] = ("source", "target"),
) -> tuple[Recipe, Data]:  # fmt: skip
    """What a model is measured by, and the data in the model's ranges of values; DataError for ``sides`` of others.

    Of another recipe the data alone is taken: how images are resized, encoded and mapped to [-1, 1] is the model's.
    """
    trained = header.recipe_tables()
    tables = {name: trained[name] for name in OF_DATA if name in trained}
    # what data sets draw depends on it; trackers may not be here
    tables["run"] = {name: trained["run"][name] for name in ("name", "seed") if name in trained.get("run", {})}
    loader = tables.get("loader", {})
    # each image is read once, so that memory would keep them for nobody
    tables["loader"] = {**loader, "cache": "disk" if loader.get("cache") == "disk" else "none"}
    if isinstance(data, tuple):
        tables["data"] = _folders(*data)
    elif data is not None:
        tables["data"] = read_recipe(data).data.table()
    for one in header.sources:  # in the order of the model's channels, whatever that of the data
        tables.setdefault("source", {}).setdefault(one.name, {})
    if "data" not in tables:
        raise RecipeError("the model does not say its data; give it: --data RECIPE, or --data SOURCES --data TARGETS")
    recipe = _recipe(tables, metrics, overrides)
    loaded = _with_or_without_train_set(recipe).with_ranges(header.ranges)
    if isinstance(data, tuple):
        loaded = _to_measure(loaded)
    names, known = ([name for name, _ in loaded.first.header.parts], [one.name for one in header.sources])
    if names != known:
        here, there = (", ".join(each) or "one without a name" for each in (names, known))
        raise DataError(f"{recipe.data.name}: its sources are {here}, those of the model {there}; give data with these")
    for side in sides:
        found, taken = loaded.channels[f"{side}_channels"], getattr(header, f"{side}_channels")
        if found != taken:
            raise DataError(
                f"{recipe.data.name}: its {side}s have {counted(found, 'channel')}, those of the model {taken}; "
                "convert them"
            )
    if "target" in sides and loaded.spec.scale != header.scale:
        larger = f"its targets are {loaded.spec.scale} times as high and wide as its sources"
        raise DataError(f"{recipe.data.name}: {larger}, outputs of the model {header.scale} times; resize them")
    return recipe, loaded


def _with_or_without_train_set(recipe: Recipe) -> Data:
    """The data of a recipe; where its train set cannot be had, the others alone, with a notice, if there are any."""
    try:
        return load_data(recipe)
    except DataError as error:
        with suppress(DataError):
            loaded = load_data(recipe, splits=("val", "test"))
            if len(loaded.val) or len(loaded.test):
                return replace(loaded, set_notices=[*loaded.set_notices, f"the train set is left out: {error}"])
        raise


def _folders(sources: Path | str, targets: Path | str) -> dict[str, Any]:
    """The data set of two folders, as a recipe has it: all that is in them is one set, which stands as train set."""
    folders = [Path(folder).absolute() for folder in (sources, targets)]
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: there is no such folder")
        if sets := split_folders(folder):
            names = ", ".join(path.name for path in sets.values())
            raise DataError(f"{folder}: it holds several sets ({names}); give the folder of one of them")
        if outputs := sum(discover(folder).skipped.get(OUTPUT, Counter()).values()):
            raise DataError(
                f"{folder}: {outputs} of its images p2pkit translate has written, the others not, so it is not clear "
                "what is to be measured; move the ones or the others elsewhere"
            )
    root = next(parent for parent in folders[0].parents if folders[1].is_relative_to(parent))
    source, target = map(str, folders)
    return {"name": "paired_folders", "root": str(root), "source": source, "target": target, "split": 0}


def _to_measure(data: Data) -> Data:
    """The data of two folders, whose one set is not trained on but measured."""
    measured = copy(data.train)
    measured.split = "test"
    return replace(data, test=measured, validation=measured)


def _recipe(tables: dict[str, Any], metrics: Sequence[str] | None, overrides: Overrides) -> Recipe:
    """The recipe of these tables; of ``metrics``, those that it has keep their keys, such as a file of weights."""
    if metrics is not None:
        known = {table["name"]: table for table in tables.get("metrics", ())}
        tables["metrics"] = [known.get(name, {"name": name}) for name in metrics]
    return read_recipe(tables, overrides)


def chosen_set(data: Data, split: Split | None) -> Samples:
    """The set of a ``split``, or the test set, or the val set; RecipeError where it is empty."""
    chosen: Samples = getattr(data, split) if split else data.test if len(data.test) else data.val
    if not len(chosen):
        there = ", ".join(name for name in ("train", "val", "test") if len(getattr(data, name)))
        raise RecipeError(f"the data has no {split or 'test or val'} set; it has: {there}. Choose one by --split")
    return chosen


def _validation(
    recipe: Recipe, data: Data, accelerator: Accelerator, by_default: bool, max_images: int | None
) -> Validation:
    """Metrics and data; of metrics that nobody has asked for, those whose weights are at hand."""
    if not recipe.names_metrics:
        recipe = with_perceptual_metric(recipe, data, accelerator)

    def missing() -> str:
        found = []
        for chosen in recipe.metrics if by_default else ():
            try:
                make(chosen)
            except Unavailable as error:
                print_line(f"NOTICE: {chosen.name} is left out: {first_line(error)}")
                found.append(chosen.name)
        return json.dumps(found)

    unavailable = json.loads(on_main_process(accelerator, missing))
    metrics = [chosen for chosen in recipe.metrics if chosen.name not in unavailable]
    of = on_every_process(accelerator, lambda: validation(replace(recipe, metrics=metrics), data))
    split, count = data.validation.split, max_images or len(data.validation)
    return replace(of, settings=of.settings.model_copy(update={"split": split, "max_images": count}))


def _evaluation(of: Validation, accelerator: Accelerator, row: str, translate: Translate) -> Evaluation:
    def report(messages: Sequence[str]) -> None:
        for message in messages:
            print_line(f"NOTICE: skipped: {message}")

    driver = Driver(of, accelerator, report, lambda: False)
    measured = measure_beside_trivial(driver, {row: translate})
    if measured is None:
        raise RecipeError("there are no metrics to take: name some, as in --metrics mae,psnr")
    images = measured.images
    of_images = list(images[0].rows[row])
    by = next((name for name in (of.deciding(of_images), *of_images) if name in of_images), None)
    if by is not None and (direction := of.higher_is_better[by]) is None:
        by = None
    keys = ranked(images, row, by, bool(direction)) if by is not None else []
    return Evaluation(
        row, measured.rows, bootstrap_intervals(images, row), not_beaten(measured.rows, row, of.higher_is_better),
        images, by, keys, measured.facts(driver), None,
    )  # fmt: skip


def _diversity(
    translator: Translator, of: Validation, images: Sequence[ImageScores], accelerator: Accelerator
) -> float | None:
    """How far samples of one source differ by LPIPS; None where they do not, or where its weights are not at hand."""
    count = min(len(images), SAMPLED_IMAGES)

    def source(number: int) -> Tensor:
        sample, _ = of.tensors(of.validation_set, images[number * len(images) // count].place)
        return sample.source[None]

    def sampled(one: Tensor, seed: int) -> Tensor:
        return of.picture(one, translator.tensor(one, seed)).cpu()

    def measure() -> str:
        first = source(0)
        if sampled(first, 0).equal(sampled(first, 1)):
            return ""
        own = {each.name: each.metric for each in of.metrics}.get(PERCEPTUAL)
        try:
            measurement = Measurement(PERCEPTUAL, PERCEPTUAL, own or create("metrics", PERCEPTUAL, download=False))
            measurement.of_image(*2 * [sampled(first, 0)])
        except P2PKitError as error:
            why = f"the weights of {PERCEPTUAL} are not at hand" if isinstance(error, Unavailable) else error
            print_line(f"NOTICE: the diversity of samples is not measured: {why}")
            return ""

        def distance(one: Tensor, other: Tensor) -> float:
            return measurement.of_image(one, other)[PERCEPTUAL]

        found = []
        with Progress("sampling", count, "image") as progress:
            for number in range(count):
                outputs = [sampled(source(number), seed) for seed in range(SAMPLES)]
                found.append(mean_pairwise(distance, outputs))
                progress.advance()
        return repr(math.fsum(found) / len(found))

    text = on_main_process(accelerator, measure)
    return float(text) if text else None
