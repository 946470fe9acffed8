"""Batch norm over the global batch of several processes."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch import distributed as processes
from torch.nn.modules.batchnorm import _BatchNorm

from p2pkit.inference.statistics import after_normalising


def with_synchronised_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """``network`` with its batch norms replaced by ones that take their statistics over all processes.

    Weights and their names stay the same. Those in evaluation mode, of frozen networks, are left as they are.
    """
    if isinstance(network, _BatchNorm):
        if not network.training:
            return network
        return _timms(network) if device.type == "cuda" else _replaced(network)
    for name, child in network.named_children():
        setattr(network, name, with_synchronised_norm(child, device))
    return network


def _timms(norm: _BatchNorm) -> nn.Module:
    """torch's SyncBatchNorm, made by timm, because torch loses the activations that some of timm's layers have."""
    import timm.layers  # here, because it takes a second that runs of one process need not wait for

    convert: Any = timm.layers.convert_sync_batchnorm
    return cast(nn.Module, convert(norm))


def _replaced(norm: _BatchNorm) -> GlobalBatchNorm:
    new = GlobalBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    new._parameters, new._buffers, new._modules = norm._parameters, norm._buffers, norm._modules
    return new


class GlobalBatchNorm(_BatchNorm):
    """What torch's SyncBatchNorm is on GPUs, on CPUs, which that refuses. Outside training it is plain batch norm."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Normalised values [N, C, ...], with mean and variance over the values of all processes."""
        values = self._normalised(input) if self.training else super().forward(input)
        for layer in after_normalising(self):
            values = layer(values)
        return values

    def _normalised(self, input: Tensor) -> Tensor:  # noqa: A002
        others = [dimension for dimension in range(input.ndim) if dimension != 1]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        count = input.numel() // input.shape[1] * processes.get_world_size()
        values = input.float()  # sums of half precision would lose what they add
        mean = _Sum.apply(values.sum(others)) / count
        centred = values - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(others)) / count
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * count / max(count - 1, 1))
        normalised: Tensor = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's own name
        pass


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum over all processes too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        processes.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        processes.all_reduce(total)
        return total
