"""An augmentation: pictures as an unsteady hand would hold them."""

from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor


class Shaking:
    """Both pictures moved by a few pixels, at random."""

    def __init__(self, pixels: Annotated[int, Field(ge=0)] = 2) -> None:
        self.pixels = pixels

    def __call__(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        down, right = np.random.randint(-self.pixels, self.pixels + 1, 2).tolist()
        return source.roll((down, right), (1, 2)), target.roll((down, right), (1, 2))
