"""Volumes: what is one, in which order its planes are, and their planes as samples."""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pydicom.dataset import Dataset

import p2pkit as library
from p2pkit.errors import DataError
from p2pkit.images.volumes import open_volume
from tests.conftest import Call, picture, save
from tests.volumes import (
    ODD,
    SHAPE,
    recipe_for,
    sample,
    voxels,
    write_dicom,
    write_nifti,
    write_pairs,
    write_series,
    write_stack,
)


def test_samples_are_planes_with_their_neighbours(tmp_path: Path) -> None:
    root, array = write_pairs(tmp_path / "data"), voxels(1)
    for axis, (neighbours, index) in ((0, (0, 3)), (1, (1, 15)), (2, (2, 1))):
        made = library.create("datasets", "volume_slices", root=root, split="train", axis=axis, neighbours=neighbours)
        assert len(made) == 2 * SHAPE[axis]
        found, planes = sample(made, SHAPE[axis] + index), np.moveaxis(array, axis, 2)
        places = np.clip(np.arange(index - neighbours, index + neighbours + 1), 0, SHAPE[axis] - 1)
        assert np.array_equal(found.source, planes[:, :, places])
        assert np.array_equal(found.target[:, :, 0], 200 - planes[:, :, index])
        assert found.key == f"train/source/p1#plane_{index:04}"
        assert made.planes == {"axis": axis, "neighbours": neighbours, "orientation": "LAS"}
        with pytest.raises(IndexError):
            made[len(made)]


