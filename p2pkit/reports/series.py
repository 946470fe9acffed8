"""Lines of metrics as series to plot: by name, thinned, and in groups that belong on one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from p2pkit.reports.rules import Line, adversarial_terms, number

MOST_POINTS = 300
"""Of longer series each point is the mean of several."""
SMOOTHED_FROM = 40
"""Points from which on a noisy series also has a running mean."""
_OF_A_LINE = ("step", "epoch", "split")


@dataclass(frozen=True)
class Series:
    """What has been logged under a name: steps and values."""

    label: str
    steps: Sequence[int]
    values: Sequence[float]
    noisy: bool = True
    """Each value is of other images, so that a running mean says more."""
    colour: int | None = None
    """Its colour, where that is not by its place on the plot."""

    @property
    def smooth(self) -> list[float]:
        """Running means over a twentieth of the series; nothing where it is short or not noisy."""
        count = len(self.values)
        if not self.noisy or count < SMOOTHED_FROM:
            return []
        half = count // 40
        return [fmean(self.values[max(0, place - half) : place + half + 1]) for place in range(count)]


@dataclass(frozen=True)
class Group:
    """Series for one plot."""

    title: str
    series: Sequence[Series]
    explained: str = ""
    bounds: tuple[float, float] | None = None
    """The lowest and the highest value there may be."""
    reference: float | None = None
    """A value that others are looked at beside."""
    loss: bool = False
    """Values may fall by orders of magnitude."""


def groups_of(lines: Sequence[Line]) -> list[Group]:
    """What there is to plot of a run; series of a single point are left out."""
    every = _series_of(lines)
    train = {name: series for (split, name), series in every.items() if split == "train"}
    networks = dict.fromkeys(name.partition("/")[0] for name in train)
    adversarial: list[Series] = []
    shared = dict.fromkeys(
        term for network in networks if network != "generator" for term in adversarial_terms(train, network)
    )
    for name, series in train.items():
        network, _, term = name.partition("/")
        if term in shared:
            adversarial.append(_labelled(series, f"{network} {term}" if len(shared) > 1 else network))
    groups = [
        Group(
            "Accuracy of the discriminator", _ending(train, "/accuracy_real", "/accuracy_fake"),
            "The share of its logits that are right about real images, and about outputs. One half is guessing.",
            (0, 1), 0.5,
        ),
        Group(f"Adversarial losses ({', '.join(shared)})", adversarial, loss=True),
    ]  # fmt: skip
    apart = ("lr", "accuracy_real", "accuracy_fake", "augment_probability", "real_sign")
    for name, series in train.items():
        network, _, term = name.partition("/")
        if term not in shared and term not in apart:
            groups.append(Group(f"{network} {term}".capitalize(), [_labelled(series, term)], loss=True))
    for (split, name), series in every.items():
        if split == "validation" and name.startswith("validation/"):
            groups.append(Group(f"Validation {name.partition('/')[2]}", [_labelled(series, name.partition("/")[2])]))
    spread = [_labelled(every[key], key[1].partition("/")[0]) for key in every if key[1].endswith("/spread")]
    said = "The standard deviation over the samples. Near 0 all outputs are alike."
    groups += [
        Group("How much outputs differ", spread, said),
        Group("Discriminator augmentation", _ending(train, "/augment_probability", "/real_sign")),
        Group("Learning rate", _ending(train, "/lr")),
    ]
    shown = [replace(group, series=[each for each in group.series if len(each.steps) > 1]) for group in groups]
    return [group for group in shown if group.series]


def groups_beside(runs: Mapping[str, Sequence[Line]]) -> list[Group]:
    """What there is to plot of several runs, a series for each: what is plotted of any of them, name by name."""
    found: dict[tuple[str, str], list[Series]] = {}
    for colour, (run, lines) in enumerate(runs.items()):
        for (split, name), series in _series_of(lines).items():
            if len(series.steps) > 1 and (split == "train" or name.startswith("validation/")):
                found.setdefault((split, name), []).append(replace(series, label=run, colour=colour))
    groups = []
    for (split, name), each in sorted(found.items(), key=lambda one: one[0][1].endswith("/lr")):
        title, accuracy = name.replace("/", " ").replace("_", " ").capitalize(), "/accuracy_" in name
        loss = split == "train" and not accuracy and not name.endswith("/lr")
        bounds, reference = ((0.0, 1.0), 0.5) if accuracy else (None, None)
        groups.append(Group(title, each, bounds=bounds, reference=reference, loss=loss))
    return groups


def _series_of(lines: Sequence[Line]) -> dict[tuple[str, str], Series]:
    """All series of a run, by the split of their lines and by name."""
    points: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for line in lines:
        for key in line:
            if key not in _OF_A_LINE and (value := number(line, key)) is not None:
                points.setdefault((str(line.get("split")), key), []).append((line["step"], value))
    found = {}
    for (split, name), each in points.items():
        steps, values = [step for step, _ in each], [value for _, value in each]
        found[split, name] = _thinned(name, steps, values, split == "train")
    return found


def _ending(series: Mapping[str, Series], *ends: str) -> list[Series]:
    found = []
    for end in ends:
        named = [name for name in series if name.endswith(end)]
        for name in named:
            network, _, term = name.partition("/")
            short = term.removeprefix("accuracy_").replace("_", " ")
            label = network if end == "/lr" else short if len(named) == 1 else f"{network} {short}"
            found.append(_labelled(series[name], label))
    return found


def _labelled(series: Series, label: str) -> Series:
    return replace(series, label=label)


def _thinned(name: str, steps: Sequence[int], values: Sequence[float], noisy: bool) -> Series:
    """A series of at most so many points."""
    each = -(-len(steps) // MOST_POINTS)
    if each > 1:
        values = [fmean(values[place : place + each]) for place in range(0, len(values), each)]
        steps = [steps[min(place + each, len(steps)) - 1] for place in range(0, len(steps), each)]
    return Series(name, steps, values, noisy and not name.endswith("/lr"))
