"""What a study has found: how often each method's images were taken for real, with intervals, and who is left out."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.utils.atomic import atomic_write
from p2pkit_web.study.folder import Settings, Study, read_study
from p2pkit_web.study.storage import Answers, Record, Shown

DRAWS = 10_000
"""Samples of the bootstrap."""
WITHIN = (2.5, 97.5)
"""The percentiles that are an interval's ends."""
CHECKS_RIGHT = 0.8
"""Who finds fewer of the checks is left out."""
OFF_SHARE, OFF_SECONDS = 0.25, 0.1
"""A trial does not count whose images were shown longer or shorter than asked by more than the larger of these."""
COLUMNS = (
    "participant", "method", "place", "kind", "fake", "real", "side", "answer", "fooled", "counted", "why",
    "left_ms", "right_ms", "size", "answer_ms", "answered",
)  # fmt: skip


@dataclass(frozen=True)
class OfMethod:
    """What was found of a method. Shares are 0 to 1; they are None where nothing counts."""

    method: str
    participants: int
    """Who count."""
    trials: int
    fooled: int
    """Trials in which the real image was taken for the fake one."""
    share: float | None
    low: float | None
    """The ends of the 95% interval."""
    high: float | None
    checks: int
    checks_right: int
    """Of all who have finished."""
    left_out: dict[str, int]
    """How many participants do not count, by why."""
    mistimed: int
    """Trials of those who count that were not shown as long as asked."""


@dataclass(frozen=True)
class Difference:
    """How much more often one method's images were taken for real than another's: shares, and the 95% interval."""

    method: str
    other: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Results:
    """The results of a study."""

    methods: list[OfMethod]
    differences: list[Difference]
    records: list[tuple[Record, str]]
    """Every trial, and why it does not count; "" where it does."""

    def as_json(self) -> dict[str, Any]:
        """The numbers, without the single trials."""
        return {
            "methods": [asdict(each) for each in self.methods],
            "differences": [asdict(each) for each in self.differences],
        }

    def write_csv(self, file: Path) -> None:
        """Write every trial, one a line. Raises WriteError where the file cannot be written."""
        with atomic_write(file) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            writer.writerows(_row(record, why) for record, why in self.records)


def results_of(folder: Path | Study, draws: int = DRAWS) -> Results:
    """The results of the study in a folder, whether or not it goes on; intervals are drawn with the study's seed.

    Raises:
        P2PKitError: there is no study in the folder, or its answers cannot be read.
    """
    study = folder if isinstance(folder, Study) else read_study(folder)
    judged = _judged(Answers(study.answers).all(), study.settings)
    methods, drawn = list[OfMethod](), dict[str, NDArray[np.float64]]()
    for number, method in enumerate(study.methods):
        own = [(record, why) for record, why in judged if record.method == method]
        found, shares = _of_method(method, own, np.random.default_rng([study.settings.seed, number]), draws)
        methods.append(found)
        if shares is not None:
            drawn[method] = shares
    shares_of = {each.method: each.share for each in methods}
    differences = [
        Difference(
            one, other, (shares_of[one] or 0.0) - (shares_of[other] or 0.0), *_interval(drawn[one] - drawn[other])
        )
        for one, other in combinations(drawn, 2)
    ]
    return Results(methods, differences, judged)


def bootstrap(
    fooled: Sequence[int], trials: Sequence[int], chance: np.random.Generator, draws: int
) -> NDArray[np.float64]:
    """Shares of the trials, [draws], in samples of participants with replacement, and of each one's trials.

    ``fooled`` and ``trials`` are counts, one for each participant; a sample of the trials of one, of which k in n
    fooled, is a binomial draw of n with k / n.
    """
    counts, of = np.asarray(fooled, dtype=np.int64), np.asarray(trials, dtype=np.int64)
    shares = np.empty(draws)
    for draw in range(draws):  # one at a time: there may be many participants
        chosen = chance.integers(len(of), size=len(of))
        shares[draw] = chance.binomial(of[chosen], counts[chosen] / of[chosen]).sum() / of[chosen].sum()
    return shares


def off(shown: Shown, settings: Settings) -> bool:
    """Whether an image of a pair was not there as long as asked."""
    most = max(OFF_SHARE * settings.seconds, OFF_SECONDS)
    return any(abs(each / 1000 - settings.seconds) > most for each in (shown.left_ms, shown.right_ms))


def _judged(records: Sequence[Record], settings: Settings) -> list[tuple[Record, str]]:
    """Each trial, and why it does not count."""
    judged = list[tuple[Record, str]]()
    for _, group in groupby(records, key=lambda record: record.participant):
        own = list(group)
        why = _left_out(own)
        judged += [(record, why or _not_counted(record, settings)) for record in own]
    return judged


def _left_out(own: Sequence[Record]) -> str:
    """Why a participant does not count; "" for one who does."""
    if any(record.answer is None for record in own):
        return "not finished"
    checks = [record for record in own if record.trial.kind == "check"]
    if sum(record.right for record in checks) < CHECKS_RIGHT * len(checks):
        return "missed checks"
    return ""


def _not_counted(record: Record, settings: Settings) -> str:
    if record.trial.kind != "trial":
        return record.trial.kind
    return "mistimed" if record.shown is None or off(record.shown, settings) else ""


def _of_method(
    method: str, own: Sequence[tuple[Record, str]], chance: np.random.Generator, draws: int
) -> tuple[OfMethod, NDArray[np.float64] | None]:
    counted = [record for record, why in own if not why]
    trials = Counter(record.participant for record in counted)
    fooled = Counter(dict.fromkeys(trials, 0))
    fooled.update(record.participant for record in counted if not record.right)
    left_out = Counter(
        why for why in {record.participant: why for record, why in own if record.place == 0}.values()
        if why in ("not finished", "missed checks")
    )  # fmt: skip
    checks = [record for record, why in own if record.trial.kind == "check" and why != "not finished"]
    shares, share, low, high = None, None, None, None
    if trials:
        shares = bootstrap([fooled[number] for number in trials], list(trials.values()), chance, draws)
        share = sum(fooled.values()) / sum(trials.values())
        low, high = _interval(shares)
    mistimed = sum(why == "mistimed" for _, why in own)
    found = OfMethod(
        method, len(trials), sum(trials.values()), sum(fooled.values()), share, low, high, len(checks),
        sum(record.right for record in checks), dict(sorted(left_out.items())), mistimed,
    )  # fmt: skip
    return found, shares


def _interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(draws, WITHIN)
    return float(low), float(high)


def _row(record: Record, why: str) -> list[object]:
    trial, shown = record.trial, record.shown
    fooled = "" if record.answer is None or trial.kind != "trial" else int(not record.right)
    times = ["", "", ""] if shown is None else [shown.left_ms, shown.right_ms, shown.size]
    return [
        record.participant, record.method, record.place, trial.kind, trial.fake, trial.real, trial.side, record.answer,
        fooled, int(not why), why, *times, record.answer_ms, record.answered,
    ]  # fmt: skip
