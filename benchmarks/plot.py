"""Draw the recorded comparisons, one panel each: docs/images/performance.png."""

from __future__ import annotations

import matplotlib as mpl
import recorded
from table import OTHERS, OURS, RIVALS

mpl.use("agg")
import matplotlib.pyplot as plt

OURS_COLOR, OTHERS_COLOR = "#d1495b", "#8d99ae"
# Too slow to be drawn on one scale with the others.
LEFT_OUT = "transformers"


def main() -> None:
    measured = recorded.recorded()
    columns = 4
    lines = -(-len(measured) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(11, 2.1 * lines), layout="constrained", squeeze=False)
    for axis in axes.flat[len(measured) :]:
        axis.set_visible(False)
    for axis, (work, figures) in zip(axes.flat, measured.items()):
        draw(axis, str(work), {name: result["ms_per_image"] for name, result in figures["results"].items()})
    figure.supxlabel("milliseconds per image", fontsize=9)
    target = recorded.ROOT / "docs" / "images" / "performance.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110, metadata={"Software": None})


def draw(axis: plt.Axes, title: str, times: dict[str, float]) -> None:
    names = [name for name in (OURS, *RIVALS, *OTHERS) if name in times and name != LEFT_OUT]
    values = [times[name] for name in names]
    bars = axis.barh(names, values, color=[OURS_COLOR if name == OURS else OTHERS_COLOR for name in names])
    axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    axis.invert_yaxis()
    axis.set_title(title.replace(", ", "\n", 1), fontsize=8, loc="left")
    axis.set_xlim(0, 1.25 * max(values))
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
