"""Discriminators: PatchGAN at every receptive field."""
