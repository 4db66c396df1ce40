"""From canonical arrays to a Checkpoint: find the configuration that has these shapes, compare strictly,
report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from npmnv2.architecture import MobileNetV2Config, attach, backbone, classifier
from npmnv2.errors import WeightsError
from npmnv2.labels import labels_for
from npmnv2.layers import Concat, Conv, Depthwise, GlobalAveragePool, ResizeLike
from npmnv2.plan import Node, Plan
from npmnv2.weights import Checkpoint, check, infer_config, sha256

from .files import Array
from .names import layers_of, split

_PRESETS = {"classification": "slim", "features": "slim", "segmentation": "deeplab", "detection": "ssd"}


@dataclass(frozen=True)
class Content:
    """What a file was found to hold, before anything is compared.

    Attributes
    ----------
    weights : dict
        Canonical name → array.
    known : dict
        Fields of the configuration that the file states or its graph shows and that shapes do not.
    unexpected : tuple of str
        Foreign names that are none of the network's variables.
    config : MobileNetV2Config, optional
        Where the file states all of it.
    labels, preprocessing, source
        As in `Checkpoint`.
    """

    weights: Mapping[str, Array]
    known: Mapping[str, Any] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()
    config: MobileNetV2Config | None = None
    labels: tuple[str, ...] | None = None
    preprocessing: Mapping[str, Any] | None = None
    source: Mapping[str, Any] = field(default_factory=dict)


def task_of(weights: Iterable[str]) -> str:
    """What a network with these variables is for."""
    layers = layers_of(weights)
    if any(layer.startswith("BoxPredictor_") for layer in layers):
        return "detection"
    if any(layer in layers for layer in ("logits_semantic", "concat_projection", "aspp0")):
        return "segmentation"
    return "classification" if "predictions" in layers else "features"


def class_count(weights: Mapping[str, Array]) -> int:
    """Number of classes, 0 for a network without classifier."""
    for layer in ("predictions", "logits_semantic", "BoxPredictor_1_ClassPredictor"):
        bias = weights.get(f"{layer}/bias")
        if bias is not None and bias.ndim == 1:
            # An SSD has six anchors in each place of all maps but the first.
            return int(bias.shape[0]) // (6 if layer.startswith("BoxPredictor") else 1)
    return 0


def plan_for(config: MobileNetV2Config, weights: Mapping[str, Array]) -> Plan:
    """The network that weights with these names belong to."""
    task = task_of(weights)
    layers = layers_of(weights)
    if task == "classification":
        return classifier(config)
    plan = backbone(config)
    if task == "segmentation" or (task == "features" and "Conv_1" not in layers):
        plan = Plan(plan.nodes[:-1], plan.channels, plan.aliases)
    if task == "segmentation":
        return attach(plan, *_segmentation_nodes(layers, config.classes))
    return attach(plan, *_detection_nodes(weights)) if task == "detection" else plan


def _segmentation_nodes(layers: Mapping[str, None], classes: int) -> Iterator[Node]:
    """DeepLab's head; its optional parts (decoder, atrous branches) are there whole or not at all."""
    head: dict[str, Any] = {"kernel": 1, "filters": 256, "activation": "relu", "norm": 1e-5}
    window: dict[str, Any] = {"kernel": 3, "activation": "relu", "norm": 1e-5}
    yield Node("pool", GlobalAveragePool(keep_dims=True), ("block_16",))
    yield Node("image_pooling", Conv(**head), ("pool",))
    yield Node("image_pooling_resized", ResizeLike(), ("image_pooling", "block_16"))
    yield Node("aspp0", Conv(**head), ("block_16",))
    branches = [i for i in (1, 2, 3) if {f"aspp{i}_depthwise", f"aspp{i}_pointwise"} & set(layers)]
    for i in branches:
        yield Node(f"aspp{i}_depthwise", Depthwise(**window), ("block_16",))
        yield Node(f"aspp{i}_pointwise", Conv(**head), (f"aspp{i}_depthwise",))
    joined = ("image_pooling_resized", "aspp0", *(f"aspp{i}_pointwise" for i in branches))
    yield Node("concat", Concat(), joined)
    yield Node("concat_projection", Conv(**head), ("concat",))
    last = "concat_projection"
    if any(layer.startswith("decoder_") for layer in layers):
        yield Node("decoder_feature_projection0", Conv(**{**head, "filters": 48}), ("block_2_depthwise",))
        yield Node("decoder_resized", ResizeLike(), (last, "decoder_feature_projection0"))
        yield Node("decoder_concat", Concat(), ("decoder_resized", "decoder_feature_projection0"))
        last = "decoder_concat"
        for i in (0, 1):
            yield Node(f"decoder_conv{i}_depthwise", Depthwise(**window), (last,))
            yield Node(f"decoder_conv{i}_pointwise", Conv(**head), (f"decoder_conv{i}_depthwise",))
            last = f"decoder_conv{i}_pointwise"
    yield Node("logits_semantic", Conv(kernel=1, filters=classes, activation="linear", norm=None), (last,))


