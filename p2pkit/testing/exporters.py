"""The contract of an exporter (export.contract.Exporter)."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from p2pkit import __version__
from p2pkit.components.catalogue import create
from p2pkit.contracts import Policy
from p2pkit.export.contract import Exportable, ExportInput
from p2pkit.export.exporting import METADATA_KEY, TOLERANCE, metadata_of
from p2pkit.export.noise import describe_noise, drawn_noise, noise_inputs
from p2pkit.export.standalone import Standalone
from p2pkit.inference.model_header import ModelHeader
from p2pkit.inference.translator import Translator
from p2pkit.testing.checks import Subject, contract, require
from p2pkit.testing.networks import images

CHANNELS = {"source_channels": 2, "target_channels": 3}
SMALL: dict[str, Any] = {"depth": 3, "width": 4, "dropout": 0.5}
SIDE = 16
SIZES = ((16, 16), (17, 31))


def _exportable() -> tuple[Exportable, Any]:
    """A small generator with padding, statistics and noise in its graph, and the generator itself."""
    torch.manual_seed(0)
    generator = create("generators", "unet", **SMALL, **CHANNELS)
    source = images(CHANNELS["source_channels"], SIDE, SIDE)
    changing = {0: "batch", 2: "height", 3: "width"}
    drawn = drawn_noise(generator, source, [0, 0])
    inputs = [ExportInput("source", source, changing), *noise_inputs(drawn)]
    header = ModelHeader(
        generator="unet", parameters=SMALL, distribution="p2pkit", distribution_version=__version__,
        source_dtype="uint8", target_dtype="uint8", source_channels=CHANNELS["source_channels"],
        target_channels=CHANNELS["target_channels"], size=(SIDE, SIDE),
    )  # fmt: skip
    about = metadata_of(header, generator, Policy(), {"name": "a test"}, describe_noise(drawn, (SIDE, SIDE)))
    translator, metadata = Translator(generator, header, Policy()), {METADATA_KEY: json.dumps(about)}
    return Exportable(Standalone(generator, Policy()), inputs, "target", metadata, translator), generator


@contract("facts describes the format for users: texts by name")
def states_facts(subject: Subject) -> None:
    """They are shown, and go into the metadata."""
    facts = getattr(subject.make(), "facts", None)
    words = isinstance(facts, dict) and all(isinstance(word, str) for pair in facts.items() for word in pair)
    require(facts and words, f"facts = {facts!r}")


@contract("write makes one file or folder, which may be renamed, and load gives a function that agrees with it")
def writes_what_it_was_given(subject: Subject) -> None:
    """Written aside, renamed, loaded by another instance, run at several sizes and in several batches."""
    exportable, generator = _exportable()
    with TemporaryDirectory() as folder:
        aside, file = Path(folder, ".model.part"), Path(folder, "another-name")
        names = getattr(subject.make(), "folder", ())
        if names:
            aside.mkdir()
        subject.make().write(exportable, aside)
        written = sorted(path.name for path in Path(folder).iterdir())
        require(written == [aside.name], f"files {written}, asked for {aside.name} alone")
        within = sorted(path.name for path in aside.iterdir()) if names else []
        require(within == sorted(names), f"a folder of {within}; its attribute folder says {sorted(names)}")
        aside.rename(file)
        run = subject.make().load(file)
        for height, width in SIZES:
            for count in (1, 3):
                source = images(CHANNELS["source_channels"], height, width, count)
                inputs = [source, *(one.values for one in drawn_noise(generator, source, [0] * count))]
                _require_agreement(run(*inputs), exportable.network(*inputs), f"sources {list(source.shape)}")


def _require_agreement(found: Any, expected: Tensor, of: str) -> None:
    require(isinstance(found, Tensor), f"{type(found).__name__} instead of a tensor, of {of}")
    require(found.shape == expected.shape, f"{list(found.shape)} instead of {list(expected.shape)}, of {of}")
    difference = float((found - expected).abs().max())
    require(difference <= TOLERANCE, f"values that differ by up to {difference:.2g}, of {of}")


CHECKS = (states_facts, writes_what_it_was_given)
