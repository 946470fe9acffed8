"""A generator at work outside training: any size, and results that do not depend on the batch.

The paper translates with dropout on and with the statistics of the test batch, which is one image (section 3.3). Here
the same holds for every image by itself, whatever batch it comes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cache, partial
from types import MethodType, NoneType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from p2pkit.contracts import Policy as Policy  # its home is with what needs no torch
from p2pkit.errors import P2PKitError
from p2pkit.inference.statistics import BatchNorm, ImageStatistics, after_normalising, normalises_each_image
from p2pkit.networks.fitting import fitting_size, reflected
from p2pkit.networks.latent import Latent, SpatialNoise
from p2pkit.networks.noise import dropout_mask, normal_noise
from p2pkit.utils.seeds import derived

Corner = tuple[int, int]
"""Row and column of a tile's first pixel in its image."""


class Draw(NamedTuple):
    """What a layer has drawn."""

    kind: str
    """What it is: "dropout", "latent" or "spatial"."""
    values: Tensor
    layer: int
    """The number of the layer among the modules of the generator."""
    dropped: float
    """The share that a dropout drops; 0 for the others."""


Drawn = list[Draw]
"""Noise in the order in which it was drawn."""
SHARED, PLAIN = ("_parameters", "_buffers"), {bool, int, float, str, NoneType, Tensor}
"""What a twin has in common with its network: by name, and by types of what leads to no module."""
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def noise_seeds(seed: int, count: int) -> list[int]:
    """The seeds of ``count`` images' noise. All are the same: an image's noise must not depend on its place."""
    return [derived(seed, "noise")] * count


def layer_seed(seed: int, layer: int, kind: str) -> int:
    """The seed, of 31 bits, of the plane of noise that the layer of that number draws from for a noise seed."""
    return derived(derived(seed, layer), kind) & 0x7FFFFFFF


def latent_of_seed(seed: int, layer: int, size: int) -> Tensor:
    """The latent vector [size] that the layer of that number draws for a noise seed."""
    return torch.randn(size, generator=torch.Generator().manual_seed(derived(seed, layer, "latent")))


def draws_noise(generator: nn.Module, policy: Policy) -> bool:
    """Whether what ``generator`` makes by ``policy`` depends on a seed."""
    noisy = [module for module in generator.modules() if isinstance(module, (*DROPOUTS, Latent, SpatialNoise))]
    return policy.dropout and any(getattr(module, "p", 1.0) > 0 for module in noisy)


def infer(
    generator: nn.Module,
    source: Tensor,
    policy: Policy,
    seeds: Sequence[int],
    corners: Sequence[Corner] | None = None,
    statistics: ImageStatistics | None = None,
    drawn: Drawn | None = None,
) -> Tensor:
    """Translate sources [N, Cs, H, W] in [-1, 1] of any height and width; ``seeds`` are the N images' noise.

    The source is padded by reflection to what the generator takes, and the output cropped back: to [N, Ct, H, W], or to
    a whole multiple of H and W where the generator enlarges. The generator's mode, its running statistics and torch's
    own random state are left as they were.

    Tiles of a larger image give their ``corners`` in it, so that noise is the same wherever tiles overlap, and the
    ``statistics`` of the whole of it, which then take the place of each tile's own. ``drawn`` takes the noise: what a
    dropout lets through as a boolean tensor [N, C, h, w], a latent as [N, size], spatial noise as [N, C, h, w].

    Raises:
        P2PKitError: the generator gives images of another size than that of sources or a whole multiple of it.
    """
    assert len(seeds) == len(source)
    height, width = source.shape[2:]
    rows, columns = fitting_size(generator, (height, width))
    padded = source if (rows, columns) == (height, width) else reflected(source, rows, columns)
    top, left = (rows - height) // 2, (columns - width) // 2
    # made anew for each call, so that it is as the generator is now; that takes a millisecond or three
    network = PolicyNetwork(generator, policy)
    network.seed(seeds, [(row - top, column - left) for row, column in corners or [(0, 0)] * len(source)])
    network.statistics, network.drawn = statistics, drawn
    if statistics is not None:
        statistics.begin()
    with torch.inference_mode():
        output: Tensor = network(padded)
    scale = output.shape[2] // rows
    if scale == 0 or output.shape[2:] != (scale * rows, scale * columns):
        given, expected = "{}x{}".format(*output.shape[2:]), f"{rows}x{columns}"
        raise P2PKitError(
            f"the generator gives images of {given} for sources of {expected} (height x width); expected the same size "
            "or a whole multiple of it"
        )
    output = output[:, :, scale * top : scale * (top + height), scale * left : scale * (left + width)]
    return output.float()


