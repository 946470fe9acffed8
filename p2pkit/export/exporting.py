"""Exporting: a model file in another format, compared with the model before it counts."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from p2pkit import __version__
from p2pkit.components.catalogue import create
from p2pkit.components.host import manager
from p2pkit.contracts import Normalisation, Policy, ValueRange
from p2pkit.errors import ExportError, P2PKitError
from p2pkit.export.contract import Exportable, Exporter, ExportInput
from p2pkit.export.noise import describe_noise, drawn_noise, noise_inputs
from p2pkit.export.standalone import Standalone
from p2pkit.inference.model_file import find_model
from p2pkit.inference.model_header import ModelHeader
from p2pkit.inference.policy import infer
from p2pkit.inference.translator import load_model
from p2pkit.networks.fitting import fitting_size
from p2pkit.utils.atomic import atomic_folder, atomic_write, refuse_other_folder, refuse_replacing

TOLERANCE = 1e-4
"""The largest difference to the model, in images in [-1, 1], with which a file is left there."""
METADATA_KEY = "p2pkit"
BATCHES = (1, 3)
TARGET = "target"
"""What the output is called."""


@dataclass(frozen=True)
class Exported:
    """What an exported file is, and how well it agrees with its model."""

    generator: str
    facts: Mapping[str, str]
    trained_at: str
    """The size that training saw images resized to, in words, which is not in the file; empty for their own."""
    policy: Policy
    noise: Sequence[str]
    """The names of the noise inputs."""
    sizes: Sequence[tuple[int, int]]
    """The heights and widths at which it was compared with the model, each in all BATCHES."""
    difference: float
    """The largest difference there was, in images in [-1, 1]."""
    sources: Sequence[str] = ("source",)
    """The names of the inputs before the noise."""
    colours: ValueRange | None = None
    """The a and b of CIELAB that -1 and 1 in outputs are, where the model gives colours without their lightness."""
    self_contained: bool = False
    """Whether it is a folder that translates by itself, with all that files leave to their users."""
    advice: Sequence[str] = ()
    """What is still to be done with it, in lines."""


def export_model(
    model: Path,
    file: Path,
    form: str,
    norm: Normalisation | None = None,
    dropout: bool | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Exported:
    """Write the generator of ``model`` to ``file`` with the exporter called ``form``, made with ``parameters``.

    ``norm`` replaces the model's own; with ``dropout`` the noise becomes inputs, without there is none. None leaves it
    out of files; folders draw it as the model does.

    Raises:
        ModelFileError: the model cannot be read.
        UnknownComponent, RecipeError: there is no such exporter, or it takes no such parameters.
        ExportError: the generator cannot be written so, or what was written does not do what the model does.
        WriteError: the disk is full, writing is not allowed, or the model is what would be written over.
    """
    refuse_replacing(file, [find_model(manager().model_file(model))])
    exporter: Exporter = create("exporters", form, **(parameters or {}))
    names: Sequence[str] = getattr(exporter, "folder", ())
    if names:
        refuse_other_folder(file, names)
    translator = load_model(model, "cpu", norm, dropout if names or dropout is not None else False)
    generator, header, noisy = translator.generator, translator.header, translator.policy.dropout
    height, width = fitting_size(generator, (32, 32))
    sizes = [(height, width), (height + 1, 2 * width - 1), (height // 2 + 3, width)]
    drawn = drawn_noise(generator, torch.zeros(2, header.source_channels, height, width), [0, 0]) if noisy else []
    policy = Policy(translator.policy.norm, dropout=bool(drawn))
    channels = {_input_name(one.name): one.channels for one in header.each_source}
    changing = {0: "batch", 2: "height", 3: "width"}
    sources = [ExportInput(name, torch.rand(2, count, 5, 7), changing) for name, count in channels.items()]
    metadata = metadata_of(header, generator, policy, exporter.facts, describe_noise(drawn, (height, width)))
    inputs = [*sources, *noise_inputs(drawn)]
    network = Standalone(generator, policy, header.scale, len(sources))
    exportable = Exportable(network, inputs, TARGET, {METADATA_KEY: json.dumps(metadata)}, translator)
    with atomic_folder(file, names) if names else atomic_write(file) as aside:
        with _explaining(f"{model}: the generator {header.generator!r} cannot be exported as {form}"):
            exporter.write(exportable, aside)
            _refuse_other_names(aside, names, form)
            run = exporter.load(aside)
            difference = max(_difference(generator, policy, run, list(channels.values()), size) for size in sizes)
        _refuse_difference(difference, f"{model}: as {form}")
    trained_at, noise = translator.trained_at if header.resize else "", [one.name for one in inputs[len(sources) :]]
    advice = exporter.advice(file) if hasattr(exporter, "advice") else ()
    return Exported(
        header.generator, exporter.facts, trained_at, policy, noise, sizes, difference, list(channels),
        header.colours and header.colours.ab, bool(names), advice,
    )  # fmt: skip


def _refuse_other_names(folder: Path, names: Sequence[str], form: str) -> None:
    """Raise ExportError where an exporter has not put into its ``folder`` what it names; one of files names none."""
    written = sorted(each.name for each in folder.iterdir()) if names else []
    if written != sorted(names):
        raise ExportError(f"the exporter {form} has written {written}, and its attribute folder says {list(names)}")


def _refuse_difference(difference: float, what: str) -> None:
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{what} its images differ from the model's by up to {difference:.1e}, in values from -1 to 1; at most "
            f"{TOLERANCE:.0e} is allowed, so nothing was written. Try another format, or --norm"
        )


def _input_name(source: str) -> str:
    """What the input of a source is called: as the source is, but for names that the graph has for something else."""
    taken = source == TARGET or re.fullmatch(r"noise_\d+", source)
    return f"source_{source}" if taken else source or "source"


@contextmanager
def _explaining(failure: str) -> Iterator[None]:
    """Make an ExportError of whatever the capture of a stranger's generator raises, or the runtime of a format."""
    try:
        with _silence():
            yield
    except (P2PKitError, OSError, MemoryError):
        raise
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        # PyTorch says where, in the form of a traceback
        place = re.search(r'File "(.+)", line (\d+), in \w+\n\s*(.+)', str(error))
        where = f"\n  {place[1]}:{place[2]}: {place[3]}" if place else ""
        raise ExportError(f"{failure}: {type(error).__name__}: {reason}{where}") from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep back what libraries say to their authors: warnings, and graphs of hundreds of lines on an error."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(before)


