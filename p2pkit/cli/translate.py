"""``p2pkit translate``: images through a model file."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import click

from p2pkit.cli.options import device_option, say
from p2pkit.contracts import Normalisation
from p2pkit.errors import DataError


@click.command("translate", short_help="Translate images with a model file.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", metavar="DIR", required=True, type=click.Path(path_type=Path), help="Folder of the outputs.")
@click.option("--samples", metavar="N", type=click.IntRange(min=1), default=1, help="Outputs an image. [default: 1]")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, help="Seed of the noise. [default: 0]")
@click.option(
    "--norm",
    type=click.Choice(get_args(Normalisation)),
    help="Statistics of batch norm: each image's own (the paper's), the batch's, or training's. [default: the model's]",
)
@click.option("--dropout/--no-dropout", default=None, help="The paper's noise at translation. [default: the model's]")
@click.option(
    "--format",
    "image_format",
    type=click.Choice(["png", "tif", "npy"]),
    help="Format of the outputs. [default: TIFF, NPY and NIfTI stay so; else PNG, or TIFF for what PNG cannot hold]",
)
@device_option
def command(
    model: Path,
    inputs: tuple[Path, ...],
    out: Path,
    samples: int,
    seed: int,
    norm: str | None,
    dropout: bool | None,
    image_format: str | None,
    device: str | None,
) -> None:
    """Translate images, and all images in folders, with MODEL (a model.safetensors, or the run folder with it).

    Folders keep their tree.
    """
    from p2pkit.translate import load_model
    from p2pkit.translate.files import translate_files

    translator = load_model(model, device, cast(Normalisation | None, norm), dropout)
    failures = translate_files(translator, inputs, out, samples, seed, image_format)
    if failures:
        listed = "\n  ".join(failures)
        raise DataError(f"{len(failures)} of the images could not be translated; the others are done:\n  {listed}")
    say(f"done: {out}")
