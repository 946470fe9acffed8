"""Metrics of translations of a set, beside those of trivial ones: shared out over processes, and within a time.

Each image is measured by itself on one of the processes. Its numbers, and what metrics over a set take of it, are put
together in the order of the set. So the results do not depend on how many processes there are.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from math import fsum
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import load, save
from torch import Tensor

from p2pkit.data.bad_samples import none_usable
from p2pkit.distributed.collectives import SharedDataError, all_gather_text, gather_bytes
from p2pkit.errors import DataError, P2PKitError, RecipeError, Unavailable
from p2pkit.evaluation.validation import Measurement, Validation
from p2pkit.utils.progress import Progress
from p2pkit.utils.seeds import random_states_kept

Translate = Callable[[Tensor], Tensor]
"""Sources [1, Cs, H, W] in [-1, 1] to outputs [1, Ct, H, W]."""
GROUND_TRUTH = "ground_truth"
"""The row of the targets themselves, by metrics that compare outputs with sources."""
ROUND = 4
"""After so many images on each process they meet: none waits longer for another."""
SIDES = 3
"""A metric over a set is updated with something of the output, the target, and it may be the source."""
TRIVIAL_ROWS = 4
"""So many trivial translators stand beside a model, at most."""
MARGIN = 1.5
"""By how much more time is kept for measuring than the first image says: train pairs are read too, files written."""


class StopRequested(Exception):  # noqa: N818 - no error: somebody asked for it
    """A process was asked to stop while it measured; it is raised on all of them."""


class ImageScores(NamedTuple):
    """The numbers of one image: its place in the set, its key, its height and width, and numbers by row and name."""

    place: int
    key: str
    size: tuple[int, int]
    rows: dict[str, dict[str, float]]
    coverage: float = 1.0
    """The share of the image that counts: the mean of its mask."""


@dataclass
class Measured:
    """What metrics have given, by row ("validation", "source" ...) and by name of the number."""

    rows: dict[str, dict[str, float]]
    images: list[ImageScores]
    """Those that were measured, in their order in the set; without the numbers of metrics over the whole set."""
    total: int
    """How many images the set has, or ``validation.max_images``; fewer were measured where time was up."""
    complete: bool = False
    """No image was left out because the time was up."""

    def flat(self) -> dict[str, float]:
        """All numbers by "ROW/NAME"."""
        return {f"{row}/{name}": value for row, values in self.rows.items() for name, value in values.items()}

    def facts(self, driver: Driver) -> dict[str, Any]:
        """What the numbers are of and computed with."""
        sizes = sorted({image.size for image in self.images})
        validation = driver.validation
        return {
            "set": validation.called,
            "values": validation.values,
            "images": len(self.images),
            "images_asked": self.total,
            "complete": self.complete,
            "size": list(sizes[0]) if len(sizes) == 1 else None,
            "coverage": fsum(image.coverage for image in self.images) / len(self.images),
            "train_pairs_of_trivial_rows": driver.pairs_seen,
            "computed_with": validation.computed_with,
        }


@dataclass
class RoundResult:
    """What a process has found in a round, and why it wants to end."""

    scores: list[ImageScores] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """Messages on samples that cannot be used."""
    data_error: str = ""
    error: str = ""
    asked: bool = False
    late: bool = False
    """The time is up."""


@dataclass
class Driver:
    """Measures on a validation set; every process calls the same methods at the same time.

    Raises, in its methods, on all processes alike:
        DataError: a sample cannot be used and the policy is to stop, or none can.
        RecipeError: a metric does not take an image, or does not give a number.
        StopRequested: ``asked`` says so on one of the processes.
    """

    validation: Validation
    accelerator: Accelerator
    report: Callable[[Sequence[str]], None]
    """Takes the messages on samples that were skipped; called on the main process."""
    asked: Callable[[], bool]
    """Whether this process has been asked to stop."""
    deadline: float = math.inf
    """When measuring has to end, with what there is by then, by time.monotonic()."""
    pairs_seen: int = 0
    """Of how many train pairs trivial translators have been made."""

    def measure(self, rows: Mapping[str, Translate | None], title: str = "measuring") -> Measured:
        """The metrics of each row of translations of the validation set, on every process.

        A row of None is that of the targets themselves, and has the numbers of metrics that ask for sources.
        """
        validation, accelerator = self.validation, self.accelerator
        total = min(len(validation.validation_set), validation.settings.max_images)
        ours = {row: deepcopy(_taken(validation.metrics, translate)) for row, translate in rows.items()}
        measured, skipped = Measured({row: {} for row in rows}, [], total), list[str]()
        per_round = ROUND * accelerator.num_processes
        with (
            random_states_kept(),
            Progress(title, total, "image", shown=accelerator.is_main_process) as progress,
        ):
            for first in range(0, total, per_round):
                places = range(first, min(total, first + per_round))
                share = places[accelerator.process_index :: accelerator.num_processes]
                features: dict[str, Tensor] = {}
                found = self.agreed(partial(self._measure_share, share, rows, ours, features))
                measured.images += found.scores
                skipped += found.skipped
                self._update_sets(ours, features, places)
                progress.advance(len(places))
                if found.late and measured.images:
                    break
            if not measured.images:
                raise none_usable(skipped)
            measured.complete = len(measured.images) + len(skipped) == total
            self._put_together(measured, ours)
        return measured

    def seconds(self, translate: Translate) -> list[float]:
        """How long :meth:`measure` will take for a model, and how much longer for trivial rows; by a first image."""
        validation, taken, outputs = self.validation, {"model": 1e-9, "trivial": 0.0}, list[Tensor]()
        count = min(len(validation.validation_set), validation.settings.max_images)

        def model(source: Tensor) -> Tensor:
            outputs[:] = [translate(source)]
            return outputs[0]

        def take(result: RoundResult) -> None:
            rows, place = {"model": model, "trivial": lambda source: outputs[0]}, 0
            while place < count and not outputs:  # the first that can be used; this also pays for what is made once
                self._measure_share([place], rows, ours, {}, result)
                place += 1
            for row, output in rows.items() if outputs else ():
                began = time.monotonic()
                self._measure_share([place - 1], {row: output}, ours, {}, result)
                taken[row] = time.monotonic() - began
            result.scores, result.skipped = [], []

        if validation.can_measure():
            with random_states_kept():
                ours = dict.fromkeys(taken, deepcopy(list(validation.metrics)))
                self.agreed(take)
        trivial = {"all": TRIVIAL_ROWS, "none": 0}.get(validation.settings.baseline, 1)
        each = MARGIN * count / float(self.accelerator.num_processes)
        return [each * taken["model"], each * trivial * taken["trivial"]]

    def _measure_share(
        self, share: Iterable[int], rows: Mapping[str, Translate | None], ours: Mapping[str, list[Measurement]],
        features: dict[str, Tensor], found: RoundResult,
    ) -> None:  # fmt: skip
        for index in share:
            try:
                sample, key = self.validation.tensors(self.validation.validation_set, index)
            except DataError as error:
                self.skip(error, found)
                continue
            source, target, mask = sample
            if mask is not None and not mask.any():
                nothing = "its target has no values, or its mask is 0 everywhere"
                found.skipped.append(f"{key}: {nothing}, so nothing can be measured")
                continue
            of_image: dict[str, dict[str, float]] = {}
            for row, translate in rows.items():
                of_image[row] = {}
                # what a metric draws is a function of the image's place alone
                set_seed(index)
                given, wanted = source[None], target[None]
                output = wanted if translate is None else translate(given).cpu()
                if mask is not None:  # what does not count cannot be wrong
                    output = mask * output + (1 - mask) * wanted
                output, wanted = (self.validation.picture(source[None], each) for each in (output, wanted))
                for number, each in enumerate(ours[row]):
                    if each.over_set:
                        for side, tensor in enumerate(each.features(output, wanted, given)):
                            features[f"{index} {row} {number} {side}"] = tensor
                    else:
                        self.validation.collect(of_image[row], each, each.of_image(output, wanted, given))
            coverage = 1.0 if mask is None else float(mask.mean())
            found.scores.append(ImageScores(index, key, (target.shape[1], target.shape[2]), of_image, coverage))
            if self.asked() or time.monotonic() > self.deadline:
                break

    def skip(self, error: DataError, found: RoundResult) -> None:
        """Take note of a sample that cannot be used; raise ``error`` where none may be skipped."""
        if self.validation.bad_data == "stop" or isinstance(error, Unavailable):
            raise error
        found.skipped.append(str(error))

    def agreed(self, work: Callable[[RoundResult], None]) -> RoundResult:
        """What ``work`` has found on all processes, on each of them; what one of them raises is raised on all."""
        own, raised = RoundResult(), None
        try:
            work(own)
        except P2PKitError as error:
            raised = error
            own.data_error, own.error = (str(error), "") if isinstance(error, DataError) else ("", str(error))
        own.asked, own.late = self.asked(), time.monotonic() > self.deadline
        if self.accelerator.num_processes == 1:
            if raised is not None:
                raise raised
            everyone = [own]
        else:
            texts = all_gather_text(self.accelerator, json.dumps(vars(own)))
            everyone = [RoundResult(**json.loads(text)) for text in texts]
        for kind, name in ((RecipeError, "error"), (SharedDataError, "data_error")):
            if messages := list(dict.fromkeys(filter(None, (getattr(each, name) for each in everyone)))):
                raise kind("\n".join(messages))
        if any(each.asked for each in everyone):
            raise StopRequested
        scores = []
        for one in everyone:
            for place, key, (height, width), rows, coverage in one.scores:
                scores.append(ImageScores(place, key, (height, width), rows, coverage))
        skipped = [message for one in everyone for message in one.skipped]
        if skipped and self.accelerator.is_main_process:
            self.report(skipped)
        return RoundResult(sorted(scores, key=itemgetter(0)), skipped, late=any(each.late for each in everyone))

    def _update_sets(
        self, ours: Mapping[str, list[Measurement]], features: dict[str, Tensor], places: Iterable[int]
    ) -> None:
        """Give the main process's metrics over the set what was taken of a round's images, in their order."""
        if not any(each.over_set for measurements in ours.values() for each in measurements):
            return
        if self.accelerator.num_processes > 1:
            # copies, because safetensors takes no two tensors of one memory, as the target of all rows is
            own = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in features.items()}
            sent = gather_bytes(self.accelerator, save(own))
            features = {}
            for data in sent if self.accelerator.is_main_process else ():
                features.update(load(data))

        def update(result: RoundResult) -> None:
            for index in places:
                for row, measurements in ours.items():
                    for number, each in enumerate(measurements):
                        names = [f"{index} {row} {number} {side}" for side in range(SIDES)]
                        if given := [features[name] for name in names if name in features]:
                            each.update(*given)

        self.agreed(update)

    def _put_together(self, measured: Measured, ours: Mapping[str, list[Measurement]]) -> None:
        """The mean of each number over the images, and the numbers of the set from the main process."""
        of_sets: dict[str, dict[str, float]] = {row: {} for row in ours}

        def compute(result: RoundResult) -> None:
            for row, measurements in ours.items():
                for each in measurements if self.accelerator.is_main_process else ():
                    if each.over_set:
                        set_seed(0)
                        self.validation.collect(of_sets[row], each, each.compute())

        self.agreed(compute)
        directions = self.validation.higher_is_better
        everyone = all_gather_text(self.accelerator, json.dumps([of_sets, directions]))
        for _, theirs in map(json.loads, everyone):
            directions.update(theirs)
        of_sets = json.loads(everyone[0])[0]
        for row, numbers in of_sets.items():
            values: dict[str, list[float]] = {}
            for image in measured.images:
                for name, value in image.rows[row].items():
                    values.setdefault(name, []).append(value)
            if twice := values.keys() & numbers.keys():
                raise RecipeError(f"two metrics give {', '.join(map(repr, sorted(twice)))}; leave one out")
            means = {name: fsum(each) / len(each) for name, each in values.items()}
            measured.rows[row] = {**means, **numbers}


def _taken(metrics: Sequence[Measurement], translate: Translate | None) -> list[Measurement]:
    """The metrics of a row: of the targets themselves those alone that compare with sources."""
    return [each for each in metrics if translate is not None or each.takes_source]
