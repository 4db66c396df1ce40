"""A server with a small classifier, a small segmenter and the model in the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Site, picture, serving

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation
from npmnv2.hub import PACKAGED
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.labels import segmentation_labels
from npmnv2.weights.native import write_h5

SMALL = MobileNetV2Config(depth_multiplier=0.35, image_size=64, id2label={0: "cat", 1: "dog", 2: "owl"})
SEGMENTER = MobileNetV2Config(
    depth_multiplier=0.35, image_size=96, output_stride=16, id2label=dict(enumerate(segmentation_labels("voc")))
)


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of a classifier and a segmenter, by task."""
    folder = tmp_path_factory.mktemp("models")
    files = {}
    for kind, config in ((MobileNetV2ForImageClassification, SMALL), (MobileNetV2ForSemanticSegmentation, SEGMENTER)):
        model = kind(config, unit_gain_weights(kind.build(config)), backend="numpy")
        files[kind.task] = str(folder / f"{kind.task[:8]}.h5")
        write_h5(model.to_checkpoint(), Path(files[kind.task]))
    return files


@pytest.fixture(scope="session")
def catalog(model_files: dict[str, str]):
    from npmnv2.serve.catalog import Catalog

    return Catalog([model_files["classification"], model_files["segmentation"], PACKAGED], n_threads=2)


@pytest.fixture(scope="session")
def limits():
    from npmnv2.serve.limits import Limits

    return Limits(megabytes=2, megapixels=1, images=4, queue=8)


@pytest.fixture(scope="session")
def site(catalog, limits) -> Iterator[Site]:
    from npmnv2.serve.app import create_app

    with serving(create_app(catalog, limits, workers=2), limits) as running:
        yield running


@pytest.fixture(scope="session")
def photo() -> bytes:
    return picture()
