"""Where outputs go: into a folder outside of the inputs, or to a file of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from p2pkit.errors import DataError
from p2pkit.images.formats import installed
from p2pkit.images.names import ending
from p2pkit.images.writing import format_written


def refuse_within(out: Path, inputs: Sequence[Path]) -> None:
    """Raise DataError where outputs would lie in a folder of inputs, and be inputs themselves the next time."""
    for given in inputs:
        if given.is_dir() and out.resolve().is_relative_to(given.resolve()):
            raise DataError(
                f"--out {out}: it is in the input folder {given}, where its images would be inputs the next time; "
                "choose a folder outside of it"
            )


def is_one_file(out: Path, of_file: bool) -> bool:
    """Whether outputs are to go to a file of this name, not to a folder; ``of_file`` says that they are of one file.

    Raises DataError for what is not written.
    """
    if out.is_dir():
        return False
    if installed().is_image(out.name):
        format_written(ending(out))
        return True
    if of_file and re.fullmatch(r"\.[A-Za-z0-9]{1,4}", out.suffix) and not out.suffix[1:].isdigit():
        raise DataError(
            f"--out {out}: no image format writes {out.suffix!r}; for a folder of that name make the folder first"
        )
    return False
