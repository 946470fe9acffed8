"""``p2pkit check``: everything about a recipe that can be known before it trains."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pkit.cli.main import announce
from p2pkit.cli.options import JSON, RECIPE, SET
from p2pkit.cli.tables import print_classes, print_facts, print_text
from p2pkit.errors import DataError, MissingData, P2PKitError, counted, listed
from p2pkit.utils.jsonl import finite
from p2pkit.utils.progress import print_line

if TYPE_CHECKING:
    from p2pkit.data.checks import HeaderCheck
    from p2pkit.data.class_table import ClassTable
    from p2pkit.data.sets import Data
    from p2pkit.data.value_statistics import Statistics
    from p2pkit.recipe.recipe import Recipe
    from p2pkit.training.starting_point import StartingPoint

SHOWN = 10
"""How many kinds of trouble are listed."""
CLASSES = 12
"""How many classes of label maps."""


@click.command("check", short_help="Check a recipe: its keys, its networks, its data.")
@RECIPE
@SET
@JSON
def command(recipe: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check RECIPE without training it; of a folder of image pairs the recipe that `p2pkit init` makes for it.

    Prints what the data set holds, and of each network its parameters, output size and receptive field. Nothing is
    downloaded: where the data is not there, it prints how to get it, and checks all the rest.
    """
    announce(f"check {recipe}")
    from p2pkit.recipe.resolve import read_recipe

    if recipe.is_dir():
        from p2pkit.cli.init import made_recipe, report_unused

        with redirect_stdout(sys.stderr):
            made = made_recipe(recipe)
            report_unused(made)
            resolved = made.recipe(overrides)
    else:
        resolved = read_recipe(recipe, overrides)
    if not as_json:
        print_facts([("recipe", f"{resolved.document.file}, all keys are valid")])

    from p2pkit.build import load_data
    from p2pkit.distributed.accelerator import choose_device, described
    from p2pkit.downloads.download import without_downloads

    device = described(choose_device(None))
    print_line(f"device: {device}, which a run would take")
    try:
        with without_downloads():
            loaded = load_data(resolved, refuse_problems=False)
    except MissingData as missing:
        if not missing.remedy:
            raise
        _check_without_data(resolved, missing, {"recipe": str(resolved.document.file), "device": device}, as_json)
        return
    _check_with_data(resolved, loaded, device, as_json)


def _check_with_data(resolved: Recipe, loaded: Data, device: str, as_json: bool) -> None:
    """Look at all of the data, and at the networks with it."""
    from p2pkit.data.checks import SKIP

    checked = _check_data(resolved, loaded)
    data = _about_data(resolved, checked)
    about = {"ok": not checked.troubles, "recipe": str(resolved.document.file), "device": device, "data": data}
    for notice in (*(f"skipped: {each}" for each in checked.skipped), *data["notices"]):
        (print_line if as_json else print_text)(f"NOTICE: {notice}")
    if not as_json:
        _print_data(data, checked)
    if checked.troubles:
        remedy = f"\n{SKIP}" if checked.skippable else ""
        kinds = counted(len(checked.troubles), "kind")
        error = DataError(f"{kinds} of trouble with the data:{listed(checked.troubles, SHOWN)}{remedy}")
        error.details = about
        raise error
    networks = _about_networks(resolved, checked)
    if as_json:
        click.echo(json.dumps(finite({**about, "networks": networks}), indent=2))
    else:
        click.echo()
        _print_networks(resolved, networks)


def _check_without_data(recipe: Recipe, missing: MissingData, about: Mapping[str, Any], as_json: bool) -> None:
    """Say what is missing and how to get it, and look at the networks for images such as the data is said to hold."""
    from p2pkit.build import augmentation, load_data
    from p2pkit.components.registry import Registered
    from p2pkit.components.signature import table_model
    from p2pkit.data.checks import HeaderCheck
    from p2pkit.data.stand_in import StandIn, guessed_header
    from p2pkit.recipe.recipe import Chosen
    from p2pkit.settings import height_width

    size = height_width(recipe.transform.load_size or recipe.transform.crop_size or 256)
    like = missing.stands_in or guessed_header([*recipe.sources], recipe.encoding is not None, size)
    stand_in = Registered(recipe.data.name, partial(StandIn, like, recipe.loader.batch_size), "p2pkit", "")
    tried = replace(recipe, data=Chosen("datasets", stand_in, table_model(stand_in, "datasets")(split=0)))
    data = load_data(tried)
    headers = HeaderCheck(data, augmentation(recipe), recipe.loader.batch_size > 1)
    headers.scan(recipe.data.name)
    networks = _about_networks(tried, _Checked(data, headers))
    if as_json:
        print_line(f"NOTICE: {missing}")
        absent = {"name": recipe.data.name, "missing": missing.missing, "remedy": missing.remedy}
        click.echo(json.dumps(finite({"ok": True, **about, "data": absent, "networks": networks}), indent=2))
        return
    print_facts([("data", f"{recipe.data.name}, NOT THERE: nothing of it is checked")])
    print_text(f"NOTICE: {missing}")
    print_text(f"its networks, as if images were stored with {_sides(like.source[:2])} (height x width):")
    click.echo()
    _print_networks(recipe, networks)


