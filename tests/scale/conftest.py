"""A small classifier, photos, and a scheduler whose worker is a thread of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation
from npmnv2.lab.random_weights import unit_gain_weights

# Without the extra there is nothing to test.
collect_ignore_glob = [] if all(map(find_spec, ("distributed", "fsspec", "pyarrow"))) else ["test_*.py"]

SMALL = MobileNetV2Config(depth_multiplier=0.35, image_size=64, id2label={0: "cat", 1: "dog", 2: "owl"})
SEGMENTER = MobileNetV2Config(
    depth_multiplier=0.35, image_size=64, output_stride=16, id2label={0: "background", 1: "cat", 2: "dog"}
)


@pytest.fixture(scope="session")
def model() -> MobileNetV2ForImageClassification:
    weights = unit_gain_weights(MobileNetV2ForImageClassification.build(SMALL))
    return MobileNetV2ForImageClassification(SMALL, weights, n_threads=1)


@pytest.fixture(scope="session")
def segmenter() -> MobileNetV2ForSemanticSegmentation:
    weights = unit_gain_weights(MobileNetV2ForSemanticSegmentation.build(SEGMENTER))
    return MobileNetV2ForSemanticSegmentation(SEGMENTER, weights, n_threads=1)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos in two folders, one of which is not a photo."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(12):
        path = folder / f"{number % 2}" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (70, 80, 3), np.uint8)).save(path)
    (folder / "1" / "05.png").write_bytes(b"not a photo")
    return folder


@pytest.fixture(scope="module")  # its thread draws random numbers, which Hypothesis takes for a test's own
def scheduler() -> Iterator[str]:
    """Address of a scheduler with a worker of two threads, all in this process."""
    import distributed

    options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, **options) as cluster:
        yield cluster.scheduler_address
