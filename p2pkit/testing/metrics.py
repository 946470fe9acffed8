"""The contract of a metric (contracts.Metric)."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, isclose, isfinite

import torch
from torch import Tensor

from p2pkit.errors import P2PKitError, RecipeError
from p2pkit.evaluation.validation import Measurement
from p2pkit.testing.checks import Subject, contract, require
from p2pkit.testing.fixtures import half_mask
from p2pkit.testing.networks import images

COUNT, SIDE = 3, 176
"""Large enough for five scales of a window of 11 pixels, which multi-scale SSIM has."""
TOLERANCE = 1e-4
"""Relative; sums of floating point depend on their order."""


def _pictures(channels: int = 3) -> tuple[Tensor, Tensor]:
    """Targets, and pictures that have nothing to do with them, [N, C, H, W] in [-1, 1]."""
    return images(channels, SIDE, SIDE, COUNT), images(channels, SIDE, SIDE, COUNT, seed=1)


def _measurement(subject: Subject) -> Measurement:
    return Measurement("it", subject.registered.name, subject.make())


def _measured(
    subject: Subject, outputs: Tensor, targets: Tensor, order: Sequence[int] = range(COUNT)
) -> dict[str, float]:
    """The numbers of images one after another, as validation takes them; each target is its own source too."""
    measurement = _measurement(subject)
    if measurement.over_set:
        for index in order:
            output, target = outputs[index, None], targets[index, None]
            measurement.update(*measurement.features(output, target, target))
        return measurement.compute()
    found = [measurement.of_image(outputs[index, None], *2 * [targets[index, None]]) for index in order]
    return {name: fsum(numbers[name] for numbers in found) / len(found) for name in found[0]}


@contract(
    "it gives finite numbers for three channels, and for one unless it refuses that by a P2PKitError; "
    "higher_is_better is True, False or None"
)
def has_finite_results(subject: Subject) -> None:
    """The form of the result."""
    direction = subject.make().higher_is_better
    require(direction is None or isinstance(direction, bool), f"higher_is_better is {direction!r}")
    for channels in (3, 1):
        target, other = _pictures(channels)
        try:
            found = _measured(subject, other, target)
        except RecipeError as error:
            if channels == 1 and isinstance(error.__cause__, P2PKitError):
                return
            raise
        for name, value in found.items():
            require(isinstance(name, str) and isfinite(value), f"{name!r}: {value!r}")


@contract("its numbers are best for the targets themselves, and the worse, the further outputs are from these")
def ranks_outputs(subject: Subject) -> None:
    """Targets, targets with a little of another picture mixed in, and with much of it; None has no better or worse.

    For a metric over a set the others are black, since other pictures may have the same distribution.
    """
    target, other = _pictures()
    measurement = _measurement(subject)
    higher_is_better = measurement.metric.higher_is_better
    if higher_is_better is None:
        return
    if measurement.over_set:
        other = -torch.ones_like(target)
    direction = 1 if higher_is_better else -1
    shares = (0.0, 0.2, 0.8)
    found = [_measured(subject, torch.lerp(target, other, share), target) for share in shares]
    for name in found[0]:
        values = [each.get(name, float("nan")) for each in found]
        ordered = values[0] * direction > values[1] * direction > values[2] * direction
        listed = ", ".join(f"{value:.4g}" for value in values)
        require(ordered, f"{name} is {listed} for targets with {shares} of another picture mixed in")


@contract("of outputs that are the target under a mask of 0 its numbers are finite, and best where the rest is right")
def takes_masks(subject: Subject) -> None:
    """Outputs that are wrong where nothing counts, and some that are wrong elsewhere too; put together by the mask.

    Numbers of the targets themselves need not be finite, as the PSNR is not.
    """
    target, other = _pictures()
    measurement, mask = _measurement(subject), half_mask(COUNT, SIDE, SIDE)
    if measurement.over_set:
        other = -torch.ones_like(target)
    perfect = _measured(subject, target, target)
    wrong_elsewhere = torch.where(mask == 0, other, target)
    same = _measured(subject, mask * wrong_elsewhere + (1 - mask) * target, target)
    found = _measured(subject, mask * other + (1 - mask) * target, target)
    for name, value in found.items():
        best, unweighted = (each.get(name, float("nan")) for each in (perfect, same))
        equal = unweighted == best or isclose(unweighted, best, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        require(equal, f"{name} is {best:.6g}, but {unweighted:.6g} where outputs are wrong under a mask of 0")
        require(isfinite(value), f"{name} is {value:g} for images of which half is the target")
        if (higher_is_better := measurement.metric.higher_is_better) is not None:
            worse = value < best if higher_is_better else value > best
            require(worse, f"{name} is {best:.4g} for the targets, {value:.4g} for outputs half of which are wrong")


@contract("reset() forgets all: its numbers depend neither on the order of the images, nor on other instances")
def begins_anew(subject: Subject) -> None:
    """Each way twice, and backwards."""
    target, other = _pictures()
    output = torch.stack([torch.lerp(target[index], other[index], 0.2 * (index + 1)) for index in range(COUNT)])
    first = _measured(subject, output, target)
    for how, order in (("once again", range(COUNT)), ("the last first", range(COUNT)[::-1])):
        found = _measured(subject, output, target, order)
        require(found.keys() == first.keys(), f"{sorted(found)} {how}, {sorted(first)} before")
        for name, value in found.items():
            same = isclose(value, first[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            require(same, f"{name} is {value:.6g} {how}, {first[name]:.6g} before")


@contract("features(image), where it is over a set and has that, is one tensor, a function of the image alone")
def has_features(subject: Subject) -> None:
    """The features of an image before and after others have been taken in."""
    measurement, (target, other) = _measurement(subject), _pictures()
    if not measurement.over_set or not hasattr(measurement.metric, "features"):
        return
    before, second = measurement.features(target[:1], other[:1], target[:1])
    kind = type(before).__name__
    require(isinstance(before, Tensor) and not before.requires_grad, f"a {kind} in place of a tensor without a graph")
    kept = before.clone()
    measurement.update(before, second)
    again, _ = measurement.features(target[:1], other[:1], target[:1])
    same = torch.equal(kept, before) and torch.equal(kept, again)
    require(same, "other features of the same image after update(), or features that update() has changed")


CHECKS = (has_finite_results, ranks_outputs, takes_masks, begins_anew, has_features)
