"""Cityscapes as its archives unpack: found, matched, and what is missing reported."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from street_scenes import street

from p2pkit.builtin.datasets import cityscapes
from p2pkit.errors import DataError
from tests.conftest import Call

Cityscapes = partial(cityscapes.Cityscapes, labels="instanceIds")
NAME = "lindau/lindau_000001_000019"


def test_pairs_are_maps_of_instances_and_photos(streets: Path) -> None:
    (streets / "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png").write_bytes(b"of no interest")
    train, val = Cityscapes("train", streets), Cityscapes("val", streets)
    assert (len(train), len(val)) == (6, 2)
    pair = val[1]
    objects, photo = street(1001)
    assert np.array_equal(pair.source[:, :, 0], objects) and pair.source.dtype == np.uint16
    assert np.array_equal(pair.target, photo)
    assert pair.key == f"val/{NAME}_gtFine_instanceIds.png"
    assert val.header(1) == pair.header


def test_headers_do_not_read_pixels(streets: Path) -> None:
    file = streets / f"gtFine/val/{NAME}_gtFine_instanceIds.png"
    data = bytearray(file.read_bytes())
    data[60:80] = bytes(20)  # within the pixels
    file.write_bytes(data)
    val = Cityscapes("val", streets)
    assert val.header(1).source == (64, 128, 1)
    with pytest.raises(DataError, match=NAME):
        val[1]


def test_files_without_a_counterpart_are_reported(streets: Path, coarse_recipe: Path, program: Call) -> None:
    (streets / f"gtFine/val/{NAME}_gtFine_instanceIds.png").unlink()
    (streets / "leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png").unlink()
    outcome = program("check", coarse_recipe)
    assert outcome.code == 2
    assert "1 of 1 sources and 1 of 1 targets" in outcome.err
    assert f"{NAME}_leftImg8bit.png has no partner in {streets}/gtFine/val" in outcome.err
    assert "lindau_000000_000019_gtFine_instanceIds.png has no partner in" in outcome.err


@pytest.mark.parametrize("gone", ["gtFine", "gtFine/train", "gtFine/val", "leftImg8bit/train"])
def test_a_missing_folder_is_reported_with_where_cityscapes_is_from(
    gone: str, streets: Path, coarse_recipe: Path, program: Call
) -> None:
    shutil.rmtree(streets / gone)
    outcome = program("check", coarse_recipe)
    assert outcome.code == 2
    assert f"{streets}/{gone}" in outcome.err and "gtFine_trainvaltest.zip" in outcome.err


def test_the_val_set_may_be_missing_altogether(streets: Path) -> None:
    for kind in ("gtFine", "leftImg8bit"):
        shutil.rmtree(streets / kind / "val")
    assert len(Cityscapes("val", streets)) == 0


def test_the_fingerprint_changes_with_the_files(streets: Path) -> None:
    before = Cityscapes("train", streets).fingerprint()
    assert Cityscapes("train", streets).fingerprint() == before
    for kind, ending in (("gtFine", "gtFine_instanceIds"), ("leftImg8bit", "leftImg8bit")):
        (streets / kind / "train/aachen" / f"aachen_000000_000019_{ending}.png").unlink()
    assert Cityscapes("train", streets).fingerprint() != before
