"""Identity: which run a checkpoint is of, and by what it was trained. Resuming compares it with what is there now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Identity:
    """What every checkpoint of a run says of it."""

    run: str = ""
    """An id, drawn when the run began; environment.json in the run folder has it too."""
    recipe: str = ""
    """The resolved recipe."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Those of p2pkit, and of the distributions whose components or image formats are in use, by name."""
    data: str = ""
    """The fingerprint of the data."""
    began_with: str = ""
    """The ranges of values and the starting point, as run_dir.beginning has them."""

    def as_json(self) -> dict[str, Any]:
        """The identity in types that JSON knows."""
        return {
            "id": self.run, "recipe": self.recipe, "recipe_sha256": sha256_of(self.recipe),
            "versions": dict(self.versions), "data": self.data, "began_with": self.began_with,
        }  # fmt: skip

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Identity:
        """The identity that :meth:`as_json` gave. Raises ValueError, KeyError or TypeError for anything else."""
        found = cls(saved["id"], saved["recipe"], dict(saved["versions"]), saved["data"], saved["began_with"])
        texts = (found.run, found.recipe, found.data, found.began_with, *found.versions, *found.versions.values())
        if not all(isinstance(text, str) for text in texts) or saved["recipe_sha256"] != sha256_of(found.recipe):
            raise ValueError("what it says of its run is damaged")
        return found


def sha256_of(text: str) -> str:
    """The SHA-256 checksum of a text, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
