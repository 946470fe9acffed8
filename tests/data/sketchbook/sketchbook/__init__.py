"""A distribution of somebody who knows PyTorch and has read nothing of p2pkit but the names of the hooks."""

from functools import partial

import p2pkit


@p2pkit.hookimpl
def register_losses(register):
    from torch import nn

    from sketchbook import losses

    register("no_init", losses.NoInit)
    register("smooth_l1", nn.SmoothL1Loss)
    register("edges", lambda: losses.edges)
    register("generator_only", losses.GeneratorOnly)
    register("discriminator_only", losses.DiscriminatorOnly)
    register("each_image", losses.EachImage)
    register("lpips_like", losses.Features)
    register("edges_themselves", losses.edges)
    register("made_already", nn.L1Loss())
    register("unmade", losses.Unmade)
    register("detached", losses.Detached)


@p2pkit.hookimpl
def register_metrics(register):
    from torchmetrics import MeanSquaredError
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

    from sketchbook import metrics

    register("peak_ratio", partial(PeakSignalNoiseRatio, data_range=1.0))
    register("similarity", StructuralSimilarityIndexMeasure)
    register("spread", metrics.Spread)
    register("largest", metrics.Largest)
    register("stored", metrics.Stored)
    register("undirected", metrics.Undirected)
    register("mse", MeanSquaredError)
    register("adds", metrics.Adds)


@p2pkit.hookimpl
def register_discriminators(register):
    from sketchbook import networks

    register("augmenting", networks.Augmenting)
    register("blind", networks.Blind)
    register("lazy", networks.Lazy)


@p2pkit.hookimpl
def register_methods(register):
    from sketchbook import methods

    register("bare", methods.Bare)
    register("idle", methods.Idle)
    register("regression", methods.Regression)
    register("pooled", methods.Pooled)
    register("unsaved", methods.Unsaved)
    register("module", methods.AsModule)
