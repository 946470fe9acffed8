"""Sources that are made of the targets of any data set: edges, gray, and images with holes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

import p2pkit
from p2pkit.contracts import Sample, SampleHeader, Shape, Split, dtype_range
from p2pkit.data.adapter import as_header, as_sample
from p2pkit.errors import MissingData, RecipeError, UnknownComponent
from p2pkit.images.edges import GRAY, canny, luminance, slopes

Share = Annotated[float, Field(gt=0, lt=1)]
GUESSED = (256, 256, 3)
"""The shape of a target of which nothing is known."""
HOLES = "holes"
"""What the source is called that shows where holes are."""


def _absolute(of: dict[str, Any]) -> dict[str, Any]:
    """The keys of a data set, its root as it is from any folder: a run folder's recipe keeps them."""
    root = of.get("root")
    return {**of, "root": str(Path(root).expanduser().absolute())} if isinstance(root, str) else of


# to editors it is a table as [data] is
Of = Annotated[dict[str, Any], AfterValidator(_absolute), Field(json_schema_extra={"x-p2pkit-section": "data"})]


class FromTargets:
    """A data set whose sources are made of the targets of another one, which is all else.

    Subclasses say how, in :meth:`_made` and :meth:`_shapes`.
    """

    def __init__(self, split: Split, of: dict[str, Any], settings: str) -> None:
        """``settings`` is a text of what else the sources depend on.

        Raises:
            RecipeError: ``of`` does not name a data set of pairs, or what it says is not right.
            MissingData: the data is not there.
        """
        self._split, self._settings = split, settings
        self._targets: Any = self._dataset(split, of)
        for name in ("notices", "problems"):
            setattr(self, name, list(getattr(self._targets, name, ())))
        self.target_ending = getattr(self._targets, "target_ending", "")
        self.source_files = self.target_files = getattr(
            self._targets, "target_files", getattr(self._targets, "source_files", ())
        )
        for name in ("header", "fingerprint", "key", "group"):
            if callable(getattr(self._targets, name, None)):
                setattr(self, name, getattr(self, f"_{name}"))
        if hasattr(self._targets, "shards"):
            self.shards = self._targets.shards

    def _dataset(self, split: Split, of: dict[str, Any]) -> Any:
        parameters = dict(of)
        if not isinstance(name := parameters.pop("name", None), str):
            raise RecipeError('data.of: expected the table of a data set, such as {name = "photos", root = "photos"}')
        if "split" in parameters:
            raise RecipeError("data.of.split: a run takes each split of the data set by itself; take this key out")
        try:
            found = p2pkit.create("datasets", name, **parameters, split=split)
        except MissingData as error:
            like = error.stands_in or SampleHeader(GUESSED, GUESSED, "")
            missing = error.missing.replace("data.root", "data.of.root")
            raise MissingData(f"data.of: {missing}", error.remedy, self._of_target(like)) from error
        except (RecipeError, UnknownComponent) as error:
            raise RecipeError(f"data.of: {error}") from error
        if getattr(found, "paired", True) is False:
            raise RecipeError(f'data.of: {name} is unpaired; give its targets by themselves, as name = "photos"')
        return found

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> Sample:
        sample = as_sample(self._targets[index], "pair", "", self._place(f"[{index}]"))
        return sample._replace(source=self._made(sample.target))

    def _header(self, index: int) -> SampleHeader:
        header = as_header(self._targets.header(index), "pair", "", self._place(f"header({index})"))
        return self._of_target(header)

    def _of_target(self, header: SampleHeader) -> SampleHeader:
        """A header with the source that is made of the target, in place of its own."""
        shapes = self._shapes(header.target)
        if isinstance(shapes, dict):
            return SampleHeader.of_sources(shapes, header.target, header.key, header.mask)
        return SampleHeader(shapes, header.target, header.key, header.mask)

    def _fingerprint(self) -> str:
        return f"{self._settings} of {self._targets.fingerprint()}"

    def _key(self, index: int) -> str:
        return str(self._targets.key(index))

    def _group(self, index: int) -> str:
        return str(self._targets.group(index))

    def _place(self, call: str) -> str:
        return f"data.of: {call} of its {self._split} set"

    def _made(self, target: NDArray[Any]) -> Any:
        """The source, or several by name, of a target [H, W, C] as stored."""
        raise NotImplementedError

    def _shapes(self, target: Shape) -> Shape | dict[str, Shape]:
        """The shape of what is made of a target of that shape."""
        return (*target[:2], 1)


