"""Tars of whatever a test asks for."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def png(value: int = 0, size: int = 4) -> bytes:
    """A gray PNG of one value."""
    file = BytesIO()
    Image.fromarray(np.full((size, size), value, dtype=np.uint8)).save(file, format="PNG")
    return file.getvalue()


def write_tar(file: Path, members: Mapping[str, bytes | tarfile.TarInfo]) -> Path:
    """A tar of files with these contents, or of whatever a header says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
    return file
