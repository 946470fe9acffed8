"""The plugins of this process: imported, their hooks called when they are wanted, a broken one kept from the rest."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from p2pkit import __version__, hookspecs
from p2pkit.components.discovery import (
    OWN_DISTRIBUTION,
    find_entry_points,
    installing,
    source_trees_in,
)
from p2pkit.components.kinds import KINDS, kind_called
from p2pkit.components.own_plugins import PROVIDED, how_to_install
from p2pkit.components.registry import FILLING, Registry
from p2pkit.errors import P2PKitError, PluginError, did_you_mean, in_one_line, visible
from p2pkit.utils.imports import importing
from p2pkit.utils.opening import read_regular

if TYPE_CHECKING:
    import click

VARIABLE = "P2PKIT_PLUGINS"
SOURCE_TREE = Path(hookspecs.__file__).parent.parent
_PROVIDED = {"recipe": ("recipes", ".toml"), "sweep": ("recipes/sweeps", ".toml"), "model": ("models", ".safetensors")}
"""What a plugin provides beside components: the folder of its package that holds it, and the ending of a file there."""


@dataclass
class Plugin:
    """One entry point: its distribution, the hooks it implements, and what is wrong with it."""

    name: str
    distribution: str
    version: str
    module: str
    wants: str = ""
    """The versions of p2pkit that its distribution requires, such as ">=0.2"."""
    hooks: list[str] = field(default_factory=list)
    problem: str | None = None

    @property
    def origin(self) -> str:
        """Name, distribution and version, as messages show them."""
        shown = f"{self.name} ({self.distribution} {self.version})"
        return shown if shown.isprintable() else visible(shown)

    @property
    def owner(self) -> str:
        """The PLUGIN of PLUGIN:RECIPE and PLUGIN:MODEL: its name, or p2pkit for what ships."""
        return self.distribution if self.distribution == OWN_DISTRIBUTION else self.name

    def recipes(self) -> dict[str, Path]:
        """The recipes in the folder ``recipes`` of the plugin's package, by name."""
        return self._files("recipe")

    def models(self) -> dict[str, Path]:
        """The trained models in the folder ``models`` of the plugin's package, by name."""
        return self._files("model")

    def provided(self, what: str, name: str) -> Path:
        """The file of a "recipe", "sweep" or "model" called ``name``.

        Raises:
            PluginError: the plugin has none of that name.
        """
        called = f"{self.owner}:{name}"
        if self.problem:
            raise PluginError(f"{called}: the plugin {self.origin} is left out: {self.problem}")
        found = self._files(what)
        if name not in found:
            guess, there = did_you_mean(name, found), ", ".join(found) or "none"
            raise PluginError(f"{called}: the plugin {self.origin} has no such {what}{guess}; there are: {there}")
        return found[name]

    def _files(self, what: str) -> dict[str, Path]:
        folder, suffix = _PROVIDED[what]
        module = sys.modules.get(self.module.partition(":")[0])
        packages = getattr(sys.modules.get(getattr(module, "__package__", None) or ""), "__path__", ())
        places = [Path(package, folder) for package in packages]
        if self.distribution == OWN_DISTRIBUTION and not any(place.is_dir() for place in places):
            places = [SOURCE_TREE / folder]  # where they lie until a wheel is built
        return {file.stem: file for place in places for file in sorted(place.glob(f"*{suffix}"))}

    def run(self, call: Callable[[], Any]) -> Any:
        """The result of ``call``; what a plugin raises becomes its problem, gives None and stops nobody else."""
        try:
            with _stdout_kept_for_results():
                return call()
        except (Exception, SystemExit) as error:
            self.problem = self._reason(error)
            return None

    def _reason(self, error: BaseException) -> str:
        both = installing(self.distribution, upgrade=True)
        other_version = f"if it was written for another version than p2pkit {__version__}: {both}"
        text = visible(in_one_line(error))
        if isinstance(error, pluggy.PluginValidationError):
            unknown = re.search(r"unknown hook '(\w+)'", str(error))
            if unknown is None:
                return f"{text}; {other_version}"
            guess = did_you_mean(unknown[1], [name for name in vars(hookspecs) if name.startswith("register_")])
            return f"p2pkit {__version__} has no hook {unknown[1]!r}{guess}; {other_version}"
        module = (getattr(error, "name", None) or "") if isinstance(error, ImportError) else ""
        if module.partition(".")[0] == OWN_DISTRIBUTION:
            return f"{text}; {other_version}"
        if isinstance(error, ModuleNotFoundError):
            return f"{text}; if it is a library that the plugin needs: {installing(self.distribution)}"
        return f"{text}; report it to the authors of {self.distribution}"


