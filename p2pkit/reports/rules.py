"""What a practitioner would warn of: rules on what a run has logged, each with what to do (docs/reports.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import Any

Line = Mapping[str, Any]
"""A line of metrics.jsonl."""

LONG, SHARE = 300, 0.2
"""A discriminator has won or lost where it has for the last so many steps, and for that share of all."""
FEWEST_LINES = 5
"""Of fewer lines of metrics nothing is said."""
CERTAIN = 0.98
"""The mean accuracy, on real and on fake images, of a discriminator that has won."""
GROWTH = 0.2
"""By which share the generator's adversarial loss must have grown meanwhile."""
CHANCE = 0.02
"""How far from one half the accuracy on both may be of a discriminator that guesses."""
STILL = 0.01
"""By which share the loss of one that has collapsed moves at most."""
EARLY = 200
"""Steps before which outputs may look like anything."""
ALIKE = 0.05
"""The spread, or the contrast, of outputs as a share of that of targets, from which on they have collapsed."""
ALIKE_ALONE = 0.005
"""The same where there are no targets to compare with, of values from 0 to 1."""
VALIDATIONS = 5
"""So many in a row must be worse than the best, and at least half of all."""
WORSE = 0.05
"""By which share of the best they must be."""


@dataclass(frozen=True)
class RunWarning:
    """What goes wrong in a run, and what helps."""

    name: str
    """The rule, as docs/reports.md has it."""
    step: int
    """Of the last line that it is seen in."""
    what: str
    advice: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.what} {self.advice}"


def find_warnings(
    lines: Sequence[Line], monitor: str | None = None, higher_is_better: bool | None = None
) -> list[RunWarning]:
    """What is wrong with a run as its metrics stand now.

    Args:
        lines: of metrics.jsonl, in their order.
        monitor: the metric that decides which model is the best.
        higher_is_better: its direction; None where that is not known, and then nothing is said of it.
    """
    train = [line for line in lines if line.get("split") == "train"]
    found = [*_discriminators(train), *_outputs([line for line in lines if line.get("split") == "samples"])]
    if monitor is not None and higher_is_better is not None:
        found += _validations(lines, monitor, higher_is_better)
    return found


def number(line: Line, key: str) -> float | None:
    """A number of a line that is there and finite."""
    value = line.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) else None


def _numbers(lines: Sequence[Line], key: str) -> list[float]:
    return [value for line in lines if (value := number(line, key)) is not None]


def adversarial_terms(line: Line, network: str) -> list[str]:
    """The losses that a discriminator and the generator both have a term of."""
    names = [key.removeprefix(f"{network}/") for key in line if key.startswith(f"{network}/")]
    return [name for name in names if name != "lr" and f"generator/{name}" in line]


def _discriminators(train: Sequence[Line]) -> Iterator[RunWarning]:
    last = train[-1] if train else {}
    for key in last:
        if not key.endswith("/accuracy_real"):
            continue
        network = key.removesuffix("/accuracy_real")
        known = [line for line in train if number(line, key) is not None]
        for rule in (_has_won, _is_at_chance):
            if warning := rule(known, network):
                yield warning
                break


def _lately(train: Sequence[Line]) -> Sequence[Line]:
    """The lines of the last :data:`LONG` steps or more; none where there are not that many."""
    last = train[-1]["step"] if train else 0
    began = last - max(LONG, SHARE * last)
    lines = [line for line in train if line["step"] > began]
    return lines if began >= 0 and len(lines) >= FEWEST_LINES else []


def _accuracies(lines: Sequence[Line], network: str) -> list[float]:
    """The mean accuracies on real and on fake images."""
    return [fmean(_numbers(lines, f"{network}/accuracy_{side}") or [0.0]) for side in ("real", "fake")]


