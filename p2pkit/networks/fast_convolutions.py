"""How a CPU computes convolutions where there is a faster way than its convolution library's.

Of small maps they are one product of matrices: the innermost layers of a U-Net have large weights and maps of a few
pixels, so that reading weights is nearly all they do. With the columns of the map as the other matrix (unfold, fold)
each weight is read once, which the library does not come near. Those of stride 1, most of what a PatchGAN and a ResNet
compute, go Winograd's way (networks/winograd). Where few channels come out, as of the last layer of a generator or a
PatchGAN, each pixel is multiplied where it is, and the products are added up where they belong (fold).

Of a network that translates, weights stay as they are: those of small maps, and of all others that do not go Winograd's
way or give few channels, are arranged for the library once (networks/prepacked).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from p2pkit.networks import prepacked, winograd
from p2pkit.networks.encoding import behind_encoding
from p2pkit.networks.prepacked import Layer

MOST_POSITIONS = 64
"""Of the smaller map, in the whole batch. From 256 on the library is as fast, on AVX2 and on AVX-512."""
FEWEST_WEIGHTS = 2**17
"""Below, a layer takes less time than it takes to arrange its map in columns."""
BLOCKS = 16
"""In which a matrix of weights is multiplied: of the widest layers that is 2 MiB at a time."""
BLOCKS_OF_SLOPES = 64
"""In which the slopes of such a matrix are made, where few rows are added up."""
MANY_ROWS = 16
"""From so many on the library makes slopes as fast without blocks."""
FEWEST_CHANNELS = 128
"""That go in and come out. With fewer, Winograd's way takes more time to look at tiles than it saves."""


def speed_up_convolutions(network: nn.Module, frozen: bool = False) -> None:
    """Let the plain convolutions of ``network`` take the faster way wherever there is one.

    Parameters, buffers and their names stay, and so do the results, but for rounding. Of a network that is ``frozen``,
    as for translating, maps are channels last on a CPU if all its modules take them so, and weights take their memory
    once more for each of the last sizes of images.
    """
    own = behind_encoding(network)
    prepacks = set(own.modules()) if frozen and _takes_channels_last(own) else set()
    for module in network.modules():
        # not those of subclasses, which may compute something else
        if not isinstance(module, Layer) or type(module) not in _FASTER or not _is_usual(module):
            continue
        faster, prepacked_one = _FASTER[type(module)]
        other_way = _gives_little(module) or _winograd_is_faster(module, module.weight.dtype)
        if module in prepacks and prepacked.can_prepack(module) and not other_way:
            module.__class__ = prepacked_one
        elif module.weight.numel() >= FEWEST_WEIGHTS or _gives_little(module):
            module.__class__ = faster


def _takes_channels_last(network: nn.Module) -> bool:
    """Whether its modules take maps in any memory layout. Some take views that channels first alone allow."""
    if getattr(network, "channels_last", False):
        return True  # its authors say so
    ours = type(network).__module__.partition(".")[0] in ("torch", "p2pkit")
    return ours and all(map(_takes_channels_last, network.children()))


def _is_usual(layer: Layer) -> bool:
    if isinstance(layer, nn.ConvTranspose2d) and any(map(int.__ge__, layer.output_padding, layer.stride)):
        return False  # it reaches past what its products add up to
    return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


