"""Each attack ends in a result or in a sentence, and costs no more than it may."""

from __future__ import annotations

import pkgutil
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

import tests.hostile
from p2pkit.utils.opening import VARIABLE
from tests.conftest import REPOSITORY, Call
from tests.hostile.attacks import Attack, withstand

ATTACKS: list[Attack] = []
MADE_IN: dict[str, list[str]] = {}
"""The modules that have attacks of a family."""
for module in pkgutil.iter_modules(tests.hostile.__path__):
    if not module.name.startswith("test_"):
        for made in getattr(import_module(f"tests.hostile.{module.name}"), "ATTACKS", []):
            ATTACKS.append(made)
            if module.name not in MADE_IN.setdefault(made.family, []):
                MADE_IN[made.family].append(module.name)


@pytest.fixture(scope="module", autouse=True)
def everything_imported() -> None:
    """What the program imports is no cost of an attack."""
    for name in ("runs", "resumed_runs", "evaluations", "translations", "new_recipe", "training.trainer"):
        import_module(f"p2pkit.{name}")
    import torch

    torch.ones(64, 64) @ torch.ones(64, 64)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_is_withstood(attack: Attack, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")  # which an attack with --limit changes
    withstand(attack, tmp_path, p2pkit)


def test_every_attack_has_a_name_of_its_own() -> None:
    names = list(map(str, ATTACKS))
    assert len(set(names)) == len(names)


def test_the_table_of_families_is_true() -> None:
    counts = Counter(attack.family for attack in ATTACKS)
    rows = [f"| {family} | {counts[family]} | {', '.join(MADE_IN[family])} |" for family in sorted(counts)]
    table = "\n".join(["| family | attempts | tests/hostile/ |", "|---|---|---|", *rows])
    assert len(ATTACKS) >= 250 and table in (REPOSITORY / "docs" / "reliability.md").read_text(), table