class EdgesFromTargets(FromTargets):
    """The edges of any data set's targets as sources, dark on white as in the paper's edges2shoes.

    The paper's own are by HED (Xie and Tu 2015), a trained network, and thinned. Edges are found in targets as stored,
    before they are resized.

    Args:
        of: the data set, as a table of its own: {name = "photos", root = "datasets/photos"}.
        detector: "canny" for thin lines (Canny 1986), or "sobel" for slopes as shades of gray, white where it is even.
        sigma: of the Gaussian blur before it, in pixels; 0 for none.
        low: for "canny": lines go on as long as the slope, as a share of black to white within a pixel, is above this.
        high: for "canny": and begin where it is above this.
    """

    def __init__(
        self, split: Split, of: Of, detector: Literal["canny", "sobel"] = "canny",
        sigma: Annotated[float, Field(ge=0)] = 1.4, low: Share = 0.04, high: Share = 0.1,
    ) -> None:  # fmt: skip
        if low > high:
            raise RecipeError(f"data.low is {low:g}, above data.high, {high:g}; lower it")
        self._detector, self._sigma, self._low, self._high = detector, sigma, low, high
        super().__init__(split, of, f"edges {detector} {sigma:g} {low:g} {high:g}")

    def _made(self, target: NDArray[Any]) -> NDArray[np.uint8]:
        gray = luminance(target, "data.of")
        if self._detector == "canny":
            drawn = canny(gray, self._sigma, self._low, self._high).astype(np.float64)
        else:
            drawn = np.minimum(np.hypot(*slopes(gray, self._sigma)), 1)
        return np.round(255 * (1 - drawn)).astype(np.uint8)[:, :, None]


class GrayFromTargets(FromTargets):
    """Any data set's targets in gray as sources: the brightness of their colours by ITU-R BT.601.

    Args:
        of: the data set, as a table of its own: {name = "photos", root = "datasets/photos"}.
    """

    def __init__(self, split: Split, of: Of) -> None:
        super().__init__(split, of, "gray")

    def _made(self, target: NDArray[Any]) -> NDArray[Any]:
        return GRAY.of(target, "data.of")


class HolesFromTargets(FromTargets):
    """Any data set's targets with rectangular holes as sources, white (the highest value) as in the paper's inpainting.

    Holes at random are drawn anew in each epoch, by the run's seed; validation, and with loader.cache
    training, sees the first one's.

    Args:
        of: the data set, as a table of its own: {name = "photos", root = "datasets/photos"}.
        place: "centre" for one hole in the middle, as in the paper, or "random".
        holes: how many there are at random.
        smallest: height and width of a hole at random, as a share of the image's, are at least this.
        largest: and at most this; that of a hole in the middle.
        show_holes: whether a second source, holes, is white there and black elsewhere; the first is then the image.
    """

    def __init__(
        self, split: Split, of: Of, place: Literal["centre", "random"] = "random",
        holes: Annotated[int, Field(gt=0)] = 1, smallest: Share = 0.25, largest: Share = 0.5, show_holes: bool = False,
    ) -> None:  # fmt: skip
        if smallest > largest:
            raise RecipeError(f"data.smallest is {smallest:g}, above data.largest, {largest:g}; lower it")
        self._count = holes if place == "random" else 0
        self._sides, self._shown = (smallest, largest), show_holes
        super().__init__(split, of, f"holes {place} {holes} {smallest:g} {largest:g} {show_holes}")

    def _made(self, target: NDArray[Any]) -> Any:
        holes = np.zeros(target.shape[:2], bool)
        for _ in range(self._count):
            # height, width, and where: from the global random state, which p2pkit seeds for each sample
            (tall, wide), where = np.random.uniform(*self._sides, 2), np.random.uniform(size=2)
            holes[_rectangle(holes.shape, (tall, wide), where)] = True
        if not self._count:
            holes[_rectangle(holes.shape, (self._sides[1],) * 2, (0.5, 0.5))] = True
        image = np.array(target)
        image[holes] = dtype_range(target.dtype)[1]
        return {"image": image, HOLES: np.uint8(255) * holes[:, :, None]} if self._shown else image

    def _shapes(self, target: Shape) -> Shape | dict[str, Shape]:
        return {"image": target, HOLES: (*target[:2], 1)} if self._shown else target


def _rectangle(size: tuple[int, ...], shares: Any, where: Any) -> tuple[slice, ...]:
    """A rectangle of those ``shares`` of each side, and ``where`` between the borders, 0 to 1."""
    found = []
    for side, share, place in zip(size, shares, where, strict=True):
        length = max(1, round(share * side))
        start = round(place * (side - length))
        found.append(slice(start, start + length))
    return tuple(found)
