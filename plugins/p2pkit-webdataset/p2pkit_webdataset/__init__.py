"""Data sets larger than memory: shards in WebDataset's format, on disk or over HTTP, and a command that makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pkit import hookimpl
from p2pkit.hookspecs import Register

if TYPE_CHECKING:
    import click


@hookimpl
def register_datasets(register: Register) -> None:
    """Shards in a folder, and shards on a web server."""
    from p2pkit_webdataset.dataset import WebDataset, WebDatasetOverHTTP

    register("webdataset", WebDataset)
    register("webdataset_http", WebDatasetOverHTTP)


@hookimpl
def register_data_commands(data: click.Group) -> None:
    """``p2pkit data shard``."""
    from p2pkit_webdataset.command import shard

    data.add_command(shard)
