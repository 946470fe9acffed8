"""``p2pkit evaluate``: metrics of a model, or of a folder of images, beside trivial translators."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pkit.cli.fit_segmenter import fit, refuse_given, segmenter_options
from p2pkit.cli.main import announce
from p2pkit.cli.metrics import print_rows
from p2pkit.cli.options import DEVICE, JSON, SET, SPLIT
from p2pkit.errors import counted, visible
from p2pkit.utils.imports import importing
from p2pkit.utils.jsonl import finite
from p2pkit.utils.progress import is_main_process

if TYPE_CHECKING:
    from p2pkit.evaluations import Evaluation

LISTED = 5
"""How many of the best and of the worst images are listed."""


@click.command("evaluate", short_help="Measure a model, or a folder of images, by metrics.")
@click.argument("inputs", metavar="MODEL|RUN|OUTPUTS TARGETS", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="RECIPE|FOLDER",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The data: a recipe, or twice for the folders of sources and targets. [default: the model's]",
)
@SPLIT
@click.option("--metrics", metavar="NAME,NAME", help="The metrics. [default: those of the model's recipe]")
@click.option(
    "--at",
    type=click.Choice(["model", "native"]),
    default="model",
    help="Images at the model's training size, or as they are. [default: model]",
)
@click.option("--max-images", metavar="N", type=click.IntRange(min=1), help="The first N images only. [default: all]")
@segmenter_options
@SET
@JSON
@DEVICE
def command(
    inputs: tuple[Path, ...], data: tuple[Path, ...], split: Any, metrics: str | None, at: Any, max_images: int | None,
    fit_segmenter: Path | None, network: str | None, classes: str | None, steps: int | None,
    overrides: tuple[str, ...], as_json: bool, device: str | None,
) -> None:  # fmt: skip
    """Measure MODEL (a model.safetensors, the run folder with it, or PLUGIN:MODEL) on data that it was not trained on.

    Prints its metrics with 95% confidence intervals, those of trivial translators, and its best and worst images. Two
    folders, OUTPUTS and TARGETS, are measured against each other, whatever has made them.

    The metric fcn_score needs a segmentation network that knows the data: --fit-segmenter makes one of a RECIPE's.
    """
    of_segmenter = {"network": network, "classes": classes, "steps": steps}
    if fit_segmenter is not None:
        if data or split or metrics is not None or max_images or at != "model":
            raise click.UsageError(
                "--fit-segmenter measures no model; leave --data, --split, --metrics and the like out"
            )
        fit(inputs, fit_segmenter, of_segmenter, device, overrides, as_json)
        return
    refuse_given(of_segmenter)
    folders = data
    if len(data) == 1 and len(inputs) == 2 and data[0].is_dir():
        inputs, folders = inputs[:1], (*data, *inputs[1:])  # --data SOURCES TARGETS
    if len(inputs) > 2 or len(folders) > 2:
        raise click.UsageError("give one MODEL or RUN, or two folders, OUTPUTS and TARGETS")
    if len(inputs) == 2 and _is_model(inputs[0]):
        raise click.UsageError(f"for {inputs[0]} on other data: evaluate {inputs[0]} --data SOURCES --data TARGETS")
    if len(inputs) == 2 and (folders or split or at == "native"):
        raise click.UsageError("two folders are measured as they are; leave out --data, --split and --at")
    if len(folders) == 1 and folders[0].is_dir():
        raise click.UsageError(f"--data {folders[0]}: a folder; give two, of sources and of targets, or a recipe")
    announce(f"evaluate {' '.join(map(str, inputs))}", "cpu" if len(inputs) == 2 else device or "auto")
    with importing():
        from p2pkit.evaluations import compare, evaluate

    names = None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
    if len(inputs) == 2:
        result = compare(*inputs, names, overrides, max_images)
    else:
        chosen: Any = folders if len(folders) == 2 else folders[0] if folders else None
        result = evaluate(inputs[0], chosen, split, names, at, device, overrides, max_images)
    if not is_main_process():
        return
    if as_json:
        click.echo(json.dumps(_as_json(result), indent=2, allow_nan=False))
    else:
        _print(result)


def _is_model(path: Path) -> bool:
    """Whether it is a file, or a run folder, and not a folder of outputs."""
    from p2pkit.inference.model_file import RECIPE

    return path.is_file() or (path / RECIPE).is_file()


def _print(result: Evaluation) -> None:
    facts = result.facts
    size = "{}x{} (height x width)".format(*facts["size"]) if facts["size"] else "several sizes"
    click.echo(visible(f"{counted(facts['images'], 'image')} of the {facts['set']}, {size}"))
    if facts["values"]:
        click.echo(visible(f"target values {facts['values']} are 0 to 1 to the metrics"))
    if facts["coverage"] < 1:
        click.echo(visible(f"masks let {facts['coverage']:.1%} of the pixels count; elsewhere outputs count as right"))
    print_rows(result.rows, result.not_beaten, result.intervals)
    scores = {image.key: image.rows[result.row] for image in result.images}
    for title, keys in (("best", result.ranked[:LISTED]), ("worst", result.ranked[::-1][:LISTED])):
        if result.ranked_by is not None:
            listed = ", ".join(f"{key} {scores[key][result.ranked_by]:.4f}" for key in keys)
            click.echo(visible(f"{title} by {result.ranked_by}: {listed}"))
    for name in result.rows[result.row]:
        odd = [key for key, numbers in scores.items() if not math.isfinite(numbers.get(name, 0.0))]
        if odd:
            click.echo(
                visible(f"NOTICE: {name} is {scores[odd[0]][name]} for {len(odd)} of the images, {odd[0]} the first")
            )
    if result.diversity is not None:
        click.echo(visible(f"diversity, the mean LPIPS between samples of one source: {result.diversity:.4f}"))
    for name, values in facts["computed_with"].items():
        click.echo(visible(f"{name}: " + ", ".join(f"{key} {value}" for key, value in values.items())))


def _as_json(result: Evaluation) -> dict[str, Any]:
    images = [{"key": image.key, "size": image.size, **image.rows[result.row]} for image in result.images]
    found = {
        **result.facts,
        "rows": result.rows,
        "intervals": result.intervals,
        "not_beaten": result.not_beaten,
        "diversity": result.diversity,
        "ranked_by": result.ranked_by,
        "best": result.ranked[:LISTED],
        "worst": result.ranked[::-1][:LISTED],
        "per_image": images,
    }
    made: dict[str, Any] = finite(found)
    return made
