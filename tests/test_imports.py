"""Imports of large libraries, during which Python's garbage collector rests."""

from __future__ import annotations

import gc
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


def test_what_was_made_within_is_collected_once_nobody_has_it() -> None:
    with importing():
        circle: list[object] = ["a circle of 2026"]
        circle.append(circle)
    assert not gc.get_freeze_count() and any(each is circle for each in gc.get_objects(2))
    del circle
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, list) and each[:1] == ["a circle of 2026"]]


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
