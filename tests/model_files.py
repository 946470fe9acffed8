"""Model files whose header says something else, with checksums that are right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor


def described(file: Path) -> dict[str, Any]:
    """All that a model file says of itself."""
    with safe_open(file, framework="pt") as handle:
        found: dict[str, Any] = json.loads(handle.metadata()["p2pkit"])
    return found


def sealed(values: Mapping[str, Any]) -> str:
    """What a model file says of itself, as text, with a checksum that is right."""
    rest = {name: value for name, value in values.items() if name != "sha256_of_the_rest"}
    return json.dumps(
        {**rest, "sha256_of_the_rest": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}
    )


def change(file: Path, weights: Mapping[str, Tensor] | None = None, **values: object) -> None:
    """Let a model file say other ``values``, or hold other ``weights``, whose checksum the caller gives."""
    held = load_file(file) if weights is None else dict(weights)
    save_file(held, file, metadata={"p2pkit": sealed({**described(file), **values})})


def change_header(file: Path, **values: object) -> None:
    """Let the header of a model file say other ``values``."""
    change(file, header={**described(file)["header"], **values})
