"""Capturing a network as a graph whose named dimensions may change."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import Dim, ExportedProgram
from torch.torch_version import TorchVersion

from p2pkit.errors import ExportError
from p2pkit.export.contract import Exportable

OLDEST = "2.11"
"""Those before ask, while they capture a convolution, how large the image will be."""
INSTALL = "Install what it takes: pip install 'p2pkit[export]'"


def captured(exportable: Exportable) -> ExportedProgram:
    """The graph of a network by torch.export, for any size of each dimension that may change.

    Raises:
        ExportError: PyTorch is too old to capture networks for any size.
    """
    if TorchVersion(torch.__version__) < OLDEST:
        install = f"pip install --upgrade 'torch>={OLDEST}' torchvision, both from the index that this one is from"
        raise ExportError(f"exporting needs PyTorch {OLDEST} or later; this is {torch.__version__}. {install}")
    examples = tuple(one.example for one in exportable.inputs)
    # not strict: dynamo gains nothing on a network without control flow, and takes longer
    shapes = changing(exportable)
    program = torch.export.export(exportable.network, examples, dynamic_shapes=shapes, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine, which are nobody's business
    return program


def changing(exportable: Exportable) -> tuple[Any, ...]:
    """The dimensions that may change, in the structure of the arguments of ``forward(source, *more)``."""
    dimensions = {name: Dim(name) for one in exportable.inputs for name in one.changing.values()}
    first, *others = [{place: dimensions[name] for place, name in one.changing.items()} for one in exportable.inputs]
    return (first, tuple(others)) if others else (first,)
