"""The contract of a generator (contracts.Generator, contracts.SizedGenerator)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from p2pkit.components.signature import supplied_names
from p2pkit.contracts import Policy, SizedGenerator
from p2pkit.errors import shortened
from p2pkit.export.exporting import export_model
from p2pkit.inference.model_file import write_model
from p2pkit.inference.model_header import ModelHeader
from p2pkit.inference.policy import Corner, infer
from p2pkit.networks.fast_convolutions import speed_up_convolutions
from p2pkit.networks.fitting import fitting_size
from p2pkit.testing.checks import ContractCheck, ContractViolation, Subject, contract, require
from p2pkit.testing.fixtures import TWO_SOURCES, encoded, half_mask, two_sources
from p2pkit.testing.networks import (
    CHANNELS,
    images,
    made_without_weights,
    require_copies,
    require_gradients,
    require_same_after_checkpoint,
    require_same_weights,
    require_trainable,
    train_a_step,
)
from p2pkit.training.step import StepContext

ODD_SIZES = ((1, 1), (7, 50), (33, 47))
SCALE = 2
"""At which a generator that asks for ``scale`` is looked at beside 1."""
CORNERS = ((0, 0), (20, 48), (7, 5))
"""Where three tiles lie in their image."""
REMEDY = (
    "draw noise by torch.nn.Dropout, or by Latent or SpatialNoise of p2pkit.networks.latent, which translation seeds"
)
TOLERANCE = 1e-3
"""As a part of the largest value; the last bits of a convolution depend on its way and on how many images there are."""


def _made(subject: Subject, seed: int = 0) -> Any:
    """The generator for the first numbers of channels, in training mode as it was made."""
    return subject.make(seed, **CHANNELS[0])


def _source(subject: Subject, generator: nn.Module, count: int = 2, seed: int = 0) -> Tensor:
    """Sources of a size that the generator takes as it is."""
    channels = subject.supplied("source_channels", CHANNELS[0]["source_channels"])
    return images(channels, *fitting_size(generator, (32, 48)), count, seed)


def _translated(generator: nn.Module, source: Tensor, corners: Sequence[Corner] | None = None) -> Tensor:
    return infer(generator, source, Policy(), [7] * len(source), corners)


def _require_images(output: Any, expected: Sequence[int], of: str) -> None:
    require(isinstance(output, Tensor), f"{type(output).__name__} instead of a tensor, of {of}")
    require(list(output.shape) == list(expected), f"{list(output.shape)} instead of {list(expected)}, of {of}")
    require(output.isfinite().all(), f"values that are not finite, of {of}")
    low, high = float(output.detach().min()), float(output.detach().max())
    require(low >= -1 and high <= 1, f"values from {low:.4g} to {high:.4g}, of {of}")


@contract("it is a torch module with parameters to train")
def is_trainable(subject: Subject) -> None:
    """There is something for an optimizer."""
    require_trainable(_made(subject))


@contract("size_multiple and smallest_size are given both or not at all, are 1 or more, and the second fits the first")
def declares_its_sizes(subject: Subject) -> None:
    """The two attributes are what inference takes them for."""
    generator = _made(subject)
    sizes = {name: getattr(generator, name, None) for name in ("size_multiple", "smallest_size")}
    given = [value for value in sizes.values() if value is not None]
    require(not given or len(given) == len(sizes), f"only one of them: {sizes}")
    require(all(isinstance(value, int) and value > 0 for value in given), str(sizes))


@contract("it maps sources [N, Cs, H, W] in [-1, 1] to targets [N, Ct, H, W] in [-1, 1], for any numbers of channels")
def gives_images(subject: Subject) -> None:
    """Shape and range, in training mode and in evaluation mode."""
    for channels in CHANNELS:
        generator = subject.make(**channels)
        numbers = {name: subject.supplied(name, value) for name, value in channels.items()}
        source = images(numbers["source_channels"], *fitting_size(generator, (32, 48)))
        expected = [2, numbers["target_channels"], *source.shape[2:]]
        for mode in (True, False):
            _require_images(generator.train(mode)(source), expected, f"sources {list(source.shape)}")


@contract("a source of one colour gives finite values, in training and in translation")
def takes_constants(subject: Subject) -> None:
    """Normalisation must not divide by a deviation of zero."""
    generator = _made(subject)
    for value in (-1.0, 0.0, 1.0):
        source = torch.full_like(_source(subject, generator), value)
        for output in (generator(source), _translated(generator, source)):
            require(output.isfinite().all(), f"values that are not finite, of sources that are {value:g} everywhere")


@contract("it takes the sizes that it declares (any, if it declares none), and through p2pkit's inference every size")
def takes_its_sizes(subject: Subject) -> None:
    """The smallest sizes as they are, odd ones padded by reflection."""
    generator = _made(subject).eval()
    step = generator.size_multiple if isinstance(generator, SizedGenerator) else 1
    height, width = fitting_size(generator, (1, 1))
    for size in ((height, width), (height + step, width), (height, width + 2 * step)):
        _require_size(subject, generator, size, "in evaluation mode")
    for size in ODD_SIZES:
        _require_size(subject, lambda source: _translated(generator, source), size, "through inference")


@contract("if it asks for a scale, it gives targets of twice the height and width at 2, through p2pkit's inference too")
def enlarges(subject: Subject) -> None:
    """In training mode as in translation, and every weight of the larger network learns."""
    if "scale" not in supplied_names(subject.registered.factory, "generators"):
        return
    generator = subject.make(**CHANNELS[0], scale=SCALE)
    _require_size(subject, generator, fitting_size(generator, (32, 48)), "in training mode", SCALE)
    for size in ODD_SIZES:
        _require_size(subject, partial(_translated, generator), size, "through inference", SCALE)
    source = _source(subject, generator)
    require_gradients(generator, lambda: (generator(source) - 0.5).square().mean())


def _require_size(
    subject: Subject, translate: Callable[[Tensor], Any], size: tuple[int, int], how: str, scale: int = 1
) -> None:
    source, target = (subject.supplied(name, value) for name, value in CHANNELS[0].items())
    where = f"sources of {size[0]}x{size[1]}, {how}" + (f", at scale {scale}" if scale > 1 else "")
    try:
        output = translate(images(source, *size))
    except Exception as error:
        hint = "declare smallest_size and size_multiple if it cannot take them"
        raise ContractViolation(f"{type(error).__name__}: {error}, of {where}; {hint}") from error
    _require_images(output, [2, target, *(scale * side for side in size)], where)


@contract("every trainable parameter gets a gradient")
def learns(subject: Subject) -> None:
    """All weights take part in the output."""
    generator = _made(subject)
    source = _source(subject, generator)
    require_gradients(generator, lambda: (generator(source) - 0.5).square().mean())


@contract("its weights, and its noise in training, depend on the seed alone")
def follows_the_seed(subject: Subject) -> None:
    """Two made from one seed are equal, and so are their outputs."""
    first, second = _made(subject), _made(subject)
    require_same_weights(first, second, "weights differ between two made from one seed")
    outputs = []
    for generator in (first, second):
        set_seed(1)
        outputs.append(generator(_source(subject, generator)))
    require(torch.equal(*outputs), "in training, one source and one seed give different outputs")


@contract("it translates without a trace: the same whatever has been drawn before, running statistics unchanged")
def leaves_no_trace(subject: Subject) -> None:
    """Noise outside the modules for it cannot be counted, and a state that moves in translation is not saved."""
    generator, untouched = _made(subject), _made(subject)
    source = _source(subject, generator)
    outputs = []
    for seed in (1, 2):
        set_seed(seed)
        drawn = torch.get_rng_state()
        outputs.append(_translated(generator, source))
        unchanged = torch.equal(drawn, torch.get_rng_state())
        require(unchanged, f"it draws from torch's global random state in evaluation mode; {REMEDY}")
    require(torch.equal(*outputs), f"two translations of one source differ; {REMEDY}")
    require_same_weights(generator, untouched, "translation has changed the state")


@contract("a translation does not depend on the batch: each image, or tile of one, is translated as if it were alone")
def translates_each_by_itself(subject: Subject) -> None:
    """A batch gives what its images give one by one, and what its tiles give."""
    generator = _made(subject)
    source = _source(subject, generator, count=3)
    for corners in ([(0, 0)] * 3, CORNERS):
        each = zip(torch.split(source, 1), corners, strict=True)
        alone = torch.cat([_translated(generator, image, [corner]) for image, corner in each])
        _require_close(_translated(generator, source, corners), alone, "between a batch and its images")


@contract("opened on a CPU, where convolutions go faster ways, it translates as it does in validation")
def translates_the_faster_ways(subject: Subject) -> None:
    """They round otherwise; and give maps channels last to modules that are said to take them."""
    generator, opened = _made(subject), _made(subject).requires_grad_(False)
    speed_up_convolutions(opened, frozen=True)
    source = _source(subject, generator, count=1)
    expected = _translated(generator, source)
    try:
        found = _translated(opened, source)
    except RuntimeError as error:
        hint = "; leave out channels_last" if getattr(generator, "channels_last", False) else ""
        raise ContractViolation(f"{shortened(error)}{hint}") from error
    _require_close(found, expected, "from those in validation")


def _require_close(found: Tensor, expected: Tensor, between: str) -> None:
    difference, largest = float((found - expected).abs().max()), float(expected.abs().max())
    alike = difference <= TOLERANCE * largest
    require(alike, f"values of up to {largest:.2g} that differ by up to {difference:.2g} {between}")


@contract("weights saved after a step of training, and loaded into another one like it, give the same output")
def can_be_saved(subject: Subject) -> None:
    """A checkpoint has all that was learnt, in tensors that safetensors takes."""
    generator, anew = _made(subject), _made(subject, seed=1)
    source = _source(subject, generator)
    optimizer = train_a_step(generator, lambda: (generator(source) - 0.5).square().mean())
    require_same_after_checkpoint(generator, anew, optimizer, lambda network: [_translated(network, source)])


@contract("it learns from several sources, one of them encoded, under a mask, and is saved and loaded with them")
def takes_two_sources(subject: Subject) -> None:
    """A picture and a label map, one after another along the channels, through one step and a checkpoint."""
    channels, target = subject.supplied("source_channels", TWO_SOURCES), CHANNELS[0]["target_channels"]
    if channels < 2:
        return
    made = []
    for seed in (0, 1):
        parts = two_sources(channels)
        made.append(encoded(subject.make(seed, source_channels=channels, target_channels=target), parts))
    network, anew = made
    height, width = fitting_size(network, (32, 48))
    source = images(sum(part.channels for part in parts), height, width)
    wanted = images(subject.supplied("target_channels", target), height, width, seed=1)
    _require_images(network(source), wanted.shape, "two sources")

    def term() -> Tensor:
        seen = StepContext(source, wanted, network(source), mask=half_mask(2, height, width))
        return (seen.fake - seen.target).abs().mean()

    optimizer = train_a_step(network, term)
    require_same_after_checkpoint(network, anew, optimizer, lambda network: [_translated(network, source)])


@contract("it can be copied (copy.deepcopy), as EMA and export do")
def can_be_copied(subject: Subject) -> None:
    """A copy, made after a step of training, works like the original."""
    generator = _made(subject)
    source = _source(subject, generator)
    train_a_step(generator, lambda: (generator(source) - 0.5).square().mean())
    require_copies(generator, lambda network: [_translated(network, source)])


@contract("`p2pkit check` can try it: made on the meta device, without weights, it can be called there")
def can_be_tried(subject: Subject) -> None:
    """Neither making nor calling it asks for values that are not there."""
    generator = made_without_weights(lambda: _made(subject))
    source = _source(subject, generator).to(next(generator.parameters()).device)
    with torch.no_grad():
        generator(source)


CHECKS = (
    is_trainable, declares_its_sizes, gives_images, takes_constants, takes_its_sizes, enlarges, learns,
    follows_the_seed, leaves_no_trace, translates_each_by_itself, translates_the_faster_ways, can_be_saved,
    takes_two_sources, can_be_copied, can_be_tried,
)  # fmt: skip


def exported_as(form: str) -> ContractCheck:
    """The check that the generator, exported as ``form``, gives what it gives in p2pkit."""

    @contract(f"exported as {form}, it gives what it gives in p2pkit, at any size and in any batch")
    def can_be_exported(subject: Subject) -> None:
        """The export compares what it wrote with the model."""
        channels = {name: subject.supplied(name, value) for name, value in CHANNELS[0].items()}
        own = {name: value for name, value in subject.parameters.items() if name not in channels}
        registered = subject.registered
        header = ModelHeader(
            generator=registered.name, parameters=own, distribution=registered.distribution,
            distribution_version=registered.version, source_dtype="uint8", target_dtype="uint8", **channels,
        )  # fmt: skip
        with TemporaryDirectory() as folder:
            model = Path(folder, "model.safetensors")
            write_model(model, _made(subject).state_dict(), header)
            export_model(model, Path(folder, "exported"), form)

    return can_be_exported
