"""Finds plugins through the entry-point group "p2pkit", loads them, and keeps a broken one from harming the rest."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from p2pkit import hookspecs
from p2pkit.contracts import KINDS
from p2pkit.errors import PluginError, UnknownComponent, did_you_mean
from p2pkit.registry import Registry

if TYPE_CHECKING:
    import click

GROUP = "p2pkit"
VARIABLE = "P2PKIT_PLUGINS"
OWN_DISTRIBUTION = "p2pkit"


@dataclass
class Plugin:
    """One entry point: who brings it, which hooks it implements, and what is wrong with it, if anything."""

    name: str
    distribution: str
    version: str
    module: str
    hooks: list[str] = field(default_factory=list)
    problem: str | None = None

    @property
    def origin(self) -> str:
        """Name, distribution and version, as messages show them."""
        return f"{self.name} ({self.distribution} {self.version})"


class PluginManager:
    """The plugins of one process and the registries that they fill.

    A kind's hooks are called when that kind is first asked for, so that asking for data sets never imports networks.
    """

    def __init__(self, disabled: Sequence[str] = (), only: Sequence[str] | None = None) -> None:
        self.plugins: list[Plugin] = []
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._registries: dict[str, Registry] = {}
        found = _entry_points()
        names = [entry.name for entry, _, _ in found]
        for option, given in (("--no-plugin", disabled), (VARIABLE, only or ())):
            for name in given:
                if name not in names:
                    known = ", ".join(names)
                    raise PluginError(f"{option} {name}: no such plugin{did_you_mean(name, names)}; there are: {known}")
        for entry, distribution, version in found:
            wanted = only is None or entry.name in only or distribution == OWN_DISTRIBUTION
            if entry.name in disabled or not wanted:
                continue
            self._load(entry, Plugin(entry.name, distribution, version, entry.value))

    def registry(self, kind: str) -> Registry:
        """The registry of ``kind``, filled by the plugins' hooks on the first call."""
        if kind not in KINDS:
            raise UnknownComponent(f"there is no kind {kind!r}{did_you_mean(kind, KINDS)}; kinds: {', '.join(KINDS)}")
        if kind not in self._registries:
            self._registries[kind] = self._fill(kind)
        return self._registries[kind]

    def add_commands(self, cli: click.Group) -> None:
        """Let every plugin add its commands to ``cli``."""
        for plugin, implementation in self._implementations("register_commands"):
            self._guarded(plugin, partial(implementation, cli=cli))

    def add_data_commands(self, data: click.Group) -> None:
        """Let every plugin add its commands to ``data``."""
        for plugin, implementation in self._implementations("register_data_commands"):
            self._guarded(plugin, partial(implementation, data=data))

    def broken(self) -> list[Plugin]:
        """The plugins that could not be loaded, or of which a hook failed."""
        return [plugin for plugin in self.plugins if plugin.problem]

    def _load(self, entry: EntryPoint, plugin: Plugin) -> None:
        self.plugins.append(plugin)
        taken = next((p for p in self.plugins[:-1] if p.name == plugin.name), None)
        if taken is not None:
            plugin.problem = f"its name is taken by {taken.origin}; one of the two must be renamed or uninstalled"
            return
        module = self._guarded(plugin, entry.load)
        if module is not None:
            self._guarded(plugin, lambda: self._register(plugin, module))

    def _register(self, plugin: Plugin, module: ModuleType) -> None:
        try:
            self._manager.register(module, plugin.name)
            self._manager.check_pending()
        except pluggy.PluginValidationError:
            if self._manager.has_plugin(plugin.name):
                self._manager.unregister(name=plugin.name)
            raise
        plugin.hooks = sorted(caller.name for caller in self._manager.get_hookcallers(module) or [])

    def _fill(self, kind: str) -> Registry:
        registry = Registry(kind)
        for plugin, implementation in self._implementations(f"register_{kind}"):

            def register(name: str, factory: Any, plugin: Plugin = plugin) -> None:
                registry.add(name, factory, plugin.distribution, plugin.version)

            self._guarded(plugin, partial(implementation, register=register))
        registry.failures = [f"{plugin.origin}: {plugin.problem}" for plugin in self.broken()]
        return registry

    def _implementations(self, hook: str) -> list[tuple[Plugin, Callable[..., Any]]]:
        by_name = {plugin.name: plugin for plugin in self.plugins if not plugin.problem}
        found = getattr(self._manager.hook, hook).get_hookimpls()
        return [(by_name[impl.plugin_name], impl.function) for impl in found if impl.plugin_name in by_name]

    def _guarded(self, plugin: Plugin, call: Callable[[], Any]) -> Any:
        """The result of ``call``; whatever a plugin raises becomes its problem and stops nobody else."""
        try:
            return call()
        except (Exception, SystemExit) as error:
            plugin.problem = _reason(error)
            return None


def _reason(error: BaseException) -> str:
    if isinstance(error, pluggy.PluginValidationError):
        hooks = [name for name in vars(hookspecs) if name.startswith("register_")]
        misspelt = next((word.strip("'\"") for word in str(error).split() if "register" in word), "")
        return f"{' '.join(str(error).split())}{did_you_mean(misspelt, hooks)}"
    return f"{type(error).__name__}: {error}"


def _entry_points() -> list[tuple[EntryPoint, str, str]]:
    """Every entry point of the group with its distribution's name and version; built-ins first, then by name."""
    found: dict[tuple[str, str], tuple[EntryPoint, str, str]] = {}
    for distribution in distributions():
        for entry in distribution.entry_points:
            if entry.group == GROUP:
                metadata = distribution.metadata
                name, version = metadata["Name"] or "unknown distribution", metadata["Version"] or "of unknown version"
                # the first on sys.path wins, as it does for imports
                found.setdefault((name, entry.name), (entry, name, version))
    return sorted(found.values(), key=lambda item: (item[1] != OWN_DISTRIBUTION, item[0].name, item[1]))


_current: PluginManager | None = None


def manager() -> PluginManager:
    """The plugin manager of this process, made on the first call.

    The variable P2PKIT_PLUGINS (names, separated by commas) limits it to those plugins and the built-ins.
    """
    global _current
    if _current is None:
        configure()
        assert _current is not None
    return _current


def configure(disabled: Sequence[str] = (), plugins_dir: Path | None = None) -> None:
    """Make the plugin manager anew, without the ``disabled`` plugins and with the distributions in ``plugins_dir``.

    Raises:
        PluginError: a disabled plugin is not there, or the folder is missing.
    """
    global _current
    if plugins_dir is not None:
        if not plugins_dir.is_dir():
            raise PluginError(f"--plugins-dir {plugins_dir}: there is no such folder")
        sys.path.insert(0, str(plugins_dir.absolute()))
    wanted = os.environ.get(VARIABLE)
    only = None if wanted is None else [name.strip() for name in wanted.split(",") if name.strip()]
    _current = PluginManager(disabled, only)
