"""What the commands that serve share: where they listen, and to whom."""

from __future__ import annotations

import re
import secrets
from typing import Any

import click

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHAPE = re.compile(r"[A-Za-z0-9_~.-]{8,200}")
PORT = click.option(
    "--port", metavar="N", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 for any."
)
HOST = click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen. Any but this machine itself asks for a token, which is in the address that is printed.",
)
TOKEN = click.option(
    "--token", metavar="TEXT", help="What requests have to prove. [default: made for hosts other than this]"
)
OPEN = click.option("--open", "in_browser", is_flag=True, help="Open the page in a browser.")


def token_for(host: str, given: str | None) -> str | None:
    """The token that requests have to prove: the one given, or one made where others can reach the host."""
    if given is not None and not SHAPE.fullmatch(given):
        raise click.BadParameter("8 to 200 letters, digits, and - _ . ~", param_hint="--token")
    return secrets.token_urlsafe(24) if given is None and host not in LOOPBACK else given


def address_of(listening: Any, host: str, token: str | None) -> str:
    """What a person opens."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening[1]}/{f'?token={token}' if token else ''}"


def note_on(host: str) -> str:
    """What is to be said behind the address of a host."""
    return " (from elsewhere by this machine's name in place of that)" if host in ("0.0.0.0", "::") else ""
