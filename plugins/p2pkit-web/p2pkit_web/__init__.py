"""Models in the browser: a page to draw on, and the HTTP API under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pkit import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def register_commands(cli: click.Group) -> None:
    """``p2pkit serve``."""
    from p2pkit_web.command import serve

    cli.add_command(serve)
