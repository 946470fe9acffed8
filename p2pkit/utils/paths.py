"""Paths as people write them, and as systems that know other characters and separators have written them."""

from __future__ import annotations

import os
from pathlib import Path
from unicodedata import normalize


def usable_path(value: Path, *, folder: Path = Path()) -> Path:
    """A path as a person has written it: ~ is a home folder, and / stands for \\ where that makes a path that is there.

    So does another form of Unicode: a system may have written ü as one character, and another as two.

    ``folder`` is where relative paths begin. Raises ValueError, saying what is expected, for what cannot be a path, or
    cannot be kept in a recipe.
    """
    try:
        path = value.expanduser()
        text = str(path)
        if "\0" in text:
            raise ValueError("a path without NUL characters")
        str(path.absolute()).encode()
        if (folder / path).exists():
            return path
        if not text.isascii() and (other := in_other_form(folder / path)).exists():
            return other if path.is_absolute() else other.relative_to(folder)
    except RuntimeError as error:
        raise ValueError("a path whose ~ stands for the home folder of somebody known here") from error
    except UnicodeEncodeError as error:
        raise ValueError(
            "a path whose folders, from the first on, are called in UTF-8: recipes and model files hold no others. "
            "Rename them, or make a link to the last and use that"
        ) from error
    except OSError as error:
        raise ValueError(f"a path that can be looked up ({error.strerror})") from error
    if not text.isprintable() and set(text) & set("\a\b\f\n\r\t\v\x1b"):
        raise ValueError("a path; in double quotes \\t, \\n and the like are no backslashes: use single quotes, or /")
    if "\\" in text and os.sep == "/":
        if (folder / text.replace("\\", "/")).exists():
            return Path(text.replace("\\", "/"))
        raise ValueError("a path with /: here a backslash is a part of a name, and nothing is called so")
    return path


def cache_folder() -> Path | None:
    """The folder of p2pkit in the user's cache, which need not be there; None where nobody knows of a home folder."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # such ones are to be ignored, says who has thought of that variable
        caches = Path("~/.cache")
    try:
        return caches.expanduser() / "p2pkit"
    except RuntimeError:
        return None


def in_other_form(path: Path) -> Path:
    """The path, or where nothing is called so, one that is there and differs in the form of Unicode alone."""
    if str(path).isascii() or path.exists():
        return path
    found = Path()
    for part in path.parts:
        forms = [found / part, *(found / normalize(form, part) for form in ("NFC", "NFD"))]
        there = next((each for each in forms if each.exists()), None)
        if there is None:
            return path
        found = there
    return found
