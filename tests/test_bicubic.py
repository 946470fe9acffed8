"""Crops of resized images are computed alone, and are what cropping the whole gives, but for the last bits."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from p2pkit.data.augmentation import Augmentation, Tensors
from p2pkit.networks.bicubic import Window, bicubic, goes_by_products
from p2pkit.networks.fitting import resize
from p2pkit.settings import TransformSettings

ROUNDING = 3e-7
"""Two units in the last place of numbers below 1, of which two sums have one each."""


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("shape", "size", "window"),
    [
        ((3, 256, 256), (286, 286), Window(15, 7, 256, 256)),
        ((3, 256, 256), (286, 286), Window(0, 0, 286, 286)),
        ((3, 256, 256), (286, 286), Window(30, 30, 256, 256)),
        ((6, 150, 111), (70, 286), Window(1, 100, 64, 33)),
        ((1, 33, 7), (33, 70), Window(32, 69, 1, 1)),
        ((2, 40, 40), (17, 40), Window(3, 0, 9, 40)),
        ((3, 5, 1), (9, 90), Window(0, 1, 9, 64)),
        ((3, 600, 400), (500, 333), Window(0, 0, 500, 333)),
        ((1, 64, 300), (1024, 301), Window(0, 1, 1024, 300)),
        ((1, 256, 256), (286, 286), Window(30, 30, 256, 256)),
    ],
)
def test_a_part_of_a_resized_image_is_what_the_whole_has_there(
    shape: tuple[int, ...], size: tuple[int, int], window: Window
) -> None:
    given = image(*shape)
    assert goes_by_products(given, size)
    expected = window.of(bicubic(given, size).clamp(-1, 1))
    found = resize(given, size, window=window)
    assert found.shape == expected.shape and (found - expected).abs().max() <= ROUNDING


@pytest.mark.parametrize(("length", "size", "crop"), [(128, 384, 321), (200, 280, 257), (26, 257, 34), (90, 40, 17)])
def test_crops_of_a_block_and_one_more_at_every_place(length: int, size: int, crop: int) -> None:
    tall, wide = image(1, length, 3), image(1, 3, length)
    for given, shape in ((tall, (size, 3)), (wide, (3, size))):
        whole = bicubic(given, shape).clamp(-1, 1)
        for place in range(size - crop + 1):
            window = Window(place, 0, crop, 3) if given is tall else Window(0, place, 3, crop)
            assert (resize(given, shape, window=window) - window.of(whole)).abs().max() <= ROUNDING


def test_crops_are_the_same_beside_another_default_type_of_numbers() -> None:
    given, size, window = image(9, 20, 31), (33, 47), Window(3, 4, 16, 40)
    expected = window.of(bicubic(given, size).clamp(-1, 1))
    torch.set_default_dtype(torch.float64)
    try:
        found = resize(given, size, window=window)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32 and (found - expected).abs().max() <= ROUNDING


@pytest.mark.parametrize("resampling", ["bicubic", "nearest"])
@pytest.mark.parametrize("shape", [(3, 300, 40), (2, 3, 20, 30)])
def test_images_that_go_another_way_are_cropped_too(shape: tuple[int, ...], resampling: str) -> None:
    given, window = image(*shape), Window(2, 3, 10, 11)
    whole = resize(given, (16, 24), resampling)  # type: ignore[arg-type]
    assert torch.equal(resize(given, (16, 24), resampling, window), window.of(whole))  # type: ignore[arg-type]


def test_values_are_those_of_pillow() -> None:
    pixels = image(1, 50, 60)
    expected = np.asarray(Image.fromarray(pixels[0].numpy()).resize((90, 75), Image.Resampling.BICUBIC))
    assert np.abs(resize(pixels, (75, 90))[0].numpy() - expected.clip(-1, 1)).max() < 1e-5


def test_a_training_crop_is_a_part_of_the_resized_image_at_one_place_of_source_and_target() -> None:
    augmentation = Augmentation(TransformSettings(load_size=[22, 26], crop_size=16, flip=True), 0)
    given, seen = Tensors(image(3, 20, 24), image(2, 20, 24, seed=1)), set()
    whole = [bicubic(each, (22, 26)).clamp(-1, 1) for each in given[:2]]
    for index in range(40):
        crops, places = augmentation.train(given, (0, index), "key"), []
        for top, left, flipped in product(range(7), range(11), (False, True)):
            parts = [Window(top, left, 16, 16).of(each) for each in whole]
            parts = [part.flip(-1) for part in parts] if flipped else parts
            if all((crop - part).abs().max() <= ROUNDING for crop, part in zip(crops[:2], parts, strict=True)):
                places.append((top, left, flipped))
        assert len(places) == 1
        seen.update(places)
    assert {flipped for *_, flipped in seen} == {False, True} and len(seen) > 20


def test_crops_do_not_depend_on_the_number_of_threads() -> None:
    augmentation = Augmentation(TransformSettings(load_size=[47, 31], crop_size=[40, 26]), 0)
    given, found, threads = Tensors(image(1, 20, 30), image(1, 40, 60)), [], torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append([augmentation.train(given, (0, index), "key") for index in range(20)])
    torch.set_num_threads(threads)
    assert all(torch.equal(one.source, other.source) for one, other in zip(*found, strict=True))
    assert all(torch.equal(one.target, other.target) for one, other in zip(*found, strict=True))
