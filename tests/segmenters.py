"""A segmenter that nobody had to fit."""

from __future__ import annotations

from pathlib import Path

import torch

from p2pkit.networks.segmenter import SegmenterHeader, SmallNetwork, write_segmenter


def black_and_white(file: Path, tolerance: float | None = 2.0) -> Path:
    """A file with a segmenter that takes each pixel of three channels for black (class 0) or white, the nearer one.

    So do its classes with label maps, up to ``tolerance``, whatever colours they have.
    """
    network = SmallNetwork(3, 2, 16)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if not name.endswith("1.weight"):  # of batch norms, which are 1
                weight.zero_()
        for number, sign in enumerate((-1.0, 1.0)):
            network.first[0].weight[number, :, 1, 1] = sign  # what is darker, or lighter, than the middle
            network.up[0][0].weight[number, 32 + number, 1, 1] = 1.0  # behind the channels from below
            network.logits.weight[number, number] = 1.0
    colours = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    header = SegmenterHeader(
        network="small", channels=3, names=("black", "white"), colours=colours, tolerance=tolerance
    )
    write_segmenter(file, header, network)
    return file