class PluginManager:
    """The plugins of one process and the registries that they fill.

    A kind's hooks are called when that kind is first asked for, so that asking for data sets never imports networks.
    """

    def __init__(
        self, disabled: Sequence[str] = (), only: Sequence[str] | None = None, source_trees: Sequence[Path] = ()
    ) -> None:
        self.chosen = (tuple(disabled), only, tuple(source_trees))
        self.plugins: list[Plugin] = []
        self._loaded: dict[str, Plugin] = {}
        self._registries: dict[str, Registry] = {}
        self._host = pluggy.PluginManager(hookspecs.PROJECT)
        self._host.add_hookspecs(hookspecs)
        found = find_entry_points(source_trees)
        if disabled or only:
            _refuse_unknown(disabled, only or (), [one.entry.name for one in found])
        for one in found:
            wanted = only is None or one.entry.name in only or one.distribution == OWN_DISTRIBUTION
            if not wanted or one.entry.name in disabled:
                continue
            plugin = Plugin(one.entry.name, one.distribution, one.version, one.entry.value, one.wants)
            self.plugins.append(plugin)
            taken = self._loaded.setdefault(plugin.name, plugin)
            if taken is not plugin:
                plugin.problem = f"its name is taken by {taken.origin}; rename or uninstall one of the two"
            elif one.wants and not one.fits():
                plugin.problem = (
                    f"it is built for p2pkit{one.wants}, and this is {__version__}; for versions that go together: "
                    f"{installing(plugin.distribution, upgrade=True)}"
                )
            elif (module := plugin.run(one.entry.load)) is not None:
                plugin.run(partial(self._register, plugin, module))

    def __reduce__(self) -> tuple[Callable[..., PluginManager], tuple[Any, ...]]:
        # a process that is started anew, a worker that reads data, has the plugins of the one that starts it
        return take_over, self.chosen

    def registry(self, kind: str) -> Registry:
        """The registry of ``kind`` ("generators", or "generator"), filled by the plugins' hooks on the first call."""
        kind = kind if kind in KINDS else kind_called(kind)
        with FILLING:
            if kind not in self._registries:
                registry = self._registries[kind] = Registry(kind, self._problems)
                try:
                    self._fill(registry)
                except BaseException:  # Ctrl-C, in a notebook that goes on: the next call begins anew
                    del self._registries[kind]
                    raise
            return self._registries[kind]

    def _fill(self, registry: Registry) -> None:
        for plugin, function in self._implementations(f"register_{registry.kind}"):
            add = partial(registry.add, distribution=plugin.distribution, version=plugin.version)
            rest = _offered(plugin, partial(function, register=add))
            if callable(rest):
                registry.offer_later(plugin.distribution, partial(_offered, plugin, rest))

    def _problems(self) -> list[str]:
        return [f"{plugin.origin}: {plugin.problem}" for plugin in self.broken()]

    def add_commands(self, group: click.Group, hook: str = "register_commands", argument: str = "cli") -> None:
        """Let every plugin add its commands to ``group``."""
        for plugin, function in self._implementations(hook):
            plugin.run(partial(function, **{argument: group}))

    def provided(self, what: str, called: str) -> Path:
        """The file of the "recipe", "sweep" or "model" that ``called``, PLUGIN:NAME, means.

        Raises:
            PluginError: there is no such plugin, or it has none of that name.
        """
        owner, _, name = called.partition(":")
        plugins = {plugin.owner: plugin for plugin in self.plugins}
        if owner not in plugins:
            if owner in PROVIDED:
                raise PluginError(f"{called}: the plugin p2pkit-{owner} is not installed: {how_to_install(owner)}")
            known = ", ".join(known for known, plugin in plugins.items() if plugin._files(what))
            guess = did_you_mean(owner, [*plugins, *PROVIDED])
            raise PluginError(f"{called}: there is no plugin {owner!r}{guess}; those with {what}s: {known or 'none'}")
        return plugins[owner].provided(what, name)

    def model_file(self, named: str | Path) -> Path:
        """The path ``named``, or the file that PLUGIN:MODEL means; as :meth:`given`."""
        return self.given("model", named)

    def given(self, what: str, named: str | Path) -> Path:
        """The path ``named``; or, where nothing is there and it is PLUGIN:NAME, the file of a ``what`` that it means.

        Raises:
            PluginError: there is no such plugin, or it has none of that name.
        """
        path = Path(named)
        if path.name != str(named) or ":" not in path.name or path.exists():
            return path
        return self.provided(what, path.name)

    def broken(self) -> list[Plugin]:
        """The plugins that could not be loaded, or of which a hook failed."""
        return [plugin for plugin in self.plugins if plugin.problem]

    def code_behind(self, distribution: str) -> str:
        """A text that changes with the code that samples of its data sets may depend on, that of image formats too."""
        of = []
        for plugin in self.plugins:
            its_own = plugin.distribution in (OWN_DISTRIBUTION, distribution)
            if its_own or "register_image_formats" in plugin.hooks:
                of.append(f"{plugin.origin} {digest_of_code(plugin.module)}")
        return " ".join(of)

    def _implementations(self, hook: str) -> Iterator[tuple[Plugin, Callable[..., Any]]]:
        for implementation in getattr(self._host.hook, hook).get_hookimpls():
            plugin = self._loaded[implementation.plugin_name]
            if not plugin.problem:
                yield plugin, implementation.function

    def _register(self, plugin: Plugin, module: ModuleType) -> None:
        try:
            self._host.register(module, plugin.name)
            self._host.check_pending()
        except pluggy.PluginValidationError:
            if self._host.has_plugin(plugin.name):
                self._host.unregister(name=plugin.name)
            raise
        for caller in self._host.get_hookcallers(module) or []:
            plugin.hooks.append(caller.name)


