"""Segmentation networks fitted on the photos and label maps of a data set, for the metric ``fcn_score``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isnan
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from p2pkit.build import augmentation, build_sources, load_data
from p2pkit.builtin.label_tables import label_classes
from p2pkit.builtin.weights import published_file, read_weights
from p2pkit.data.augmentation import Augmentation, Tensors
from p2pkit.data.checks import unsettled
from p2pkit.data.found_values import with_found_values
from p2pkit.data.samples import Samples
from p2pkit.data.sets import Data
from p2pkit.errors import DataError, RecipeError, Unavailable, counted, first_line
from p2pkit.inference.model_file import RECIPE, read_header
from p2pkit.networks.encoding import SourcePart
from p2pkit.networks.label_classes import (
    MOST_CLASSES,
    SCORES,
    ColourCount,
    LabelClasses,
    confusion,
    scores,
)
from p2pkit.networks.segmenter import (
    FCNResNet50,
    NetworkName,
    Segmenter,
    SegmenterHeader,
    make_network,
    write_segmenter,
)
from p2pkit.recipe.document import Overrides
from p2pkit.recipe.recipe import Recipe
from p2pkit.recipe.resolve import read_recipe
from p2pkit.runs import open_session
from p2pkit.settings import TrainSettings
from p2pkit.utils.atomic import refuse_unwritable
from p2pkit.utils.progress import Progress, print_line
from p2pkit.utils.seeds import derived, random_states_kept

T = TypeVar("T")
STEPS, BATCH = 2000, 4
LEARNING_RATES: Mapping[NetworkName, float] = {"small": 1e-2, "fcn_resnet50": 3e-4}
"""The highest of Adam's; one cycle (Smith and Topin 2018) rises to it and falls to nothing."""
LOOKED_AT = 1000
"""Classes are found in at most so many label maps, evenly spread; the photos that measure a segmenter are no more."""
COMPARED = 20
"""Classes that were given are compared with the colours of at most so many label maps, evenly spread."""
EVERY = 20
"""After so many steps progress says the loss, for which a device is waited for."""


@dataclass(frozen=True)
class _Photos:
    """The photos of a data set with the classes of their pixels."""

    data: Data
    sizes: Augmentation
    classes: LabelClasses

    def train(self, index: int, epoch: int) -> tuple[Tensor, Tensor]:
        """A photo [C, H, W] in [0, 1], cropped and flipped as in training, and classes [H, W]; -1 does not count."""
        sample = self.data.train.read(index, epoch)
        return self._with_classes(self.sizes.train(self.data.spec.tensors(sample), (epoch, index), sample.key))

    def test(self, samples: Samples, index: int) -> tuple[Tensor, Tensor]:
        """The same of any set, as validation sees it."""
        return self._with_classes(self.sizes.test(self.data.spec.tensors(samples[index])))

    def _with_classes(self, sample: Tensors) -> tuple[Tensor, Tensor]:
        photo, numbers = (sample.target + 1) / 2, self.classes.numbers((sample.source[None] + 1) / 2)[0]
        factor = photo.shape[1] // numbers.shape[0]
        numbers = numbers.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
        return photo, numbers if sample.mask is None else numbers.where(sample.mask[0] > 0.5, -1)


def fit_segmenter(
    recipe: Path | str | Mapping[str, Any],
    file: Path | str,
    network: NetworkName = "small",
    classes: str | Path | None = None,
    steps: int = STEPS,
    device: str | None = None,
    overrides: Overrides = (),
) -> SegmenterHeader:
    """Fit a segmentation network on the photos of a data set of labels -> photo, and write it to ``file``.

    It learns, from the train set, to tell the class of each pixel of the real photos (the targets) as their label maps
    (the sources) have it, by cross-entropy, at the sizes and with the crops and flips that the recipe trains with. Then
    it is measured on the real photos of the val set, or of the test set where there is none.

    Args:
        recipe: a recipe (a file, PLUGIN:RECIPE or tables), or a run folder or model file, whose recipe is taken.
        file: where to write the segmenter, a .safetensors file that is not there yet.
        network: "small", a U-Net of a quarter of a million parameters, or torchvision's "fcn_resnet50", which begins
            with the published weights of its backbone.
        classes: "cmp_facades", "cityscapes", or a CSV file of lines name,red,green,blue; unless given, the flat colours
            that are found in the label maps, or the classes of the recipe's encoding.
        steps: of 4 images each.
        device: "cpu", "cuda", "cuda:N", "mps", or "auto" or None for the best there is.
        overrides: what is set on top of the recipe.

    Returns:
        What the file says: the classes, and the scores of real photos.

    Raises:
        P2PKitError: the data or its label maps cannot be used, or the file is there or cannot be written.
    """
    if steps < 1:
        raise RecipeError(f"a segmenter is fitted in 1 step or more; found {steps}")
    if (file := Path(file)).exists():
        raise RecipeError(f"{file}: it is there already; remove it to fit a segmenter anew, or give another name")
    refuse_unwritable(file)
    with open_session(TrainSettings(), device) as session, random_states_kept():
        if session.accelerator.num_processes > 1:
            raise RecipeError("a segmenter is fitted by one process; start p2pkit without torchrun or accelerate")
        photos = _photos(found := _recipe(recipe, overrides), classes, session.accelerator)
        header = _header(found, photos, network, steps)
        set_seed(derived(found.run.seed, "segmenter") % 2**32)
        made = make_network(network, header.channels, len(header.names))
        begun_with = _published_backbone(made) if isinstance(made, FCNResNet50) else ""
        made.to(session.accelerator.device)
        size = _fit(made, photos, steps, LEARNING_RATES[network], session.accelerator.device)
        header = _measured(header.model_copy(update={"size": size, "begun_with": begun_with}), made.cpu(), photos)
        write_segmenter(file, header, made)
    return header


