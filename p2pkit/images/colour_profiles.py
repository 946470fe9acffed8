"""What colours of a file are meant in. Pixels are taken as stored, so this is known to be lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO

from PIL import Image, ImageCms

UNNAMED = "a colour profile without a name"
SRGB = ("srgb", "urgb", "c2")
"""How the names of profiles begin or go that are sRGB; the last two are those of its smallest copies."""
SRGB_GAMMA = (0.44, 0.47)
"""The exponents (gAMA of a PNG) that are as good as that of sRGB."""


@lru_cache(maxsize=16)
def profile_name(icc: bytes) -> str:
    """The name of an ICC profile; empty for sRGB, whichever of its variants."""
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(icc))).strip()
    except (ImageCms.PyCMSError, ImportError, OSError):  # damaged, or Pillow was built without Little CMS
        return UNNAMED
    return "" if "srgb" in name.lower() or name.lower() in SRGB else name or UNNAMED


def colours_of(image: Image.Image) -> str:
    """What the colours of a Pillow image are meant in, unless it is sRGB or nothing is said; read before its pixels."""
    icc = image.info.get("icc_profile")
    name = profile_name(icc) if isinstance(icc, bytes) and icc else ""
    if image.mode == "CMYK":  # what becomes of inks is a matter of their profile, which the RGB pixels do not follow
        return f"CMYK, {name}" if name else "CMYK"
    gamma = image.info.get("gamma") if not icc and "srgb" not in image.info else None
    if image.format == "PNG" and isinstance(gamma, float) and not SRGB_GAMMA[0] < gamma < SRGB_GAMMA[1]:
        return f"gamma {1 / gamma:.3g}" if gamma else ""
    return name


def lost_profiles(profiles: Sequence[str]) -> str:
    """What is to be said of sources whose colours are meant in ``profiles``, which their translations do not have."""
    names = ", ".join(f"{name} ({count})" for name, count in Counter(profiles).most_common())
    return (
        f"{len(profiles)} sources have a colour profile, which their translations do not have: {names}. Numbers were "
        "translated as stored; convert sources to sRGB first where colours have to look alike"
    )
