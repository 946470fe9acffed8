"""What a run is made of, tried once before the run folder is made: shapes, losses, metrics, method, optimizers.

What fails is one sentence that names the component and its distribution. Nothing is changed by it: buffers, random
states and metrics are as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate.utils import convert_outputs_to_fp32
from torch import Tensor, nn

from p2pkit.contracts import Batch, DiscriminatorOutput, Stateful, Terms, TermsOfPart
from p2pkit.data.bad_samples import SkipBadSamples
from p2pkit.data.loader import Example, Examples, collate, on_device, steps_per_epoch
from p2pkit.errors import DataError, P2PKitError, RecipeError, counted, in_one_line, is_out_of_memory
from p2pkit.evaluation.baselines import CLASS_MEAN
from p2pkit.networks.encoding import Encoded, split_sources
from p2pkit.networks.fitting import refuse_unfitting
from p2pkit.run_contracts import Position
from p2pkit.training.parts import TrainingParts
from p2pkit.training.prepare import networks_of, try_optimizer
from p2pkit.training.state_dicts import own_state, put_back, take_states
from p2pkit.training.step import StepContext, frozen
from p2pkit.training.trackers import refuse_missing
from p2pkit.utils.seeds import seeded

DRAWS = 8
"""How many times augmentations are tried on the first sample: what they do at random is mostly seen then."""


@dataclass(frozen=True)
class Shapes:
    """The sizes of a source [C, H, W], of what the generator makes of it, and of the logits [N, 1, h, w], if any."""

    source: torch.Size
    fake: torch.Size
    logits: Sequence[torch.Size]


def first_batch(parts: TrainingParts, count: int) -> Batch:
    """``count`` times the first training example.

    Raises:
        DataError: they cannot be read or cropped, or there are too few samples for a batch.
    """
    examples = Examples(parts.train_set, parts.spec, parts.augmentation, parts.loader)
    drawn: list[Example] = []
    for epoch in range(DRAWS if parts.augmentation.augmentations else 1):
        example = examples[epoch, 0]
        if not isinstance(example, Example):
            raise example
        drawn.append(example)
    if parts.loader.batch_size > 1 and isinstance(differing := collate(drawn), P2PKitError):
        raise differing

    source, target, mask = drawn[0].tensors
    repeated = source.repeat(count, 1, 1, 1), target.repeat(count, 1, 1, 1), [drawn[0].key] * count
    return Batch(*repeated, None if mask is None else mask.repeat(count, 1, 1, 1))


def try_training(
    parts: TrainingParts, device: torch.device, processes: int = 1,
    autocast: Callable[[], AbstractContextManager[Any]] | None = None,
) -> Shapes:  # fmt: skip
    """Try all parts on ``device``, where their networks are, at this process's share of the recipe's batch size.

    With ``autocast`` networks compute in mixed precision, and all else in float32, as in training.

    Raises:
        DataError: there are too few samples for a batch, the first cannot be used, or the generator does not take it.
        RecipeError: a component does not do what its kind is for.
    """
    try_settings(parts, processes)
    batch = on_device(first_batch(parts, parts.loader.batch_size // processes // parts.train.accumulate), device)
    networks = networks_of(parts)
    mixed = _mixed_precision(networks, autocast) if autocast else nullcontext()
    kept = _state_kept(parts) if isinstance(parts.method, Stateful) else nullcontext()
    with seeded(parts.run.seed), _buffers_kept(networks), kept, mixed:
        shapes, fake = _try_networks(parts, batch)
        _try_losses(parts, batch, fake, parts.discriminator)
        _try_metrics(parts, batch)
        with _named(parts.origins["method"], batch, "a step in which update(network, terms) gets scalars to lower"):
            seen = batch if batch.mask is None else MaskedBatch(**vars(batch))
            tried = _TriedUpdate(parts, seen, parts.train.accumulate)
            parts.method.train_step(seen, tried)
        if not tried.updates:
            origin = parts.origins["method"]
            raise RecipeError(f"{origin}: its step trains no network; call update(network, terms) for each")
        if isinstance(seen, MaskedBatch) and not seen.mask_read:
            raise RecipeError(
                f"{parts.origins['method']}: its step does not look at batch.mask, and the data has masks; give it to "
                "StepContext(source, target, fake, discriminator, batch.mask), or leave masks out"
            )
    return shapes


def try_shapes(parts: TrainingParts) -> Shapes:
    """Try parts whose networks have no weights (torch's meta device): shapes there, losses and metrics on two images.

    Raises: as :func:`try_training`.
    """
    device = next(parts.generator.parameters()).device
    if device.type != "meta":
        return try_training(parts, device)
    try_settings(parts, 1)
    batch = first_batch(parts, min(parts.loader.batch_size, 2))
    if parts.discriminator is not None:
        parts.discriminator.eval()  # in training it may draw, and look at what it has drawn
    shapes, _ = _try_networks(parts, on_device(batch, device))
    with seeded(parts.run.seed):
        # images of which losses that take their logarithm, or divide by their spread, have something to see
        fake = (torch.rand(len(batch.target), *shapes.fake) * 2 - 1).requires_grad_()
        shaped = None if parts.discriminator is None else _ShapedLike(parts.discriminator)
        _try_losses(parts, batch, fake, shaped)
        _try_metrics(parts, batch)
    return shapes


def try_settings(parts: TrainingParts, processes: int) -> None:
    """Try what needs no network: whether a batch can be shared out and cut, the optimizers, the schedule.

    Raises:
        DataError: there are too few samples for a batch.
        RecipeError: one of these cannot be used.
    """
    steps_per_epoch(len(parts.train_set), parts.loader, processes, parts.augmentation.settings.crops_per_image)
    if parts.loader.batch_size % (processes * parts.train.accumulate):
        raise RecipeError(
            f"loader.batch_size = {parts.loader.batch_size}: each of {processes} process(es) cuts its share into "
            f"train.accumulate = {parts.train.accumulate} parts of one size; make it a multiple of both together, "
            f"{processes * parts.train.accumulate}"
        )
    for network, make in parts.optimizers.items():
        try_optimizer(make, parts.origins[f"optimizer.{network}"])
    origin = parts.origins["schedule"]
    for progress in (0.0, 0.5, 1.0):
        try:
            factor: Any = parts.schedule(Position(progress, int(100 * progress), 10 * progress))
        except Exception as error:
            raise RecipeError(f"{origin} fails at {progress:.0%} of a run: {in_one_line(error)}") from error
        if not isinstance(factor, int | float) or not 0 <= factor < math.inf:
            raise RecipeError(f"{origin} gives {factor!r} at {progress:.0%} of a run, expected a number of at least 0")
    validation = parts.validation
    if validation.settings.baseline == CLASS_MEAN and validation.spec.scale > 1:
        raise RecipeError(
            f'validation.baseline = "{CLASS_MEAN}": a pixel of a source has no one colour in a target that is '
            f'{validation.spec.scale} times as large; choose "source", or "all"'
        )
    if parts.run.trackers:
        refuse_missing(parts.run.trackers)


def _try_networks(parts: TrainingParts, batch: Batch) -> tuple[Shapes, Tensor]:
    """Send a batch through both networks; what they give has to be what their kinds are for."""
    generator, source = parts.generator, batch.source
    refuse_unfitting(generator, source.shape[2:], batch.keys[0])
    if parts.train_set.targets is not None and source.shape[2:] != batch.target.shape[2:]:
        found = f"{_sides(source.shape[2:])} and {_sides(batch.target.shape[2:])}"
        size = list(source.shape[2:])
        raise DataError(
            f"{parts.train_set.origin}: its sources and targets differ in size (height x width), {found}; unpaired "
            f"data needs one size, so write load_size = {size} below [transform]"
        )
    for part in parts.sources if isinstance(generator, Encoded) else ():
        if part.encoding is not None:
            own, encoding = split_sources(source, parts.sources)[part.name], deepcopy(part.encoding).to(source.device)
            _image(parts.origins[f"encoding.{part.name}".strip(".")], encoding, own, batch, encoding.channels)
    fake = _image(parts.origins["generator"], generator, source, batch, *batch.target.shape[1:])
    if parts.discriminator is None:
        return Shapes(source.shape[1:], fake.shape[1:], []), fake
    expected = "logits [N, 1, h, w], a list of them, or a DiscriminatorOutput"
    with _named(parts.origins["discriminator"], batch, expected):
        output = DiscriminatorOutput.of(parts.discriminator(source, fake.detach()))
        for one in output.logits:
            if not isinstance(one, Tensor):
                raise TypeError(f"it gives a {type(one).__name__} where logits are expected, a tensor")
        logits = list(map(Tensor.size, output.logits))
    return Shapes(source.shape[1:], fake.shape[1:], logits), fake


def _image(origin: str, network: nn.Module, source: Tensor, batch: Batch, channels: int, *size: int) -> Tensor:
    """What ``network`` makes of sources [N, Cs, H, W], which has to be [N, channels, *size], or of their size."""
    expected = (len(source), channels, *(size or source.shape[2:]))
    with _named(origin, batch, f"images of shape {list(expected[1:])}"):
        made = network(source)
    if not isinstance(made, Tensor):
        raise RecipeError(f"{origin} gives a {type(made).__name__} where a tensor is expected")
    if made.shape != expected:
        raise RecipeError(f"{origin} gives {_sides(made.shape[1:])} where {_sides(expected[1:])} is expected")
    return made


def _try_losses(parts: TrainingParts, batch: Batch, fake: Tensor, discriminator: nn.Module | None) -> None:
    """Ask each loss for both of its terms, as methods do."""
    seen = batch.source, batch.target
    for name, weight, loss in parts.losses:
        origin = parts.origins.get(f"losses.{name}", f"loss {name!r}")
        for term, image in (("generator_loss", fake), ("discriminator_loss", fake.detach())) if weight else ():
            held = nullcontext() if discriminator is None or image is not fake else frozen(discriminator)
            try:
                with held, _named(origin, batch, "a scalar tensor, or None"):
                    value: Any = getattr(loss, term)(StepContext(*seen, image, discriminator, batch.mask))
            except RecipeError as error:
                if discriminator is None:
                    raise RecipeError(f"{origin}: {error}") from error
                raise
            if value is None or (isinstance(value, Tensor) and value.ndim == 0):
                if value is not None and image.requires_grad and not value.requires_grad:
                    raise RecipeError(
                        f"{origin} gives the generator a number without a gradient, which trains nothing; leave out "
                        "detach(), no_grad(), rounding and comparisons, or give None"
                    )
                continue
            found, expected = f"a {type(value).__name__}", "expected a scalar tensor, or None"
            if isinstance(value, Tensor):
                found, expected = f"a tensor {list(value.shape)}", "expected a scalar: take its mean"
            named = f": {term}" if hasattr(getattr(loss, "component", loss), term) else ""
            raise RecipeError(f"{origin}{named} gives {found} for {_described(batch)}; {expected}")


def _try_metrics(parts: TrainingParts, batch: Batch) -> None:
    """Take the metrics of an image, as validation does where there are pairs; what goes by one must find it.

    It is the first validation sample that can be used, which is needed late, of the size that validation has it in.
    """
    validation, found, samples = parts.validation, dict[str, float](), parts.validation.validation_set
    source, target = batch.source[0].cpu(), batch.target[0].cpu()
    if len(samples):
        skipping = SkipBadSamples(len(samples), parts.loader.bad_data)
        (source, target, _), _ = skipping.first_usable(0, partial(validation.tensors, samples))[0]
    for each in deepcopy(list(validation.metrics)) if parts.train_set.targets is None else ():
        given, images = source[None], (target.flip(-1)[None], target[None])  # not the fake, it may be of a smaller crop
        if validation.colours:
            images = validation.picture(given, images[0]), validation.picture(given, images[1])
        if each.over_set:
            for _ in range(2):  # distances of distributions need two
                each.update(*each.features(*images, given))
        validation.collect(found, each, each.compute() if each.over_set else each.of_image(*images, given))
    if validation.settings.monitor:
        validation.refuse_unknown(validation.settings.monitor, found, "validation.monitor")
    deciding = validation.deciding(found) if validation.settings.every is not None else None
    if deciding and validation.higher_is_better[deciding] is None:
        origin = {each.name: each.origin for each in validation.metrics}.get(deciding, f"the metric {deciding!r}")
        raise RecipeError(
            f"{origin} does not say whether higher is better, so it cannot decide which model is best; "
            "name another as validation.monitor, or leave validation.every out"
        )
    for name, each in {"schedule": parts.schedule, **parts.callbacks}.items():
        goes_by_metrics = hasattr(each, "monitor") or (name == "schedule" and hasattr(each, "on_validation_end"))
        if not goes_by_metrics:
            continue
        if validation.settings.every is None or not validation.can_measure():
            raise RecipeError(
                f"{parts.origins[name]} goes by a validation metric, and none is taken while training: set "
                'validation.every, as in every = "1 epoch", name a metric in [[metrics]], and have a val or test set'
            )
        if monitor := getattr(each, "monitor", None):
            validation.refuse_unknown(monitor, found, parts.origins[name])


@dataclass
class _TriedUpdate:
    """Takes the place of the optimisation (contracts.Update): looks at the terms, and changes no weight."""

    parts: TrainingParts
    batch: Batch
    accumulate: int
    progress: float = 0.0
    updates: int = 0
    """Updates with terms, so far."""

    def __call__(
        self, networks: str | Sequence[str], terms: Terms | TermsOfPart, fixed: Iterable[nn.Parameter] = ()
    ) -> None:
        if callable(terms):
            terms = terms(self.batch)
        elif self.accumulate > 1:
            raise RecipeError(
                f"train.accumulate = {self.accumulate}: {self.parts.origins['method']} calls update() with terms of "
                "the whole batch, not with a function of a part of it; leave train.accumulate out"
            )
        if unknown := ({networks} if isinstance(networks, str) else set(networks)) - set(self.parts.method.networks):
            raise ValueError(f"an update of {', '.join(unknown)}, which its networks do not name")
        self.updates += bool(terms)
        for name, term in terms.items():
            if not isinstance(term, Tensor) or term.ndim:
                raise ValueError(f"the term {name!r} is not a scalar tensor")


class MaskedBatch(Batch):
    """A batch that knows whether its mask was looked at."""

    mask_read = False
    """A method that does not look at masks is refused where there are some."""

    def __getattribute__(self, name: str) -> Any:
        if name == "mask":
            self.mask_read = True
        return super().__getattribute__(name)


class _ShapedLike(nn.Module):
    """Logits and features of the shapes that a discriminator without weights gives, which depend on the image."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self._shapes = [discriminator]  # in a list: its weights are not this module's
        self.has_features = True

    def forward(self, source: Tensor, image: Tensor, features: bool = False) -> DiscriminatorOutput:
        discriminator = self._shapes[0]
        source, target = (one.detach().to("meta") for one in (source, image))
        asked = StepContext(source, target, target, discriminator).pred_real
        value = image.mean(dim=(1, 2, 3))

        def filled(shapes: Sequence[Tensor]) -> list[Tensor]:
            return [value.view(-1, *[1] * (one.ndim - 1)).expand(one.shape) for one in shapes]

        return DiscriminatorOutput(filled(asked.logits), filled(asked.features))


@contextmanager
def _named(origin: str, batch: Batch, expected: str) -> Iterator[None]:
    """Turn what a component raises in the body into one sentence that names it and what was expected."""
    try:
        yield
    except Exception as error:
        if isinstance(error, P2PKitError) or is_out_of_memory(error):
            raise
        what = in_one_line(error)
        raise RecipeError(f"{origin} fails on {_described(batch)}: {what}; expected {expected}") from error


@contextmanager
def _mixed_precision(
    networks: Sequence[nn.Module], autocast: Callable[[], AbstractContextManager[Any]]
) -> Iterator[None]:
    """Let networks compute in mixed precision and give float32, as Accelerate's prepared models do."""

    def mixed(forward: Callable[..., Any]) -> Any:
        def run(*arguments: Any, **keywords: Any) -> Any:
            with autocast():
                return forward(*arguments, **keywords)

        return convert_outputs_to_fp32(run)

    try:
        for network in networks:
            network.forward = mixed(network.forward)
        yield
    finally:
        for network in networks:
            vars(network).pop("forward", None)


@contextmanager
def _buffers_kept(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Put back the buffers of what is in training mode: running statistics, power iterations."""
    kept = []
    for network in networks:
        for module in network.modules():
            for buffer in module.buffers(recurse=False) if module.training else ():
                kept.append((buffer, buffer.clone()))
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)


@contextmanager
def _state_kept(parts: TrainingParts) -> Iterator[None]:
    """Put the method's state back, once it is seen that a checkpoint takes it before a step and after one."""
    origin, method = parts.origins["method"], own_state(parts.method)
    before = take_states({origin: method})[origin]
    yield
    take_states({origin: method})
    try:
        put_back(method, *before, next(parts.generator.parameters()).device)
    except RecipeError as error:
        raise RecipeError(f"{origin}: {error}") from error


def _described(batch: Batch) -> str:
    count, _, height, width = batch.source.shape
    return f"a batch of {counted(count, 'training image')} of {height}x{width}"


def _sides(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))
