"""Draws the rates: one panel a workload, one bar a subject, with the range over the rounds."""

from __future__ import annotations

from itertools import groupby, zip_longest
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.speed.results import Results, Row

_COLUMNS = 2
_WIDTH, _BAR, _MARGIN = 14.0, 0.24, 0.75  # inches
_OURS, _BARE = "#c8553d", "#9aa5b1"


def draw(results: Results, path: Path) -> None:
    """Write the chart as a PNG."""
    groups = [list(rows) for _, rows in groupby(results.rows, key=lambda row: row.workload)]
    lines = [groups[i : i + _COLUMNS] for i in range(0, len(groups), _COLUMNS)]
    heights = [_MARGIN + _BAR * max(map(len, line)) for line in lines]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
    panels = figure.subplots(len(lines), _COLUMNS, squeeze=False, height_ratios=heights)
    for axes, rows in zip_longest(panels.flat, groups):
        if rows:
            _panel(axes, rows)
        else:
            axes.set_axis_off()
    figure.savefig(path, dpi=110)


def _panel(axes: Axes, rows: list[Row]) -> None:
    rates = [row.images_per_s for row in rows]
    spread = [
        [rate - min(row.rates) for rate, row in zip(rates, rows, strict=True)],
        [max(row.rates) - rate for rate, row in zip(rates, rows, strict=True)],
    ]
    colors = [_OURS if "featurelens" in row.subject else _BARE for row in rows]
    bars = axes.barh([row.subject for row in rows], rates, xerr=spread, color=colors, ecolor="#444444")
    axes.bar_label(bars, [f" {rate:,.0f}" for rate in rates], padding=6, fontsize=8)
    axes.set_title(f"{rows[0].workload}: images/s", loc="left", fontsize=10, fontweight="bold")
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