def test_planes_of_one_volume_are_never_in_two_sets(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data", train=8)
    data = library.load_data(recipe_for(root), {"data.split": 0.4})
    volumes = [{each.header(index).key.partition("#")[0] for index in range(len(each))} for each in data.sets[:2]]
    assert volumes[0] and volumes[1] and not volumes[0] & volumes[1] and len(volumes[0] | volumes[1]) == 8
    assert len(data.val) == 5 * len(volumes[1]) and data.train.planes["axis"] == 2


def test_empty_planes_are_left_out_and_counted(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data")
    target = 200 - voxels(0)
    target[:, :, 1:3] = 7
    write_nifti(root / "train" / "target" / "p0.nii.gz", target)
    whole = library.create("datasets", "volume_slices", root=root, split="train")
    made = library.create("datasets", "volume_slices", root=root, split="train", skip_empty=True)
    names = [made.key(index).removeprefix("train/source/") for index in range(3)]
    assert len(whole) == 10 and names == ["p0#plane_0000", "p0#plane_0003", "p0#plane_0004"]
    assert len(made) == 8 and "2 of the 10 planes of the train set are left out" in made.notices[0]
    assert made.fingerprint() != whole.fingerprint()


def test_units_padding_and_white_of_dicom_are_those_of_images(tmp_path: Path) -> None:
    array = voxels(3)
    volume = open_volume(write_series(tmp_path / "ct", array, RescaleSlope=2, RescaleIntercept=-1000))
    for axis in range(3):
        assert np.array_equal(volume.plane(2, axis)[:, :, 0], np.moveaxis(array * 2.0 - 1000, axis, 2)[:, :, 2])
        assert volume.plane(2, axis).dtype == np.float32
    volume = open_volume(write_series(tmp_path / "x", array, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(volume.plane(2)[:, :, 0], -1 - array[:, :, 2])
    volume = open_volume(write_series(tmp_path / "p", array, PixelPaddingValue=5))
    assert volume.plane(2, 0, neighbours=1).nodata == 5


def test_frames_of_one_dicom_file_are_planes(tmp_path: Path) -> None:
    array, positions = voxels(4), [8, 0, 2, 4, 6]
    frames = np.moveaxis(array, 2, 0)
    volume = open_volume(write_dicom(tmp_path / "cine.dcm", frames, NumberOfFrames=5))
    assert volume.affine is None and np.array_equal(volume.plane(1)[:, :, 0], array[:, :, 1])
    shared, own = Dataset(), []
    geometry, measures, values = Dataset(), Dataset(), Dataset()
    geometry.ImageOrientationPatient, measures.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.5, 0.25]
    values.RescaleSlope, values.RescaleIntercept = 3, -4
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [geometry], [measures]
    shared.PixelValueTransformationSequence = [values]
    for place in positions:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, place]
        frame.PlanePositionSequence = [position]
        own.append(frame)
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": own}
    volume = open_volume(write_dicom(tmp_path / "enhanced.dcm", frames, NumberOfFrames=5, **groups))
    assert np.array_equal(volume.plane(0)[:, :, 0], array[:, :, 1] * 3.0 - 4)
    assert np.array_equal(volume.plane(4)[:, :, 0], array[:, :, 0] * 3.0 - 4)
    assert volume.affine is not None and volume.affine[2, 2] == 2


def broken_series(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Series that are not volumes, and what is said of them."""
    array, folders = voxels(5), {name: tmp_path / name for name in ("two", "twice", "sizes", "order", "scout", "rgb")}
    for folder in folders.values():
        write_series(folder, array)
    position = (10, 20, -22)
    write_dicom(folders["two"] / "z.dcm", array[:, :, 0], (10, 20, 99), SeriesInstanceUID="1.2.4")
    write_dicom(folders["twice"] / "z.dcm", array[:, :, 0], position)
    write_dicom(folders["sizes"] / "z.dcm", array[:8, :, 0], (10, 20, -20))
    write_dicom(folders["order"] / "z.dcm", array[:, :, 0], None, number=None)
    write_dicom(folders["scout"] / "z.dcm", array[:, :, 0], position, ImageOrientationPatient=[1, 0, 0, 0, 0, 1])
    write_dicom(folders["rgb"] / "z.dcm", array[:, :, 0], (10, 20, -20), NumberOfFrames=2)
    found = {
        "two": "it holds 2 series", "twice": "two of its images are at one place: d.dcm and z.dcm",
        "sizes": "its images differ in size", "order": "the order of its images is not known",
        "scout": "z.dcm lies in another direction", "rgb": "z.dcm: it has 2 frames among single images",
    }  # fmt: skip
    return {name: (folder, found[name]) for name, folder in folders.items()}


def test_what_is_not_a_volume_is_refused_in_a_sentence(tmp_path: Path) -> None:
    cases = list(broken_series(tmp_path).values())
    array = voxels(6)
    four = write_nifti(tmp_path / "four.nii", np.stack([array, array], axis=3))
    cases.append((four, r"its shape is \(12, 16, 5, 2\); expected three axes"))
    file = write_nifti(tmp_path / "short.nii", array)
    file.write_bytes(file.read_bytes()[:-50])
    cases.append((file, "it ends after"))
    packed = tmp_path / "short.nii.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    cases.append((packed, "it ends after"))
    truncated = write_nifti(tmp_path / "truncated.nii.gz", array)
    truncated.write_bytes(truncated.read_bytes()[:-20])
    cases.append((truncated, "damaged or incomplete"))
    write_stack(tmp_path / "page.tif", array[:, :, :1])
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((5, 6, 7, 3), np.uint8), photometric="rgb")
    hyper = tmp_path / "hyper.tif"
    tifffile.imwrite(hyper, np.zeros((5, 2, 6, 7), np.uint8), imagej=True, metadata={"axes": "ZCYX"})
    cases += [
        (tmp_path / "page.tif", "it has one page"), (tmp_path / "rgb.tif", "its pixels have 3 samples"),
        (hyper, "5 of axis Z and 2 of axis C"), (save(tmp_path / "a.png", picture(8, 8, 1)), "not a volume"),
        (tmp_path / "missing.nii", "there is no such file"),
        (write_dicom(tmp_path / "single" / "a.dcm", array[:, :, 0]), "give the folder that holds its series"),
    ]  # fmt: skip
    for path, found in cases:
        with pytest.raises(DataError, match=rf"^{path}: .*{found}"):
            open_volume(path)


def test_pairs_that_do_not_fit_are_named(p2pkit: Call, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data")
    write_nifti(root / "train" / "target" / "p0.nii.gz", voxels(1, (12, 16, 6)))
    outcome = p2pkit("check", recipe_for(root))
    folder = root / "train"
    shapes = f"{folder}/source/p0.nii.gz is 12x16x5 and {folder}/target/p0.nii.gz is 12x16x6"
    assert outcome.code == 2 and shapes in outcome.err
    data = library.load_data(recipe_for(root), {"loader.bad_data": "skip"})
    assert len(data.train) == 5 and any(shapes in notice for notice in data.notices)
    moved = ODD.copy()
    moved[:3, 3] += 4
    write_nifti(root / "train" / "target" / "p0.nii.gz", 200 - voxels(0), moved)
    turned = np.diag([1.0, 1.0, 1.0, 1.0])
    for side in ("source", "target"):
        write_nifti(root / "train" / side / "p1.nii.gz", voxels(1), turned)
    notices = "\n".join(library.load_data(recipe_for(root)).notices)
    assert "in 1 of 2 pairs volumes have different affines (train/source/p0)" in notices
    assert "several orientations (LAS 1, RAS 1)" in notices


def test_series_side_by_side_in_one_folder_are_refused(tmp_path: Path) -> None:
    for side in ("source", "target"):
        write_series(tmp_path / "data" / side, voxels(1))
    with pytest.raises(DataError, match=f"{tmp_path}/data/source: DICOM files lie in it side by side"):
        library.load_data(recipe_for(tmp_path / "data"))


def test_the_libraries_of_the_extra_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_nifti(tmp_path / "a.nii.gz", voxels(1)), write_series(tmp_path / "s", voxels(1))
    for name in ("nibabel", "pydicom"):
        monkeypatch.setitem(sys.modules, name, None)
    for path, name in zip(paths, ("nibabel", "pydicom"), strict=True):
        with pytest.raises(DataError, match=rf"{name}, which is not here; pip install 'p2pkit\[medical\]'"):
            open_volume(path)


def test_one_file_in_two_sets_is_refused(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data", lambda folder, array: write_series(folder, array), "")
    shutil.rmtree(root / "test" / "source" / "p0")
    (root / "test" / "source" / "p0").symlink_to(root / "train" / "source" / "p0")
    with pytest.raises(DataError, match="5 sources of the test set are in the train set too"):
        library.load_data(recipe_for(root))
