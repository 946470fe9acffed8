"""``p2pkit import``: a checkpoint of a reference implementation as a model file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from p2pkit.cli.main import announce
from p2pkit.cli.options import JSON
from p2pkit.errors import visible
from p2pkit.utils.jsonl import finite
from p2pkit.utils.progress import print_line


class _Size(click.ParamType[Any]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "source":
            return value
        sides = re.fullmatch(r"([1-9]\d{0,7})(?:x([1-9]\d{0,7}))?", value)
        if sides is None:
            self.fail(f"{value!r}: expected a side such as 256, HEIGHTxWIDTH such as 256x512, or source", param, ctx)
        return int(sides[1]), int(sides[2] or sides[1])


@click.command("import", short_help="Make a model file of the reference's latest_net_G.pth.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", metavar="FILE", required=True, type=click.Path(path_type=Path), help="Model file to write.")
@click.option(
    "--discriminator",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Take the discriminator in as well (latest_net_D.pth), for runs that begin with the model.",
)
@click.option(
    "--dropout",
    metavar="P",
    type=click.FloatRange(0, 1, max_open=True),
    help="The probability of dropout in training, 0 for none, which a U-Net's file does not say. [default: 0.5]",
)
@click.option(
    "--size",
    type=_Size(),
    metavar="N|HxW|source",
    help="What sources are resized to, or source for their own size. [default: the reference's, 256]",
)
@JSON
def command(
    checkpoint: Path, out: Path, discriminator: Path | None, dropout: float | None, size: Any, as_json: bool
) -> None:
    """Make a model file of CHECKPOINT, a generator that the PyTorch reference implementation has saved.

    Its architecture is found from names and shapes of its tensors. It is read as tensors alone: a file that needs more
    is refused, and nothing in it is run.
    """
    announce(f"import {checkpoint}", "cpu")
    from p2pkit.reference.importing import import_checkpoint

    imported = import_checkpoint(checkpoint, out, discriminator, dropout, size)
    header = imported.header
    if as_json:
        found = {"model": str(out), "assumed": list(imported.assumed), **header.model_dump(mode="json")}
        click.echo(json.dumps(finite(found), indent=2))
        return
    print_line(f"generator {_described(header.generator, header.parameters)}")
    if header.discriminator is not None:
        print_line(f"discriminator {_described(header.discriminator.name, header.discriminator.parameters)}")
    print_line("NOTICE: not in the file, and taken to be so:" + "".join(f"\n  {one}" for one in imported.assumed))
    click.echo(visible(str(out)))


def _described(name: str, parameters: dict[str, Any]) -> str:
    return f"{name}: " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in parameters.items())
