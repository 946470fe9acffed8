"""Translations of volumes: volumes in the same place in space, equal to their planes translated one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

import p2pkit as library
from p2pkit.errors import DataError
from p2pkit.images.volumes import open_volume
from p2pkit.inference.files import FileOptions
from tests.conftest import Call, picture, save, train
from tests.volumes import (
    ODD,
    SHAPE,
    by_hand,
    recipe_for,
    sample,
    voxels,
    write_nifti,
    write_pairs,
    write_series,
    write_stack,
)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_nifti_volume_becomes_one_of_the_same_affine(ending: str, axis: int, p2pkit: Call, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data", ending=ending, shape=(12, 16, 11))
    run = train(p2pkit, recipe_for(root, neighbours=1, axis=axis), tmp_path / "run")
    (grid,) = (run / "samples").glob("*.png")
    # a plane is gray, neighbours in the place of colours would not be
    assert not np.ptp(np.asarray(Image.open(grid)).astype(int), axis=2).any()
    source = root / "test" / "source" / f"p0{ending}"
    count = (12, 16, 11)[axis]
    outcome = p2pkit("translate", run, source, "--out", tmp_path / "out", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert f"translating: {count}/{count} planes" in outcome.err
    made, original = nibabel.load(tmp_path / "out" / f"p0{ending}"), nibabel.load(source)
    assert np.array_equal(made.affine, original.affine) and made.shape == original.shape == (12, 16, 11)
    assert made.get_data_dtype() == np.int16
    assert made.header["descrip"] == original.header["descrip"]
    for name in ("pixdim", "dim", "qform_code", "sform_code", "xyzt_units", "srow_x", "quatern_b"):
        assert np.array_equal(made.header[name], original.header[name]), name
    assert made.dataobj.slope == 1 and made.dataobj.inter == 0
    assert np.array_equal(np.asarray(made.dataobj), by_hand(run, voxels(100, (12, 16, 11)), 1, axis))


def test_scaled_values_are_read_and_not_written_again(p2pkit: Call, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data")
    run = train(p2pkit, recipe_for(root), tmp_path / "run")
    image = nibabel.Nifti1Image(voxels(7), ODD)
    image.header.set_slope_inter(0.5, 3)
    file = tmp_path / "scaled.nii"
    nibabel.save(image, file)
    stored = np.asarray(nibabel.load(file).dataobj).astype(np.float32)
    assert np.array_equal(open_volume(file).plane(3)[:, :, 0], stored[:, :, 3])
    report = library.load_model(run, "cpu").files([file], tmp_path / "out")
    assert report.done == 1 and not report.failures
    made = nibabel.load(tmp_path / "out" / "scaled.nii")
    assert (made.dataobj.slope, made.dataobj.inter) == (1, 0)
    assert np.array_equal(np.asarray(made.dataobj), by_hand(run, stored, 0))


def test_planes_are_resized_as_images_are(p2pkit: Call, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data")
    run = train(p2pkit, recipe_for(root), tmp_path / "run", "transform.load_size=[16,24]", "transform.crop_size=16")
    source = root / "test" / "source" / "p0.nii.gz"
    outcome = p2pkit("translate", run, source, "--out", tmp_path / "out", "--samples", "2", "--device", "cpu")
    assert outcome.code == 0 and "sources are resized to 16x24" in outcome.err, outcome.err
    assert np.array_equal(nibabel.load(tmp_path / "out" / "p0_0.nii.gz").dataobj, by_hand(run, voxels(100), 0))
    native = p2pkit("translate", run, source, "--out", tmp_path / "native.nii", "--size", "native", "--device", "cpu")
    assert native.code == 0 and nibabel.load(tmp_path / "native.nii").shape == SHAPE
    for option, found in ((("--size", "model"), "keeps its shape"), (("--tile", "8"), "translated whole"),
                          (("--as", "left"), "translated whole")):  # fmt: skip
        refused = p2pkit("translate", run, source, "--out", tmp_path / "no", *option)
        assert refused.code == 2 and option[0] in refused.err and found in refused.err
    assert not (tmp_path / "no").exists()


WAYS: list[dict[str, Any]] = [
    {}, {"compression": "adobe_deflate"}, {"byteorder": ">"}, {"imagej": True, "metadata": {"axes": "ZYX"}},
    {"ome": True, "metadata": {"axes": "ZYX"}},
]  # fmt: skip
"""How stacks are written."""


@pytest.mark.parametrize("written", WAYS, ids=lambda written: "-".join(written))
def test_tiff_stacks(written: dict[str, Any], p2pkit: Call, tmp_path: Path) -> None:
    def write(file: Path, array: Any) -> None:
        write_stack(file, array.astype(np.uint16), resolution=(300, 150), **written)

    root = write_pairs(tmp_path / "data", write, ".tif")
    volume = open_volume(root / "test" / "source" / "p0.tif")
    for axis in range(3):
        for index in range(SHAPE[axis]):
            assert np.array_equal(volume.plane(index, axis)[:, :, 0], np.moveaxis(voxels(100), axis, 2)[:, :, index])
    run = train(p2pkit, recipe_for(root, neighbours=1), tmp_path / "run")
    outcome = p2pkit("translate", run, root / "test" / "source", "--out", tmp_path / "out", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    with tifffile.TiffFile(tmp_path / "out" / "p0.tif") as made:
        planes = made.asarray()
        assert made.pages[0].tags["XResolution"].value == (300, 1) and planes.dtype == np.uint16
        assert made.is_imagej == ("imagej" in written)
    assert np.array_equal(np.moveaxis(planes, 0, 2), by_hand(run, voxels(100).astype(np.uint16), 1))
    assert open_volume(tmp_path / "out" / "p0.tif").shape == SHAPE


def test_the_distance_of_imagejs_planes_is_kept(p2pkit: Call, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data", lambda file, array: write_stack(
        file, array.astype(np.uint8), imagej=True, metadata={"axes": "ZYX", "spacing": 2.5, "unit": "um"}
    ), ".tif")  # fmt: skip
    run = train(p2pkit, recipe_for(root), tmp_path / "run")
    assert library.load_model(run, "cpu").files([root / "test" / "source" / "p0.tif"], tmp_path / "out").done == 1
    with tifffile.TiffFile(tmp_path / "out" / "p0.tif") as made:
        found = made.imagej_metadata
    assert found is not None and (found["spacing"], found["unit"], found["slices"]) == (2.5, "um", 5)


def test_a_dicom_series_is_in_the_order_of_space_and_becomes_nifti(p2pkit: Call, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data", lambda folder, array: write_series(folder, array), ".1")
    dataset = library.create("datasets", "volume_slices", root=root, split="test")
    for plane in range(5):
        assert np.array_equal(sample(dataset, plane).source[:, :, 0], voxels(100)[:, :, plane])
    assert dataset.key(2) == "test/source/p0.1#plane_0002" and len(dataset.source_files) == 5
    run = train(p2pkit, recipe_for(root, neighbours=1), tmp_path / "run")
    # rows follow one another towards the back (0.5 mm), columns to the left (0.25), planes upwards (2)
    affine = np.array([[0, -0.25, 0, -10], [-0.5, 0, 0, -20], [0, 0, 2, -30], [0, 0, 0, 1]])
    series = root / "test" / "source" / "p0.1"
    for inputs, out, file in ((series, "one", "p0.1.nii.gz"), (root / "test", "all", "source/p0.1.nii.gz")):
        outcome = p2pkit("translate", run, inputs, "--out", tmp_path / out, "--device", "cpu")
        assert outcome.code == 0, outcome.err
        made = nibabel.load(tmp_path / out / file)
        assert np.allclose(made.affine, affine) and np.allclose(made.header.get_zooms(), (0.5, 0.25, 2))
        assert np.array_equal(np.asarray(made.dataobj), by_hand(run, voxels(100), 1))
    again = p2pkit("translate", run, series, "--out", tmp_path / "one", "--skip-existing", "--device", "cpu")
    assert again.code == 0 and "1 was there already" in again.err
    alone = p2pkit("translate", run, series / "a.dcm", "--out", tmp_path / "one", "--device", "cpu")
    assert alone.code == 2 and "a.dcm: it is a single image; give the folder that holds its series" in alone.err
    single = p2pkit("translate", run, series, "--out", tmp_path / "ct.nii", "--device", "cpu")
    assert single.code == 0 and np.allclose(nibabel.load(tmp_path / "ct.nii").affine, affine)


def test_further_axes_of_length_one_are_no_matter(p2pkit: Call, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data")
    run = train(p2pkit, recipe_for(root), tmp_path / "run")
    file = write_nifti(tmp_path / "a.nii.gz", voxels(8)[..., None])
    assert library.load_model(run, "cpu").files([file], tmp_path / "out").done == 1
    made = nibabel.load(tmp_path / "out" / "a.nii.gz")
    assert made.shape == (*SHAPE, 1) and np.array_equal(made.affine, nibabel.load(file).affine)
    assert np.array_equal(np.asarray(made.dataobj)[..., 0], by_hand(run, voxels(8), 0))


def test_planes_that_are_missing_are_reported_and_have_no_affine(p2pkit: Call, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data", lambda folder, array: write_series(folder, array), "")
    (root / "test" / "source" / "p0" / "a.dcm").unlink()
    (root / "test" / "target" / "p0" / "a.dcm").unlink()
    recipe = recipe_for(root)
    notices = library.load_data(recipe).notices
    assert any("p0: its planes are not evenly spaced, some may be missing: 4 mm between" in each for each in notices)
    run = train(p2pkit, recipe, tmp_path / "run")
    outcome = p2pkit("translate", run, root / "test" / "source", "--out", tmp_path / "out", "--device", "cpu")
    assert outcome.code == 0 and "NOTICE" in outcome.err and "4 mm between b.dcm and e.dcm" in outcome.err, outcome.err
    assert open_volume(tmp_path / "out" / "p0.tif").shape == (12, 16, 4)


def test_a_damaged_volume_does_not_stop_the_others_and_a_run_is_resumed(p2pkit: Call, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data")
    run = train(p2pkit, recipe_for(root, neighbours=1), tmp_path / "run")
    scans, out = tmp_path / "scans", tmp_path / "out"
    for index in range(3):
        write_nifti(scans / "a" / f"{index}.nii.gz", voxels(index))
    damaged = scans / "a" / "1.nii.gz"
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    save(scans / "b.png", picture(12, 16, 1))  # three channels, as three planes have
    command = ("translate", run, scans, "--out", out, "--device", "cpu")
    outcome = p2pkit(*command)
    assert outcome.code == 2 and "images could not be translated; the other" in outcome.err
    assert f"{damaged}: " in outcome.err
    written = sorted(
        path.relative_to(out).as_posix() for path in out.rglob("*") if path.name[0] != "." and path.is_file()
    )
    assert written[:2] == ["a/0.nii.gz", "a/2.nii.gz"] and written[2].startswith("b.")
    first = (out / "a" / "0.nii.gz").read_bytes()
    damaged.write_bytes(content)
    write_nifti(scans / "a" / "2.nii.gz", voxels(9))
    again = p2pkit(*command, "--skip-existing")
    assert again.code == 0 and "2 were there already" in again.err and "1 of a source that has changed" in again.err
    assert "translating: 10/10 planes" in again.err
    assert (out / "a" / "0.nii.gz").read_bytes() == first
    for index, seed in ((1, 1), (2, 9)):
        made = np.asarray(nibabel.load(out / "a" / f"{index}.nii.gz").dataobj)
        assert np.array_equal(made, by_hand(run, voxels(seed), 1))
    (out / "a" / "0.nii.gz").write_bytes(b"somebody else's")
    assert "has not written it so" in p2pkit(*command).err


def test_formats_of_outputs(p2pkit: Call, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data")
    run = train(p2pkit, recipe_for(root), tmp_path / "run")
    source = root / "test" / "source" / "p0.nii.gz"
    for ending in ("nii", "tif"):
        outcome = p2pkit("translate", run, source, "--out", tmp_path / "out", "--format", ending, "--device", "cpu")
        assert outcome.code == 0, outcome.err
    expected = by_hand(run, voxels(100), 0)
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "out" / "p0.nii").dataobj), expected)
    assert np.array_equal(np.moveaxis(tifffile.imread(tmp_path / "out" / "p0.tif"), 0, 2), expected)
    refused = p2pkit("translate", run, source, "--out", tmp_path / "out", "--format", "png")
    assert refused.code == 2 and "a volume is not written as .png; choose one of .nii .nii.gz .tif" in refused.err
    stack = write_stack(tmp_path / "stack.tif", voxels(1))
    refused = p2pkit("translate", run, stack, "--out", tmp_path / "out", "--format", "nii")
    assert refused.code == 2 and "needs a place in space" in refused.err


def test_other_models_and_other_ways_to_give_volumes(p2pkit: Call, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data")
    run = train(p2pkit, recipe_for(root), tmp_path / "run")
    source = root / "test" / "source" / "p0.nii.gz"
    translate = library.load_model(run, "cpu")
    with pytest.raises(DataError, match=r"this is a volume; translate\.files"):
        translate(source)
    assert translate.files([source], tmp_path / "out", FileOptions(batch_size=3)).done == 1
    assert np.array_equal(
        np.asarray(nibabel.load(tmp_path / "out" / "p0.nii.gz").dataobj), by_hand(run, voxels(100), 0)
    )
    turned = write_nifti(tmp_path / "turned.nii", voxels(1), np.eye(4))
    outcome = p2pkit("translate", run, turned, "--out", tmp_path / "out", "--device", "cpu")
    assert outcome.code == 0 and "stored in another orientation (RAS) than those of training (LAS)" in outcome.err
    samples = p2pkit("translate", run, "--split", "test", "--out", tmp_path / "planes", "--device", "cpu")
    assert samples.code == 0 and "samples are planes" in samples.err
    plane = tifffile.imread(tmp_path / "planes" / "test" / "source" / "p0#plane_0003.tif")
    assert np.array_equal(plane, by_hand(run, voxels(100), 0)[:, :, 3])
    # to a data set of images the planes of a volume are channels, as ever
    images = tmp_path / "volumes.toml"
    images.write_text(images.read_text().replace("volume_slices", "paired_folders"))
    whole = train(p2pkit, images, tmp_path / "whole")
    assert p2pkit("inspect", whole, "--json").json["planes"] is None
    assert p2pkit("translate", whole, source, "--out", tmp_path / "whole.nii", "--device", "cpu").code == 0
    expected = library.load_model(whole, "cpu")(voxels(100))
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "whole.nii").dataobj), expected)


def test_several_sources_and_a_mask(p2pkit: Call, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for split, number in (("train", 0), ("train", 1), ("test", 2)):
        for side, seed in (("t1", 10), ("t2", 20), ("flair", 30)):
            write_nifti(root / split / side / f"p{number}.nii.gz", voxels(number + seed))
        write_nifti(root / split / "head" / f"p{number}.nii.gz", (voxels(number) > 100).astype(np.uint8) * 255)
    recipe = recipe_for(root, source="['t1', 't2']", target="'flair'", mask="'head'", neighbours=1)
    dataset = library.create(
        "datasets", "volume_slices", root=root, split="test", source=["t1", "t2"], target="flair", mask="head"
    )
    found = sample(dataset, 3)
    assert list(found.source) == ["t1", "t2"] and np.array_equal(found.source["t2"][:, :, 0], voxels(22)[:, :, 3])
    assert np.array_equal(found.mask[:, :, 0] == 255, voxels(2)[:, :, 3] > 100)
    run = train(p2pkit, recipe, tmp_path / "run")
    test, translate = root / "test", library.load_model(run, "cpu")
    each = [word for name in ("t1", "t2") for word in ("--source", f"{name}={test / name}")]
    single = [word for name in ("t1", "t2") for word in ("--source", f"{name}={test / name / 'p2.nii.gz'}")]
    for inputs, out in ((each, "folders"), ([test], "folder"), (single, "files")):
        outcome = p2pkit("translate", run, *inputs, "--out", tmp_path / out, "--device", "cpu")
        assert outcome.code == 0 and "translating: 5/5 planes" in outcome.err, outcome.err
        made = nibabel.load(tmp_path / out / "p2.nii.gz")
        assert np.array_equal(made.affine, nibabel.load(test / "t1" / "p2.nii.gz").affine)
        for plane in range(5):
            places = np.clip([plane - 1, plane, plane + 1], 0, 4)
            sources = {name: voxels(seed)[:, :, places] for name, seed in (("t1", 12), ("t2", 22))}
            assert np.array_equal(np.asarray(made.dataobj)[:, :, plane], translate(sources)[:, :, 0])
    again = p2pkit("translate", run, *each, "--out", tmp_path / "folders", "--skip-existing", "--device", "cpu")
    assert again.code == 0 and "1 was there already" in again.err
    write_nifti(test / "t2" / "p2.nii.gz", voxels(1, (12, 16, 6)))
    refused = p2pkit("translate", run, *each, "--out", tmp_path / "unequal", "--device", "cpu")
    assert refused.code == 2 and "t1/p2.nii.gz is 12x16x5 and " in refused.err
