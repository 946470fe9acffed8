"""Small volumes for tests, written as NIfTI files, DICOM series and TIFF stacks, and recipes on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

import p2pkit as library
from p2pkit.contracts import Sample
from tests.conftest import SMALL

ODD = np.array([[-0.7, 0.1, 0.0, 10.5], [0.0, 0.8, 0.2, -5.25], [0.05, 0.0, 2.5, 7.0], [0.0, 0.0, 0.0, 1.0]])
"""An affine with turned axes and voxels of three sizes."""
SHAPE = (12, 16, 5)


def voxels(seed: int, shape: tuple[int, ...] = SHAPE, dtype: str = "int16") -> Any:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def write_nifti(file: Path, array: Any, affine: Any = ODD) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, affine)
    image.set_qform(affine, 2, strip_shears=True)
    image.set_sform(affine, 4)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"of the test"
    nibabel.save(image, file)
    return file


def write_stack(file: Path, array: Any, **more: Any) -> Path:
    """Planes [rows, columns, planes] as the pages of a TIFF."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(file, np.moveaxis(array, 2, 0), photometric="minisblack", **more)
    return file


def write_dicom(file: Path, pixels: Any, position: Any = None, number: int | None = 1, **more: Any) -> Path:
    """One file of a series: rows lie 0.5 mm apart, columns 0.25."""
    file.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.PixelData, dataset.SeriesInstanceUID = pixels.astype(np.int16).tobytes(), "1.2.3"
    if number is not None:
        dataset.InstanceNumber = number
    if position is not None:
        dataset.ImagePositionPatient, dataset.PixelSpacing = list(position), [0.5, 0.25]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for name, value in more.items():
        setattr(dataset, name, value)
    dataset.save_as(file, enforce_file_format=True)
    return file


def write_series(folder: Path, array: Any, names: str = "cbaed", **more: Any) -> Path:
    """Planes 2 mm apart, in files whose names and numbers are not in that order."""
    for plane, name in enumerate(names):
        write_dicom(folder / f"{name}.dcm", array[:, :, plane], (10, 20, 2 * plane - 30), 9 - ord(name) % 5, **more)
    return folder


def write_pairs(
    root: Path, write: Any = write_nifti, ending: str = ".nii.gz", train: int = 2, shape: tuple[int, ...] = SHAPE
) -> Path:
    """Volumes to train and one to test, all of them different."""
    for split, count in (("train", train), ("test", 1)):
        for index in range(count):
            source = voxels(index + 100 * (split == "test"), shape)
            write(root / split / "source" / f"p{index}{ending}", source)
            write(root / split / "target" / f"p{index}{ending}", 200 - source)
    return root


def recipe_for(root: Path, **data: Any) -> Path:
    """A recipe that trains on planes in a blink, at their own size."""
    begin, end = SMALL.index("[data]"), SMALL.index("[loader]")
    keys = "".join(f"{key} = {str(value).lower()}\n" for key, value in data.items())
    text = f'{SMALL[:begin]}[data]\nname = "volume_slices"\nroot = "{root}"\n{keys}{SMALL[end:]}'
    text = text.replace("load_size = 20\ncrop_size = 16\nflip = true", "crop_size = 8").replace("= 4\nlog", "= 2\nlog")
    file = root.parent / "volumes.toml"
    file.write_text(text)
    return file


def by_hand(model: Path, array: Any, neighbours: int, axis: int = 2) -> Any:
    """The translation of each plane by itself, put together."""
    translate, planes = library.load_model(model, "cpu"), np.moveaxis(array, axis, 0)
    last, made = len(planes) - 1, []
    for index in range(len(planes)):
        around = [planes[min(max(place, 0), last)] for place in range(index - neighbours, index + neighbours + 1)]
        made.append(translate(np.stack(around, axis=2))[:, :, 0])
    return np.moveaxis(np.stack(made), 0, axis)


def sample(dataset: Any, index: int) -> Sample:
    found = dataset[index]
    assert dataset.header(index) == found.header and dataset.key(index) == found.key
    return Sample(*found)
