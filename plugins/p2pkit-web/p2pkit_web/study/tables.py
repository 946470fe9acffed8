"""The results of a study as rows of text."""

from __future__ import annotations

from p2pkit_web.study.results import CHECKS_RIGHT, Results

METHODS = ("method", "fooled", "95% interval", "trials", "participants", "checks found", "left out")
DIFFERENCES = ("difference", "points", "95% interval")
FEW = 2
"""With fewer participants an interval says nothing of others."""


def method_rows(results: Results) -> list[tuple[str, ...]]:
    """A row for each method, as METHODS names them."""
    rows = list[tuple[str, ...]]()
    for each in results.methods:
        share = interval = "-"
        if each.share is not None and each.low is not None and each.high is not None:
            share, interval = _percent(each.share), f"{_percent(each.low)} to {_percent(each.high)}"
        left_out = [f"{count} {why}" for why, count in each.left_out.items()]
        left_out += [f"{each.mistimed} trials mistimed"] * bool(each.mistimed)
        checks = f"{each.checks_right} of {each.checks}" if each.checks else "-"
        rows.append(
            (each.method, share, interval, str(each.trials), str(each.participants), checks, ", ".join(left_out))
        )
    return rows


def difference_rows(results: Results) -> list[tuple[str, ...]]:
    """A row for each two methods, as DIFFERENCES names them."""
    return [
        (
            f"{each.method} - {each.other}", f"{100 * each.difference:+.1f}",
            f"{100 * each.low:+.1f} to {100 * each.high:+.1f}",
        )
        for each in results.differences
    ]  # fmt: skip


def notices(results: Results) -> list[str]:
    """What is to be said beside the numbers."""
    said = [
        "fooled: the share of pairs in which the real image was taken for the fake one; left out: who has not "
        f"finished, or has found less than {CHECKS_RIGHT:.0%} of the checks"
    ]
    few = [each.method for each in results.methods if 0 < each.participants < FEW]
    if few:
        said.append(f"NOTICE: {', '.join(few)}: an interval of one participant says nothing of other people")
    return said


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
