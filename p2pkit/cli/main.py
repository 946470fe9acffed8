"""The program ``p2pkit``: finds the command, and turns what goes wrong into a message and an exit code."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn, cast

import click

from p2pkit import __version__
from p2pkit.cli.failures import failure
from p2pkit.components.discovery import DISTRIBUTION_NAME
from p2pkit.components.host import configure, manager
from p2pkit.components.own_plugins import provided_elsewhere
from p2pkit.errors import did_you_mean, visible
from p2pkit.utils.jsonl import finite
from p2pkit.utils.opening import set_limits
from p2pkit.utils.openmp import set_spinning
from p2pkit.utils.progress import HarmlessStream, harmless, is_main_process, print_line, process_count

COMMANDS = {
    "init": "p2pkit.cli.init",
    "run": "p2pkit.cli.run",
    "replay": "p2pkit.cli.replay",
    "check": "p2pkit.cli.check",
    "show": "p2pkit.cli.show",
    "schema": "p2pkit.cli.schema",
    "components": "p2pkit.cli.components",
    "plugins": "p2pkit.cli.plugins",
    "translate": "p2pkit.cli.translate",
    "evaluate": "p2pkit.cli.evaluate",
    "report": "p2pkit.cli.report",
    "sweep": "p2pkit.cli.sweep",
    "bench": "p2pkit.cli.bench",
    "export": "p2pkit.cli.export",
    "import": "p2pkit.cli.import_checkpoint",
    "inspect": "p2pkit.cli.inspect",
    "data": "p2pkit.cli.data",
}
MEANT = {
    "train": "run",
    "fit": "run",
    "resume": "run",
    "predict": "translate",
    "infer": "translate",
    "test": "evaluate",
    "validate": "evaluate",
    "eval": "evaluate",
    "metrics": "evaluate",
    "ablate": "sweep",
    "search": "sweep",
    "benchmark": "bench",
    "profile": "bench",
    "convert": "export",
    "info": "inspect",
    "list": "components",
    "web": "serve",
    "demo": "serve",
}
"""The field's words for what some commands do."""


class Commands(click.Group):
    """The built-in commands and those of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The built-in commands in the order of their use, then those of plugins."""
        self._ask_plugins(ctx, for_commands=True)
        return [*COMMANDS, *sorted(set(self.commands) - set(COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported only now; an unknown one gets the nearest name."""
        if cmd_name in COMMANDS:
            self._ask_plugins(ctx)
            command: click.Command = import_module(COMMANDS[cmd_name]).command
            return command
        names = self.list_commands(ctx)
        found = self.commands.get(cmd_name)
        if found is None and not ctx.resilient_parsing and not cmd_name.startswith("-"):
            if elsewhere := provided_elsewhere(cmd_name):
                ctx.fail(f"p2pkit {cmd_name} is not built in; {elsewhere}")
            guess = f"; did you mean {MEANT[cmd_name]!r}?" if cmd_name in MEANT else did_you_mean(cmd_name, names)
            ctx.fail(f"no such command {cmd_name!r}{guess} - commands: {', '.join(names)}")
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that has seen enough, as ``head`` has, ends it without an error."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:  # it may be closed
                sys.stdout.flush()
            return result
        except BrokenPipeError:
            _flush_or_drop_output()
            return 0

    def _ask_plugins(self, ctx: click.Context, for_commands: bool = False) -> None:
        """Find the plugins, and take in their commands; print which are left out, each once, for --help too."""
        if "p2pkit.warned" not in ctx.meta:
            if ctx.params.get("limit"):
                set_limits(ctx.params["limit"])
            configure(ctx.params.get("no_plugin") or (), ctx.params.get("plugins_dir"))
        warned: set[str] = ctx.meta.setdefault("p2pkit.warned", set())
        if for_commands and not ctx.meta.get("p2pkit.commands_added"):
            manager().add_commands(self)
            ctx.meta["p2pkit.commands_added"] = True
        for plugin in manager().plugins:
            if plugin.problem and plugin.origin not in warned and not ctx.resilient_parsing:
                called = DISTRIBUTION_NAME.fullmatch(
                    plugin.distribution
                )  # or its name might end one command, begin another
                removal = f", pip uninstall {called[0]} removes it" if called else ""
                print_line(
                    f"Warning: the plugin {plugin.origin} is left out: {plugin.problem}\n"
                    f"  (--no-plugin {shlex.quote(visible(plugin.name))} silences this{removal})"
                )
                warned.add(plugin.origin)


program = Commands(
    "p2pkit",
    help="Image-to-image translation: a recipe in, one self-describing model file out.",
    context_settings={"help_option_names": ["-h", "--help"]},
    # eager, so that --help knows them: it lists the commands of plugins
    params=[
        click.Option(["--no-plugin"], metavar="NAME", multiple=True, is_eager=True, help="Leave a plugin out."),
        click.Option(
            ["--plugins-dir"], metavar="DIR", type=click.Path(path_type=Path), is_eager=True,
            help="Take in the distributions in a folder, for development.",
        ),
        click.Option(
            ["--limit"], metavar="NAME=VALUE", multiple=True, is_eager=True,
            help="Raise what one input may cost: --limit image_bytes=64GB (docs/reliability.md has the names).",
        ),
    ],
)  # fmt: skip
click.version_option(__version__, prog_name="p2pkit")(program)


def announce(work: str, device: str | None = None) -> None:
    """Print, on the main process, what begins, before PyTorch is imported, which takes seconds."""
    if is_main_process():
        on = f", device {device}" if device else ""
        print_line(f"p2pkit {__version__}: {work}{on} (loading PyTorch ...)")


def _flush_or_drop_output() -> None:
    """Leave nothing for Python to flush at its end, which exits with 120 where it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, AttributeError):
        pass  # it is closed


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit: 0 done, 2 the user's mistake, 1 a fault of ours, 75 another process was lost.

    Interrupted, it exits with 128 and the signal's number: 130 after Ctrl-C, 143 after SIGTERM. With --json what went
    wrong is printed on stdout too, as {"error": MESSAGE}.
    """
    set_spinning(os.environ)
    if isinstance(sys.stdout, TextIOWrapper):  # names that its encoding does not have must not end a command
        sys.stdout.reconfigure(errors="backslashreplace")
    # nothing that is printed controls the terminal: results, messages, tracebacks, what plugins print; None is closed
    stdout, stderr = sys.stdout and HarmlessStream(sys.stdout), sys.stderr and HarmlessStream(sys.stderr)
    with redirect_stdout(cast(Any, stdout)), redirect_stderr(cast(Any, stderr)):
        try:
            outcome: Any = program.main(args=arguments, prog_name="p2pkit", standalone_mode=False)
            code = outcome if isinstance(outcome, int) else 0
        except (KeyboardInterrupt, Exception) as error:
            message, code = failure(error)
            message = harmless(message, hanging=True)
            print_line(message, label=True)
            if not (message.isascii() or (encoding := sys.getfilesystemencoding()) == "utf-8"):
                print_line(f"NOTICE: names of files are read in {encoding}; if they are in UTF-8, set PYTHONUTF8=1")
            if "--json" in (sys.argv if arguments is None else arguments) and is_main_process():
                found = {**getattr(error, "details", {}), "error": message.removeprefix("Error: ")}
                with suppress(OSError):
                    click.echo(json.dumps(finite(found), indent=2))
    if code:
        _flush_or_drop_output()
    if code and process_count() > 1:
        os._exit(code)  # a process group that others have left may hang or abort when it is taken down
    sys.exit(code)
