"""Tables of text, as wide as the terminal or 80 columns: what is too long wraps, and nothing is cut off."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from io import StringIO
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import click

from p2pkit.errors import visible
from p2pkit.utils.progress import harmless, unfiltered

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from p2pkit.data.class_table import ClassTable

# rich costs a tenth of a second to import, which `--help` must not pay: every function here imports it for itself
WIDTH = 80
"""The columns of what goes to a file or to another program."""
STATISTICS = {
    "sample": "each image's own statistics",
    "batch": "the batch's statistics",
    "running": "the statistics of training",
}
"""What batch norm takes at translation, by the policy."""
GAP = 2
"""Blank columns between those of a table."""


def print_table(rows: Iterable[Sequence[str]], header: Sequence[str], indent: int = 0) -> None:
    """Print ``rows`` below ``header``, one column each; a header of empty names is left out."""
    from rich.table import Table

    table = Table(box=None, show_header=any(header), padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for title in header:
        table.add_column(_text(title), overflow="fold")
    for row in rows:
        table.add_row(*map(_text, map(visible, row)))
    _print(table, indent)


def print_classes(tables: Sequence[ClassTable], most: int | None = None) -> None:
    """Print the classes of label maps, or the ``most`` frequent, with their shares of pixels, and what is odd."""
    from p2pkit.data.class_table import rows_of

    if tables:
        print_table(rows_of(tables, most), ("class", *(f"share of {table.called} pixels" for table in tables)))
    for table in tables:
        for notice in table.notices():
            print_text(f"NOTICE: {notice}")


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print what is known by name, one fact a row: ``name: value``, the colons below each other."""
    from rich.table import Table

    rows = [(f"{name}:", value) for name, value in facts]
    room = _width() - 1 - max((len(name) for name, _ in rows), default=0)
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    # to the right, so that a search for "name: value" finds it whatever the other names are
    table.add_column(justify="right", overflow="fold", style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(_text(name), _text(_broken_at_commas(value, room)))
    _print(table)


def print_text(text: str, indent: int = 0) -> None:
    """Print ``text``, each of its lines wrapped, and all but the first indented (see utils.progress.print_line)."""
    _print(_text(harmless(text, hanging=True)), indent)


def _broken_at_commas(text: str, room: int) -> str:
    """``text`` with line ends between what commas separate, where that is enough to fit it into ``room`` columns."""
    parts = [f"{part}, " for part in text.split(", ")]
    if len(text) <= room or max(map(len, parts)) > room:
        return text
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > room:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines).removesuffix(",")


def _text(text: str) -> Text:
    # a Text, because rich reads [..] and :..: in a str as markup
    from rich.text import Text

    return Text("\n".join(map(visible, text.split("\n"))))


def _is_terminal() -> bool:
    return bool(getattr(sys.stdout, "isatty", bool)())  # it is None when closed


def _width() -> int:
    return get_terminal_size().columns if _is_terminal() else WIDTH


def _print(content: RenderableType, indent: int = 0) -> None:
    from rich.console import Console
    from rich.padding import Padding

    drawn, terminal = StringIO(), _is_terminal()
    console = Console(
        file=drawn, width=_width(), force_terminal=terminal, color_system="auto" if terminal else None,
        force_jupyter=False, legacy_windows=False,
    )  # fmt: skip
    console.print(Padding(content, (0, 0, 0, indent)))
    for line in drawn.getvalue().splitlines():
        click.echo(line.rstrip(), file=unfiltered(sys.stdout))  # it has styles, and what is shown is visible
