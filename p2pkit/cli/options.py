"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
from click.shell_completion import CompletionItem

from p2pkit.contracts import Split

DEVICES = ("cpu", "cuda", "cuda:N", "mps", "auto")
"""The forms of what --device takes; distributed.accelerator says which there are."""


def _recipes(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Sequence[CompletionItem]:
    """Files, and what plugins provide as PLUGIN:RECIPE."""
    from p2pkit.components.host import manager

    names = [f"{plugin.name}:{name}" for plugin in manager().plugins for name in plugin.recipes()]
    return [CompletionItem(incomplete, "file"), *map(CompletionItem, _of(names, incomplete))]


def _devices(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Sequence[str]:
    return _of([each.replace("N", "0") for each in DEVICES], incomplete)


def _of(names: Sequence[str], incomplete: str) -> Sequence[str]:
    return [name for name in names if name.startswith(incomplete)]


RECIPE = click.argument("recipe", type=click.Path(path_type=Path), shell_complete=_recipes)  # a file, or PLUGIN:RECIPE
OPTIONAL_RECIPE = click.argument("recipe", required=False, type=click.Path(path_type=Path), shell_complete=_recipes)
SET = click.option(
    "--set",
    "overrides",
    metavar="K=V",
    multiple=True,
    help="Set a key of the recipe; V is TOML. Repeatable: --set train.epochs=5 --set losses.1.weight=10",
)
SPLIT = click.option(
    "--split", type=click.Choice(get_args(Split)), help="Which set. [default: test, or val if there is none]"
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
DEVICE = click.option(
    "--device",
    metavar="|".join(DEVICES),
    shell_complete=_devices,
    help="Where to compute: the CPU, a GPU, the GPU of number N from 0 on, a GPU of Apple. "
    "[default: auto, the best there is]",
)
