"""What a practitioner would warn of: each warning by a recipe that goes wrong in that way, and none where none does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pkit.reports.rules import find_warnings
from tests.conftest import Call, lines, picture, save, train

LONG = (
    "train.max_steps=320", "train.log_every=20", "train.sample_every=100", "train.checkpoint_every=320",
    "validation.baseline='none'",
)  # fmt: skip
DECAY = '={name="adamw", weight_decay=500.0}'
WRONG = {
    "discriminator_has_won": (
        "optimizer.generator.lr=1e-9", "optimizer.discriminator.lr=1e-3", 'losses=[{name="gan"}]',
        "train.max_steps=400",
    ),
    "discriminator_at_chance": (f"optimizer.discriminator{DECAY}",),
    "outputs_alike": ("source.range=[0, 1000000000]",),
    "outputs_of_one_colour": (f"optimizer.generator{DECAY}",),
}  # fmt: skip


def warned(outcome: Any) -> list[str]:
    return [each["name"] for each in outcome.json["warnings"]]


def run(p2pkit: Call, recipe: Path, out: Path, *settings: str) -> Any:
    given = [word for setting in (*LONG, *settings) for word in ("--set", setting)]
    outcome = p2pkit("run", recipe, "--out", out, "--json", *given)
    assert outcome.code == 0, outcome.err
    return outcome


@pytest.mark.parametrize("name", WRONG)
def test_what_goes_wrong_is_named_with_what_helps(p2pkit: Call, recipe: Path, tmp_path: Path, name: str) -> None:
    outcome = run(p2pkit, recipe, tmp_path / "run", *WRONG[name])
    assert warned(outcome) == [name]
    (found,) = outcome.json["warnings"]
    assert f"WARNING: step {found['step']}: {found['what']} {found['advice']}" in outcome.err.replace("\n  ", " ")
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"rule {name}, step {found['step']}" in page
    again = p2pkit("report", tmp_path / "run", "--json").json["warnings"]
    assert again == {"small": [found]}


def test_a_run_that_goes_well_is_warned_of_nothing(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    outcome = run(p2pkit, recipe, tmp_path / "run", "optimizer.lr=1e-3")
    assert warned(outcome) == [] and "WARNING" not in outcome.err
    assert 'class="warning"' not in (tmp_path / "run" / "report.html").read_text()


def test_a_validation_metric_that_gets_worse(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    for index in range(2):  # pairs of another kind: what is learnt does not hold for them
        left = picture(24, 24, seed=500 + index)
        save(tmp_path / "pairs" / "val" / f"{index}.png", np.concatenate([left, left], axis=1))
    often = ("optimizer.lr=2e-3", "validation.every=40")
    outcome = run(p2pkit, recipe, tmp_path / "run", *often)
    assert warned(outcome) == ["validation_gets_worse"]
    (found,) = outcome.json["warnings"]
    assert found["what"].startswith("mae on the validation set has been getting worse since step 40: ")
    # it comes as soon as that is known, and again where the run is resumed
    stopped = train(p2pkit, recipe, tmp_path / "stopped", *LONG, *often, "train.max_steps=280")
    resumed = p2pkit("run", "--resume", stopped, "--set", "train.max_steps=320", "--json")
    assert resumed.json["warnings"] == outcome.json["warnings"] and "WARNING" in resumed.err
    assert lines(stopped)[-1]["validation/mae"] == lines(tmp_path / "run")[-1]["validation/mae"]


def losses(count: int, **values: Any) -> list[Mapping[str, Any]]:
    """Lines of metrics every 10 steps; a value is a number, or a function of a line's place."""
    found = []
    for place in range(count):
        numbers = {
            key.replace("__", "/"): float(value(place)) if callable(value) else value for key, value in values.items()
        }
        found.append({"step": 10 * (place + 1), "split": "train", **numbers})
    return found


WON = {
    "discriminator__gan": 0.01, "discriminator__accuracy_real": 1.0, "discriminator__accuracy_fake": 0.99,
    "generator__gan": lambda place: 3 + place / 10,
}  # fmt: skip
WON_AT_LAST = WON | {"generator__gan": lambda place: place - 799}
CHANCE = WON | {"discriminator__gan": 0.6931, "discriminator__accuracy_real": 1.0, "discriminator__accuracy_fake": 0.0}


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        (WON, 40, ["discriminator_has_won"]),
        (WON, 29, []),  # not for long
        (WON | {"generator__gan": 3.0}, 40, []),  # the generator holds its own
        (WON | {"discriminator__accuracy_fake": 0.9}, 40, []),
        (WON_AT_LAST | {"discriminator__accuracy_fake": lambda place: place >= 800}, 1000, ["discriminator_has_won"]),
        (WON_AT_LAST | {"discriminator__accuracy_fake": lambda place: place >= 900}, 1000, []),  # a tenth of all
        (CHANCE, 40, ["discriminator_at_chance"]),
        (CHANCE | {"discriminator__gan": lambda place: 0.69 + place % 2 / 50}, 40, []),  # it moves
        (CHANCE | {"discriminator__accuracy_fake": 0.2}, 40, []),
        (WON | {"generator__gan": None}, 40, []),  # NaN, as metrics.jsonl has it
    ],
)  # fmt: skip
def test_the_rules_on_discriminators(values: dict[str, Any], count: int, expected: list[str]) -> None:
    assert [each.name for each in find_warnings(losses(count, **values))] == expected


def scores(*values: float) -> list[Mapping[str, Any]]:
    return [{"step": place, "split": "validation", "validation/psnr": value} for place, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((10, 20, 19, 18, 17, 16, 15), True),
        ((10, 20, 19, 18, 17, 16), False),  # four validations
        ((20, 18, 18, 18, 18, 18, 18), False),  # worse, and it stays there
        ((20, 19.9, 19.8, 19.8, 19.7, 19.7, 19.6), False),  # not by much
        ((10, 12, 14, 16, 18, 19, 20, 21, 22, 20, 19, 18, 17, 16), False),  # better for longer than worse
        ((10, 11, 12, 13, 14, 15, 16), False),
    ],
)  # fmt: skip
def test_the_rule_on_validations(values: tuple[float, ...], expected: bool) -> None:
    assert bool(find_warnings(scores(*values), "psnr", True)) is expected
    assert find_warnings(scores(*values), "psnr", None) == []
    assert bool(find_warnings(scores(*(-value for value in values)), "psnr", False)) is expected


def test_outputs_are_judged_beside_targets_and_not_too_early() -> None:
    def samples(*steps: int, **numbers: float) -> list[Mapping[str, Any]]:
        return [{"step": step, "split": "samples", **{f"output/{k}": v for k, v in numbers.items()}} for step in steps]

    flat, alike = {"contrast": 0.001, "spread": 0.001}, {"contrast": 0.2, "spread": 0.001}
    assert [each.name for each in find_warnings(samples(200, 300, **flat))] == ["outputs_of_one_colour"]
    assert [each.name for each in find_warnings(samples(200, 300, **alike))] == ["outputs_alike"]
    assert find_warnings(samples(100, 300, **alike)) == find_warnings(samples(300, **alike)) == []
    beside = [{**line, "target/spread": 0.01} for line in samples(200, 300, **alike)]
    assert find_warnings(beside) == []  # so alike are the targets
