"""``p2pkit translate``: images through a model file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click

from p2pkit.cli.failures import memory_advised
from p2pkit.cli.main import announce
from p2pkit.cli.options import DEVICE, JSON, SPLIT
from p2pkit.contracts import Normalisation, Split
from p2pkit.errors import DataError, counted, listed, visible
from p2pkit.utils.imports import importing
from p2pkit.utils.progress import print_line

if TYPE_CHECKING:
    from p2pkit.inference.files import Report

COUNT = click.IntRange(min=1)


@click.command("translate", short_help="Translate images with a model file.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="[INPUT...]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the outputs; for a single image the name of a file too, such as x.png.",
)
@click.option(
    "--source",
    "named",
    metavar="NAME=PATH",
    multiple=True,
    help="In place of INPUT, for a model of several sources: the file or folder of one of them. Repeatable.",
)
@click.option(
    "--data",
    metavar="RECIPE",
    type=click.Path(path_type=Path),
    help="In place of INPUT: the samples of a recipe's data. [default: those of the model's own, with --split]",
)
@SPLIT
@click.option(
    "--size",
    type=click.Choice(["source", "model", "native"]),
    help="Resize sources as in training, and outputs back; or leave them at the model's size; or resize nothing. "
    "[default: source; native with --tile]",
)
@click.option(
    "--as",
    "stored_as",
    type=click.Choice(["image", "side_by_side", "left", "right"]),
    help="What files are: images, or two side by side, with the source where it was in training, or at the left or "
    "right. [default: by the model and each file]",
)
@click.option("--samples", metavar="N", type=COUNT, default=1, help="Outputs an image. [default: 1]")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, help="Seed of the noise. [default: 0]")
@click.option(
    "--norm",
    type=click.Choice(get_args(Normalisation)),
    help="Statistics of batch norm: each image's own (the paper's), the batch's, or training's. [default: the model's]",
)
@click.option("--dropout/--no-dropout", default=None, help="The paper's noise at translation. [default: the model's]")
@click.option(
    "--format",
    metavar="ENDING",
    help="Ending of the outputs: png, tif, npy or a plugin's. [default: that of the training targets, else png or tif]",
)
@click.option(
    "--batch-size", metavar="N", type=COUNT, default=1, help="Images, or tiles, at once on a GPU. [default: 1]"
)
@click.option(
    "--tile",
    metavar="N",
    type=COUNT,
    help="Translate in tiles of N pixels, images larger than memory too; outputs are TIFF, or NPY. [default: none]",
)
@click.option(
    "--overlap", metavar="N", type=click.IntRange(min=0), help="Pixels that tiles share. [default: an eighth of a tile]"
)
@click.option("--skip-existing", is_flag=True, help="Leave out images whose outputs are there: resume.")
@click.option(
    "--precision",
    type=click.Choice(["no", "bf16", "fp16"]),
    default="no",
    help="Mixed precision of the network; fp16 on GPUs alone. [default: no]",
)
@click.option("--threads", metavar="N", type=COUNT, help="Processor cores for the network. [default: all]")
@JSON
@DEVICE
def command(
    model: Path,
    inputs: tuple[Path, ...],
    named: tuple[str, ...],
    out: Path,
    data: Path | None,
    split: Split | None,
    norm: str | None,
    dropout: bool | None,
    precision: str,
    threads: int | None,
    as_json: bool,
    device: str | None,
    **options: Any,
) -> None:
    """Translate images, and all images in folders, with MODEL.

    MODEL is a model.safetensors, the run folder with it, or PLUGIN:MODEL, one that a plugin provides, such as
    p2pkit:quickstart. Folders keep their tree. With --data or --split the samples of a data set are translated, each to
    a file called by its key.
    """
    of_data = data is not None or split is not None
    if [of_data, bool(inputs), bool(named)].count(True) != 1:
        if not (of_data or inputs or named):
            raise click.UsageError("give INPUT, or --data RECIPE, or --split")
        raise click.UsageError(f"give either INPUT or {'--source' if named else '--data'}")
    if options["tile"] is None and options["overlap"] is not None:
        raise DataError("--overlap is of tiles; give --tile too")
    announce(f"translate by {model}", device or "auto")
    with importing():
        import torch

        from p2pkit.distributed.accelerator import described
        from p2pkit.inference.files import FileOptions
        from p2pkit.inference.translator import load_model
        from p2pkit.utils.signals import stopped_by_signals

    if threads is not None:
        torch.set_num_threads(threads)
    translator = load_model(model, device, cast(Any, norm), dropout, cast(Any, precision))
    print_line(f"device: {described(translator.device)}")
    advice = _for_memory(of_planes=translator.header.planes is not None, in_tiles=options["tile"] is not None)
    with stopped_by_signals("interrupted; the same command with --skip-existing resumes"), memory_advised(advice):
        if of_data:
            from p2pkit.translations import translate_data

            report = translate_data(translator, out, data, split, FileOptions(**options))
        else:
            report = translator.files(_by_name(named) or inputs, out, FileOptions(**options))
    _tell(report, out, as_json)


def _for_memory(of_planes: bool, in_tiles: bool) -> str:
    """What helps a translation where memory has run out."""
    if in_tiles:
        return "Lower --tile or --batch-size"
    if of_planes:
        return "Lower --threads or --batch-size, or split the volumes; images can be translated in tiles, --tile 512"
    return "Lower --threads or --batch-size, or translate in tiles, --tile 512: then an image need not fit into memory"


def _tell(report: Report, out: Path, as_json: bool) -> None:
    """Print what became of the images, or raise a DataError with it where some failed."""
    there = f" ({report.skipped} {'was' if report.skipped == 1 else 'were'} there already)" if report.skipped else ""
    failures = [visible(failure) for failure in report.failures]
    outputs = [{"source": source, "output": str(output)} for source, output in report.outputs]
    found = {"out": str(out), "outputs": outputs, "skipped": report.skipped, "failures": failures}
    if failures:
        others = report.done + report.skipped
        what, done = counted(len(failures), "image"), ""
        if others:
            what = f"{len(failures)} of {others + len(failures)} images"
            done = f"; {'the other is' if others == 1 else f'the other {others} are'} done{there}"
        error = DataError(f"{what} could not be translated{done}:{listed(failures, shown=len(failures))}")
        error.details = found
        raise error
    if as_json:
        click.echo(json.dumps(found, indent=2))
    print_line(f"done: {out}{there}")


def _by_name(named: tuple[str, ...]) -> dict[str, Path]:
    """The path of each source that ``--source`` names."""
    paths: dict[str, Path] = {}
    for each in named:
        name, sign, path = each.partition("=")
        if not name or not sign or not path:
            raise click.BadParameter(f"found {each!r}, expected NAME=PATH", param_hint="--source")
        if name in paths:
            raise click.BadParameter(f"{name!r} is given twice; put its files into one folder", param_hint="--source")
        paths[name] = Path(path)
    return paths
