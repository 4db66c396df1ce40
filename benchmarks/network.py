"""The networks that the benchmarks run, as a flat list of steps that any runtime's builder can walk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Padding = tuple[tuple[int, int], tuple[int, int]]
NO_CLIP = (-np.inf, np.inf)


@dataclass(frozen=True)
class Step:
    """One operation: a convolution, or one of the few operations between convolutions.

    ``op`` is "conv", "depthwise", "add", "mean" (over height and width, which stay as 1 × 1), "dense",
    "broadcast" (of a 1 × 1 map to ``shape``) or "concat". ``shape`` is the output's (height, width, channels).
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, int, int]
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    dilation: int = 1
    padding: Padding = ((0, 0), (0, 0))
    clip: tuple[float, float] = NO_CLIP


@dataclass(frozen=True)
class Network:
    """Steps in order, the input's (height, width, channels), and the name of the step that is the output."""

    name: str
    input_shape: tuple[int, int, int]
    steps: tuple[Step, ...]

    @property
    def output(self) -> str:
        return self.steps[-1].name

    def shape_of(self, name: str) -> tuple[int, int, int]:
        if name == "input":
            return self.input_shape
        return next(step.shape for step in self.steps if step.name == name)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Folded weights: kernels (kh, kw, in, out), depthwise (kh, kw, channels), dense (in, out)."""
        shapes: dict[str, tuple[int, ...]] = {}
        for step in self.steps:
            channels, inputs = step.shape[2], self.shape_of(step.inputs[0])[2]
            if step.op == "depthwise":
                shapes[f"{step.name}/kernel"] = (*step.kernel, channels)
            elif step.op == "dense" or (step.op == "conv" and step.kernel == (1, 1)):
                shapes[f"{step.name}/kernel"] = (inputs, channels)
            elif step.op == "conv":
                shapes[f"{step.name}/kernel"] = (*step.kernel, inputs, channels)
            else:
                continue
            shapes[f"{step.name}/bias"] = (channels,)
        return shapes

    def multiply_adds(self) -> int:
        """Multiply-adds of one image."""
        total = 0
        for step in self.steps:
            kernel = self.weight_shapes().get(f"{step.name}/kernel")
            if kernel is not None:
                total += step.shape[0] * step.shape[1] * int(np.prod(kernel))
        return total


def random_weights(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Folded weights that keep activations as large, and as often zero, as those of a trained network."""
    rng = np.random.default_rng(seed)
    clips = {step.name: step.clip for step in network.steps}
    weights = {}
    for key, shape in network.weight_shapes().items():
        if key.endswith("/bias"):
            weights[key] = rng.normal(0.1, 0.3, shape).astype(np.float32)
            continue
        depthwise = len(shape) == 3
        fan_in = np.prod(shape[:2] if depthwise else shape[:-1])
        gain = 2.0 if np.isfinite(clips[key.removesuffix("/kernel")][1]) else 0.5
        weights[key] = rng.normal(0, np.sqrt(gain / fan_in), shape).astype(np.float32)
    return weights


# The table of the paper: expansion, channels, repeats, stride.
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
RELU6 = (0.0, 6.0)


def _divisible(value: float) -> int:
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * value else rounded + 8


class _Builder:
    def __init__(self, size: int) -> None:
        self.steps: list[Step] = []
        self.at, self.shape = "input", (size, size, 3)

    def add(
        self,
        name: str,
        op: str,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        clip: tuple[float, float] = NO_CLIP,
    ) -> str:
        pads, sizes = [], []
        for n in self.shape[:2]:
            out = -(-n // stride)
            total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - n, 0)
            pads.append((total // 2, total - total // 2))
            sizes.append(out)
        shape = (sizes[0], sizes[1], channels)
        self.put(Step(name, op, (self.at,), shape, (kernel, kernel), stride, dilation, tuple(pads), clip))
        return name

    def put(self, step: Step) -> None:
        self.steps.append(step)
        self.at, self.shape = step.name, step.shape

    def backbone(self, multiplier: float, output_stride: int) -> None:
        self.add("Conv1", "conv", _divisible(32 * multiplier), 3, 2, clip=RELU6)
        index, current, rate = 0, 2, 1
        for expansion, channels, repeats, row_stride in BLOCKS:
            for repeat in range(repeats):
                stride, dilation = (row_stride if repeat == 0 else 1), rate
                if stride == 2 and current == output_stride:
                    stride, rate = 1, rate * 2
                elif stride == 2:
                    current, dilation = current * 2, 1
                name = f"block_{index}" if index else "expanded_conv"
                self.block(name, expansion, _divisible(channels * multiplier), stride, dilation)
                index += 1

    def block(self, name: str, expansion: int, channels: int, stride: int, dilation: int) -> None:
        start, before = self.at, self.shape[2]
        if expansion > 1:
            self.add(f"{name}_expand", "conv", before * expansion, clip=RELU6)
        self.add(f"{name}_depthwise", "depthwise", self.shape[2], 3, stride, dilation, clip=RELU6)
        project = self.add(f"{name}_project", "conv", channels)
        if stride == 1 and before == channels:
            self.put(Step(f"{name}_add", "add", (project, start), self.shape))


def classification(multiplier: float, size: int, classes: int = 1001) -> Network:
    b = _Builder(size)
    b.backbone(multiplier, 32)
    b.add("Conv_1", "conv", max(1280, _divisible(1280 * multiplier)), clip=RELU6)
    b.put(Step("global_average_pool", "mean", (b.at,), (1, 1, b.shape[2])))
    b.put(Step("predictions", "dense", (b.at,), (1, 1, classes)))
    return Network(f"classify {multiplier}_{size}", (size, size, 3), tuple(b.steps))


def segmentation(multiplier: float, size: int, classes: int = 21, output_stride: int = 16) -> Network:
    b = _Builder(size)
    b.backbone(multiplier, output_stride)
    features, (h, w, c), relu = b.at, b.shape, (0.0, np.inf)
    b.put(Step("pool", "mean", (features,), (1, 1, c)))
    b.add("image_pooling", "conv", 256, clip=relu)
    b.put(Step("pooled", "broadcast", (b.at,), (h, w, 256)))
    b.at, b.shape = features, (h, w, c)
    b.add("aspp0", "conv", 256, clip=relu)
    b.put(Step("concat", "concat", ("pooled", "aspp0"), (h, w, 512)))
    b.add("concat_projection", "conv", 256, clip=relu)
    b.add("logits_semantic", "conv", classes)
    return Network(f"segment {multiplier}_{size}", (size, size, 3), tuple(b.steps))
