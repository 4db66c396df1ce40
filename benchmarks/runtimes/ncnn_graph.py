"""A classifier as ncnn's two files: the layers as text, and their numbers one after another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from network import IMAGE, Network, Step, Weights

MAGIC = 7767517
CLIP = 3  # among ncnn's activations


class _Graph:
    """One method per kind of layer, called like its class. Attributes have numbers: see ncnn's layer sources."""

    def __init__(self, weights: Weights, users: Counter[str]) -> None:
        self.weights = weights
        self.lines: list[str] = []
        self.blobs: set[str] = set()
        self.numbers: list[bytes] = []
        # ncnn hands a value on to one user only: one that has several is split into a copy for each.
        self.copies: dict[str, list[str]] = {}
        self.users = users

    def layer(self, kind: str, inputs: list[str], output: str, attributes: str = "") -> None:
        self.line(kind, output, inputs, [output], attributes)
        if self.users[output] > 1:
            self.copies[output] = [f"{output}/{number}" for number in range(self.users[output])]
            self.line("Split", f"{output}/split", [output], list(self.copies[output]))

    def line(self, kind: str, name: str, inputs: list[str], outputs: list[str], attributes: str = "") -> None:
        self.lines.append(" ".join([kind, name, f"{len(inputs)} {len(outputs)}", *inputs, *outputs, attributes]))
        self.blobs.update(outputs)

    def inputs(self, step: Step) -> list[str]:
        return [self.copies[name].pop() if name in self.copies else name for name in step.inputs]

    def parameters(self, step: Step, *kernel_axes: int) -> int:
        """Append kernel and bias; return how many numbers the kernel has."""
        kernel, bias = (self.weights[f"{step.name}/{variable}"] for variable in ("kernel", "bias"))
        raw = np.uint32(0).tobytes()  # float32 follows
        self.numbers += [raw, np.ascontiguousarray(kernel.transpose(kernel_axes)).tobytes(), bias.tobytes()]
        return kernel.size

    def Conv(self, step: Step) -> None:
        self.window("Convolution", step, self.parameters(step, 3, 2, 0, 1))

    def Depthwise(self, step: Step) -> None:
        self.window("ConvolutionDepthWise", step, self.parameters(step, 2, 3, 0, 1), f"7={step.shape[-1]}")

    def window(self, kind: str, step: Step, size: int, groups: str = "") -> None:
        (top, bottom), (left, right) = step.padding
        layer, (low, high) = step.layer, step.clip
        clip = f"9={CLIP} -23310=2,{low:e},{high:e}" if np.isfinite(low) and np.isfinite(high) else ""
        window = f"0={step.shape[-1]} 1={layer.kernel} 2={layer.dilation} 3={layer.stride} 5=1 6={size}"
        self.layer(
            kind, self.inputs(step), step.name, f"{window} 4={left} 14={top} 15={right} 16={bottom} {groups} {clip}"
        )

    def Add(self, step: Step) -> None:
        self.layer("BinaryOp", self.inputs(step), step.name, "0=0")

    def GlobalAveragePool(self, step: Step) -> None:
        self.layer("Pooling", self.inputs(step), step.name, "0=1 4=1")

    def Dense(self, step: Step) -> None:
        size = self.parameters(step, 1, 0)
        self.layer("InnerProduct", self.inputs(step), step.name, f"0={step.shape[-1]} 1=1 2={size}")


def write(network: Network, weights: Weights, folder: Path) -> tuple[Path, Path]:
    """Write model.param and model.bin. The input is called "image", the output as the last step."""
    graph = _Graph(weights, Counter(name for step in network.steps for name in step.inputs))
    graph.layer("Input", [], IMAGE)
    for step in network.steps:
        getattr(graph, step.op)(step)
    layers, numbers = folder / "model.param", folder / "model.bin"
    layers.write_text("\n".join([str(MAGIC), f"{len(graph.lines)} {len(graph.blobs)}", *graph.lines, ""]))
    numbers.write_bytes(b"".join(graph.numbers))
    return layers, numbers
