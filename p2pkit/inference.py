"""A generator at work outside training: any size, and results that do not depend on the batch.

The paper translates with dropout on and with the statistics of the test batch, which is one image (section 3.3). Here
the same holds for every image by itself, whatever batch it comes in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from p2pkit.contracts import Normalisation, SizedGenerator
from p2pkit.contracts import Policy as Policy  # its home is with what needs no torch
from p2pkit.errors import DataError
from p2pkit.seeds import derived

LayoutT = TypeVar("LayoutT", Tensor, nn.Module)
BatchNorm = nn.modules.batchnorm._BatchNorm
Dropout = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def noise_seeds(seed: int, count: int) -> list[int]:
    """The seeds of ``count`` images' noise. All are the same: an image's noise must not depend on its place."""
    return [derived(seed, "noise")] * count


def infer(generator: nn.Module, source: Tensor, policy: Policy, seeds: Sequence[int]) -> Tensor:
    """Translate sources [N, Cs, H, W] in [-1, 1] of any height and width; ``seeds`` are the N images' noise.

    The source is padded by reflection to what the generator takes, and the output cropped back. The generator's mode,
    its running statistics and torch's own random state are left as they were.
    """
    assert len(seeds) == len(source)
    height, width = source.shape[2:]
    padded = _reflected(source, fitting_size(generator, (height, width)))
    with torch.inference_mode(), _following(generator, policy, seeds):
        output: Tensor = generator(in_fast_layout(padded, padded.device))
    top, left = (padded.shape[2] - height) // 2, (padded.shape[3] - width) // 2
    return output[:, :, top : top + height, left : left + width].float()


def in_fast_layout(what: LayoutT, device: torch.device) -> LayoutT:
    """Images or a network in the memory layout that is fastest on ``device``: channels last on a CPU."""
    # oneDNN's convolutions run up to 1.8 times as fast so; the values are the same
    return what.to(memory_format=torch.channels_last) if device.type == "cpu" else what


def fitting_size(generator: nn.Module, size: Sequence[int]) -> tuple[int, int]:
    """The smallest (height, width) not below ``size`` that ``generator`` takes."""
    if not isinstance(generator, SizedGenerator):
        return size[0], size[1]
    multiple, smallest = generator.size_multiple, generator.smallest_size
    height, width = (math.ceil(max(side, smallest) / multiple) * multiple for side in size)
    return height, width


def refuse_unfitting(generator: nn.Module, size: Sequence[int], key: str) -> None:
    """Raise DataError, beginning with ``key``, when ``generator`` takes no images of (height, width) as they are."""
    height, width = size
    if isinstance(generator, SizedGenerator) and fitting_size(generator, size) != (height, width):
        raise DataError(
            f"{key}: {height}x{width} (height x width) is no size that the generator takes; it takes multiples of "
            f"{generator.size_multiple}, from {generator.smallest_size} on. Set transform.load_size or "
            "transform.crop_size"
        )


def _reflected(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [N, C, H, W] continued by reflection, evenly on all sides, to ``size``."""
    if tuple(image.shape[2:]) == size:
        return image
    # by indices, because torch reflects no further than the image is wide
    rows, columns = (_reflected_indices(old, new) for old, new in zip(image.shape[2:], size, strict=True))
    return image[:, :, rows][:, :, :, columns]


def _reflected_indices(side: int, new_side: int) -> Tensor:
    before = (new_side - side) // 2
    return torch.from_numpy(np.pad(np.arange(side), (before, new_side - side - before), mode="reflect"))


@contextmanager
def _following(network: nn.Module, policy: Policy, seeds: Sequence[int]) -> Iterator[None]:
    """Put ``network`` in evaluation mode, with its batch norms and dropouts acting on ``policy``, for a while."""
    trained = {module: module.training for module in network.modules()}
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def noise(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return _dropped(inputs[0], module.p, generators, whole_channels=not isinstance(module, nn.Dropout))

    def normalise(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return _normalised(module, inputs[0], policy.norm)

    network.eval()
    handles = []
    for module in network.modules():
        if isinstance(module, Dropout) and policy.dropout:
            handles.append(module.register_forward_hook(noise))
        elif isinstance(module, BatchNorm) and policy.norm != "running":
            handles.append(module.register_forward_hook(normalise))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in trained.items():
            module.training = mode


def _dropped(values: Tensor, p: float, generators: Sequence[torch.Generator], whole_channels: bool) -> Tensor:
    """Inverted dropout with one generator an image, drawn on the CPU so that every device sees the same noise."""
    if p == 0.0:
        return values
    shape = (values.shape[1], *([1] * (values.ndim - 2))) if whole_channels else values.shape[1:]
    kept = torch.stack([torch.rand(shape, generator=generator) >= p for generator in generators])
    return values * kept.to(values.device, values.dtype) / (1.0 - p)


def _normalised(module: Any, values: Tensor, norm: Normalisation) -> Tensor:
    """Batch norm with the statistics of each image, or of the batch; running statistics are neither read nor moved."""
    if norm == "batch":
        return F.batch_norm(values, None, None, module.weight, module.bias, training=True, eps=module.eps)
    each = [
        F.batch_norm(one, None, None, module.weight, module.bias, training=True, eps=module.eps)
        for one in torch.split(values, 1)
    ]
    return torch.cat(each)
