"""The networks that the benchmarks run: npmnv2's own plans as flat lists of steps for other runtimes' builders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from npmnv2.kernels import DetectionRules, detections_of, ssd_anchors
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.activations import activation
from npmnv2.network.architecture import classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.deeplab import segmenter
from npmnv2.network.layers import ConcatRows, Conv, Dense, Depthwise, SimpleLayer
from npmnv2.network.plan import IMAGE, Plan, parts_of
from npmnv2.network.ssd import detector, map_sizes
from npmnv2.weights.checkpoint import fold_batch_norms

Weights = dict[str, np.ndarray]

# How far below zero a detector's logits lie on average.
RARE = 8.0


@dataclass(frozen=True)
class Step:
    """One operation, with everything about it worked out for one image size.

    Attributes
    ----------
    name : str
    layer : layer of `npmnv2.network.layers`
    inputs : tuple of str
        Names of steps, or "image".
    input_shapes, shape : (height, width, channels), or (channels,) after global pooling
    padding : ((top, bottom), (left, right))
    clip : (low, high)
        Infinite where there is no limit.
    """

    name: str
    layer: SimpleLayer
    inputs: tuple[str, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    clip: tuple[float, float] = (-math.inf, math.inf)

    @property
    def op(self) -> str:
        return type(self.layer).__name__


@dataclass(frozen=True)
class Network:
    """A plan and its steps for one image size; its output is the last step, or two tables for a detector."""

    name: str
    config: MobileNetV2Config
    plan: Plan
    size: int

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.size, self.size, self.plan.channels

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        tables = tuple(node.name for node in self.plan.nodes if isinstance(node.layer, ConcatRows))
        return tables or (self.steps[-1].name,)

    def finish(self, outputs: Sequence[np.ndarray]) -> Any:
        """What a user gets from the outputs of one image: detections, where they are to be chosen."""
        if len(self.outputs) == 1:
            return outputs
        codes, logits = (np.asarray(output)[0] for output in outputs)
        return detections_of(logits, codes, self.anchors, DetectionRules(score_threshold=0.5))

    @cached_property
    def anchors(self) -> np.ndarray:
        return ssd_anchors(map_sizes(self.config, self.size, self.size))

    @cached_property
    def steps(self) -> list[Step]:
        shapes = self.plan.shapes(self.size, self.size)
        # A block's name stands for its last part.
        last = {node.name: parts_of(node)[-1].name for node in self.plan.nodes}
        steps = []
        for name, layer, inputs in self.plan.parts():
            details = {}
            if isinstance(layer, (Conv, Depthwise)):
                height, width, _ = shapes[inputs[0]]
                details = {"padding": layer.geometry(height, width).padding, "clip": activation(layer.activation).clip}
            sources = tuple(last.get(i, i) for i in inputs)
            steps.append(Step(name, layer, sources, tuple(shapes[i] for i in inputs), shapes[name], **details))
        return steps

    def multiply_adds(self) -> int:
        """Multiply-adds of one image."""
        return self.plan.multiply_adds(self.size)

    def random_weights(self, seed: int = 0) -> Weights:
        """Kernels and biases that keep activations about as large, and as often zero, as a trained network's.

        Batch norms are folded away already: every runtime would do that for itself.
        """
        folded = fold_batch_norms(self.plan, unit_gain_weights(self.plan, seed))
        kernels = {
            f"{step.name}/kernel": step.layer.parameter_shapes(*step.input_shapes)["kernel"]
            for step in self.steps
            if isinstance(step.layer, (Conv, Depthwise, Dense))
        }
        weights = {name: value.reshape(kernels.get(name, value.shape)) for name, value in folded.items()}
        for name in weights:
            if "ClassPredictor/bias" in name:
                # A photo shows few things: of 172,530 scores some dozen are above one half.
                weights[name] = weights[name] - np.float32(RARE)
        return weights


def network(task: str, model: str) -> Network:
    """Return the network of a task, "classify", "segment" or "detect".

    A model is its depth multiplier and image size as in "1.0_224"; "1.0_513_8" has an output stride of 8, not 16.
    """
    multiplier, size, *stride = model.split("_")
    options = {"depth_multiplier": float(multiplier), "image_size": int(size)}
    if task == "classify":
        config = MobileNetV2Config(**options, num_labels=1001)
        plan = classifier(config)
    elif task == "detect":
        config = MobileNetV2Config(**options, num_labels=91)
        plan = detector(config)
    else:
        config = MobileNetV2Config(**options, num_labels=21, output_stride=int(*stride or [16]))
        plan = segmenter(config)
    return Network(f"{task} {model}", config, plan, int(size))


__all__ = ["IMAGE", "Network", "Step", "Weights", "network"]
