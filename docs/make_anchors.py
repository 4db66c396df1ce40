"""Draw the six feature maps of an SSD for 300×300 pixels, each with the anchors of one of its places.

python docs/make_anchors.py [PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from npmnv2.kernels import anchor_shapes, grid_anchors
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.ssd import map_names, map_sizes

mpl.use("agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

PICTURE = Path(__file__).parent / "images" / "anchors.png"
SIDE = 300
COLORS = ("#d1495b", "#00798c", "#edae49", "#66a182", "#6a4c93", "#2e4057")


def main(picture: str | Path = PICTURE) -> None:
    """One panel for each map."""
    config = MobileNetV2Config(image_size=SIDE, num_labels=91)
    names, sizes = map_names(config.ssd), map_sizes(config, SIDE, SIDE)
    figure, axes = plt.subplots(2, 3, figsize=(9, 6.6), layout="constrained")
    for axis, name, size, shapes in zip(axes.flat, names, sizes, anchor_shapes(len(sizes))):
        draw(axis, size, list(shapes))
        rows, columns = size
        axis.set_title(f"{name}\n{rows}×{columns} places, {rows * columns * len(shapes)} anchors", fontsize=8)
    figure.savefig(picture, dpi=100, metadata={"Software": None})


def draw(axis: Any, size: tuple[int, int], shapes: list[tuple[float, float]]) -> None:
    """The input, the places of a map, and all anchors of the place in the middle."""
    axis.add_patch(Rectangle((0, 0), SIDE, SIDE, facecolor="#eef1f4", edgecolor="#8d99ae"))
    anchors = SIDE * grid_anchors(size, shapes).reshape(*size, len(shapes), 4)
    axis.plot(anchors[..., 0, 1].ravel(), anchors[..., 0, 0].ravel(), ".", color="#8d99ae", markersize=2)
    for (y, x, height, width), color in zip(anchors[size[0] // 2, size[1] // 2], COLORS):
        corner = (x - width / 2, y - height / 2)
        axis.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color, linewidth=1.6))
    y, x = anchors[size[0] // 2, size[1] // 2, 0, :2]
    axis.plot(x, y, "o", color="black", markersize=3)
    margin = np.array([-0.45, 1.5]) * SIDE
    axis.set(xlim=margin, ylim=margin[::-1], xticks=[0, SIDE], yticks=[0, SIDE], aspect="equal")
    axis.tick_params(labelsize=7)


if __name__ == "__main__":
    main(*sys.argv[1:])
