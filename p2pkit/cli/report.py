"""``p2pkit report``: the page on a run made again, or one on several side by side."""

from __future__ import annotations

import json
from pathlib import Path

import click

from p2pkit.cli.main import announce
from p2pkit.cli.options import JSON
from p2pkit.cli.tables import print_text
from p2pkit.errors import visible


@click.command("report", short_help="Write the page on a run, or on several side by side.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path),
    help="The page. [default: report.html in the run folder, of several runs in this one]",
)  # fmt: skip
@JSON
def command(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Write the report of a run folder again, or one of several runs side by side.

    A report is one HTML file, for a browser without a network: samples through time, metrics, curves, data, recipe.
    A run writes its own while it goes on.

    Prints what a practitioner would warn of (docs/reports.md).
    """
    announce(f"report {' '.join(map(str, runs))}")
    from p2pkit.reports.report import report

    written = report(runs, out)
    if as_json:
        warnings = {name: [vars(each) for each in found] for name, found in written.warnings.items()}
        click.echo(json.dumps({"report": str(written.file), "warnings": warnings}, indent=2))
        return
    for name, found in written.warnings.items():
        for warning in found:
            of = f"{name}, " if len(written.warnings) > 1 else ""
            print_text(f"WARNING: {of}{warning}")
    click.echo(visible(f"report: {written.file}"))
