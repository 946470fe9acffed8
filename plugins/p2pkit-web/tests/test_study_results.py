"""What a study has found: shares, intervals, who is left out, and every trial in a table."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_sessions import SHORT, study_in, take_part

from p2pkit_web.study.results import bootstrap, results_of
from p2pkit_web.study.storage import Shown
from tests.conftest import Call

LONG = replace(SHORT, practice=0, trials=5, checks=1)


def test_shares_and_differences(program: Call, tmp_path: Path) -> None:
    study = study_in(tmp_path, LONG)
    for _ in range(10):  # of dark images every fake is found; of light ones those of even keys
        take_part(
            study, lambda record: record.trial.kind == "check" or record.method == "dark" or record.place % 2 == 0
        )
    found = results_of(study)
    dark, light = found.methods
    assert (dark.method, dark.share, dark.low, dark.high, dark.participants) == ("dark", 0.0, 0.0, 0.0, 5)
    fooled = sum(not record.right for record, why in found.records if not why and record.method == "light")
    assert light.trials == 25 and light.share == fooled / 25 and 0.3 < light.share < 0.7
    assert light.low is not None and light.high is not None and 0 < light.low < light.share < light.high < 1
    (difference,) = found.differences
    assert difference.difference == -light.share and difference.low < -light.share < difference.high < 0
    assert results_of(study) == found  # the same draws
    table = program("study", "--results", "--out", study.folder)
    assert table.code == 0 and f"{100 * light.share:.1f}%" in table.out and "dark - light" in table.out
    assert program("study", "--results", "--out", study.folder, "--json").json == found.as_json()


@pytest.mark.parametrize(
    ("finds", "shown", "until", "why"),
    [
        (lambda record: record.trial.kind != "check", None, None, "missed checks"),
        (lambda record: True, None, 3, "not finished"),
        (lambda record: True, Shown(500, 640, 256), None, "mistimed"),
        (lambda record: True, Shown(500, 620, 256), None, ""),
        (lambda record: True, Shown(360, 500, 256), None, "mistimed"),
        (lambda record: record.trial.kind == "check", None, None, ""),
    ],
)
def test_who_and_what_does_not_count(
    finds: Any, shown: Shown | None, until: int | None, why: str, tmp_path: Path
) -> None:
    study = study_in(tmp_path, methods=1)
    take_part(study, finds, shown, until)
    found = results_of(study)
    (method,) = found.methods
    trials = {reason for record, reason in found.records if record.trial.kind == "trial"}
    assert trials == {why}
    assert method.trials == (0 if why else 4) and (method.share is None) == bool(why)
    assert method.left_out == ({why: 1} if why in ("missed checks", "not finished") else {})
    assert method.mistimed == (4 if why == "mistimed" else 0)


def test_practice_and_checks_are_not_counted(tmp_path: Path) -> None:
    study = study_in(tmp_path, methods=1)
    take_part(study, lambda record: record.trial.kind != "practice")
    found = results_of(study)
    assert found.methods[0].share == 0.0 and found.methods[0].trials == 4 and found.methods[0].checks_right == 1
    assert {why for record, why in found.records if record.trial.kind != "trial"} == {"practice", "check"}


def test_every_trial_is_in_the_table(program: Call, tmp_path: Path) -> None:
    study = study_in(tmp_path, methods=1)
    own = take_part(study, lambda record: record.trial.side == "left")
    take_part(study, lambda record: True, until=2)
    outcome = program("study", "--results", "--out", study.folder, "--csv", tmp_path / "trials.csv")
    assert outcome.code == 0
    text = (tmp_path / "trials.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 12 and own not in text  # the id goes on with a session, and is nobody else's
    counted = [row for row in rows if row["counted"] == "1"]
    assert len(counted) == 4 and {row["participant"] for row in counted} == {"1"}
    assert all(row["fooled"] == str(int(row["side"] == "right")) for row in counted)
    assert all(row["answer"] == "left" for row in counted) and {row["left_ms"] for row in counted} == {"500.0"}
    assert [row["answer"] for row in rows if row["why"] == "not finished"].count("") == 4


def test_a_study_without_answers_has_results(program: Call, tmp_path: Path) -> None:
    study = study_in(tmp_path)
    outcome = program("study", "--results", "--out", study.folder)
    assert outcome.code == 0 and "dark" in outcome.out
    assert not study.answers.exists()  # looking at results makes nothing
    assert [method.share for method in results_of(study).methods] == [None, None]


def test_the_bootstrap_has_the_spread_of_its_two_levels() -> None:
    chance = np.random.default_rng(1)
    # alike people: that of their trials alone
    alike = bootstrap([20] * 50, [40] * 50, chance, 4000)
    assert abs(alike.std() - (0.25 / 2000) ** 0.5) < 0.001
    # people who always or never are fooled: that of the people alone
    unlike = bootstrap([0, 40] * 25, [40] * 50, chance, 4000)
    assert abs(unlike.std() - (0.25 / 50) ** 0.5) < 0.005 and abs(unlike.mean() - 0.5) < 0.01
