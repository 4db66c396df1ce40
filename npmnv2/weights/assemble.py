"""From canonical arrays to a Checkpoint: infer the configuration, compare strictly, report all at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.files import sha256
from npmnv2.labels import labels_for
from npmnv2.network.architecture import LAST_BLOCK, backbone, classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.deeplab import segmenter
from npmnv2.network.plan import Plan
from npmnv2.network.ssd import detector
from npmnv2.weights.bounds import Array
from npmnv2.weights.checkpoint import Checkpoint, check_weights
from npmnv2.weights.infer import detected_classes, infer_config, infer_ssd, with_anchors
from npmnv2.weights.names import ROLES, layers_of, split

# DeepLab's and SSD's checkpoints are trained at this stride and these sizes; a graph may run them at others.
TRAINING_OUTPUT_STRIDE = 16
TRAINING_SIZES = {"segmentation": 513, "detection": 300}
_PUBLISHED_NAME = re.compile(r"mobilenet_?v2_\d\.\d+_(96|128|160|192|224)(?!\d)")
_PRESETS = {"classification": "slim", "features": "slim", "segmentation": "deeplab", "detection": "ssd"}


@dataclass(frozen=True)
class Content:
    """The contents of a file before they are compared with a network.

    Attributes
    ----------
    weights : dict
        Canonical name → array.
    known : dict
        Fields of the configuration that the file states or its graph shows and that shapes do not.
    maker : {"transformers", "slim", "keras"}
        Whose width rule to follow where shapes do not tell (see `infer_config`).
    unexpected : tuple of str
        Foreign names that stand for no variable of the network.
    config : MobileNetV2Config, optional
        Where the file states all of it.
    labels, preprocessing, source
        As in `Checkpoint`.
    ssd : dict
        Settings of a detector (`SSDConfig`) that the file states or its graph shows.
    anchors : array (n, 4), optional
        Those of a detector, where the file lists them: (y, x, height, width).
    """

    weights: Mapping[str, Array]
    known: Mapping[str, Any] = field(default_factory=dict)
    maker: str = "transformers"
    unexpected: tuple[str, ...] = ()
    config: MobileNetV2Config | None = None
    labels: tuple[str, ...] | None = None
    preprocessing: Mapping[str, Any] | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    ssd: Mapping[str, Any] = field(default_factory=dict)
    anchors: Array | None = None


def task_of(weights: Iterable[str]) -> str:
    """The task of a network with these variables."""
    layers = layers_of(weights)
    if any(layer.startswith("BoxPredictor_") for layer in layers):
        return "detection"
    if any(layer in layers for layer in ("logits_semantic", "concat_projection", "aspp0")):
        return "segmentation"
    return "classification" if "predictions" in layers else "features"


def class_count(weights: Mapping[str, Array]) -> int:
    """Number of classes, 0 for a network without classifier."""
    for layer in ("predictions", "logits_semantic"):
        bias = weights.get(f"{layer}/bias")
        if bias is not None and bias.ndim == 1:
            return int(bias.shape[0])
    return detected_classes(weights)


def plan_for(config: MobileNetV2Config, weights: Mapping[str, Array]) -> Plan:
    """The network that weights with these names belong to."""
    task = task_of(weights)
    if task == "classification":
        return classifier(config)
    if task == "segmentation":
        return segmenter(config)
    if task == "detection":
        return detector(config)
    plan = backbone(config)
    return plan if "Conv_1" in layers_of(weights) else plan.until(LAST_BLOCK)


def _fields_of_task(weights: Mapping[str, Array], known: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that the head shows, and the published training settings for those that it does not."""
    task = task_of(weights)
    if task == "detection":
        return {"image_size": TRAINING_SIZES[task]}
    if task != "segmentation":
        return {}
    layers = layers_of(weights)
    branches = sum(f"aspp{i}_depthwise" in layers for i in (1, 2, 3))
    # A damaged graph may have a stride of 0, which the comparison with the network reports.
    rate = 96 // max(1, known.get("output_stride", TRAINING_OUTPUT_STRIDE))
    return {
        "output_stride": TRAINING_OUTPUT_STRIDE,
        "image_size": TRAINING_SIZES[task],
        "decoder": any(layer.startswith("decoder_") for layer in layers),
        "atrous_rates": tuple(rate * i for i in range(1, branches + 1)),
    }


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
    config, plan = _settle(path, content)
    task = task_of(weights)
    labels = content.labels or labels_for(class_count(weights), task)
    if labels is not None and len(labels) == config.classes:
        config = config.replace(id2label=dict(enumerate(labels)))
    return Checkpoint(
        weights={name: np.ascontiguousarray(value, np.float32) for name, value in in_order(plan, weights).items()},
        task=task,
        config=config,
        labels=labels,
        preprocessing={"size": config.image_size, **(content.preprocessing or {"preset": _PRESETS[task]})},
        source={"format": file_format, **_provenance(path), "ema": None, **content.source},
    )


def _settle(path: Path, content: Content) -> tuple[MobileNetV2Config, Plan]:
    """The configuration, stated or inferred, and its network, which the weights fit."""
    weights = content.weights
    try:
        known = {
            "num_labels": class_count(weights),
            "expand_ratio": _expand_ratio(weights),
            **_size_in_name(path),
            **_fields_of_task(weights, content.known),
            **content.known,
        }
        if task_of(weights) == "detection":
            known["ssd"] = infer_ssd(weights, content.anchors, **content.ssd)
        config = content.config or infer_config(weights, str(path), content.maker, **known)
        if content.anchors is not None:
            config = with_anchors(config, content.anchors, _input_size(config, content))
        plan = plan_for(config, weights)
        check_weights(plan, {**weights, **dict.fromkeys(content.unexpected, np.empty(0))}, str(path))
    except WeightsError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise WeightsError(f"{path}: its configuration or its shapes are impossible: {error}") from None
    return config, plan


def _input_size(config: MobileNetV2Config, content: Content) -> tuple[int, int]:
    size = (content.preprocessing or {}).get("size", config.image_size)
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def in_order(plan: Plan, weights: Mapping[str, Array]) -> dict[str, Array]:
    """The weights in the order in which the network uses them, which some formats go by; foreign ones come last."""
    places = {part.name: index for index, part in enumerate(plan.parts())}
    roles = {role: index for index, role in enumerate(ROLES)}

    def place(name: str) -> tuple[int, int]:
        layer, role = split(name)
        return places.get(layer, len(places)), roles.get(role, len(roles))

    return {name: weights[name] for name in sorted(weights, key=place)}


def _expand_ratio(weights: Mapping[str, Array]) -> int:
    """The ratio of the widest block, where rounding matters least, or the published one."""
    kernel = weights.get("block_16_expand/kernel")
    known = kernel is not None and kernel.ndim == 4 and 0 not in kernel.shape
    return max(1, round(kernel.shape[3] / kernel.shape[2])) if kernel is not None and known else 6


def _size_in_name(path: Path) -> dict[str, int]:
    """The image size, which published files have in their names and nowhere else."""
    match = _PUBLISHED_NAME.search(path.name)
    return {"image_size": int(match[1])} if match else {}


def _hint(unexpected: tuple[str, ...]) -> str:
    return f"; it holds {', '.join(unexpected[:8])}" if unexpected else ""


def _provenance(path: Path) -> dict[str, Any]:
    return {"file": path.name, "sha256": sha256(path)} if path.is_file() else {"file": path.name}