def _header(recipe: Recipe, photos: _Photos, network: NetworkName, steps: int) -> SegmenterHeader:
    """What the file is to say, but for what fitting finds out."""
    classes = photos.classes
    return SegmenterHeader(
        network=network, channels=photos.data.channels["target_channels"], names=tuple(classes.names),
        colours=tuple(classes.colours), void=tuple(classes.void),
        tolerance=None if classes.tolerance == inf else classes.tolerance,
        data=f"{recipe.data.name} {photos.data.fingerprint}", steps=steps, seed=recipe.run.seed,
    )  # fmt: skip


def _recipe(given: Path | str | Mapping[str, Any], overrides: Overrides) -> Recipe:
    """A recipe, or that of a run or a model."""
    if not isinstance(given, Mapping):
        path = Path(given)
        if path.is_dir():
            return read_recipe(path / RECIPE, overrides)
        if path.suffix == ".safetensors":
            return read_recipe(read_header(path).recipe_tables(), overrides)
    return read_recipe(given, overrides)


def _photos(recipe: Recipe, classes: str | Path | None, accelerator: Accelerator) -> _Photos:
    """The data of a recipe, and the classes of its label maps; prints what they are.

    Raises:
        DataError: the sources are no label maps.
        RecipeError: they are several, or the data is unpaired.
    """
    data = load_data(recipe)
    for notice in data.notices:
        print_line(f"NOTICE: {notice}")
    if data.train.targets is not None or data.first.header.parts:
        what = "the data is unpaired" if data.train.targets is not None else "the data has several sources"
        raise RecipeError(f"{what}, and a segmenter is fitted on photos with one label map each")
    if sides := unsettled(data):
        data = with_found_values(data, sides, accelerator)
    parts = build_sources(recipe, data)
    found = label_classes(classes) if classes is not None else _classes(data, parts[0])
    if len(found.names) == 1:
        raise DataError(
            f"the label maps have one class alone, {found.names[0]}, and nothing is to be told apart; if numbers of "
            "classes are a small part of source.range, set that to those that there are"
        )
    if classes is not None:
        _notice_other_colours(data, found)
    named = ", ".join(found.names[:20]) + (" ..." if len(found.names) > 20 else "")
    print_line(f"classes: {len(found.names)} ({named}){f', {len(found.void)} colours of none' if found.void else ''}")
    return _Photos(data, augmentation(recipe, parts, scale=data.spec.scale), found)


