"""What an exporter must be, in types, and what it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from p2pkit.inference.translator import Translator


@dataclass(frozen=True)
class ExportInput:
    """One input of an exported network: its name, an example, and the names of the dimensions that may change."""

    name: str
    example: Tensor
    changing: Mapping[int, str]
    """Dimension to name, such as ``{0: "batch", 2: "height", 3: "width"}``; equal names are equal sizes."""


@dataclass(frozen=True)
class Exportable:
    """What an exporter writes: a network that translates by itself, with all that p2pkit does around a generator.

    ``network`` maps the inputs, in their order, to a target [N, Ct, H, W] in [-1, 1], or of a whole multiple of H and
    W. The first of them is the source [N, Cs, H, W] in [-1, 1], of any height and width; several sources come one after
    another, each called by its name. It holds no dropout and no batch statistics to be chosen, and is on the CPU in
    evaluation mode.
    """

    network: nn.Module
    inputs: Sequence[ExportInput]
    output: str
    """The name of the output."""
    metadata: Mapping[str, str]
    """What the file has to carry, by key."""
    translator: Translator
    """The model itself, for what has to be known of it beside the network: how files are read, what can be drawn."""


class Exporter(Protocol):
    """Writes a network in another format. What it has written is run and compared with the model before it counts.

    One that writes a folder has an attribute ``folder``, the names of all that it puts into one (a sequence of str).
    Such a folder translates by itself: where the model draws noise the network takes noise, unless that is left out. An
    exporter may have a method ``advice(file)``, which gives lines on what is still to be done with what was written.
    """

    facts: Mapping[str, str]
    """What the person must know of the format (its version, say), by name: shown, and part of the metadata."""

    def write(self, exportable: Exportable, file: Path) -> None:
        """Write ``file``, which is renamed afterwards: it must be one file, and its name must not matter.

        A folder is there already, and empty.
        """
        ...

    def load(self, file: Path) -> Callable[..., Tensor]:
        """What was written, as a function of the inputs in their order."""
        ...
