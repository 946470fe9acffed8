"""Distances and similarities of the pixels of outputs and targets.

They are written out, few lines as they are: an import of torchmetrics takes up to two seconds, for which the first step
of every run would wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import fsum

import torch
import torch.nn.functional as F
from torch import Tensor

from p2pkit.errors import RecipeError

WINDOW = 11
"""The side of SSIM's Gaussian window of sigma 1.5, in pixels (Wang et al. 2004, section III.C)."""
SIGMA, BORDER = 1.5, WINDOW // 2
C1, C2 = 0.01**2, 0.03**2
"""What keeps SSIM's quotients of small numbers steady, for values in [0, 1]."""
HIGHEST_PSNR = 100.0
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Those of MS-SSIM's scales, the finest first (Wang et al. 2003, section 3.2)."""


class MeanOverImages:
    """A metric that is a function of an output and its target; of several, their mean."""

    higher_is_better: bool | None
    measured: Callable[[Tensor, Tensor], Tensor]
    """Outputs and targets [N, C, H, W] to their numbers [N]."""
    _values: Sequence[float] = ()

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor) -> None:
        """Take in outputs and targets [N, C, H, W]."""
        self._values = [*self._values, *self.measured(output, target).tolist()]

    def compute(self) -> float:
        """The mean over all that was taken in."""
        return fsum(self._values) / len(self._values)

    def reset(self) -> None:
        """Begin anew."""
        self._values = ()


def absolute_error(output: Tensor, target: Tensor) -> Tensor:
    """The mean absolute error [N] of images [N, C, H, W]."""
    return (output - target).abs().mean(dim=(1, 2, 3))


def peak_signal_to_noise(output: Tensor, target: Tensor) -> Tensor:
    """The PSNR [N] of images [N, C, H, W] in [0, 1], in decibels: at most 100."""
    error = (output - target).square().mean(dim=(1, 2, 3))
    return (-10 * error.log10()).clamp(max=HIGHEST_PSNR)


def structural_similarity(output: Tensor, target: Tensor) -> Tensor:
    """The SSIM index [N] of images [N, C, H, W] in [0, 1], each channel by itself (Wang et al. 2004, equation 13).

    Raises:
        RecipeError: they are smaller than the window.
    """
    if min(output.shape[2:]) < WINDOW:
        raise too_small(output, WINDOW, "SSIM", "its window")
    luminance, contrast = _compared(output, target)
    return (luminance * contrast).mean(dim=(1, 2, 3))


def multi_scale_structural_similarity(output: Tensor, target: Tensor) -> Tensor:
    """The MS-SSIM index [N] of images [N, C, H, W] in [0, 1] (Wang et al. 2003, equation 7).

    Raises:
        RecipeError: the smallest scale is smaller than the window.
    """
    side = WINDOW * 2 ** (len(EXPONENTS) - 1)
    if min(output.shape[2:]) < side:
        raise too_small(output, side, "MS-SSIM", "its window at the smallest of five scales")
    index = output.new_ones(len(output))
    for exponent in EXPONENTS[:-1]:
        _, contrast = _compared(output, target)
        index = index * contrast.mean(dim=(1, 2, 3)).clamp(min=0) ** exponent
        output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
    return index * structural_similarity(output, target).clamp(min=0) ** EXPONENTS[-1]


def _compared(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast with structure, of images [N, C, H, W] at each place of their window: [N, C, h, w].

    Wang et al. 2004, equation 6 and the product of 9 and 10.
    """
    target = target.to(output.dtype)
    offsets = torch.arange(-BORDER, BORDER + 1, dtype=output.dtype, device=output.device)
    window = torch.exp(-(offsets / SIGMA).square() / 2)
    window = (window / window.sum()).repeat(output.shape[1], 1, 1, 1)  # of each channel, a row
    values = torch.cat((output, target, output * output, target * target, output * target))
    # variances are differences of squares, for which the ten bits that GPUs round convolutions to (TF32) are too few;
    # gradients, which are computed later, are rounded as the program has it
    cudnn = torch.backends.cudnn
    with cudnn.flags(cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic, allow_tf32=False):
        for weights in (window.transpose(2, 3), window):
            values = F.conv2d(values, weights, groups=len(weights))
    one, other, square, other_square, product = values.chunk(5)
    luminance = (2 * one * other + C1) / (one * one + other * other + C1)
    variances = (square - one * one).clamp(min=0) + (other_square - other * other).clamp(min=0)
    return luminance, (2 * (product - one * other) + C2) / (variances + C2)


def too_small(image: Tensor, side: int, name: str, reason: str) -> RecipeError:
    """What says that ``image`` [N, C, H, W] has a shorter side than ``name`` needs for ``reason``."""
    height, width = image.shape[2:]
    return RecipeError(
        f"{name} needs images of {side}x{side} pixels or more, for {reason}; found {height}x{width} (height x width): "
        "take larger ones, or leave it out"
    )


class MAE(MeanOverImages):
    """The mean absolute error, as a fraction of the full range of values: 0 is perfect, 1 is black for white.

    Of several images it is the mean of theirs, whatever their sizes are.
    """

    higher_is_better: bool | None = False
    measured = staticmethod(absolute_error)


class PSNR(MeanOverImages):
    """The peak signal-to-noise ratio in decibels, -10 log10 of the mean squared error of values in [0, 1].

    An output that is its target counts as 100 dB, since an infinite number would make every mean infinite; the
    smallest difference of 16 bits, at all pixels, is 96.
    """

    higher_is_better: bool | None = True
    measured = staticmethod(peak_signal_to_noise)


class SSIM(MeanOverImages):
    """Structural similarity (Wang et al. 2004), the mean over all channels and all places of its window; 1 is perfect.

    The window is a Gaussian of 11x11 pixels with sigma 1.5, and stays within the image.
    """

    higher_is_better: bool | None = True
    measured = staticmethod(structural_similarity)


class MultiScaleSSIM(MeanOverImages):
    """Multi-scale structural similarity (Wang et al. 2003): of five scales, each half as large; 1 is perfect.

    The window is that of ``ssim``, and fits into the smallest scale of images whose sides are 176 pixels or more.
    Contrasts below 0 count as 0.
    """

    higher_is_better: bool | None = True
    measured = staticmethod(multi_scale_structural_similarity)
