"""``p2pkit serve``: models in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pkit_web.options import HOST, OPEN, PORT, TOKEN, address_of, note_on, token_for

if TYPE_CHECKING:
    from p2pkit import Translator


@click.command("serve", short_help="Models in the browser: draw a source, see the output; and an HTTP API.")
@click.argument("models", metavar="[MODEL|RUN...]", nargs=-1, type=click.Path(path_type=Path))
@PORT
@HOST
@TOKEN
@OPEN
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
    token = token_for(host, token)
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
    address = address_of(listening.getsockname(), host, token)
    titles = ", ".join(each.title for each in served.search())
    print_line(f"{address}{note_on(host)}\n  serves {titles}; Ctrl-C ends it")
    if in_browser:
        click.launch(address)
    server(app).run(sockets=[listening])
