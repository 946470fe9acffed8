"""Pixels: reading and writing files, the mapping to [-1, 1] and back, the transforms of a pair, and picture grids."""

from p2pkit.images.pixels import from_unit, to_unit
from p2pkit.images.reading import IMAGE_SUFFIXES, find_images, image_header, read_image, read_image_bytes
from p2pkit.images.writing import to_pillow, write_image

__all__ = [
    "IMAGE_SUFFIXES", "find_images", "from_unit", "image_header", "read_image", "read_image_bytes", "to_pillow",
    "to_unit", "write_image",
]  # fmt: skip