class PolicyNetwork(nn.Module):
    """A generator as it translates by ``policy``: a twin of it in evaluation mode, with the same weights in memory.

    Layers of the twin that normalise, drop out or draw follow the policy. There are no hooks in it, so torch.compile
    and torch.export take it whole. It takes images of the sizes that the generator takes, and one call at a time.
    """

    def __init__(self, generator: nn.Module, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.statistics: ImageStatistics | None = None
        self.drawn: Drawn | None = None
        self.twin = _twin(generator, policy).eval()
        for number, layer in enumerate(self.twin.modules()):
            if isinstance(layer, _Layer):
                vars(layer).update(network=self, number=number)  # not as a module within it

    def seed(self, seeds: Sequence[int], origins: Sequence[Corner] | None = None) -> None:
        """Draw the noise of the images that follow by ``seeds``; their first pixels lie at ``origins`` in its plane."""
        self.origins = torch.tensor(origins or [(0, 0)] * len(seeds))
        for layer in self.twin.modules():
            if isinstance(layer, _Noise):
                layer.seeds = torch.stack([layer.of_seed(seed) for seed in seeds])

    def forward(self, source: Tensor, *noise: Tensor) -> Tensor:
        """Sources [N, Cs, H, W] in [-1, 1] to what the generator makes of them.

        With ``policy.dropout`` it takes noise, or draws it by :meth:`seed`: that of each call of a layer that draws, in
        the order of these calls. A dropout's is uniform in [0, 1), [N, C, h, w] or larger; a value is kept where its
        noise is at least the probability. A latent's is [N, size], spatial noise [N, C, h, w] or larger, from N(0, 1).
        """
        self.size, self.given, self.taken = source.shape[2:], noise, 0
        target: Tensor = self.twin(source)
        return target


class _Layer(nn.Module):
    """What follows the policy of its network; ``number`` is its place among the modules of the generator."""

    network: PolicyNetwork
    number: int


class _Norm(_Layer):
    """Normalises by the statistics of each image, of the batch, or of the whole image that a tile is part of."""

    def forward(self: Any, values: Tensor) -> Any:
        statistics, of_batch = self.network.statistics, self.network.policy.norm == "batch"
        count = math.prod(values.shape[2:]) * (values.shape[0] if of_batch else 1)
        # a single value, of a channel's mean say, has no statistics of its own; a captured count may be open
        alone = isinstance(count, int) and count == 1
        if alone if isinstance(self, BatchNorm) else statistics is None:
            return super().forward(values)
        # not by torch.nn.functional, whose check of sizes cannot be captured
        how = (self.weight, self.bias, None, None, True, 0.0, self.eps, True)
        if statistics is not None:
            values = statistics.normalised(self, values)
        elif of_batch:
            values = torch.batch_norm(values, *how)
        elif values.device.type == "cpu" and not torch.compiler.is_compiling():
            # three times as fast there as instance norm, in the memory layout that images have
            images = [torch.batch_norm(image, *how) for image in torch.split(values, 1)]
            values = torch.cat(images) if len(images) > 1 else images[0]
        else:
            values = torch.instance_norm(values, *how)
        for layer in after_normalising(self):
            values = layer(values)
        return values


class _Noise(_Layer):
    """Draws by seed and place, or takes what is given."""

    kind: str
    seeds: Tensor

    def of_seed(self, seed: int) -> Tensor:
        return torch.tensor(layer_seed(seed, self.number, self.kind), dtype=torch.int32)

    def noise(self, values: Tensor, shape: Sequence[int], is_map: bool, draw: Callable[..., Tensor]) -> Tensor:
        """The noise [N, *shape] for ``values`` [N, ...]; each value of a map [C, h, w] has its place in the image."""
        network = self.network
        if network.given:
            noise = network.given[network.taken]
            network.taken += 1
            for axis, side in enumerate(shape[1:], 2):
                # by indices, because a slice would have the capture prove that it lies within
                noise = noise.index_select(axis, torch.arange(side, device=noise.device))
            return noise
        first = torch.zeros(len(self.seeds), len(shape), dtype=torch.int32)
        if is_map:
            features, pixels = torch.tensor(shape[1:]), torch.tensor(network.size)
            first[:, 1:] = (2 * network.origins * features + pixels).div(2 * pixels, rounding_mode="floor")
        noise = draw(shape, first.to(values.device), self.seeds.to(values.device))
        if network.drawn is not None:
            network.drawn.append(Draw(self.kind, noise, self.number, getattr(self, "p", 0.0)))
        return noise


class _Dropout(_Noise):
    kind = "dropout"
    p: float

    def forward(self, values: Tensor) -> Tensor:
        if self.p == 0.0:
            return values
        channels, *sides = values.shape[1:]
        of_values = isinstance(self, nn.Dropout)  # the others drop whole channels
        shape = (channels, *(sides if of_values else [1] * len(sides)))
        noise = self.noise(values, shape, of_values and values.ndim == 4, partial(dropout_mask, self.p))
        through = noise if noise.dtype == torch.bool else noise >= self.p
        return values * through.to(values.dtype) / (1.0 - self.p)


class _SpatialNoise(_Noise):
    kind = "spatial"
    channels: int

    def forward(self, values: Tensor) -> Tensor:
        return self.noise(values, (self.channels, *values.shape[2:]), True, normal_noise).to(values)


class _Latent(_Noise):
    kind = "latent"
    size: int

    def of_seed(self, seed: int) -> Tensor:
        return latent_of_seed(seed, self.number, self.size)

    def forward(self, source: Tensor) -> Tensor:
        return self.noise(source, (self.size,), False, lambda shape, first, vectors: vectors).to(source)


def _class_of(module: nn.Module, policy: Policy) -> Any:
    """The class of what stands for ``module`` in a network that translates."""
    own: Any = type(module)
    if normalises_each_image(module, policy.norm):
        return _following(_Norm, own)
    for kinds, layer in ((DROPOUTS, _Dropout), (Latent, _Latent), (SpatialNoise, _SpatialNoise)):
        if policy.dropout and isinstance(module, kinds):
            return _following(layer, own)
    return own


@cache
def _following(layer: Any, own: Any) -> Any:
    """A class of modules that are what those of ``own`` are, and act as ``layer`` does."""
    return type(own.__name__, (layer, own), {})


def _twin(network: nn.Module, policy: Policy) -> nn.Module:
    """A network like ``network`` with modules of its own, of the classes that follow ``policy``.

    Both have the same parameters and buffers, also after one of them has been given others. What else modules hold is
    the twin's own as far as it leads to modules: lists of them, hooks and methods bound to them.
    """
    modules = list(network.modules())
    twins = {id(module): object.__new__(_class_of(module, policy)) for module in modules}
    for module in modules:
        own = vars(twins[id(module)])
        own.update(vars(module))
        for name, value in vars(module).items():
            if type(value) not in PLAIN and name not in SHARED:
                own[name] = _of_twins(value, twins)
        own["_compiled_call_impl"] = None  # torch.compile's graph of the other
    return cast(nn.Module, twins[id(network)])


def _of_twins(value: Any, twins: Mapping[int, nn.Module]) -> Any:
    """``value`` with twins in the place of modules."""
    if isinstance(value, dict):
        own = copy(value) if value else value  # most are of hooks, and empty
        for key, each in value.items():
            own[key] = _of_twins(each, twins)
        return own
    if isinstance(value, nn.Module):
        compiled = value._modules.get("_orig_mod")  # torch.compile's wrapper is bound to what it wraps
        return twins.get(id(compiled or value), value)
    if isinstance(value, MethodType):
        return MethodType(value.__func__, _of_twins(value.__self__, twins))
    if isinstance(value, partial):
        return partial(*_of_twins((value.func, *value.args), twins), **_of_twins(value.keywords, twins))
    return type(value)([_of_twins(each, twins) for each in value]) if type(value) in (list, tuple, set) else value