def _has_won(train: Sequence[Line], network: str) -> RunWarning | None:
    lines = _lately(train)
    if not lines or min(_accuracies(lines, network)) < CERTAIN:
        return None
    for name in adversarial_terms(lines[-1], network):
        values = _numbers(lines, f"generator/{name}")
        third = len(values) // 3
        if not third:
            continue
        first, last = fmean(values[:third]), fmean(values[-third:])
        if last > first + GROWTH * abs(first):
            return RunWarning(
                f"{network}_has_won", lines[-1]["step"],
                f"The {network} has told nearly all real images from outputs since step {lines[0]['step']}, and the "
                f"generator's {name} loss has grown from {first:.3g} to {last:.3g}: it learns little from it.",
                "Lower the discriminator's learning rate (optimizer.discriminator.lr), make it smaller, or augment "
                "what it sees (discriminator_augmentation); with few images, stop earlier.",
            )  # fmt: skip
    return None


def _is_at_chance(train: Sequence[Line], network: str) -> RunWarning | None:
    lines = _lately(train)
    if not lines or abs(fmean(_accuracies(lines, network)) - 0.5) > CHANCE:
        return None
    for name in adversarial_terms(lines[-1], network):
        values = _numbers(lines, f"{network}/{name}")
        if values and max(values) - min(values) <= STILL * abs(fmean(values)):
            return RunWarning(
                f"{network}_at_chance", lines[-1]["step"],
                f"The {network} has guessed since step {lines[0]['step']}: it is right on half of the images, and its "
                f"{name} loss stands still at {fmean(values):.3g}. It has collapsed, and the generator learns nothing "
                "from it.",
                "Lower its learning rate (optimizer.discriminator.lr) or its weight decay, clip its gradients "
                "(optimizer.clip_gradient_norm), or choose another norm; then start again.",
            )  # fmt: skip
    return None


def _outputs(samples: Sequence[Line]) -> Iterator[RunWarning]:
    last = [line for line in samples if line["step"] >= EARLY][-2:]
    if len(last) < 2:
        return
    step = last[-1]["step"]
    if all(_collapsed(line, "contrast") for line in last):
        yield RunWarning(
            "outputs_of_one_colour", step,
            f"The outputs for the samples are of one colour each, at step {last[0]['step']} and at step {step}.",
            "Lower optimizer.lr or weight_decay, and look at the values of targets (target.range): what is beyond "
            "their range cannot be reached; then start again.",
        )  # fmt: skip
    elif all(_collapsed(line, "spread") for line in last):
        yield RunWarning(
            "outputs_alike", step,
            f"The outputs for different sources are alike, at step {last[0]['step']} and at step {step}: the generator "
            "does not look at its source.",
            "See whether sources arrive (p2pkit data check RECIPE --sheet pairs.png): their range (source.range) may "
            "be too wide for what they hold, or pairs may not belong together. Else lower optimizer.lr, or raise the "
            "weight of l1.",
        )  # fmt: skip


def _collapsed(line: Line, what: str) -> bool:
    output, target = number(line, f"output/{what}"), number(line, f"target/{what}")
    return output is not None and output < (ALIKE_ALONE if target is None else ALIKE * target)


def _validations(lines: Sequence[Line], monitor: str, higher_is_better: bool) -> Iterator[RunWarning]:
    key, sign = f"validation/{monitor}", 1 if higher_is_better else -1
    known = [line for line in lines if line.get("split") == "validation" and number(line, key) is not None]
    scores = [sign * value for value in _numbers(known, key)]
    if not scores:
        return
    best = max(range(len(scores)), key=scores.__getitem__)
    since = scores[best + 1 :]
    if len(since) < max(VALIDATIONS, len(scores) / 2):
        return
    third = len(since) // 3
    first, last = fmean(since[:third]), fmean(since[-third:])
    if last < first and last < scores[best] - WORSE * abs(scores[best]):
        yield RunWarning(
            "validation_gets_worse", known[-1]["step"],
            f"{monitor} on the validation set has been getting worse since step {known[best]['step']}: it was "
            f"{sign * scores[best]:.4g} then, and is {sign * last:.4g} in the last {third} validations.",
            "The model overfits, or training has become unstable: take best.safetensors, end such a run by itself "
            "(validation.patience), augment the data, or lower optimizer.lr.",
        )  # fmt: skip
