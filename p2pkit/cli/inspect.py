"""``p2pkit inspect``: what a model file says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pkit.cli.options import JSON
from p2pkit.cli.tables import STATISTICS, print_facts
from p2pkit.errors import counted, visible
from p2pkit.utils.jsonl import finite

if TYPE_CHECKING:
    from p2pkit.inference.model_header import DrawingHeader

UNKNOWN = "not known"
UNSAID = {
    "source_range": "that of its type",
    "target_range": "that of its type",
    "source_nodata": "none but what a file names itself",
    "source_fill": "none, sources with such values are refused",
    "target_ending": "none, they were no files",
    "encoding": "none, sources are taken as they are",
    "discriminator": "none in this file",
    "size": "several in training",
    "resize": "none, sources keep their size",
    "source_size": "not known, so files of two images side by side are not recognised",
    "init_from": "none, its weights were initialised at random",
    "planes": "none, sources were images of their own",
    "drawings": "none, sources are neither label maps of few colours nor edges, or encoded",
    "stored_as": "whole images, not halves of files",
}
"""What it means that a header does not say something."""
COLOURS = "RGB of 8 bits: the generator's a and b of CIELAB with the lightness of the source"
OF_ONE_SOURCE = ("source_dtype", "source_range", "source_nodata", "source_fill", "source_reading", "encoding")
"""What a header says elsewhere where there are several sources."""


@click.command("inspect", short_help="What a model file is, and where it is from.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--recipe", is_flag=True, help="Print the recipe that it was trained by, and nothing else.")
@JSON
def command(model: Path, recipe: bool, as_json: bool) -> None:
    """Print what the header of MODEL (a model.safetensors, the run folder with it, or PLUGIN:MODEL) says.

    The weights are not read, and the plugin that the model comes from is not needed.
    """
    from p2pkit.components.host import manager
    from p2pkit.inference.model_file import find_model, read_outline

    file = find_model(manager().model_file(model))
    outline = read_outline(file)
    header = outline.header.model_dump(mode="json")
    if as_json:
        weights = {"tensors": outline.tensors, "values": outline.values, "dtypes": outline.dtypes}
        found = {"file": str(file), "bytes": outline.size, "weights": weights, **header}
        click.echo(json.dumps(finite(found), indent=2))
        return
    text = header.pop("recipe")
    if recipe:
        shown = "".join(one if one in "\n\t" or one.isprintable() else f"\\u{ord(one):04x}" for one in text)
        click.echo(shown, nl=not text.endswith("\n"))
        return
    kinds, policy = ", ".join(outline.dtypes), outline.header.policy
    noise = "dropout and other noise drawn by --seed" if policy.dropout else "no dropout, and the mean of other noise"
    header["policy"] = f"batch norm by {STATISTICS[policy.norm]} ({policy.norm}), {noise}"
    header["drawings"] = "; ".join(_drawing(name, drawing) for name, drawing in outline.header.drawings.items())
    for name in OF_ONE_SOURCE if header["sources"] else ("sources",):
        del header[name]
    sources = [(f"source {source.pop('name')}", _shown(source, UNKNOWN)) for source in header.pop("sources", [])]
    print_facts(
        [
            ("file", f"{file}, {outline.size / 1e6:.1f} MB"),
            ("weights", f"{outline.values / 1e6:.3f} M values ({kinds}) in {counted(outline.tensors, 'tensor')}"),
            *([("pictures", COLOURS)] if outline.header.colours else []),
            *((name.replace("_", " "), _shown(value, UNSAID.get(name, UNKNOWN))) for name, value in header.items()),
            *sources,
            ("recipe", f"{counted(len(text.splitlines()), 'line')}, with --recipe" if text else UNKNOWN),
        ]
    )


def _drawing(source: str, drawing: DrawingHeader) -> str:
    """What can be drawn for a source, in words."""
    names = ", ".join(each.name for each in drawing.classes)
    return f"{f'{source}: ' if source else ''}{drawing.kind} ({names})"


def _shown(value: Any, unsaid: str) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{visible(name)} = {json.dumps(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return unsaid if value in (None, "") else visible(str(value))