@dataclass
class _Checked:
    """What has been found out about data, and the data with all of its ranges."""

    data: Data
    headers: HeaderCheck
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    """What each side holds; empty where it cannot be known."""
    classes: Sequence[Sequence[ClassTable]] = ()
    """Of each source that is a label map."""
    troubles: list[str] = field(default_factory=list)
    """What a run would refuse, a line for each kind."""
    skipped: list[str] = field(default_factory=list)
    """What it would skip."""
    notices: list[str] = field(default_factory=list)
    """What else is to be said of its samples."""
    start: StartingPoint | None = None
    """The model that the run would begin with."""
    skippable: bool = False
    """Some of the troubles are of samples that it could skip."""


def _check_data(recipe: Recipe, data: Data) -> _Checked:
    """Look at headers and values, and go on past whatever is wrong."""
    from p2pkit.build import augmentation, build_sources
    from p2pkit.data.checks import Finding, HeaderCheck, by_kind, kind_of
    from p2pkit.data.class_table import count_classes, problem_of
    from p2pkit.data.found_values import find_values

    lenient = replace(data, bad_data="skip")
    headers = HeaderCheck(lenient, augmentation(recipe), recipe.loader.batch_size > 1)
    checked, unusable = _Checked(lenient, headers), headers.findings
    try:
        headers.scan(f"{recipe.data.name} {data.fingerprint}")
        checked.notices += headers.notices
        if recipe.train.init_from is not None:
            from p2pkit.components.host import manager
            from p2pkit.training.starting_point import StartingPoint

            checked.start = StartingPoint.read(manager().model_file(recipe.train.init_from))
            checked.data = lenient = checked.start.with_ranges(lenient)
            checked.notices += lenient.found_notices
        found = find_values(lenient)
        checked.data = lenient.with_ranges(found.ranges, found.notices)
        unusable = list(headers.findings)
        known = " ".join(finding.message for finding in unusable)
        several = {kind_of(finding.message) for finding in unusable if finding.samples > 1}  # of which one is named
        for message in found.looked.unread:
            if message.partition(": ")[0] not in known and kind_of(message) not in several:
                unusable.append(Finding(message, 1))
        if checked.data.spec:
            checked.statistics = found.statistics
        checked.classes = count_classes(checked.data, build_sources(recipe, checked.data))
    except P2PKitError as error:
        unusable = unusable or headers.findings
        if not unusable or checked.data is not lenient:  # it is not about what is listed below
            checked.troubles.append(str(error))
    checked.troubles += filter(None, map(problem_of, checked.classes))
    as_they_are = checked.skipped if data.bad_data == "skip" and checked.statistics else checked.troubles
    as_they_are += [*data.problems, *by_kind(unusable)]
    checked.skippable = bool(data.problems or unusable) and data.bad_data == "stop"
    return checked


def _about_data(recipe: Recipe, checked: _Checked) -> dict[str, Any]:
    """What the data holds, in plain values."""
    data, sides, sets = checked.data, dict[str, Any](), dict[str, Any]()
    for side, held in checked.statistics.items():
        image: Any = data.first.image(side)
        sides[side] = {"size": list(image.shape[:2]), "channels": image.shape[2], "dtype": str(image.dtype)}
        sides[side]["found"] = held.shown
        if side != "mask":
            said = data.values[side]
            sides[side] |= {"range": list(data.value_range(side)), "logarithmic": said.reading.logarithmic}
            sides[side]["range_from"] = None if said.rule == "labels" else _why(data, side)
    for samples in (data.train, data.val, data.test):
        counts = {"pairs": len(samples)}
        if samples.targets is not None:
            counts = {"sources": len(samples), "targets": len(samples.targets)}
        sets[samples.split] = counts
    classes = [
        {"set": table.called, "classes": table.classes, "pixels": dict(table.pixels)}
        for tables in checked.classes for table in tables
    ]  # fmt: skip
    notices = [notice for notice in data.notices if notice not in data.problems] + checked.notices
    return {
        "name": recipe.data.name, "missing": None, "sets": sets, "sides": sides, "classes": classes, "notices": notices,
        "skipped": checked.skipped, "troubles": checked.troubles,
    }  # fmt: skip


