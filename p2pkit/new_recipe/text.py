"""The text of a recipe: commented TOML, each key with the reason for its value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap

from p2pkit.errors import visible
from p2pkit.new_recipe.decide import Choice
from p2pkit.recipe.schema import schema_line

WIDTH = 120
COLUMN = 33
"""Where comments behind values begin."""


def recipe_text(heading: Sequence[str], choices: Iterable[Choice]) -> str:
    """The recipe with these ``choices``, below what ``heading`` says of it all, a paragraph each."""
    lines = [schema_line(), *(line for paragraph in heading for line in _comment(paragraph))]
    sections: dict[str, list[str]] = {}
    for choice in choices:
        sections.setdefault(choice.section, []).extend(_lines(choice))
    for section, those in sections.items():
        lines += ["", f"[{section}]", *those]
    return "\n".join(lines) + "\n"


def _lines(choice: Choice) -> list[str]:
    if not choice.key:
        return _comment(choice.why)
    line = f"{choice.key} = {choice.shown}"
    behind = f"{line.ljust(COLUMN - 1)} # {visible(choice.why)}"
    if not choice.why:
        return [line]
    return [behind] if len(behind) <= WIDTH else [*_comment(choice.why), line]


def _comment(text: str) -> list[str]:
    held = visible(text).replace(" = ", "\0=\0")  # a key and its value stay on one line
    lines = wrap(held, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)
    return [line.replace("\0", " ") for line in lines]