def _offered(plugin: Plugin, offer: Callable[[], Any]) -> Any:
    """What ``offer``, in which a plugin registers components, returns; nothing of one that is left out."""
    if plugin.problem:
        return None
    with importing():
        return plugin.run(offer)


def _refuse_unknown(disabled: Sequence[str], only: Sequence[str], names: Sequence[str]) -> None:
    for option, name in [*(("--no-plugin", name) for name in disabled), *((VARIABLE, name) for name in only)]:
        if name not in names:
            known = ", ".join(names)
            raise PluginError(f"{option} {name}: no such plugin{did_you_mean(name, names)}; there are: {known}")


@contextmanager
def _stdout_kept_for_results() -> Iterator[None]:
    """Send to stderr what a plugin prints while it loads, and what libraries in C and child processes print for it."""
    try:
        kept = os.dup(1)
    except OSError:  # it is closed
        kept = None
    with redirect_stdout(sys.stderr):
        if kept is not None:
            with suppress(OSError, ValueError):
                print(end="", file=sys.__stdout__, flush=True)
                os.dup2(2, 1)
        try:
            yield
        finally:
            if kept is not None:
                with suppress(OSError, ValueError):
                    print(end="", file=sys.__stdout__, flush=True)
                os.dup2(kept, 1)
                os.close(kept)


def digest_of_code(module: str) -> str:
    """A digest of the Python files of the package that a plugin's ``module`` is in."""
    package = sys.modules.get(module.partition(":")[0].partition(".")[0])
    folders, file = list(getattr(package, "__path__", ())), getattr(package, "__file__", None)
    files = [found for folder in folders for found in sorted(Path(folder).rglob("*.py"))] or [Path(file or "")]
    digest = hashlib.sha256()
    for found in files:
        with suppress(OSError, P2PKitError):
            digest.update(found.name.encode() + read_regular(found))
    return digest.hexdigest()[:16]


_current: PluginManager | None = None


def manager() -> PluginManager:
    """The plugin manager of this process, made on the first call.

    The variable P2PKIT_PLUGINS (names, separated by commas) limits it to those plugins and the built-ins.
    """
    if _current is None:
        configure()
    assert _current is not None
    return _current


def take_over(disabled: Sequence[str], only: Sequence[str] | None, source_trees: Sequence[Path]) -> PluginManager:
    """The plugins of the process that has started this one: what its manager has ``chosen``."""
    global _current
    _current = PluginManager(disabled, only, source_trees)
    return _current


def configure(disabled: Sequence[str] = (), plugins_dir: Path | None = None) -> None:
    """Make the plugin manager anew, without the ``disabled`` plugins and with the distributions in ``plugins_dir``.

    Raises:
        PluginError: a disabled plugin is not there, or the folder is missing or holds no plugin.
    """
    global _current
    trees: list[Path] = []
    if plugins_dir is not None:
        trees = source_trees_in(plugins_dir)
        sources = [file.parent / "src" if (file.parent / "src").is_dir() else file.parent for file in trees]
        sys.path[:0] = [str(folder.absolute()) for folder in (plugins_dir, *sources)]
    wanted = os.environ.get(VARIABLE)
    only = None if wanted is None else wanted.replace(",", " ").split()
    _current = PluginManager(disabled, only, trees)
