"""SSD's heads for MobileNetV2, as data: SSDLite, and its siblings with full convolutions.

Two maps of the backbone and four smaller ones, each made of the last, are looked at. In every place of every map a
predictor says for each of the anchors there what its classes are and how its box differs from the anchor:

    block_13_expand (stride 16) ─ BoxPredictor_0 ─┐
    Conv_1 (stride 32) ────────── BoxPredictor_1 ─┤
      └ 1×1, 3×3 stride 2 ─────── BoxPredictor_2 ─┼─ class_logits (anchors, classes), box_encodings (anchors, 4)
         └ 1×1, 3×3 stride 2 ──── BoxPredictor_3 ─┤
            └ … ───────────────── … ──────────────┘

Sources: Liu et al., *SSD: Single Shot MultiBox Detector* (arXiv 1512.02325); the MobileNetV2 paper, section 6.2;
``ssd_mobilenet_v2_feature_extractor`` and ``convolutional_box_predictor`` of tensorflow/models, whose names the layers
have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from npmnv2.errors import ArgumentError
from npmnv2.network.architecture import LAST_CONV, backbone
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.detection import Extra, SSDConfig
from npmnv2.network.layers import ConcatRows, Conv, Depthwise
from npmnv2.network.plan import Node, Plan

CLASS_LOGITS, BOX_ENCODINGS = "class_logits", "box_encodings"
CLASS_PREDICTOR, BOX_PREDICTOR = "ClassPredictor", "BoxEncodingPredictor"
BOX_CODE = 4

# slim's layer_15/expansion_output and layer_19.
BACKBONE_MAPS = ("block_13_expand", LAST_CONV)
FIRST_MAP_BLOCK = "block_13"


def predictor(number: int, kind: str) -> str:
    """Name of the layer that predicts classes or boxes of a map."""
    return f"BoxPredictor_{number}_{kind}"


def extra_names(number: int, extra: Extra) -> tuple[str, str]:
    """Names of the two convolutions of an extra map (numbered from 2), which hold their widths."""
    return (
        f"layer_19_1_Conv2d_{number}_1x1_{extra.squeeze}",
        f"layer_19_2_Conv2d_{number}_3x3_s2_{extra.filters}",
    )


def map_names(ssd: SSDConfig) -> tuple[str, ...]:
    """Names of the feature maps that are looked at, largest first."""
    return (*BACKBONE_MAPS, *(extra_names(number, extra)[1] for number, extra in enumerate(ssd.extras, start=2)))


def map_sizes(config: MobileNetV2Config, height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Height and width of the feature maps for an input of this size, in the order of the predictions."""
    shapes = detector(config).shapes(height, width)
    return tuple((shapes[name][0], shapes[name][1]) for name in map_names(config.ssd))


def anchor_count(config: MobileNetV2Config, height: int, width: int) -> int:
    """Number of anchors, and so of predictions, for an input of this size."""
    sizes = map_sizes(config, height, width)
    return sum(rows * columns * count for (rows, columns), count in zip(sizes, config.ssd.anchors_per_place))


def detector(config: MobileNetV2Config) -> Plan:
    """The backbone, the extra feature maps, and the predictors.

    Raises
    ------
    ValueError
        If there is nothing to detect: `num_labels` counts no class beside the background.
    """
    least = 2 if config.ssd.background else 1
    if config.classes < least:
        raise ArgumentError(f"num_labels (={config.classes}) must be at least {least} for detection")
    plan = backbone(config)
    return replace(plan, nodes=tuple(_with_head(plan.nodes, config)))


def _with_head(backbone: Iterable[Node], config: MobileNetV2Config) -> Iterator[Node]:
    """All nodes. Predictors follow the map that they look at, so that it is read while it is in the cache."""
    shared: dict[str, Any] = {
        "tf_padding": config.tf_padding,
        "activation": config.hidden_act,
        "norm": config.layer_norm_eps,
    }
    maps = map_names(config.ssd)
    for node in backbone:
        yield node
        if node.name == FIRST_MAP_BLOCK:
            yield from _predictors(0, maps[0], config, shared)
    yield from _predictors(1, maps[1], config, shared)
    for number, (before, extra) in enumerate(zip(maps[1:], config.ssd.extras), start=2):
        yield from _extra(number, extra, before, config.ssd, shared)
        yield from _predictors(number, maps[number], config, shared)
    for kind, output in ((BOX_PREDICTOR, BOX_ENCODINGS), (CLASS_PREDICTOR, CLASS_LOGITS)):
        names = tuple(predictor(number, kind) for number in range(config.ssd.n_maps))
        yield Node(output, ConcatRows(_columns(kind, config)), names)


def _columns(kind: str, config: MobileNetV2Config) -> int:
    """Numbers that a predictor gives for each anchor."""
    return BOX_CODE if kind == BOX_PREDICTOR else config.classes


def _extra(number: int, extra: Extra, before: str, ssd: SSDConfig, shared: dict[str, Any]) -> Iterator[Node]:
    squeeze, name = extra_names(number, extra)
    yield Node(squeeze, Conv(filters=extra.squeeze, kernel=1, **shared), (before,))
    if ssd.extra_depthwise:
        yield Node(f"{name}_depthwise", Depthwise(stride=2, **shared), (squeeze,))
        yield Node(name, Conv(filters=extra.filters, kernel=1, **shared), (f"{name}_depthwise",))
    else:
        yield Node(name, Conv(filters=extra.filters, kernel=3, stride=2, **shared), (squeeze,))


def _predictors(number: int, source: str, config: MobileNetV2Config, shared: dict[str, Any]) -> Iterator[Node]:
    ssd, linear = config.ssd, {**shared, "activation": "linear", "norm": None}
    for kind in (BOX_PREDICTOR, CLASS_PREDICTOR):
        name, before, kernel = predictor(number, kind), source, ssd.predictor_kernel
        if ssd.predictor_depthwise:
            yield Node(f"{name}_depthwise", Depthwise(kernel=kernel, **shared), (source,))
            before, kernel = f"{name}_depthwise", 1
        filters = ssd.anchors_per_place[number] * _columns(kind, config)
        yield Node(name, Conv(filters=filters, kernel=kernel, **linear), (before,))
