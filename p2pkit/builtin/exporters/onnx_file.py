"""ONNX files, for ONNX Runtime and the many that read them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from p2pkit.builtin.exporters.capture import INSTALL, captured, changing
from p2pkit.errors import ExportError
from p2pkit.export.contract import Exportable

OPSET = 18
"""The version of the operators: the one that PyTorch writes without converting."""


class ONNX:
    """An ONNX file whose batch, height and width may change; the metadata is in its metadata_props."""

    def __init__(self) -> None:
        _wanted("onnx")
        _wanted("onnxscript")
        self.runtime = _wanted("onnxruntime")
        self.facts = {"name": "ONNX", "opset": str(OPSET)}

    def write(self, exportable: Exportable, file: Path) -> None:
        """Write the file, weights included."""
        program: Any = torch.onnx.export(
            captured(exportable),
            input_names=[one.name for one in exportable.inputs],
            output_names=[exportable.output],
            opset_version=OPSET,
            dynamic_shapes=changing(exportable),  # for their names alone
            dynamo=True,
            verbose=False,
        )
        _keep_apart(program.model.graph)
        program.model.metadata_props.update(exportable.metadata)
        program.save(file, external_data=False)

    def load(self, file: Path) -> Callable[..., Tensor]:
        """The file in ONNX Runtime, as a function."""
        session = self.runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]

        def run(*inputs: Tensor) -> Tensor:
            (target,) = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
            return torch.from_numpy(target)

        return run


def _keep_apart(graph: Any) -> None:
    """Rename what the graph computes and calls like one of its inputs, whose names are those of anybody's sources."""
    taken = {value.name for value in graph.inputs}
    computed = [value for node in graph.all_nodes() for value in node.outputs]
    for value in [*computed, *graph.initializers.values()]:
        if value.name in taken and not value.is_graph_input():
            value.name = f"computed.{value.name}"  # names of sources have no dots


def _wanted(library: str) -> Any:
    try:
        return import_module(library)
    except ImportError as error:
        raise ExportError(f"exporting to ONNX needs {library} ({error}). {INSTALL}") from error
