"""The plugins of this process: loaded, their hooks called when they are wanted, a broken one kept from the rest."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from p2pkit import hookspecs
from p2pkit.contracts import KINDS
from p2pkit.entry_points import OWN_DISTRIBUTION, FoundEntryPoint, found_entry_points
from p2pkit.errors import PluginError, UnknownComponent, did_you_mean
from p2pkit.plugin import SLOW_SECONDS, Plugin
from p2pkit.registry import Registry
from p2pkit.version import __version__

if TYPE_CHECKING:
    import click

VARIABLE = "P2PKIT_PLUGINS"


class PluginManager:
    """The plugins of one process and the registries that they fill.

    A kind's hooks are called when that kind is first asked for, so that asking for data sets never imports networks.
    """

    def __init__(self, disabled: Sequence[str] = (), only: Sequence[str] | None = None) -> None:
        self.plugins: list[Plugin] = []
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._registries: dict[str, Registry] = {}
        found = found_entry_points()
        names = [one.entry.name for one in found]
        for option, given in (("--no-plugin", disabled), (VARIABLE, only or ())):
            for name in given:
                if name not in names:
                    known = ", ".join(names)
                    raise PluginError(f"{option} {name}: no such plugin{did_you_mean(name, names)}; there are: {known}")
        for one in found:
            wanted = only is None or one.entry.name in only or one.distribution == OWN_DISTRIBUTION
            if wanted and one.entry.name not in disabled:
                self._load(one)

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
            plugin.run(partial(implementation, cli=cli), at_start=True)

    def add_data_commands(self, data: click.Group) -> None:
        """Let every plugin add its commands to ``data``."""
        for plugin, implementation in self._implementations("register_data_commands"):
            plugin.run(partial(implementation, data=data), at_start=True)

    def slow(self) -> list[Plugin]:
        """The plugins that make every start noticeably longer."""
        return [plugin for plugin in self.plugins if plugin.seconds >= SLOW_SECONDS]

    def broken(self) -> list[Plugin]:
        """The plugins that could not be loaded, or of which a hook failed."""
        return [plugin for plugin in self.plugins if plugin.problem]

    def _load(self, found: FoundEntryPoint) -> None:
        entry = found.entry
        plugin = Plugin(entry.name, found.distribution, found.version, entry.value, found.wants)
        taken = next((other for other in self.plugins if other.name == plugin.name), None)
        self.plugins.append(plugin)
        if taken is not None:
            plugin.problem = f"its name is taken by {taken.origin}; one of the two must be renamed or uninstalled"
        elif not found.fits:
            plugin.problem = (
                f"it is built for p2pkit{found.wants}, and this is {__version__}; for versions that go together: "
                f"pip install --upgrade p2pkit {plugin.distribution}"
            )
        else:
            module = plugin.run(entry.load, at_start=True)
            if module is not None:
                plugin.run(partial(self._register, plugin, module), at_start=True)

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

            plugin.run(partial(implementation, register=register))
        registry.failures = [f"{plugin.origin}: {plugin.problem}" for plugin in self.broken()]
        return registry

    def _implementations(self, hook: str) -> list[tuple[Plugin, Callable[..., Any]]]:
        by_name = {plugin.name: plugin for plugin in self.plugins if not plugin.problem}
        found = getattr(self._manager.hook, hook).get_hookimpls()
        return [(by_name[impl.plugin_name], impl.function) for impl in found if impl.plugin_name in by_name]


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
