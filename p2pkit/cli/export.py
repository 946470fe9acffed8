"""``p2pkit export``: a model in a format that runs without p2pkit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click

from p2pkit.cli.main import announce
from p2pkit.cli.tables import STATISTICS
from p2pkit.contracts import Normalisation
from p2pkit.errors import ExportError, RecipeError, visible
from p2pkit.utils.progress import print_line

if TYPE_CHECKING:
    from p2pkit.export.exporting import Exported


@click.command("export", short_help="Write a model for ONNX Runtime and the like.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    metavar="NAME",
    default="onnx",
    help="An exporter: onnx, torch_program or a plugin's; or reference, a checkpoint for the PyTorch reference. "
    "[default: onnx]",
)
@click.option(
    "--out", metavar="FILE", required=True, type=click.Path(path_type=Path), help="File, or folder, to write."
)
@click.option(
    "--norm",
    type=click.Choice(get_args(Normalisation)),
    help="Statistics of batch norm: each image's own (the paper's), the batch's, or training's. [default: the model's]",
)
@click.option(
    "--dropout/--no-dropout",
    default=None,
    help="Make the noise of translation an input, or leave it out. [default: out of files, folders draw it]",
)
@click.option("--set", "settings", metavar="K=V", multiple=True, help="Set a parameter of the exporter. Repeatable.")
def command(
    model: Path, form: str, out: Path, norm: str | None, dropout: bool | None, settings: tuple[str, ...]
) -> None:
    """Write MODEL in another format, for use without p2pkit.

    MODEL is a model.safetensors, the run folder with it, or PLUGIN:MODEL, one that a plugin provides.

    The file takes images of any size and number. It is compared with the model, and left there only if they agree.
    """
    announce(f"export {model}", "cpu")
    from p2pkit.reference.exporting import FORMAT

    if form == FORMAT:
        _refuse_options(norm, dropout, settings)
        _export_checkpoint(model, out)
        return
    from p2pkit.export.exporting import export_model

    exported = export_model(model, out, form, cast(Normalisation | None, norm), dropout, _parameters(settings))
    _report(exported)
    click.echo(visible(str(out)))


def _refuse_options(norm: str | None, dropout: bool | None, settings: tuple[str, ...]) -> None:
    given = [name for name, value in (("--norm", norm), ("--dropout", dropout), ("--set", settings)) if value]
    if given:
        raise ExportError(f"{given[0]}: a checkpoint of the reference has weights alone, so leave it out")


def _export_checkpoint(model: Path, out: Path) -> None:
    from p2pkit.reference.exporting import export_checkpoint

    exported = export_checkpoint(model, out)
    for notice in exported.notices:
        print_line(f"NOTICE: {notice}")
    print_line(f"read again and compared with the model: largest difference {exported.difference:.1e}")
    for file in (exported.generator, exported.discriminator):
        if file is not None:
            click.echo(visible(str(file)))


def _parameters(settings: tuple[str, ...]) -> dict[str, Any]:
    from p2pkit.recipe.document import parsed

    parameters: dict[str, Any] = {}
    for setting in settings:
        (name, *below), value = parsed(setting)
        if below:
            raise RecipeError(f"--set {setting}: an exporter's parameters have no parts; expected NAME=VALUE")
        parameters[name] = value
    return parameters


def _report(exported: Exported) -> None:
    facts = ", ".join(value if name == "name" else f"{name} {value}" for name, value in exported.facts.items())
    noise = f"inputs {', '.join(exported.noise)}" if exported.noise else "none: dropout is left out"
    sizes = ", ".join(f"{height}x{width}" for height, width in exported.sizes)
    print_line(f"generator {exported.generator} as {facts}")
    if len(exported.sources) > 1:
        print_line(f"  sources: inputs {', '.join(exported.sources)}")
    print_line(f"  batch norm: {STATISTICS[exported.policy.norm]}")
    print_line(f"  noise: {noise}")
    print_line("  sizes: any; padded by reflection and cropped back inside")
    if exported.colours and not exported.self_contained:
        low, high = exported.colours
        print_line(
            f"  output: a and b of CIELAB, {low:g} to {high:g}; not inside: putting them to the lightness of sources"
        )
    if exported.trained_at and not exported.self_contained:
        print_line(f"  not inside: training saw images resized, so resize images to {exported.trained_at} first")
    print_line(
        f"  checked against the model at {sizes}, batches of 1 and 3: largest difference {exported.difference:.1e}"
    )
    for line in exported.advice:
        print_line(f"  {line}")
