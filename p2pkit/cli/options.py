"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from p2pkit.contracts import Split

# where a command finds the program's own options, in its context's meta
NO_PLUGIN, PLUGINS_DIR = "p2pkit.no_plugin", "p2pkit.plugins_dir"
RECIPE = click.argument("recipe", type=click.Path(path_type=Path))  # a file, or PLUGIN:RECIPE
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
    "--device", type=click.Choice(["cpu", "cuda"]), help="Where to compute. [default: the best there is]"
)