def _difference(
    generator: nn.Module, policy: Policy, run: Callable[..., Tensor], channels: Sequence[int], size: tuple[int, int]
) -> float:
    """The largest difference between what was written and the model at one size, over all batches."""
    largest = []
    for batch in BATCHES:
        chance = torch.Generator().manual_seed(batch)
        source = torch.rand(batch, sum(channels), *size, generator=chance) * 2 - 1
        seeds = list(range(batch))
        noise = [one.values for one in drawn_noise(generator, source, seeds)] if policy.dropout else []
        expected = infer(generator, source, policy, seeds)
        found = run(*torch.split(source, list(channels), dim=1), *noise)
        if found.shape != expected.shape:
            raise ValueError(f"it gives images of shape {list(found.shape)}; the model's are {list(expected.shape)}")
        # not Python's max, which loses a NaN
        largest.append((found - expected).abs().amax())
    return float(torch.stack(largest).amax().nan_to_num(nan=float("inf")))


def metadata_of(
    header: ModelHeader, generator: nn.Module, policy: Policy, facts: Mapping[str, str], noise: list[dict[str, Any]]
) -> dict[str, Any]:
    """All that the model's header says, and what was exported of it."""
    sizes = {name: getattr(generator, name) for name in ("size_multiple", "smallest_size") if hasattr(generator, name)}
    return {
        **header.model_dump(mode="json"),
        "policy": asdict(policy),
        "p2pkit_version": __version__,
        "format": dict(facts),
        "padding": {"to": sizes, "by": "reflection"},
        "noise": noise,
    }
