"""An exporter: a trained generator in another format."""

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from p2pkit.export.contract import Exportable


class Program:
    """A program for torch.export.load whose batch, height and width may change."""

    def __init__(self) -> None:
        """Set what users must know of the format."""
        self.facts = {"name": "exported program of PyTorch", "torch": str(torch.__version__)}

    def write(self, exportable: Exportable, file: Path) -> None:
        """Write the network; p2pkit then loads it and compares it with the model."""
        dimensions = {name: Dim(name) for one in exportable.inputs for name in one.changing.values()}
        source, *noise = ({at: dimensions[name] for at, name in one.changing.items()} for one in exportable.inputs)
        program = torch.export.export(
            exportable.network,
            tuple(one.example for one in exportable.inputs),
            dynamic_shapes=(source, tuple(noise)) if noise else (source,),
        )
        content = io.BytesIO()
        torch.export.save(program, content, extra_files=dict(exportable.metadata))
        file.write_bytes(content.getbuffer())

    def load(self, file: Path) -> Callable[..., Tensor]:
        """What was written, as a function of the inputs."""
        program: Callable[..., Tensor] = torch.export.load(io.BytesIO(file.read_bytes())).module()
        return program