def _print_data(about: Mapping[str, Any], checked: _Checked) -> None:
    sets = []
    for split, counts in about["sets"].items():
        called = "training" if split == "train" else split
        first, *others = (counted(count, noun.removesuffix("s")) for noun, count in counts.items())
        sets.append(" and ".join([first.replace(" ", f" {called} "), *others]))
    facts, values = [("data", ", ".join([about["name"], *sets]))], list[str]()
    for side, of_side in about["sides"].items():
        size, found = "{}x{} (height x width)".format(*of_side["size"]), of_side["found"]
        described = f"{size}, {counted(of_side['channels'], 'channel')} of {of_side['dtype']}"
        if side == "mask":
            facts.append((side, f"{described}; found {found}"))
            continue
        facts.append((side, "{}, values {:g} to {:g}".format(described, *of_side["range"])))
        if of_side["range_from"] is not None:
            how = ", by their logarithms" if of_side["logarithmic"] else ""
            values.append(f"{side} values: {of_side['range_from']} becomes -1 to 1{how}; found {found}")
    print_facts(facts)
    for line in values:
        print_text(line)
    for tables in checked.classes:
        print_classes(tables, CLASSES)


def _why(data: Data, side: str) -> str:
    """Where the range of a side is from."""
    said = data.values[side]
    if data.ranges[side] is None:
        return "the range of their type"
    if said.reading.ranges:
        return "each channel's range in the recipe"
    known = {"declared": "the range in the recipe", "percentiles": "the range of percentiles"}
    return known.get(said.rule, "what is found")


def _about_networks(recipe: Recipe, checked: _Checked) -> dict[str, Any]:
    """What the networks are, by name, in plain values; images have shapes [C, H, W]."""
    from p2pkit.build import build_without_weights, make
    from p2pkit.networks.receptive_field import receptive_field
    from p2pkit.runs import with_perceptual_metric
    from p2pkit.training.trial import try_shapes

    data = checked.data
    if not recipe.names_metrics:
        recipe = with_perceptual_metric(recipe, data)
    parts = build_without_weights(recipe, data)
    checked.headers.refuse_sizes(parts.generator)
    shapes, about = try_shapes(parts), dict[str, Any]()
    networks = {name: getattr(parts.method, name) for name in parts.method.networks}
    if parts.discriminator is not None:
        networks = {"generator": parts.generator, "discriminator": parts.discriminator, **networks}
    for name, network in networks.items():
        about[name] = {"parameters": sum(parameter.numel() for parameter in network.parameters())}
    about["generator"] |= {"name": recipe.generator.name, "source": list(shapes.source), "output": list(shapes.fake)}
    fitted = recipe.generator.fitted((shapes.source[1], shapes.source[2])).values
    following = sorted(fitted.model_fields_set - recipe.generator.values.model_fields_set)
    about["generator"]["by_training_size"] = {name: getattr(fitted, name) for name in following}
    about["generator"]["starting_point"] = checked.start.put_into(parts)[1] if checked.start else []
    if recipe.discriminator is not None and parts.discriminator is not None:
        # for the sources themselves it sees as far as behind an encoding, with less memory
        field = receptive_field(make(recipe.discriminator, **data.channels), **data.channels)
        logits = [list(each[1:]) for each in shapes.logits]
        about["discriminator"] |= {"name": recipe.discriminator.name, "logits": logits, "receptive_field": field}
    return about


def _print_networks(recipe: Recipe, about: Mapping[str, Any]) -> None:
    facts = []
    for name, network in about.items():
        size = f"{network['parameters'] / 1e6:.3f} M parameters"
        if name == "generator":
            shapes = f"{_sides(network['source'])} -> {_sides(network['output'])}"
            for key, value in network["by_training_size"].items():
                size = f"{key} = {value} by the training size, {size}"
            facts.append((name, f"{network['name']}, {size}, {shapes}"))
        elif "logits" in network:
            facts.append((name, f"{network['name']}, {size}, logits {', '.join(map(_sides, network['logits']))}"))
            field = network["receptive_field"]
            seen = counted(field, "pixel") if field else "all of the image, or not measurable"
            facts.append(("receptive field", seen))
        else:
            facts.append((f"{name} of {recipe.method.name}", size))
    print_facts(facts)
    for report in about["generator"]["starting_point"]:
        print_text(report)


def _sides(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))
