"""Networks that writers of graphs must be able to write, and our own results for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from weight_files import random_checkpoint

from npmnv2 import (
    MobileNetV2ForImageClassification,
    MobileNetV2ForObjectDetection,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2Model,
)
from npmnv2.weights.checkpoint import Checkpoint

NETWORKS: list[dict[str, Any]] = [
    {"image_size": 65},
    {"task": "features"},
    {"pooling_window": 2, "image_size": 97},
    {"tf_padding": False, "image_size": 64},
    {"first_layer_is_expansion": False, "hidden_act": "relu"},
    {"output_stride": 8, "num_channels": 1},
    {"width_rule": "slim", "depth_multiplier": 0.1},
    {"task": "segmentation", "output_stride": 16, "image_size": 65},
    {"task": "segmentation", "output_stride": 8, "image_size": 65, "atrous_rates": (2, 3), "tf_padding": False},
    {"task": "segmentation", "output_stride": 16, "image_size": 65, "decoder": True},
    {"task": "detection", "num_labels": 4},
]
_MODELS: dict[str, Any] = {
    "classification": MobileNetV2ForImageClassification,
    "segmentation": MobileNetV2ForSemanticSegmentation,
    "features": MobileNetV2Model,
    "detection": MobileNetV2ForObjectDetection,
}


def checkpoint_of(task: str = "classification", **fields: Any) -> Checkpoint:
    """A random network whose classes have names, one of them with characters that formats may stumble over."""
    labels = None if task in ("features", "detection") else ('say "ja"', "Säge\nblatt", "猫")
    fields = {"image_size": 96, **fields}
    return random_checkpoint(task, seed=5, labels=labels, **fields)


def images_for(checkpoint: Checkpoint, batch: int = 3) -> np.ndarray:
    size, channels = checkpoint.config.image_size, checkpoint.config.num_channels
    return np.random.default_rng(0).uniform(-1, 1, (batch, size, size, channels)).astype(np.float32)


def values_of(checkpoint: Checkpoint, x: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """Our own values of these endpoints."""
    return _MODELS[checkpoint.task].from_checkpoint(checkpoint, backend="numpy").run(x, names)


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to 1e-5 of the largest number."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.ptp(expected) > 0
