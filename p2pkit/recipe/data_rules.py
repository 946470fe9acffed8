"""What every pair of a data set must be to be trained on, said of shapes alone; and going through all pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from p2pkit.contracts import PairedDataset, PairHeader
from p2pkit.data.loader import ONE_SIZE
from p2pkit.errors import DataError, listed
from p2pkit.inference.policy import refuse_unfitting
from p2pkit.recipe.assemble import Data, channels_of
from p2pkit.recipe.networks import Networks, transform_of
from p2pkit.recipe.recipe import Recipe
from p2pkit.recipe.trial import without_weights
from p2pkit.training.pair_form import refuse_unlike
from p2pkit.utils.progress import Progress

SHOWN = 50
"""How many bad pairs a message lists."""

T = TypeVar("T")


class Place(NamedTuple):
    """Where a pair is: in the split that is trained on or in the held-out one, and its index there."""

    trained: bool
    number: int

    def split(self, data: Data) -> PairedDataset:
        """The split of ``data`` that this place is in."""
        return data.pairs if self.trained else data.held_out


def places(data: Data) -> list[Place]:
    """All pairs of both splits."""
    splits = ((True, data.pairs), (False, data.held_out))
    return [Place(trained, index) for trained, pairs in splits for index in range(len(pairs))]


def go_through(title: str, chosen: Sequence[Place], look: Callable[[Place], T]) -> Iterator[T]:
    """What ``look`` makes of each place, in their order; several threads look at once."""
    with ThreadPoolExecutor() as pool, Progress(title, len(chosen), "pair") as progress:
        for found in pool.map(look, chosen):
            yield found
            progress.advance()


def cannot_be_used(count: int, pairs: int, faults: Sequence[str]) -> DataError:
    """The error of a data set of which ``count`` of so many pairs cannot be used."""
    return DataError(f"{count} of {pairs} pairs cannot be used:{listed(faults, SHOWN)}")


class Rules:
    """The rules that a recipe sets for its pairs, of which ``first`` is one.

    Raises:
        DataError: the generator does not take the size of the first pair, or the crop is larger than what pairs are
            resized to.
    """

    def __init__(self, recipe: Recipe, first: PairHeader) -> None:
        self._first, self._transform = first, transform_of(recipe, None)
        self._batched = recipe.loader.batch_size > 1
        # no values are known yet, and sizes do not depend on them; encodings take these for any numbers of classes
        networks = Networks(recipe, channels_of(first), recipe.source.range or (0.0, 65535.0))
        self._generator = without_weights(networks.both)["generator"]
        if recipe.transform.load_size is not None:
            self._transform.refuse_smaller_than_crop(first.source[:2], first.key)
        self._size = self._transform.training_size(first.source[:2])
        refuse_unfitting(self._generator, self._size, first.key)

    def refuse_unusable(self, pair: PairHeader, trained: bool) -> None:
        """Raise DataError when a pair by itself cannot be used; leaving it out mends that."""
        refuse_unlike(pair, self._first)
        if trained:
            self._transform.refuse_smaller_than_crop(pair.source[:2], pair.key)

    def refuse_unfitting(self, pair: PairHeader) -> None:
        """Raise DataError when a training pair's size does not go with the generator or with the first pair's."""
        size = self._transform.training_size(pair.source[:2])
        if size == self._size:
            return
        refuse_unfitting(self._generator, size, pair.key)
        if self._batched:
            raise DataError(
                f"{pair.key}: it differs in size from {self._first.key}, so no batch can hold both; {ONE_SIZE}"
            )
