"""``p2pkit evaluate RECIPE --fit-segmenter FILE``: a segmentation network for the metric fcn_score."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from p2pkit.cli.main import announce
from p2pkit.cli.tables import print_table
from p2pkit.errors import visible

NETWORKS = ("small", "fcn_resnet50")
_OPTIONS = (
    click.option(
        "--fit-segmenter", metavar="FILE", type=click.Path(path_type=Path),
        help="Fit the network of the metric fcn_score on the photos of a RECIPE or RUN, write it to FILE, and end.",
    ),
    click.option("--network", type=click.Choice(NETWORKS), help="Of the segmenter. [default: small]"),
    click.option(
        "--classes", metavar="NAME|FILE",
        help="Of the segmenter: cmp_facades, cityscapes, or a CSV file of lines name,red,green,blue. "
        "[default: what is found in the label maps]",
    ),
    click.option("--steps", metavar="N", type=click.IntRange(min=1), help="Of the segmenter. [default: 2000]"),
)  # fmt: skip


def segmenter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of fitting, for a command that passes them on to :func:`fit`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def refuse_given(chosen: dict[str, Any]) -> None:
    """Refuse options of fitting where nothing is fitted."""
    for name, value in chosen.items():
        if value is not None:
            raise click.UsageError(f"--{name} goes with --fit-segmenter alone")


def fit(
    inputs: Sequence[Path], file: Path, chosen: dict[str, Any], device: str | None, overrides: Sequence[str],
    as_json: bool,
) -> None:  # fmt: skip
    """Fit a segmenter with what is not None of the options ``chosen``, and print what it came to."""
    if len(inputs) != 1:
        raise click.UsageError("--fit-segmenter takes one RECIPE or RUN, whose data it is fitted on")
    announce(f"evaluate {inputs[0]} --fit-segmenter", device or "auto")
    from p2pkit.segmenters import fit_segmenter

    given = {name: value for name, value in chosen.items() if value is not None}
    header = fit_segmenter(inputs[0], file, device=device, overrides=overrides, **given)
    if as_json:
        click.echo(json.dumps({"file": str(file), **header.model_dump(mode="json")}, indent=2, allow_nan=False))
        return
    print_table([[visible(header.measured_on), *(f"{value:.4f}" for value in header.scores.values())]],
                ["real photos of the", *header.scores], indent=2)  # fmt: skip
    click.echo(visible(f'segmenter: {file}; measure with it: [[metrics]] name = "fcn_score", segmenter = "{file}"'))
