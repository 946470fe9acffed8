"""Files that are in two sets of a data set, by links or because a list says so: what is tested has been trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any

from p2pkit.contracts import Split
from p2pkit.errors import DataError

SHOWN = 3
Identity = tuple[int, int] | Path
"""The device and the number of a file, which all links to it share; its path where there is no number."""


def refuse_shared_sources(made: Mapping[Split, Any], origin: str) -> list[str]:
    """Notices on files that two sets share, of those that name their ``source_files`` and ``target_files``.

    Masks may be shared: one may serve for all samples, and nothing is to be learnt from it.

    Raises:
        DataError: a source is in the train set and in another one.
    """
    notices: list[str] = []
    for side in ("source", "target"):
        files = {split: dict(_identified(dataset, f"{side}_files")) for split, dataset in made.items()}
        for split, other in combinations(files, 2):
            shared = [identity for identity in files[other] if identity in files[split]]
            if not shared:
                continue
            pairs = [(files[split][identity], files[other][identity]) for identity in shared[:SHOWN]]
            examples = ", ".join(str(one) if one == two else f"{two} is {one}" for one, two in pairs)
            more = ", ..." * (len(shared) > SHOWN)
            found = f"{origin}: {len(shared)} {side}s of the {other} set are in the {split} set too ({examples}{more})"
            if side == "source" and split == "train":
                raise DataError(f"{found}; what is measured on must not be trained on: remove the links or lines")
            notices.append(found)
    return notices


def _identified(dataset: Any, name: str) -> Iterator[tuple[Identity, Path]]:
    for file in getattr(dataset, name, ()):
        with suppress(OSError):  # it has gone meanwhile, as reading it will say
            found = file.stat()
            yield ((found.st_dev, found.st_ino) if found.st_ino else file.resolve()), file
