"""Draw the recorded figures into docs/images/.

The comparisons become performance.png and integers.png, one panel each, the grid becomes grid.png, one square for
each cell, and the errors along the network accuracy.png.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import recorded
from recorded import INTEGER_WORKS, WORKS, Work

mpl.use("agg")
import matplotlib.pyplot as plt

OURS_COLOR, OTHERS_COLOR = "#d1495b", "#8d99ae"
# A bar that is longer than this many times the shortest would make all others unreadable. It is cut off and says so.
LONGEST_BAR = 4
TARGET, INTEGERS_TARGET, GRID_TARGET, ACCURACY_TARGET = (
    recorded.ROOT / "docs" / "images" / f"{name}.png" for name in ("performance", "integers", "grid", "accuracy")
)


def labels(works: Iterable[Work] = WORKS) -> dict[str, list[str]]:
    """The figures of every panel as they are written beside the bars, by the panel's title."""
    return {
        str(work): [f"{timing.ms:.2f}" for timing in recorded.shown(figures).values()]
        for work, figures in recorded.recorded(works).items()
    }


def main() -> None:
    draw_comparisons(WORKS, TARGET)
    if recorded.recorded(INTEGER_WORKS):
        draw_comparisons(INTEGER_WORKS, INTEGERS_TARGET)
    if recorded.ACCURACY.exists():
        draw_accuracy(recorded.read(recorded.ACCURACY))
    if recorded.GRID.exists():
        draw_grid(recorded.read(recorded.GRID))


def draw_accuracy(measured: dict[str, Any]) -> None:
    """Error along depth: a line for each runtime, and what the model expects."""
    figure, axis = plt.subplots(figsize=(11, 4), layout="constrained")
    depth = np.arange(len(measured["layers"]))
    axis.plot(depth, measured["expected"], color="black", linestyle=":", label="expected by the error model")
    for name, errors in measured["errors"].items():
        ours = name.startswith(recorded.OURS)
        style = {"color": OURS_COLOR, "linestyle": "-" if name == recorded.OURS else "--"} if ours else {"alpha": 0.7}
        axis.plot(depth, [np.nan if e is None else e for e in errors], label=name, linewidth=2 if ours else 1, **style)
    axis.set_yscale("log")
    axis.set_ylabel("error in u = 2⁻²⁴, rms")
    axis.set_xticks(depth[::3], measured["layers"][::3], rotation=60, ha="right", fontsize=7)
    axis.legend(fontsize=8, ncols=2)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(ACCURACY_TARGET, dpi=110, metadata={"Software": None, "Description": json.dumps(measured["errors"])})


def draw_comparisons(works: Iterable[Work], target: Path) -> None:
    measured = recorded.recorded(works)
    columns = 4
    lines = -(-len(measured) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(11, 2.2 * lines), layout="constrained", squeeze=False)
    for axis in axes.flat[len(measured) :]:
        axis.set_visible(False)
    for axis, (work, figures) in zip(axes.flat, measured.items()):
        draw(axis, str(work), recorded.shown(figures))
    figure.supxlabel("milliseconds per image", fontsize=9)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A test compares the figures in the picture's description with the recorded ones.
    figure.savefig(target, dpi=110, metadata={"Software": None, "Description": json.dumps(labels(works))})


def draw(axis: plt.Axes, title: str, timings: dict[str, recorded.Timing]) -> None:
    limit = LONGEST_BAR * min(timing.ms for timing in timings.values())
    lengths = [min(timing.ms, limit) for timing in timings.values()]
    colors = [OURS_COLOR if name in (recorded.OURS, recorded.OURS_IN_FLOAT) else OTHERS_COLOR for name in timings]
    bars = axis.barh(list(timings), lengths, color=colors)
    texts = [f"{timing.ms:.2f}" + (" (cut off)" if timing.ms > limit else "") for timing in timings.values()]
    for bar, timing in zip(bars, timings.values()):
        bar.set_hatch("//" if timing.ms > limit else "")
    axis.bar_label(bars, labels=texts, padding=2, fontsize=8)
    axis.invert_yaxis()
    axis.set_title(title.replace(", ", "\n", 1), fontsize=8, loc="left")
    axis.set_xlim(0, 1.5 * max(lengths))
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def draw_grid(cells: dict[str, Any]) -> None:
    """Float32 beside integers: a line for each network, a column for each batch and threads; white is a draw."""
    networks = list(dict.fromkeys(network_of(work) for work in recorded.GRID_WORKS))
    figure, axes = plt.subplots(1, 2, figsize=(9, 0.22 * len(networks) + 1.1), layout="constrained", sharey=True)
    for axis, (words, works) in zip(axes, recorded.NUMBERS.items()):
        ratios = np.full((len(networks), len(recorded.COLUMNS)), np.nan)
        for work, ratio in recorded.ratios_of(cells, works).items():
            ratios[networks.index(network_of(work)), recorded.COLUMNS.index((work.batch, work.threads))] = ratio
        draw_ratios(axis, ratios)
        axis.set_title(words, fontsize=8)
    axes[0].set_yticks(range(len(networks)), networks, fontsize=7)
    figure.supxlabel("time of npmnv2 / time of the best of LiteRT, OpenVINO and ONNX Runtime", fontsize=8)
    figure.savefig(GRID_TARGET, dpi=110, metadata={"Software": None, "Description": json.dumps(shown_ratios(cells))})


def draw_ratios(axis: plt.Axes, ratios: np.ndarray) -> None:
    axis.imshow(np.log(ratios), cmap="RdBu_r", vmin=-math.log(3), vmax=math.log(3), aspect="auto")
    for (line, column), ratio in np.ndenumerate(ratios):
        text = "" if np.isnan(ratio) else f"{ratio:.2f}"
        axis.text(column, line, text, ha="center", va="center", fontsize=7, weight="bold" if ratio >= 1 else "normal")
    columns = [f"batch {batch}\n{threads} thread{'s' * (threads > 1)}" for batch, threads in recorded.COLUMNS]
    axis.set_xticks(range(len(columns)), columns, fontsize=7)
    axis.xaxis.tick_top()


def network_of(work: Work) -> str:
    """The name of a line."""
    return str(work._replace(numbers="float32")).split(",")[0]


def shown_ratios(cells: dict[str, Any]) -> dict[str, float]:
    """What the picture of the grid shows."""
    return {str(work): ratio for work, ratio in recorded.ratios_of(cells, recorded.GRID_WORKS).items()}


if __name__ == "__main__":
    main()
