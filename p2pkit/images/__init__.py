"""Pixels: reading and writing files, the mapping to [-1, 1] and back, the transforms of a pair, and picture grids."""

from p2pkit.data.discovery import FilePairs, fingerprint_of
from p2pkit.images.class_maps import class_colours, stored_values
from p2pkit.images.names import IMAGE_SUFFIXES, ending, output_ending, without_ending
from p2pkit.images.pixels import from_unit, to_unit
from p2pkit.images.reading import find_images, image_header, read_image, read_image_bytes
from p2pkit.images.writing import to_pillow, write_image

__all__ = [
    "IMAGE_SUFFIXES", "FilePairs", "class_colours", "ending", "find_images", "fingerprint_of", "from_unit",
    "image_header", "output_ending", "read_image", "read_image_bytes", "stored_values", "to_pillow", "to_unit",
    "without_ending", "write_image",
]  # fmt: skip
