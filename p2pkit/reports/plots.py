"""Series as plots: inline SVG in the colours of the page, with what its script needs to show values at a place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from p2pkit.reports.series import Group, Series
from p2pkit.utils.progress import three_digits

WIDTH, HEIGHT, POINTS = 4.6, 2.35, 72
"""Of a plot, in inches, and points to the inch: the unit of its SVG."""
COLOURS = 6
"""Series have so many colours, and after that broken lines in the same ones."""
LOGARITHMIC_FROM = 30
"""Losses of which the largest value is so many times the smallest have a logarithmic axis."""
_PLACE = 0.13, 0.17, 0.84, 0.79
"""Left, bottom, width and height of the axes in it; a layout that is worked out takes as long as all the rest."""
_INK, _GRID, _SERIES = "#0a0b0c", "#0a0b0d", "#0a0c%02x"
"""Colours that stand for variables of the page's style sheet, which knows light and dark."""
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "p2pkit", "font.family": "sans-serif", "font.size": 8.5,
    "text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "axes.edgecolor": _GRID,
    "grid.color": _GRID, "grid.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "xtick.major.size": 0, "ytick.major.size": 0, "ytick.minor.size": 0,
    "axes.unicode_minus": False, "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A plot: its SVG, in words what it shows, and what a script shows at a place in it."""

    title: str
    explained: str
    svg: str
    said: str
    labels: Sequence[str]
    colours: Sequence[int]
    points: dict[str, Any]
    rows: Sequence[tuple[int, Sequence[str]]]
    """Some of the values as a table: a step, and the value of each series there."""


def draw(group: Group) -> Plot:
    """The plot of a group of series."""
    with rc_context():
        rcdefaults()  # whatever a user has chosen for other plots
        rcParams.update(_STYLE)
        figure = Figure(figsize=(WIDTH, HEIGHT), dpi=POINTS)
        axes = figure.add_axes(_PLACE)
        points = [value for series in group.series for value in series.values]
        if group.bounds is not None:
            low, high = group.bounds
            axes.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
        elif group.loss and min(points) > 0 and max(points) > LOGARITHMIC_FROM * min(points):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        colours = [place if series.colour is None else series.colour for place, series in enumerate(group.series)]
        for colour, series in zip(colours, group.series, strict=True):
            _line(axes, colour, series)
        if group.reference is not None:
            axes.axhline(group.reference, color=_INK, linewidth=0.7, linestyle=(0, (2, 3)))
        axes.grid(axis="y")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.margins(x=0.01)
        axes.set_xlabel("step")
        written = StringIO()
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        where = _places(axes, group.series)
    return Plot(
        group.title, group.explained, _inline(written.getvalue()), _said(group), [s.label for s in group.series],
        colours, where, _table(group.series),
    )  # fmt: skip


def _line(axes: Axes, colour: int, series: Series) -> None:
    style: dict[str, Any] = {"color": _SERIES % (colour % COLOURS), "solid_joinstyle": "round"}
    if colour >= COLOURS:
        style["linestyle"] = (0, (4, 2))
    if smooth := series.smooth:
        axes.plot(series.steps, series.values, linewidth=0.8, alpha=0.3, **style)
        axes.plot(series.steps, smooth, linewidth=1.7, **style)
    else:
        axes.plot(series.steps, series.values, linewidth=1.7, marker="o" if len(series.steps) < 20 else "",
                  markersize=3, **style)  # fmt: skip


def _inline(svg: str) -> str:
    """What of a file of SVG stands in a page: without its head and names, colours by variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # names of groups, which would stand in a page several times; those that something refers to are hashes
    svg = re.sub(r' id="(?:figure|axes|patch|line2d|text|matplotlib\.axis|xtick|ytick|legend)_\d+"', "", svg)
    svg = re.sub(
        r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">', svg, count=1
    )
    svg = svg.replace("xlink:href", "href").replace(_INK, "var(--ink-2)").replace(_GRID, "var(--rule)")
    svg = re.sub(r"font: 8\.5px [^;\"]*", "font-size: 8.5px", svg)
    for place in range(COLOURS):
        svg = svg.replace(_SERIES % place, f"var(--series-{place})")
    return re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)


def _places(axes: Axes, series: Sequence[Series]) -> dict[str, Any]:
    """Where each value is in the SVG, and what it is."""
    height, box = HEIGHT * POINTS, axes.get_window_extent()
    found = []
    for each in series:
        seen = each.smooth or each.values
        dots = axes.transData.transform(list(zip(each.steps, seen, strict=True)))
        places = [[round(float(x), 1), round(height - float(y), 1)] for x, y in dots]
        found.append({"steps": list(each.steps), "values": [three_digits(value) for value in seen], "dots": places})
    return {"top": round(height - box.y1, 1), "bottom": round(height - box.y0, 1), "series": found}


def _said(group: Group) -> str:
    """In words what the series do."""
    said = []
    for each in group.series:
        values = each.smooth or each.values
        said.append(
            f"{each.label}: {three_digits(values[0])} at step {each.steps[0]}, {three_digits(values[-1])} at step "
            f"{each.steps[-1]}, lowest {three_digits(min(values))}, highest {three_digits(max(values))}"
        )
    return "; ".join(said)


def _table(series: Sequence[Series], most: int = 10) -> list[tuple[int, list[str]]]:
    steps = sorted({step for each in series for step in each.steps})
    shown = steps if len(steps) <= most else [steps[n * (len(steps) - 1) // (most - 1)] for n in range(most)]
    known = [dict(zip(each.steps, each.smooth or each.values, strict=True)) for each in series]
    return [(step, [three_digits(one[step]) if step in one else "" for one in known]) for step in shown]
