"""From the shapes of a file's arrays to the configuration of its network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from npmnv2.errors import WeightsError
from npmnv2.kernels import Array
from npmnv2.network.architecture import CLASSIFIER, STAGES, backbone
from npmnv2.network.config import STEM_CHANNELS, WIDTH_RULES, MobileNetV2Config, make_divisible
from npmnv2.network.layers import Shape


def infer_config(
    weights: Mapping[str, Array], where: str = "weights", maker: str = "transformers", **known: Any
) -> MobileNetV2Config:
    """Find the configuration whose network has these shapes, or as many of them as any.

    Parameters
    ----------
    weights : mapping of str to Array
        Under canonical names.
    where : str
        What messages call the weights.
    maker : {"transformers", "slim", "keras"}
        Whose width rule to try first. Shapes do not show everything: at small multipliers TensorFlow and Keras add
        the input in the first block and transformers does not.
    **known
        Fields of the configuration that shapes do not show.

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
    best = _with_plainest_rule(_nearest(shapes, maker, known))
    return best if labels is None else best.replace(num_labels=labels)


def _nearest(shapes: Mapping[str, Shape], maker: str, known: dict[str, Any]) -> MobileNetV2Config:
    best, least = MobileNetV2Config(**known), math.inf
    for guess in _guesses(maker):
        wrong = _wrong_widths(guess, shapes)
        if wrong * len(shapes) >= least:
            # Building a plan takes a millisecond, and a stage that is too wide already rules it out.
            continue
        config = MobileNetV2Config(**{**guess, **known})
        distance = wrong * len(shapes) or _distance(config, shapes)
        if distance < least:
            best, least = config, distance
        if distance == 0:
            break
    return best


def _with_plainest_rule(config: MobileNetV2Config) -> MobileNetV2Config:
    """The same network by the default rule, where there is no difference."""
    plain = config.replace(width_rule="transformers")
    return plain if backbone(plain) == backbone(config) else config


_FIRST_BLOCKS = ("expanded_conv", "block_1", "block_3", "block_6", "block_10", "block_13", "block_16")
# The layers that show how wide each stage is, and how wide it is at multiplier 1.
_STAGE_WIDTHS = {f"{block}_project": stage.channels for block, stage in zip(_FIRST_BLOCKS, STAGES)}


def _wrong_widths(guess: dict[str, Any], shapes: Mapping[str, Shape]) -> int:
    """Number of stages that are not as wide as in the configuration with these fields."""
    rule, multiplier, divisor = WIDTH_RULES[guess["width_rule"]], guess["depth_multiplier"], guess["min_depth"]
    widths = {layer: rule.block(channels * multiplier) for layer, channels in _STAGE_WIDTHS.items()}
    widths["Conv1"] = rule.ends(STEM_CHANNELS * multiplier)
    kernels = ((shapes.get(f"{layer}/kernel", ()), width) for layer, width in widths.items())
    return sum(make_divisible(width, divisor) != kernel[-1] for kernel, width in kernels if len(kernel) == 4)


def _distance(config: MobileNetV2Config, shapes: Mapping[str, Shape]) -> int:
    """Number of shapes that differ from those of the configuration's network."""
    expected = backbone(config).parameter_shapes()
    return sum(shapes[name] != expected[name] for name in expected if name in shapes)


def _guesses(maker: str) -> Iterator[dict[str, Any]]:
    """Fields of configurations in order of likelihood: the maker's rule and the published multipliers come first."""
    published = (1.0, 1.4, 1.3, 0.75, 0.5, 0.35)
    multipliers = (*published, *(m / 100 for m in range(5, 301) if m / 100 not in published))
    for divisor, rule, multiplier in product((8, 1), _rules(maker), multipliers):
        for fine in (True, False) if multiplier < 1 else (True,):
            yield {
                "depth_multiplier": multiplier,
                "depth_divisible_by": divisor,
                "min_depth": divisor,
                "finegrained_output": fine,
                "width_rule": rule,
            }


def _rules(maker: str) -> list[str]:
    """All width rules: the maker's own, then those that treat the first block in the same way."""
    residual = WIDTH_RULES[maker].first_residual
    return sorted(WIDTH_RULES, key=lambda rule: (rule != maker, WIDTH_RULES[rule].first_residual != residual))
