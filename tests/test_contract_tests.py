"""The contract tests of p2pkit.testing find what is broken, and report it in plain words."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
import torch

from p2pkit import testing
from p2pkit.components.host import configure, manager
from p2pkit.components.kinds import KINDS
from p2pkit.testing import check_component, check_export, components_of, signature
from tests.broken import (
    Broken,
    augmentations,
    datasets,
    discriminators,
    generators,
    image_formats,
    losses,
    methods,
    others,
    runs,
)
from tests.conftest import REPOSITORY

BROKEN = [
    *generators.BROKEN, *discriminators.BROKEN, *losses.BROKEN, *datasets.BROKEN, *methods.BROKEN, *others.BROKEN,
    *image_formats.BROKEN,
    *augmentations.BROKEN,
    *runs.BROKEN,
]  # fmt: skip
GOOD = {
    "generators": generators.Good, "discriminators": discriminators.Good, "losses": losses.Good,
    "datasets": datasets.Good, "methods": methods.Good, "metrics": others.GoodMetric,
    "exporters": others.GoodExporter, "encodings": others.GoodEncoding,
    "image_formats": image_formats.Good,
    "augmentations": augmentations.Good,
    "optimizers": runs.GoodOptimizer, "schedules": runs.GoodSchedule, "callbacks": runs.GoodCallback,
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken.kind}-{broken.factory.__name__}")
def test_a_broken_contract_is_reported(broken: Broken) -> None:
    with pytest.raises(AssertionError) as raised:
        check_component(broken.kind, broken.factory, **broken.parameters)
    message = str(raised.value)
    assert f"expected: {broken.check.text}" in message
    assert broken.found in message.partition("\n  found: ")[2]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_broken_is_sound_but_for_that(kind: str) -> None:
    check_component(kind, GOOD[kind])


def test_every_check_is_seen_to_fail() -> None:
    made = {check.text for kind in KINDS for check in (*signature.CHECKS, *testing.CHECKS[kind])}
    assert made == {broken.check.text for broken in BROKEN}


def test_the_message_names_the_component_its_place_and_what_to_read() -> None:
    with pytest.raises(AssertionError) as raised:
        check_component("generators", generators.OutOfRange, source_channels=2)
    message = str(raised.value)
    assert message.startswith("generators: 'OutOfRange' of no distribution (not registered) breaks its contract")
    assert "made with: source_channels = 2" in message
    assert "tests/broken/generators.py:" in message
    assert message.endswith("read: p2pkit.contracts.Generator")
    with pytest.raises(AssertionError, match=r"^losses: 'l1' of p2pkit \d.*\n  expected: it can be made"):
        check_component("losses", "l1", reduction="sum")


def test_what_is_supplied_can_be_chosen() -> None:
    check_component("generators", generators.ThreeChannels, source_channels=3)


def test_an_export_that_agrees_passes_and_one_that_fails_is_reported() -> None:
    check_export("unet", "torch_program", depth=2, width=2)
    manager().registry("generators").add("looks_at_values", generators.LooksAtValues, "stranger", "0.1")
    try:
        with pytest.raises(AssertionError, match="expected: exported as torch_program, it gives") as raised:
            check_export("looks_at_values", "torch_program")
    finally:
        configure()
    assert "found: ExportError: " in str(raised.value)
    assert "'looks_at_values' of stranger 0.1" in str(raised.value)


def test_noise_is_what_dropout_and_latents_draw() -> None:
    check_component("generators", generators.WithNoise)


def test_an_augmentation_may_refuse_several_sources_and_masks() -> None:
    check_component("augmentations", augmentations.OfTwoImages)


def test_a_generator_that_asks_for_a_scale_may_enlarge() -> None:
    check_component("generators", generators.Enlarging)


def test_the_components_of_a_distribution_are_listed() -> None:
    manager().registry("losses").add("strange", losses.Good, "stranger", "0.1")
    try:
        assert components_of("stranger") == [("losses", "strange")]
        listed = components_of("p2pkit")
    finally:
        configure()
    assert {("generators", "unet"), ("encodings", "one_hot")} < set(listed)
    assert ("losses", "strange") not in listed


def test_random_states_stay_as_they_were() -> None:
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    expected = random.random(), np.random.rand(), torch.rand(1)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    check_component("generators", generators.Good)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_the_contract_tests_do_not_need_pytest() -> None:
    sources = [file.read_text() for file in (REPOSITORY / "p2pkit" / "testing").glob("*.py")]
    assert len(sources) > len(KINDS)
    assert not [source for source in sources if re.search(r"^\s*(import|from) _?pytest", source, re.MULTILINE)]
