"""``p2pkit bench``: how fast a recipe trains here, where its time goes, and what to change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pkit.cli.main import announce
from p2pkit.cli.options import DEVICE, JSON, RECIPE, SET
from p2pkit.cli.tables import print_facts, print_table, print_text
from p2pkit.errors import counted
from p2pkit.utils.jsonl import finite
from p2pkit.utils.progress import is_main_process, three_digits

if TYPE_CHECKING:
    from p2pkit.benchmarks.bench import Benchmark


@click.command("bench", short_help="Measure how fast a recipe trains, and where its time goes.")
@RECIPE
@SET
@click.option(
    "--steps", metavar="N", type=click.IntRange(min=1),
    help="Measure N steps. [default: as many as take 20 s, 5 to 200]",
)  # fmt: skip
@JSON
@DEVICE
def command(recipe: Path, overrides: tuple[str, ...], steps: int | None, as_json: bool, device: str | None) -> None:
    """Train some steps of RECIPE as `p2pkit run` does, and measure them; nothing of it is kept.

    Prints the rate, what the time of a step is spent on, memory, what this machine could do, and what to change.
    Validation, sample grids, checkpoints and trackers are left out.
    """
    announce(f"bench {recipe}", device or "auto")
    # the recipe first: what is wrong with it is said before torch is imported
    from p2pkit.recipe.resolve import read_recipe

    resolved = recipe if recipe.is_dir() else read_recipe(recipe, overrides)
    from p2pkit.benchmarks.bench import bench

    found = bench(resolved, overrides, device, steps)
    if not is_main_process():
        return
    if as_json:
        click.echo(json.dumps(finite(found.as_json()), indent=2))
    else:
        _print(found)


def _print(found: Benchmark) -> None:
    pairs, memory = counted(found.batch_size, "pair"), f"{found.peak_memory / 2**20:.0f} MiB"
    if found.peak_device_memory is not None:
        memory += f", and {found.peak_device_memory / 2**20:.0f} MiB of the GPU"
    rate = f"{three_digits(found.steps_per_second)} steps/s, {three_digits(found.images_per_second)} images/s"
    spread = f"{found.median_seconds:.4g} s in the median, {found.slowest_seconds:.4g} s at most"
    done, could = f"{found.flop_per_second / 1e9:.3g} GFLOP/s", f"{found.ceiling / 1e9:.3g} GFLOP/s"
    print_facts(
        [
            ("recipe", f"{found.recipe}, {pairs} a step, precision {found.precision}"),
            ("device", found.device),
            ("rate", rate),
            ("step", f"{found.seconds_per_step:.4g} s on average of {counted(found.steps, 'step')}, {spread}"),
            ("arithmetic", f"{found.flop_per_step / 1e9:.3g} GFLOP a step, {done}"),
            ("ceiling", f"{could} in matrix products, of which a step takes {found.share_of_ceiling:.1%}"),
            ("peak memory", memory),
        ]
    )
    click.echo()
    rows = [(name, f"{seconds * 1e3:.2f} ms", f"{found.share(name):.1%}") for name, seconds in found.parts.items()]
    print_table(rows, ("a step's time", "", ""))
    for note in found.notes:
        print_text(f"NOTICE: {note}")
    click.echo()
    for each in found.advice or ["Nothing stands out that a key of the recipe would change."]:
        print_text(each)
