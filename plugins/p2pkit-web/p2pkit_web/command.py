"""``p2pkit serve``: models in the browser."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from p2pkit import Translator

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN = re.compile(r"[A-Za-z0-9_~.-]{8,200}")


@click.command("serve", short_help="Models in the browser: draw a source, see the output; and an HTTP API.")
@click.argument("models", metavar="[MODEL|RUN...]", nargs=-1, type=click.Path(path_type=Path))
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 for any.")
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen. Any but this machine itself asks for a token, which is in the address that is printed.",
)
@click.option("--token", metavar="TEXT", help="What requests have to prove. [default: made for hosts other than this]")
@click.option("--open", "in_browser", is_flag=True, help="Open the page in a browser.")
@click.option("--device", metavar="NAME", help="Where to compute: cpu, cuda, cuda:N, mps. [default: the best there is]")
@click.option("--threads", metavar="N", type=click.IntRange(min=1), help="Processor cores for the network.")
@click.option(
    "--max-upload", metavar="MB", type=click.IntRange(min=1), default=64, show_default=True, help="Largest body."
)
@click.option(
    "--max-pixels",
    metavar="N",
    type=click.IntRange(min=1),
    default=36_000_000,
    show_default=True,
    help="Largest image, in pixels.",
)
@click.option(
    "--max-waiting",
    metavar="N",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="So many requests wait at most; others are told to come again.",
)
@click.option(
    "--timeout", metavar="SECONDS", type=click.IntRange(min=1), default=120, show_default=True,
    help="Longest translation.",
)  # fmt: skip
def serve(
    models: tuple[Path, ...], host: str, port: int, token: str | None, in_browser: bool, device: str | None,
    threads: int | None, max_upload: int, max_pixels: int, max_waiting: int, timeout: int,
) -> None:  # fmt: skip
    """Serve models on a page in the browser: draw or drop a source, and see the output as you draw.

    MODEL is a model file, a run folder (of a run that is still training, too: the page follows it), or PLUGIN:MODEL.
    With none named, the runs below runs/ are offered, and the small model that ships. Ctrl-C ends it.
    """
    if token is not None and not TOKEN.fullmatch(token):
        raise click.BadParameter("8 to 200 letters, digits, and - _ . ~", param_hint="--token")
    if token is None and host not in LOOPBACK:
        token = secrets.token_urlsafe(24)
    from p2pkit.utils.progress import print_line

    print_line("p2pkit serve (loading PyTorch ...)")
    import torch

    from p2pkit import load_model
    from p2pkit_web.answers import Limits
    from p2pkit_web.application import application
    from p2pkit_web.models import Models
    from p2pkit_web.server import opened, server

    if threads is not None:
        torch.set_num_threads(threads)

    def load(named: str) -> Translator:
        return load_model(named, device)

    served = Models([str(each) for each in models], load)
    for each in served.search() if models else [served.get(None)]:
        if not each.awaited:  # what cannot be loaded ends the command, before it listens
            served.loaded(each)
    listening = opened(host, port)
    limits = Limits(max_upload * 10**6, max_pixels, seconds=timeout, waiting=max_waiting)
    app = application(served, limits, token)
    address = _address(listening.getsockname(), host, token)
    anywhere = " (from elsewhere by this machine's name in place of that)" if host in ("0.0.0.0", "::") else ""
    titles = ", ".join(each.title for each in served.search())
    print_line(f"{address}{anywhere}\n  serves {titles}; Ctrl-C ends it")
    if in_browser:
        click.launch(address)
    server(app).run(sockets=[listening])


def _address(listening: Any, host: str, token: str | None) -> str:
    """What a person opens."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening[1]}/{f'?token={token}' if token else ''}"
