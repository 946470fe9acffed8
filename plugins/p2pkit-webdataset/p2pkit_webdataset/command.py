"""``p2pkit data shard``: a recipe's data as shards."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("shard", short_help="Write a recipe's data as shards, to train on data larger than memory.")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", metavar="K=V", multiple=True, help="Set a key of the recipe. Repeatable.")
@click.option(
    "--out", metavar="DIR", required=True, type=click.Path(path_type=Path), help="Folder of the shards; new or empty."
)
@click.option(
    "--pairs-per-shard", metavar="N", type=click.IntRange(min=1), default=1000, show_default=True,
    help="Pairs in a shard.",
)  # fmt: skip
def shard(recipe: Path, overrides: tuple[str, ...], out: Path, pairs_per_shard: int) -> None:
    """Write all sets of RECIPE's data as shards in WebDataset's format: DIR/train, DIR/val and DIR/test.

    Pixels are kept exactly. Run the same command again to resume after an interruption.
    """
    import p2pkit
    from p2pkit.errors import DataError, visible
    from p2pkit.utils.progress import print_line
    from p2pkit_webdataset.writing import make_shards

    data = p2pkit.load_data(recipe, overrides)
    for notice in data.notices:
        print_line(f"NOTICE: {notice}")
    if data.train.targets is not None:
        raise DataError(f"{data.train.origin} is unpaired; shards hold pairs")
    first = data.first
    if any(getattr(first.image(side), "taken", "") for side in first.header.sides):
        raise DataError(
            "shards hold files as they are, and Lab, which the recipe takes of them, is taken as they are read; add "
            "--set source.channels=rgb --set target.channels=rgb"
        )
    sets = {samples.split: samples for samples in data.sets if len(samples)}
    made = make_shards(sets, data.fingerprint, out, pairs_per_shard)
    there = "" if made else "all is there already: "
    counts = f"{len(data.train)} training pairs, {len(data.val)} val pairs, {len(data.test)} test pairs"
    click.echo(visible(f"{out}: {there}{counts}"))
