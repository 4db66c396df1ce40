"""A small classifier on each backend, and photos for it."""

from __future__ import annotations

import numpy as np
import pytest
from engines import BACKENDS
from networks import SMALL
from PIL import Image

from npmnv2 import MobileNetV2ForImageClassification


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(backend: str) -> MobileNetV2ForImageClassification:
    # The default deviation of 0.02 lets the signal die out in an untrained network.
    return MobileNetV2ForImageClassification(SMALL.replace(initializer_range=0.3), seed=0, backend=backend)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[str]:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    paths = [str(folder / f"{i}.png") for i in range(5)]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (80 + i, 100, 3), np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (2, 3, 65, 33)).astype(np.float32)
