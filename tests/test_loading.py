"""`load`: names, files, and tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import SMALL

from npmnv2 import (
    MobileNetV2ForImageClassification,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2Model,
    WeightsError,
    load,
)
from npmnv2.weights.native import write_h5


@pytest.mark.parametrize("nothing", ["", None, 3])
def test_load_of_nothing(nothing) -> None:
    with pytest.raises(ValueError, match=r"name_or_path \(=.*\) must be a name, a file or a directory"):
        load(nothing)


def test_load_of_what_is_not_there(home: Path) -> None:
    with pytest.raises(FileNotFoundError, match="must be an existing file"):
        load("absent.h5")
    with pytest.raises(FileNotFoundError):
        load("./absent")
    with pytest.raises(ValueError, match=r"mobilenet_v2_1\.0_224"):
        load("mobilenet_v2_1.0_223")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A file for each task."""
    for cls in (MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation, MobileNetV2Model):
        write_h5(cls(SMALL, seed=0).to_checkpoint(), tmp_path / f"{cls.task}.h5")
    return {task: tmp_path / f"{task}.h5" for task in ("classification", "segmentation", "features")}


def test_the_file_decides_or_the_task_agrees(files) -> None:
    for task, file in files.items():
        assert load(file).task == load(file, task=task).task == task


def test_the_backbone_of_a_classifier(files) -> None:
    backbone = load(files["classification"], task="features", backend="numpy")
    assert type(backbone) is MobileNetV2Model
    x = np.zeros((1, 3, 64, 64), np.float32)
    classifier = load(files["classification"], backend="numpy")
    np.testing.assert_array_equal(
        backbone(x).pooler_output, classifier.run(x.transpose(0, 2, 3, 1), ["avg_pool"])["avg_pool"]
    )


@pytest.mark.parametrize(
    ("found", "wanted"),
    [("segmentation", "classification"), ("classification", "segmentation"), ("segmentation", "features")],
)
def test_a_different_task_is_named(files, found, wanted) -> None:
    with pytest.raises(WeightsError, match=rf"{found}\.h5 must hold a .*{wanted}.* got {found}"):
        load(files[found], task=wanted)


def test_unknown_tasks(files) -> None:
    with pytest.raises(ValueError, match=r"task \(='detect'\) must be one of classification, detection, features"):
        load(files["features"], task="detect")
