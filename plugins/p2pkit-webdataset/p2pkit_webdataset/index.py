"""The index of a folder of shards, ``shards.json``: how many pairs each holds, and what it must be to be whole."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from p2pkit.errors import DataError
from p2pkit.utils.atomic import write_text
from p2pkit.utils.opening import read_regular

INDEX = "shards.json"
LEAST_OF_PAIR = 1024
"""How many bytes of a shard a pair takes: the headers of two members."""
MOST_PAIRS = 10**6
"""How many a shard may have, of which each takes memory as soon as one is read."""
LARGEST = 64 * 10**6
"""How many bytes an index may have: enough for 300 000 shards."""


class ShardEntry(BaseModel, frozen=True, strict=True):
    """What is known of a shard before it is opened."""

    name: Annotated[str, Field(pattern=r"^[^/\\]+\.tar$")]
    pairs: Annotated[int, Field(ge=0, le=MOST_PAIRS)]
    size: Annotated[int, Field(gt=0)]
    """In bytes."""
    sha256: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$")] = None

    @model_validator(mode="after")
    def _holds_its_pairs(self) -> Self:
        """An order is drawn for as many pairs as there are said to be, which takes memory for each."""
        if self.pairs * LEAST_OF_PAIR > self.size:
            raise ValueError(f"{self.pairs} pairs do not fit into {self.size} bytes")
        return self


class Index(BaseModel, strict=True):
    """All shards of a split, in order."""

    version: Literal[1] = 1
    shards: list[ShardEntry]
    stored_as: str = ""
    """The part of their files that the sources were of which shards were made (contracts.PairedDataset)."""
    planes: dict[str, int | str] | None = None
    """How they were planes of volumes, where they were (likewise)."""
    sources: list[str] = []
    """What several sources are called, and so their members; else the only one's is "source"."""
    masks: bool = False
    """Whether there are masks."""

    @property
    def members(self) -> list[str]:
        """What the members of a sample are called."""
        return [*(self.sources or ["source"]), "target", *["mask"] * self.masks]


def write_index(folder: Path, index: Index) -> None:
    """Write the index of a folder that holds all its shards."""
    unsaid = {name for name in ("planes", "sources", "masks") if not getattr(index, name)}
    write_text(folder / INDEX, index.model_dump_json(indent=1, exclude=unsaid) + "\n")


def read_index(file: Path, called: str) -> Index:
    """The index in a file.

    Raises:
        DataError: it cannot be read or is no index; the message names it as ``called``.
    """
    try:
        content = read_regular(file, LARGEST)
        if len(content) > LARGEST:
            raise DataError(f"{called}: this is no index of shards, it has more than {LARGEST} bytes")
        return Index.model_validate_json(content)
    except OSError as error:
        raise DataError(f"{called}: the index cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{called}: this is no index of shards that can be read ({where}: {first['msg']}); "
            "make the shards again with p2pkit data shard"
        ) from error


def digest(file: Path) -> str:
    """The SHA-256 checksum of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
