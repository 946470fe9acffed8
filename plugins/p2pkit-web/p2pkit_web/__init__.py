"""Models in the browser: a page to draw on, the HTTP API under it, and the perceptual test of their outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pkit import hookimpl

if TYPE_CHECKING:
    import click

    from p2pkit.hookspecs import Register


@hookimpl
def register_commands(cli: click.Group) -> None:
    """``p2pkit serve`` and ``p2pkit study``."""
    from p2pkit_web.command import serve
    from p2pkit_web.study.command import study

    cli.add_command(serve)
    cli.add_command(study)


@hookimpl
def register_exporters(register: Register) -> None:
    """``p2pkit export --format web``."""
    from p2pkit_web.exporting import WebFolder

    register("web", WebFolder)