def _detection_nodes(weights: Mapping[str, Array]) -> Iterator[Node]:
    """SSD's extra layers and predictors: which there are and how wide they are differs between
    configurations.
    """
    layers = layers_of(weights)
    maps = ["block_13_expand", "Conv_1"]
    extras = [layer for layer in layers if layer.startswith("layer_")]
    for number in (2, 3, 4, 5):
        last = maps[-1]
        for form in ("_1_Conv2d_{}_1x1", "_2_Conv2d_{}_3x3"):
            stage = [layer for layer in extras if form.format(number) in layer]
            for layer in sorted(stage, key=lambda name: not name.endswith("_depthwise")):
                yield Node(layer, _detection_layer(layer, weights), (last,))
                last = layer
        maps.append(last)
    for number, source in enumerate(maps):
        for kind in ("BoxEncodingPredictor", "ClassPredictor"):
            predictor = f"BoxPredictor_{number}_{kind}"
            last = source
            if f"{predictor}_depthwise" in layers:
                last = f"{predictor}_depthwise"
                yield Node(last, Depthwise(kernel=3), (source,))
            yield Node(predictor, _detection_layer(predictor, weights), (last,))


def _detection_layer(layer: str, weights: Mapping[str, Array]) -> Conv | Depthwise:
    kernel = weights.get(f"{layer}/kernel")
    size, filters = (kernel.shape[0], kernel.shape[3]) if kernel is not None and kernel.ndim == 4 else (1, 1)
    if layer.endswith("_depthwise"):
        return Depthwise(kernel=3)
    return Conv(kernel=size, filters=filters, norm=None if layer.startswith("BoxPredictor") else 1e-3)


def assemble(path: Path, file_format: str, content: Content) -> Checkpoint:
    """Compare strictly and build the checkpoint.

    Raises
    ------
    WeightsError
        With all missing, unexpected and misshapen names at once.
    """
    weights = content.weights
    if not weights:
        raise WeightsError(f"{path}: holds no variable of a MobileNetV2{_hint(content.unexpected)}")
    try:
        config = content.config or infer_config(weights, str(path), num_labels=class_count(weights), **content.known)
        plan = plan_for(config, weights)
        check(plan, {**weights, **dict.fromkeys(content.unexpected, np.empty(0))}, str(path))
    except WeightsError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise WeightsError(f"{path}: its configuration or its shapes are impossible: {error}") from None
    task = task_of(weights)
    labels = content.labels or labels_for(class_count(weights), task)
    if labels is not None and len(labels) == config.classes:
        config = config.replace(id2label=dict(enumerate(labels)))
    return Checkpoint(
        weights={name: np.ascontiguousarray(value, np.float32) for name, value in _in_order(plan, weights).items()},
        task=task,
        config=config,
        labels=labels,
        preprocessing={"size": config.image_size, **(content.preprocessing or {"preset": _PRESETS[task]})},
        source={"format": file_format, **_provenance(path), "ema": None, **content.source},
    )


def _in_order(plan: Plan, weights: Mapping[str, Array]) -> dict[str, Array]:
    """The weights in the order in which the network uses them."""
    order = {part.name: at for at, part in enumerate(plan.parts())}
    return {name: weights[name] for name in sorted(weights, key=lambda name: order[split(name)[0]])}


def _hint(unexpected: tuple[str, ...]) -> str:
    return f"; it holds {', '.join(unexpected[:8])}" if unexpected else ""


def _provenance(path: Path) -> dict[str, Any]:
    return {"file": path.name, "sha256": sha256(path)} if path.is_file() else {"file": path.name}
