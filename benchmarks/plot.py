"""Draw the recorded comparisons, one panel each: docs/images/performance.png."""

from __future__ import annotations

import json

import matplotlib as mpl
import recorded

mpl.use("agg")
import matplotlib.pyplot as plt

OURS_COLOR, OTHERS_COLOR = "#d1495b", "#8d99ae"
# A bar that is longer than this many times the shortest would make all others unreadable. It is cut off and says so.
LONGEST_BAR = 4
TARGET = recorded.ROOT / "docs" / "images" / "performance.png"


def labels() -> dict[str, list[str]]:
    """The figures of every panel as they are written beside the bars, by the panel's title."""
    return {
        str(work): [f"{timing.ms:.2f}" for timing in recorded.shown(figures).values()]
        for work, figures in recorded.recorded().items()
    }


def main() -> None:
    measured = recorded.recorded()
    columns = 4
    lines = -(-len(measured) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(11, 2.2 * lines), layout="constrained", squeeze=False)
    for axis in axes.flat[len(measured) :]:
        axis.set_visible(False)
    for axis, (work, figures) in zip(axes.flat, measured.items()):
        draw(axis, str(work), recorded.shown(figures))
    figure.supxlabel("milliseconds per image", fontsize=9)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    # A test compares the figures in the picture's description with the recorded ones.
    figure.savefig(TARGET, dpi=110, metadata={"Software": None, "Description": json.dumps(labels())})


def draw(axis: plt.Axes, title: str, timings: dict[str, recorded.Timing]) -> None:
    limit = LONGEST_BAR * min(timing.ms for timing in timings.values())
    lengths = [min(timing.ms, limit) for timing in timings.values()]
    colors = [OURS_COLOR if name == recorded.OURS else OTHERS_COLOR for name in timings]
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


if __name__ == "__main__":
    main()