class _Conv2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in torch
        if not _fits(self, input) or min(size := _size(self, input)) < 1:
            return super().forward(input)
        if len(input) * math.prod(size) <= MOST_POSITIONS:
            return self._multiply(input, size)
        if _gives_little(self):
            return self._spread(input, size)
        if not _winograd_is_faster(self, input.dtype):
            return super().forward(input)
        return _with_bias(self, winograd.convolve(input, self.weight, int(self.padding[0])))

    def _multiply(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        assert not isinstance(self.padding, str)
        patches = F.unfold(images, self.kernel_size, self.dilation, self.padding, self.stride)
        patches = patches.transpose(1, 2).reshape(-1, patches.shape[1])
        output: Tensor = _Product.apply(patches, self.weight.reshape(self.out_channels, -1), True)
        output = output.view(len(images), math.prod(size), -1).transpose(1, 2)
        # a view of one image has strides that PyTorch's batch norm takes for either layout, and gives wrong slopes for
        output = output.clone(memory_format=torch.contiguous_format)
        return _with_bias(self, output.view(len(images), -1, *size))

    def _spread(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """As the transposed convolution by the same kernels turned round."""
        weights = self.weight.flip(2, 3).permute(0, 2, 3, 1).reshape(-1, self.in_channels)
        assert not isinstance(self.padding, str)
        padding = self.kernel_size[0] - 1 - self.padding[0], self.kernel_size[1] - 1 - self.padding[1]
        return _with_bias(self, F.fold(_for_each(weights, images), size, self.kernel_size, 1, padding))


class _ConvTranspose2d(nn.ConvTranspose2d):
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002 - as in torch
        if output_size is not None or not _fits(self, input) or min(size := _size(self, input)) < 1:
            return super().forward(input, output_size)
        is_small = len(input) * math.prod(input.shape[2:]) <= MOST_POSITIONS
        if not (is_small or _gives_little(self)):
            return super().forward(input, output_size)
        assert not isinstance(self.padding, str)
        weights = self.weight.reshape(self.in_channels, -1)
        if is_small:
            pixels = input.flatten(2).transpose(1, 2).reshape(-1, self.in_channels)
            patches = _Product.apply(pixels, weights, False).view(len(input), -1, weights.shape[1]).transpose(1, 2)
        else:
            patches = _for_each(weights.t(), input)
        output = F.fold(patches, size, self.kernel_size, self.dilation, self.padding, self.stride)
        return _with_bias(self, output)


def _for_each(weights: Tensor, images: Tensor) -> Tensor:
    """The products of ``weights`` with the pixels of each image. Of all at once they would be laid out anew."""
    return weights.expand(len(images), -1, -1) @ images.flatten(2)


class _Product(Function):
    """Of few rows and many weights, whose gradients are taken in the order that reads the weights row by row.

    PyTorch's own choose the order by strides, and take ten times as long for some.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, transpose: bool) -> Tensor:
        rows, ctx.transpose = rows.contiguous(), transpose
        ctx.save_for_backward(rows, weights)
        return _times(rows, weights.t() if transpose else weights)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        rows, weights = ctx.saved_tensors
        slope = slope.contiguous()
        of_rows = _times(slope, weights if ctx.transpose else weights.t()) if ctx.needs_input_grad[0] else None
        of_weights = None
        if ctx.needs_input_grad[1]:
            of_weights = _sum_of_outer(slope, rows) if ctx.transpose else _sum_of_outer(rows, slope)
        return of_rows, of_weights, None


def _times(rows: Tensor, weights: Tensor) -> Tensor:
    """The product of matrices, ``weights`` in blocks of columns.

    The library puts its second factor in another order first: a block of it stays in the cache meanwhile.
    """
    blocks = math.gcd(weights.shape[1], BLOCKS)
    if len(rows) == 1 or blocks == 1:
        return rows @ weights
    products = rows.expand(blocks, *rows.shape) @ weights.view(len(weights), blocks, -1).transpose(0, 1)
    return products.transpose(0, 1).reshape(len(rows), -1)


def _sum_of_outer(left: Tensor, right: Tensor) -> Tensor:
    """The sum of the outer products of rows, of few in blocks that stay in the cache until all are added up."""
    blocks = math.gcd(left.shape[1], BLOCKS_OF_SLOPES)
    if not 1 < len(left) < MANY_ROWS or blocks == 1:
        return left.t() @ right
    parts = left.view(len(left), blocks, -1).permute(1, 2, 0)
    return (parts @ right.expand(blocks, *right.shape)).view(-1, right.shape[1])


class _PrepackedConv2d(_Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in torch
        if _takes_prepacked(self, input):
            return prepacked.convolve(self, input)
        return super().forward(input) if self.weight.numel() >= FEWEST_WEIGHTS else nn.Conv2d.forward(self, input)


class _PrepackedConvTranspose2d(_ConvTranspose2d):
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002 - as in torch
        if output_size is None and _takes_prepacked(self, input):
            return prepacked.convolve(self, input)
        wide = self.weight.numel() >= FEWEST_WEIGHTS
        return super().forward(input, output_size) if wide else nn.ConvTranspose2d.forward(self, input, output_size)


_FASTER: dict[type, tuple[type, type]] = {
    nn.Conv2d: (_Conv2d, _PrepackedConv2d),
    nn.ConvTranspose2d: (_ConvTranspose2d, _PrepackedConvTranspose2d),
}
"""For layers whose weights may change, and for those whose weights stay."""


def _takes_prepacked(layer: Layer, images: Tensor) -> bool:
    return prepacked.stays(layer.weight) and _fits(layer, images) and min(_size(layer, images)) > 0


def _with_bias(layer: Layer, output: Tensor) -> Tensor:
    return output if layer.bias is None else output.add_(layer.bias.view(1, -1, 1, 1))


def _fits(layer: Layer, images: Tensor) -> bool:
    """Whether ``layer`` can take ``images``, on a CPU and as they are."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[no-untyped-call, attr-defined]
        return False  # before a question about sizes, which may be open
    if images.ndim != 4 or images.shape[1] != layer.in_channels or not images.numel():
        return False  # torch says what is wrong
    return images.device.type == "cpu" and images.dtype == layer.weight.dtype and not torch.is_autocast_enabled("cpu")


def _size(layer: Layer, images: Tensor) -> tuple[int, int]:
    """Height and width of the output."""
    found = []
    for axis, side in enumerate(images.shape[2:]):
        own = layer.kernel_size, layer.dilation, layer.stride, layer.padding
        kernel, dilation, stride, padding = (int(each[axis]) for each in own)
        reach = dilation * (kernel - 1) + 1 - 2 * padding
        if isinstance(layer, nn.ConvTranspose2d):
            found.append((side - 1) * stride + reach + layer.output_padding[axis])
        else:
            found.append((side - reach) // stride + 1)
    return found[0], found[1]


def _gives_little(layer: Layer) -> bool:
    """Whether the products of a pixel with all of a kernel's weights are no more than its channels, and go to many."""
    products = layer.out_channels * math.prod(layer.kernel_size)
    if products > layer.in_channels or math.prod(layer.kernel_size) == 1:
        return False
    if isinstance(layer, nn.ConvTranspose2d):
        return True
    assert not isinstance(layer.padding, str)
    within = all(padding < side for padding, side in zip(layer.padding, layer.kernel_size, strict=True))
    return within and layer.stride == layer.dilation == (1, 1)


def _winograd_is_faster(layer: Layer, dtype: torch.dtype) -> bool:
    """Whether it is for this layer and images of ``dtype``, and exact to float32's rounding."""
    if isinstance(layer, nn.ConvTranspose2d) or layer.padding[0] != layer.padding[1]:
        return False
    if layer.stride != (1, 1) or layer.dilation != (1, 1):
        return False
    square = layer.kernel_size[0] == layer.kernel_size[1] and layer.kernel_size[0] in winograd.KERNELS
    wide = min(layer.in_channels, layer.out_channels) >= FEWEST_CHANNELS
    return square and wide and dtype == torch.float32
