"""Writes the distribution of a new plugin from templates: whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from pkgutil import iter_modules
from string import Template
from tempfile import mkdtemp

import p2pkit
from p2pkit import __version__
from p2pkit.errors import PluginError
from p2pkit.new_plugin.names import Names
from p2pkit.utils.atomic import os_errors_described

PUBLIC_MODULES = frozenset(
    {
        "cli.tables", "contracts", "data.adapter", "data.discovery", "data.pair_lists", "data.pairing", "downloads",
        "errors", "export.contract", "hookspecs", "images", "inference.in_memory", "networks", "run_contracts",
        "testing", "training.step", "utils.atomic", "utils.opening", "utils.progress",
    }
)  # fmt: skip
"""What a plugin may import of p2pkit, beside p2pkit itself: modules and whole packages; ``testing`` in its tests."""


def write_distribution(names: Names, parent: Path) -> Path:
    """Write the distribution into a new folder in ``parent``, called like it; the folder.

    Raises:
        PluginError: a file or folder of that name exists.
        WriteError: the disk is full, or writing is not allowed.
    """
    folder = parent / names.distribution
    if os.path.lexists(folder):
        raise PluginError(f"{folder} already exists; move it away, or choose another name")
    with os_errors_described(folder):
        aside = Path(mkdtemp(prefix=".", suffix=".part", dir=parent))
        try:
            for place, text in _rendered(names).items():
                file = aside / place
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            aside.chmod(0o777 & ~_umask())
            aside.rename(folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    return folder


def _rendered(names: Names) -> dict[str, str]:
    """The files of the distribution, by their places in it."""
    templates = dict(_texts(files("p2pkit.new_plugin") / "templates"))
    texts = {
        f"{names.package}/{names.module}.py": templates[f"{names.kind}/component.py"],
        f"{names.package}/recipes/quickstart.toml": _merged(
            templates["quickstart.toml"], templates[f"{names.kind}/quickstart.toml"]
        ),
    }
    for place, text in templates.items():
        if place.startswith("distribution/"):
            texts[place.removeprefix("distribution/").replace("package/", f"{names.package}/")] = text
    words = _words(names)
    return {place: Template(text).substitute(words) for place, text in texts.items()}


def _words(names: Names) -> Mapping[str, str]:
    """The value of each placeholder of the templates."""
    return {
        "name": names.name,
        "kind": names.kind,
        "singular": names.singular,
        "module": names.module,
        "component": names.component,
        "distribution": names.distribution,
        "package": names.package,
        "version": ".".join(__version__.split(".")[:2]),
        "private_modules": "\n".join(f'    "p2pkit.{module}",' for module in sorted(_private_modules(p2pkit.__path__))),
    }


def _private_modules(folders: Iterable[str], package: str = "") -> Iterator[str]:
    """The modules that a plugin may not import: whole packages, and the rest of packages with a public module."""
    for module in iter_modules(folders):
        name = package + module.name
        if any(public.startswith(f"{name}.") for public in PUBLIC_MODULES):
            yield from _private_modules([str(Path(each, module.name)) for each in folders], f"{name}.")
        elif name not in PUBLIC_MODULES | {"__main__"}:
            yield name


def _merged(recipe: str, other: str) -> str:
    """``recipe`` with the paragraphs of ``other`` in place of those that begin with the same line, or at its end."""
    paragraphs = {text.partition("\n")[0]: text for whole in (recipe, other) for text in whole.strip().split("\n\n")}
    return "\n\n".join(filter(None, paragraphs.values())) + "\n"


def _texts(folder: Traversable, within: str = "") -> Iterator[tuple[str, str]]:
    """The templates in ``folder`` and below, by their places in it."""
    for item in folder.iterdir():
        if item.is_dir():
            yield from _texts(item, f"{within}{item.name}/")
        else:
            yield f"{within}{item.name.removesuffix('.template')}", item.read_text(encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
