"""Draw one integer convolution with the numbers of the classifier in the package, and how its sum is rounded twice.

python docs/make_integer_convolution.py [PICTURE]
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np

import npmnv2
from npmnv2.kernels import quantized

mpl.use("agg")
import matplotlib.pyplot as plt

PICTURE = Path(__file__).parent / "images" / "integer_convolution.png"
LAYER, SOURCE = "expanded_conv_depthwise", "Conv1"
ROW, COLUMN, CHANNEL = 3, 3, 4
ONCE, TWICE = "#00798c", "#d1495b"


class Example(NamedTuple):
    """One number of the layer's map and what it is made of."""

    window: Any
    kernel: Any
    zero_point: int
    bias: int
    factor: float

    @property
    def total(self) -> int:
        """What is in the brackets."""
        return self.bias + int((self.window * (self.kernel - self.zero_point)).sum())


def example() -> Example:
    """The place of docs/integers.md on the demo's cat."""
    model = npmnv2.load()
    raw = model.trace(model.prepare([str(resources.files("npmnv2") / "data" / "cat.jpg")]), raw=True)
    source, filters, output = (
        model.quantization.values[SOURCE], model.quantization.kernels[LAYER], model.quantization.values[LAYER],
    )  # fmt: skip
    made = Example(
        raw[SOURCE][0, ROW - 1 : ROW + 2, COLUMN - 1 : COLUMN + 2, CHANNEL].astype(int),
        model.weights[f"{LAYER}/kernel"][:, :, CHANNEL, 0].astype(int),
        filters.zero_point,
        int(model.weights[f"{LAYER}/bias"][CHANNEL]),
        float(source.scales[0] * filters.scales[0] / output.scales[0]),
    )
    assert raw[LAYER][0, ROW, COLUMN, CHANNEL] == round(made.total * made.factor)
    return made


def main(picture: str | Path = PICTURE) -> None:
    """Above the sum, below its way back to eight bits."""
    one = example()
    figure = plt.figure(figsize=(9, 5.2), layout="constrained")
    panels = figure.subplot_mosaic([list("xwps"), list("nnnn")], height_ratios=(1, 0.85))
    weights = one.kernel - one.zero_point
    grid(panels["x"], one.window, "$q_x$\n(zero point 0)", "Blues")
    grid(panels["w"], weights, f"× $(q_w - {one.zero_point})$", "RdBu")
    grid(panels["p"], one.window * weights, "= products", "RdBu")
    tell_sum(panels["s"], one)
    number_line(panels["n"], one)
    figure.savefig(picture, dpi=100, metadata={"Software": None})


def grid(axis: Any, numbers: Any, title: str, colors: str) -> None:
    """A 3×3 window, each number on its color; zero is white where there are signs."""
    reach = np.abs(numbers).max() * 1.6
    axis.imshow(numbers, cmap=colors, vmin=0 if colors == "Blues" else -reach, vmax=reach)
    for (row, column), number in np.ndenumerate(numbers):
        axis.text(column, row, f"{number}".replace("-", "−"), ha="center", va="center", fontsize=11)
    axis.set_title(title, fontsize=10)
    axis.set(xticks=[], yticks=[])


def tell_sum(axis: Any, one: Example) -> None:
    products = one.total - one.bias
    lines = [f"sum  {products:>6}", f"bias {one.bias:>6}", "─" * 11, f"     {one.total:>6}"]
    axis.text(0, 0.55, "\n".join(lines), family="monospace", fontsize=12, va="center")
    axis.text(0, 0.1, f"× M = {one.factor:.8f}", fontsize=10)
    axis.set_axis_off()


def number_line(axis: Any, one: Example) -> None:
    """The real result, and both ways to a whole number."""
    real = one.total * one.factor
    multiplier = quantized.quantize_multiplier(one.factor)
    doubled = int(quantized.saturating_multiply(one.total, multiplier.mantissa))
    half, low = doubled / 2.0 ** -int(multiplier.exponent), int(np.floor(real))
    twice = int(quantized.multiply(np.array(one.total), multiplier))
    once = round(real)
    axis.axhline(0, color="black", linewidth=1)
    for number in range(low - 1, low + 3):
        axis.plot([number] * 2, [-0.06, 0.06], color="black", linewidth=1)
        axis.text(number, -0.3, str(number), ha="center", fontsize=10)
        axis.plot([number + 0.5] * 2, [-0.03, 0.03], color="#8d99ae", linewidth=1)
    axis.plot(real, 0, "o", color="black", markersize=5)
    axis.annotate(f"{one.total} · M = {real:.4f}", (real, 0.02), (real - 1.5, 0.42), arrowprops={"arrowstyle": "-"})
    arrow(axis, real, once, 0.75, ONCE, f"XNNPACK, once: {once}")
    arrow(axis, real, half, -0.62, TWICE, f"gemmlowp, first: {doubled} = 2 · {half:g}")
    arrow(axis, half, twice, -1.0, TWICE, f"then: {twice}")
    axis.set(xlim=(low - 1.2, low + 2.3), ylim=(-1.5, 1.25))
    axis.set_axis_off()


def arrow(axis: Any, start: float, end: float, height: float, color: str, text: str) -> None:
    axis.annotate("", (end, height), (start, height), arrowprops={"arrowstyle": "->", "color": color, "linewidth": 1.8})
    for at in (start, end):
        axis.plot([at, at], [0, height], color=color, linewidth=0.7, linestyle=":")
    axis.text(max(start, end) + 0.06, height, text, color=color, fontsize=10, va="center")


if __name__ == "__main__":
    main(*sys.argv[1:])
