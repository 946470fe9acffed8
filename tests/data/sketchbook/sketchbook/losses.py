"""Losses as one writes them for one's own training loop."""

import torch
from torch import nn


class NoInit(nn.Module):
    def forward(self, output, target):
        return (output - target).square().mean()


def edges(output, target):
    return (output.diff(dim=2) - target.diff(dim=2)).abs().mean()


class GeneratorOnly:
    """A power of the difference.

    Parameters
    ----------
    power : int, optional
        Of what is different,
        at least one.

    Notes
    -----
    None.
    """

    def __init__(self, power=1):
        self.power = power

    def generator_loss(self, step):
        return (step.fake - step.target).abs().pow(self.power).mean()


class DiscriminatorOnly:
    def discriminator_loss(self, step):
        return step.pred_real.logits[0].square().mean() * 0.001


class Unmade:
    def __init__(self, layer="relu3_1"):
        self.layer = {"relu1_1": 2, "relu2_1": 7}[layer]

    def generator_loss(self, step):
        return (step.fake - step.target).abs().mean() * self.layer


class Detached:
    def generator_loss(self, step):
        return (step.fake.detach() - step.target).abs().mean()


class EachImage(nn.Module):
    """A number for each image."""

    def forward(self, output, target):
        return (output - target).abs().mean(dim=(1, 2, 3))


class Features(nn.Module):
    """A distance between features of a network, as LPIPS is: with parameters, and a norm that must not learn."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, output, target):
        assert not self.network[1].training
        assert not any(parameter.requires_grad for parameter in self.parameters())
        return (self.network(output) - self.network(target)).abs().mean() + 0 * torch.zeros(())
