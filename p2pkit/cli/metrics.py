"""Metrics as tables: a model's beside those of trivial translators, and where it is no better than these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

import click

from p2pkit.cli.tables import print_table, print_text


def print_rows(
    rows: Mapping[str, Mapping[str, float]], not_beaten: Mapping[str, Sequence[str]],
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> None:  # fmt: skip
    """Print a row of numbers for each translator, the model's first with its confidence intervals, if there are any."""
    names = list(next(iter(rows.values())))
    lines = []
    for row, values in rows.items():
        lines.append([row, *(f"{values[name]:.4f}" if name in values else "" for name in names)])
        if intervals and len(lines) == 1:
            shown = [f"{low:.3f}-{high:.3f}" for low, high in (intervals.get(name, (nan, nan)) for name in names)]
            lines.append(["  95% interval", *(each.replace("nan-nan", "") for each in shown)])
    print_table(lines, ["", *names], indent=2)
    for name, better in not_beaten.items():
        print_text(f"NOTICE: by {name} the model is no better than {', '.join(better)}")
    if not_beaten and len(not_beaten) == len(names):
        click.echo("NOTICE: by none of the metrics does it beat all trivial translators: it has learnt little yet")
