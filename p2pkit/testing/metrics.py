"""The contract of a metric (contracts.Metric)."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose, isfinite

import torch
from torch import Tensor

from p2pkit.contracts import Metric
from p2pkit.testing.checks import Subject, contract, require
from p2pkit.testing.networks import images

COUNT, SIDE = 4, 64
TOLERANCE = 1e-4
"""Relative; sums of floating point depend on their order."""


def _pictures(channels: int = 3) -> tuple[Tensor, Tensor]:
    """Targets, and pictures that have nothing to do with them."""
    return images(channels, SIDE, SIDE, COUNT), images(channels, SIDE, SIDE, COUNT, seed=1)


def _measured(subject: Subject, batches: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
    metric: Metric = subject.make()
    for output, target in batches:
        metric.add(output, target)
    return metric.result()


@contract("it gives named finite numbers, and higher_is_better is True or False")
def has_finite_results(subject: Subject) -> None:
    """The form of the result, for several channels, for one, and again when asked again."""
    direction = getattr(subject.make(), "higher_is_better", None)
    require(isinstance(direction, bool), f"higher_is_better is {direction!r}")
    for channels in (3, 1):
        target, other = _pictures(channels)
        before = target.clone(), other.clone()
        metric = subject.make()
        metric.add(other, target)
        result = metric.result()
        require(isinstance(result, dict) and result, f"{result!r} instead of numbers by name")
        for name, value in result.items():
            require(isinstance(name, str) and isinstance(value, float) and isfinite(value), f"{name!r}: {value!r}")
        require(metric.result() == result, f"{result}, and {metric.result()} when asked again")
        require(torch.equal(before[0], target) and torch.equal(before[1], other), "it has changed the images in place")


@contract("its numbers are best for the targets themselves, and the worse, the further outputs are from these")
def ranks_outputs(subject: Subject) -> None:
    """Targets, targets with a little of another picture mixed in, and with much of it."""
    target, other = _pictures()
    direction = 1 if subject.make().higher_is_better else -1
    shares = (0.0, 0.2, 0.8)
    found = [_measured(subject, [(torch.lerp(target, other, share), target)]) for share in shares]
    for name in found[0]:
        values = [each.get(name, float("nan")) for each in found]
        ordered = values[0] * direction > values[1] * direction > values[2] * direction
        listed = ", ".join(f"{value:.4g}" for value in values)
        require(ordered, f"{name} is {listed} for targets with {shares} of another picture mixed in")


@contract("its numbers depend neither on the order of the images, nor on batches, nor on other instances")
def adds_up(subject: Subject) -> None:
    """All at once, one by one backwards, and in uneven batches."""
    target, other = _pictures()
    output = torch.stack([torch.lerp(target[index], other[index], 0.2 * index) for index in range(COUNT)])
    one_by_one = [(output[index, None], target[index, None]) for index in reversed(range(COUNT))]
    whole = _measured(subject, [(output, target)])
    for how, batches in (
        ("all at once again", [(output, target)]),
        ("one by one, the last first", one_by_one),
        ("three and one", [(output[:3], target[:3]), (output[3:], target[3:])]),
    ):
        found = _measured(subject, batches)
        require(found.keys() == whole.keys(), f"{sorted(found)} {how}, {sorted(whole)} all at once")
        for name, value in found.items():
            same = isclose(value, whole[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            require(same, f"{name} is {value:.6g} {how}, {whole[name]:.6g} all at once")


CHECKS = (has_finite_results, ranks_outputs, adds_up)
