"""PyTorch's exported programs (torch.export), for PyTorch without p2pkit and for what compiles them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from p2pkit.builtin.exporters.capture import captured
from p2pkit.export.contract import Exportable


class TorchProgram:
    """A program for torch.export.load, usually called .pt2; the metadata is among its extra files.

    Its format belongs to PyTorch, which means to read it in versions near the one that wrote it, and keeps the
    example of the input as a pickle in it: load only files that you trust.
    """

    def __init__(self) -> None:
        self.facts = {"name": "exported program of PyTorch", "torch": torch.__version__}

    def write(self, exportable: Exportable, file: Path) -> None:
        """Write the program."""
        # into memory first, because it is particular about the names of files
        program = io.BytesIO()
        torch.export.save(captured(exportable), program, extra_files=dict(exportable.metadata))
        file.write_bytes(program.getbuffer())

    def load(self, file: Path) -> Callable[..., Tensor]:
        """The program as a function."""
        with file.open("rb") as handle:
            program: Callable[..., Tensor] = torch.export.load(handle).module()
        return program