def _classes(data: Data, source: SourcePart) -> LabelClasses:
    """The classes of a recipe's encoding, or those whose colours the label maps have."""
    if (count := getattr(source.encoding, "classes", None)) is not None:
        low, high = data.value_range("source")
        void = [source.encoding.void] if source.encoding.void is not None else []
        if count > MOST_CLASSES:
            raise RecipeError(f"encoding.classes: found {count}; a segmenter tells at most {MOST_CLASSES} apart")
        numbers = [((number - low) / (high - low),) for number in range(count)]
        of_none = [((number - low) / (high - low),) for number in void if low <= number <= high]
        return LabelClasses([f"class {number}" for number in range(count)], numbers, of_none, 0.5 / (high - low))
    if source.channels not in (1, 3):
        raise DataError(f"label maps have 1 or 3 channels; found {source.channels}: set source.channels")
    colours, count = ColourCount(), min(len(data.train), LOOKED_AT)
    with Progress("looking for classes", count, "label map") as progress:
        for place in range(count):
            sample = _usable(data, partial(data.train.read, place * len(data.train) // count))
            if sample is not None:
                colours.add((data.spec.tensors(sample).source + 1) / 2)
            progress.advance()
    found = colours.classes()
    if not colours.exact:
        print_line(
            "NOTICE: the label maps are compressed or resized, so the classes are the flat colours in them; rare and "
            "thin ones may be missing. Give them (--classes) to be sure"
        )
    return found


def _notice_other_colours(data: Data, classes: LabelClasses) -> None:
    """Say so where most pixels of label maps have none of the colours of the ``classes`` that were given."""
    shares = list[float]()
    for index in range(0, len(data.train), -(-len(data.train) // COMPARED)):
        sample = _usable(data, partial(data.train.read, index))
        if sample is not None:
            shares.append(classes.share_of_none((data.spec.tensors(sample).source[None] + 1) / 2))
    share = sum(shares) / max(1, len(shares))
    if share > 0.5:
        print_line(
            f"NOTICE: {share:.0%} of the pixels of the label maps have none of the colours of these classes, and are "
            "taken for the nearest; are they the classes of this data?"
        )


def _usable(data: Data, read: Callable[[], T]) -> T | None:
    """What ``read`` gives; None where that cannot be used, and such samples are skipped."""
    try:
        return read()
    except DataError as error:
        if data.bad_data == "stop" or isinstance(error, Unavailable):
            raise
        return None


def _published_backbone(network: FCNResNet50) -> str:
    """Give a network the weights that are published for its backbone; what they are, empty where they are not here."""
    from torchvision.models import ResNet50_Weights

    weights = ResNet50_Weights.IMAGENET1K_V1
    try:
        own = read_weights(published_file("resnet50", weights.url, download=True))
    except Unavailable as error:
        print_line(f"NOTICE: fcn_resnet50 begins with random weights, and will need more steps: {first_line(error)}")
        return ""
    backbone = network.network.backbone
    backbone.load_state_dict({name: own[name] for name in backbone.state_dict()})
    return f"resnet50 {weights.name}"


def _fit(network: nn.Module, photos: _Photos, steps: int, rate: float, device: torch.device) -> tuple[int, int] | None:
    """Train a network; the (height, width) of the photos that it has seen, if they had one."""
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1)
    stream, sizes = _stream(photos), set[tuple[int, int]]()
    network.train()
    with Progress("fitting the segmenter", steps, "step") as progress:
        for step in range(steps):
            by_size: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
            for _ in range(BATCH):
                photo, numbers = next(stream)
                by_size.setdefault((photo.shape[1], photo.shape[2]), []).append((photo, numbers))
            optimizer.zero_grad()
            losses = [_loss(network, group, device) for group in by_size.values()]
            loss = torch.stack(losses).mean()
            torch.autograd.backward(loss)
            optimizer.step()
            cycle.step()
            sizes |= by_size.keys()
            progress.advance(notes=[f"loss {loss.item():.3g}"] if step % EVERY == 0 else ())
    network.eval()
    return sizes.pop() if len(sizes) == 1 else None


def _loss(network: nn.Module, group: Sequence[tuple[Tensor, Tensor]], device: torch.device) -> Tensor:
    """The mean cross-entropy of the pixels that count, of photos of one size."""
    photos, numbers = (torch.stack(each).to(device) for each in zip(*group, strict=True))
    logits = network(photos)
    return F.cross_entropy(logits, numbers, ignore_index=-1, reduction="sum") / (numbers >= 0).sum().clamp(min=1)


def _stream(photos: _Photos) -> Iterator[tuple[Tensor, Tensor]]:
    """Photos of the train set for ever, each once an epoch, in an order drawn from torch's random state."""
    data, epoch = photos.data, 0
    while True:
        usable = False
        for index in torch.randperm(len(data.train)).tolist():
            if (found := _usable(data, partial(photos.train, index, epoch))) is not None:
                usable = True
                yield found
        if not usable:
            raise DataError("none of the training pairs can be used")
        epoch += 1


def _measured(header: SegmenterHeader, network: nn.Module, photos: _Photos) -> SegmenterHeader:
    """The header with the scores of real photos, of the val or test set where there is one."""
    data, segmenter = photos.data, Segmenter(header, network)
    samples = data.validation if len(data.validation) else data.train
    table = torch.zeros(len(header.names), len(header.names) + 1, dtype=torch.float64)
    count, used = min(len(samples), LOOKED_AT), 0
    with Progress("measuring the segmenter", count, "photo") as progress:
        for place in range(count):
            pair = _usable(data, partial(photos.test, samples, place * len(samples) // count))
            if pair is not None:
                table += confusion(pair[1][None], segmenter(pair[0][None]), len(header.names))
                used += 1
            progress.advance()
    if samples is data.train:
        print_line("NOTICE: there is neither a val nor a test set: the segmenter is measured on what it was fitted on")
    missing = [name for name, there in zip(header.names, table.sum(1).tolist(), strict=True) if not there]
    if missing:
        print_line(f"NOTICE: not in the {samples.split} set, and left out of the means: {', '.join(missing)}")
    found = scores(table)
    if isnan(found[SCORES[0]]):
        raise DataError(f"none of the pixels of the {samples.split} set is of a class: give the classes in a file")
    measured_on = f"{samples.split} set, {counted(used, 'photo')}"
    return header.model_copy(update={"scores": found, "measured_on": measured_on})
