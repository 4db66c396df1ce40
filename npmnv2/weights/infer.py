"""From the shapes of a file's arrays to the configuration of its network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from npmnv2.errors import WeightsError
from npmnv2.kernels import Array
from npmnv2.network.architecture import CLASSIFIER, STAGES, STEM_CHANNELS, backbone, classifier
from npmnv2.network.config import WIDTH_RULES, MobileNetV2Config
from npmnv2.network.layers import Shape
from npmnv2.weights.checkpoint import check_weights


def infer_config(weights: Mapping[str, Array], where: str = "weights", **known: Any) -> MobileNetV2Config:
    """Find the configuration whose network has exactly these shapes; fields that shapes do not show come as `known`.

    Raises
    ------
    WeightsError
        If no configuration fits; the message says what does not fit the nearest.
    """
    config = nearest_config(weights, where, **known)
    expected = backbone(config).parameter_shapes()
    if any(weights[name].shape != expected[name] for name in expected if name in weights):
        check_weights(classifier(config) if f"{CLASSIFIER}/kernel" in weights else backbone(config), weights, where)
    return config


def nearest_config(weights: Mapping[str, Array], where: str = "weights", **known: Any) -> MobileNetV2Config:
    """Find the configuration whose network has these shapes, or as many of them as any; see `infer_config`.

    Raises
    ------
    WeightsError
        If there is no first layer to begin with.
    """
    shapes = {name: array.shape for name, array in weights.items()}
    stem = shapes.get("Conv1/kernel")
    if stem is None:
        raise WeightsError(f"{where} holds no MobileNetV2: there is no layer Conv1")
    if len(stem) != 4:
        raise WeightsError(f"{where}: Conv1/kernel must have four dimensions, got {stem}")
    head = shapes.get(f"{CLASSIFIER}/kernel")
    labels = known.pop("num_labels", head[1] if head is not None and len(head) == 2 else None)
    known = {
        "num_channels": stem[2],
        "first_layer_is_expansion": "expanded_conv_expand/kernel" not in shapes,
        **known,
    }
    best, least = MobileNetV2Config(**known), math.inf
    for guess in _guesses(known):
        distance = _distance(guess, shapes)
        if distance < least:
            best, least = guess, distance
        if distance == 0:
            break
    return best if labels is None else best.replace(num_labels=labels)


_FIRST_BLOCKS = ("expanded_conv", "block_1", "block_3", "block_6", "block_10", "block_13", "block_16")
# The layers that show how wide each stage is, and how wide it is at multiplier 1.
_WIDTHS = {"Conv1": STEM_CHANNELS} | {f"{b}_project": s.channels for b, s in zip(_FIRST_BLOCKS, STAGES)}


def _distance(config: MobileNetV2Config, shapes: Mapping[str, Shape]) -> int:
    """Number of shapes that differ from those of the configuration's network."""
    kernels = ((shapes.get(f"{layer}/kernel", ()), channels) for layer, channels in _WIDTHS.items())
    wrong = sum(config.width(channels) != kernel[-1] for kernel, channels in kernels if len(kernel) == 4)
    if wrong:
        # Building a plan takes a millisecond, and a stage that is too wide already rules it out.
        return wrong * len(shapes)
    expected = backbone(config).parameter_shapes()
    return sum(shapes[name] != expected[name] for name in expected if name in shapes)


def _guesses(known: dict[str, Any]) -> Iterator[MobileNetV2Config]:
    """Configurations in order of likelihood: the published multipliers first, then all others by hundredths."""
    published = (1.0, 1.4, 1.3, 0.75, 0.5, 0.35)
    multipliers = (*published, *(m / 100 for m in range(5, 301) if m / 100 not in published))
    for divisor, multiplier in product((8, 1), multipliers):
        for fine, rule in product((True, False), WIDTH_RULES):
            if (multiplier >= 1 and not fine) or (multiplier in published and divisor == 8 and rule != "transformers"):
                continue
            given = {
                "depth_multiplier": multiplier,
                "depth_divisible_by": divisor,
                "min_depth": divisor,
                "finegrained_output": fine,
                "width_rule": rule,
                **known,
            }
            yield MobileNetV2Config(**given)
