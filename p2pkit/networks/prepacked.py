"""Convolutions by weights that oneDNN, PyTorch's library for a CPU, has arranged beforehand.

It reads weights in an order of its own. PyTorch hands it those of a layer as they are stored, to be arranged anew at
each call: of maps of a few pixels that takes longer than to compute with them. Weights that stay are arranged once,
for the operators with which PyTorch's own compiler calls oneDNN.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

Layer = nn.Conv2d | nn.ConvTranspose2d
MOST_SIZES = 3
"""Of images for which weights are kept arranged: square, upright, lying. Each takes the memory of the weights."""


class _Packed(NamedTuple):
    """Weights as oneDNN reads them."""

    arranged_for: tuple[Any, ...]
    """The layer's sizes, the images', the number of threads, and the state of the weights."""
    plain: Tensor
    """The weights as they are stored; kept so that no others come to lie there."""
    weights: Tensor


_packed = WeakTensorKeyDictionary()
"""Up to MOST_SIZES by the weights, the last used first. Modules that have the same weights share what is arranged, in
all threads; it goes when the weights go."""


def can_prepack(layer: Layer) -> bool:
    """Whether oneDNN computes ``layer``, which has no groups, by the operators used here.

    In others, with dilation or uneven strides, these have been seen to crash or to read what was never written.
    """
    even = layer.dilation == (1, 1) and layer.stride[0] == layer.stride[1]
    return even and layer.weight.dtype == torch.float32 and _is_there()


@cache
def _is_there() -> bool:
    backend: Any = torch.backends.mkldnn
    names = (
        "_convolution_pointwise", "_convolution_transpose_pointwise",
        "_reorder_convolution_weight", "_reorder_convolution_transpose_weight",
    )  # fmt: skip
    return backend.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


def stays(weight: Tensor) -> bool:
    """Whether ``weight`` is frozen, and computed with in inference mode."""
    # weights made in inference mode do not tell whether they have been changed
    frozen = torch.is_inference_mode_enabled() and not (weight.requires_grad or weight.is_inference())
    return frozen and bool(torch.backends.mkldnn.enabled)


def convolve(layer: Layer, images: Tensor) -> Tensor:
    """What a layer that can be prepacked makes of images [N, C, H, W] in float32 on a CPU, channels last.

    Weights that have been changed since are arranged again, unless PyTorch does not count the change: one in place by
    way of their ``.data``, or in NumPy.
    """
    operator: Any = torch.ops.mkldnn._convolution_pointwise
    if isinstance(layer, nn.ConvTranspose2d):
        operator = torch.ops.mkldnn._convolution_transpose_pointwise
    weights, bias = _prepacked(layer, images), None if layer.bias is None else layer.bias.contiguous()
    images = images.contiguous(memory_format=torch.channels_last)
    nothing: tuple[Any, ...] = ("none", [], "")  # follows the convolution within the operator
    output: Tensor = operator(images, weights, bias, *_sizes(layer), 1, *nothing)
    return output


def _prepacked(layer: Layer, images: Tensor) -> Tensor:
    """The weights, arranged for these images. Those arranged for others would be arranged anew, and much slower."""
    weight, sizes = layer.weight, _sizes(layer)
    now = (*sizes, images.shape, torch.get_num_threads(), weight._version, weight.data_ptr())
    known: tuple[_Packed, ...] = _packed.get(weight, ())  # type: ignore[no-untyped-call]
    if known and known[0].arranged_for == now:
        return known[0].weights
    found = next((one for one in known if one.arranged_for == now), None)
    if found is None:
        operator: Any = torch.ops.mkldnn._reorder_convolution_weight
        if isinstance(layer, nn.ConvTranspose2d):
            operator = torch.ops.mkldnn._reorder_convolution_transpose_weight
        found = _Packed(now, weight.detach(), operator(weight, *sizes, 1, list(images.shape)))
    # those of weights that have been changed since are of no use
    others = (one for one in known if one is not found and one.arranged_for[-2:] == now[-2:])
    _packed[weight] = (found, *others)[:MOST_SIZES]
    return found.weights


def _sizes(layer: Layer) -> tuple[Any, ...]:
    """Four of a transposed convolution, three of another."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.padding, layer.output_padding, layer.stride, layer.dilation
    return layer.padding, layer.stride, layer.dilation
