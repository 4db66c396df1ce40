"""From the shapes of a file's arrays to the configuration of its network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product, takewhile
from typing import Any

import numpy as np

from npmnv2.errors import ArgumentError, WeightsError
from npmnv2.kernels import Array, ssd_anchors
from npmnv2.network.architecture import CLASSIFIER, STAGES, backbone
from npmnv2.network.config import STEM_CHANNELS, WIDTH_RULES, MobileNetV2Config, make_divisible
from npmnv2.network.detection import MAX_MAPS, AnchorOptions, ExplicitAnchors, Extra, SSDConfig
from npmnv2.network.layers import Shape
from npmnv2.network.ssd import BOX_CODE, BOX_PREDICTOR, CLASS_PREDICTOR, anchor_count, map_sizes, predictor


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


# --- detectors --------------------------------------------------------------------------------------------------------


def infer_ssd(weights: Mapping[str, Array], listed: Array | None = None, **known: Any) -> SSDConfig:
    """The head of a detector with these shapes.

    Parameters
    ----------
    weights : mapping of str to Array
        Under canonical names.
    listed : Array [shape=(anchors, 4)], optional
        Anchors that the file lists, for where their number in each place is none that the formula gives.
    **known
        Settings that shapes do not show. Without anchors, those of the Object Detection API that are as many.

    Raises
    ------
    ArgumentError
        If the widths are impossible, or the anchors are neither listed nor as many as the formula gives.
    """
    split = f"{predictor(0, BOX_PREDICTOR)}_depthwise/kernel"
    kernel = weights.get(split, weights.get(f"{predictor(0, BOX_PREDICTOR)}/kernel"))
    counts = anchors_per_place(weights)
    if "anchors" not in known:
        known = {**known, "anchors": _anchors_of(counts, listed)}
    elif known["anchors"].per_place(len(counts)) != counts:
        raise ArgumentError(
            f"anchors ({known['anchors']}) must be as many in each place as the predictors have room for, {counts}"
        )
    return SSDConfig(
        extras=tuple(_extras(weights)),
        extra_depthwise=any(name.startswith("layer_") and name.endswith("_depthwise/kernel") for name in weights),
        predictor_kernel=3 if kernel is None or not kernel.ndim else kernel.shape[0],
        predictor_depthwise=split in weights,
        **known,
    )


def with_anchors(config: MobileNetV2Config, listed: Array, size: tuple[int, int]) -> MobileNetV2Config:
    """The configuration with the anchors that its file lists, unless its formula gives them for this input size.

    Raises
    ------
    ArgumentError
        If they are not as many as the network's predictions.
    """
    needed, sizes = anchor_count(config, *size), map_sizes(config, *size)
    if listed.shape != (needed, 4):
        raise ArgumentError(
            f"the file lists {len(listed)} anchors; feature maps of {_sizes_as_text(sizes)} pixels with "
            f"{config.ssd.anchors_per_place} anchors in each place need {needed}"
        )
    options = config.ssd.anchors
    if isinstance(options, AnchorOptions):
        by_formula = ssd_anchors(sizes, options.rules, size)
        if np.abs(by_formula - listed).max() <= _ANCHOR_TOLERANCE:
            return config
    return config.replace(ssd=config.ssd.replace(anchors=_explicit(listed, config.ssd.anchors_per_place)))


def _explicit(listed: Array, counts: tuple[int, ...]) -> ExplicitAnchors:
    rows = listed.astype(np.float32).astype(float)
    return ExplicitAnchors(tuple((y, x, height, width) for y, x, height, width in rows.tolist()), counts)


# Listed ones are float32, and some were computed from their corners.
_ANCHOR_TOLERANCE = 1e-5


def _sizes_as_text(sizes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{height}×{width}" for height, width in sizes)


def detected_classes(weights: Mapping[str, Array]) -> int:
    """Columns of a detector's class logits, the background included; 0 if there are none."""
    bias, anchors = weights.get(f"{predictor(0, CLASS_PREDICTOR)}/bias"), anchors_per_place(weights)
    return 0 if bias is None or not anchors or not anchors[0] else bias.size // anchors[0]


def anchors_per_place(weights: Mapping[str, Array]) -> tuple[int, ...]:
    """Number of anchors in each place of each map: its predictor says four numbers for each."""
    biases = (weights.get(f"{predictor(number, BOX_PREDICTOR)}/bias") for number in range(MAX_MAPS))
    return tuple(bias.size // BOX_CODE for bias in takewhile(lambda bias: bias is not None, biases) if bias is not None)


def _extras(weights: Mapping[str, Array]) -> Iterator[Extra]:
    kernels = {
        name: array.shape[3]
        for name, array in weights.items()
        if array.ndim == 4 and name.startswith("layer_") and not name.endswith("_depthwise/kernel")
    }
    for number in range(2, MAX_MAPS):
        starts = (f"layer_19_1_Conv2d_{number}_1x1_", f"layer_19_2_Conv2d_{number}_3x3_s2_")
        widths = [width for start in starts for name, width in kernels.items() if name.startswith(start)]
        if len(widths) != 2:
            return
        yield Extra(*widths)


def _anchors_of(counts: tuple[int, ...], listed: Array | None) -> AnchorOptions | ExplicitAnchors:
    """The options that give these numbers of anchors: the published ones, or as few aspect ratios less as do."""
    ratios = AnchorOptions().aspect_ratios
    for number, interpolated, reduced in product((5, 3, 1), (1.0, 0.0), (True, False)):
        options = AnchorOptions(
            aspect_ratios=ratios[:number],
            interpolated_scale_aspect_ratio=interpolated,
            reduce_boxes_in_lowest_layer=reduced,
        )
        if options.per_place(len(counts)) == counts:
            return options
    if listed is not None:
        return _explicit(listed, counts)
    raise ArgumentError(f"the numbers of anchors in each place of the feature maps, {counts}, follow no known rule")
