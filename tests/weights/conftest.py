"""A checkpoint that all tests of this folder share."""

from __future__ import annotations

import pytest
from weight_files import noisy

from npmnv2 import MobileNetV2Config
from npmnv2.network.architecture import classifier
from npmnv2.weights.checkpoint import Checkpoint


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    config = MobileNetV2Config(depth_multiplier=0.35, num_labels=3, id2label={0: "a", 1: "ß", 2: "c"})
    preprocessing, source = {"preset": "slim", "size": 96}, {"format": "test", "ema": True}
    return Checkpoint(
        noisy(classifier(config), config), "classification", config, ("a", "ß", "c"), preprocessing, source
    )
