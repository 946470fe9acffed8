"""Imports of large libraries, during which Python's garbage collector rests."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from p2pkit.utils.imports import importing


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The collector as it was, whatever a test does."""
    yield
    gc.unfreeze()
    gc.enable()


def test_the_collector_rests_within_and_works_behind_whatever_happens() -> None:
    with importing(), importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), importing():
        with importing():
            pass
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()


class Circle:
    """Something that only the collector can find to be garbage."""

    def __init__(self) -> None:
        self.itself = self


def test_what_was_made_within_is_collected_once_nobody_has_it() -> None:
    with importing():
        circle = Circle()
    seen = weakref.ref(circle)
    del circle
    assert seen() is not None
    gc.collect()
    assert seen() is None


def test_what_a_program_has_chosen_stays() -> None:
    gc.disable()
    with importing():
        pass
    assert not gc.isenabled()
    gc.enable()
    gc.freeze()
    frozen = gc.get_freeze_count()
    with importing():
        pass
    assert gc.isenabled() and gc.get_freeze_count() >= frozen > 0
