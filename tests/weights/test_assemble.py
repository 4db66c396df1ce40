"""From canonical arrays to a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from weight_files import random_checkpoint

from npmnv2 import WeightsError
from npmnv2.weights.assemble import Content, assemble, class_count, in_order, plan_for, task_of

PATH = Path("weights")


@pytest.mark.parametrize("task", ["classification", "segmentation", "features"])
def test_the_task_shows_in_the_names(task: str) -> None:
    checkpoint = random_checkpoint(task)
    assert task_of(checkpoint.weights) == task
    assert class_count(checkpoint.weights) == (0 if task == "features" else 3)
    assert set(plan_for(checkpoint.config, checkpoint.weights).parameter_shapes()) == set(checkpoint.weights)


def test_the_order_is_the_networks_and_foreign_names_come_last() -> None:
    checkpoint = random_checkpoint()
    plan = plan_for(checkpoint.config, checkpoint.weights)
    shuffled = {"z/kernel": np.zeros(1), "Conv1/extra": np.zeros(1), **dict(reversed(checkpoint.weights.items()))}
    names = list(in_order(plan, shuffled))
    assert names[:2] == ["Conv1/kernel", "bn_Conv1/gamma"]
    assert names[-3:] == ["predictions/kernel", "predictions/bias", "z/kernel"]
    assert [name for name in names if name in checkpoint.weights] == list(checkpoint.weights)


def test_all_that_is_wrong_is_reported_at_once() -> None:
    weights = dict(random_checkpoint().weights)
    del weights["block_5_expand/kernel"]
    weights["block_6_project_BN/beta"] = np.full(3, np.nan, np.float32)
    with pytest.raises(WeightsError) as caught:
        assemble(PATH, "test", Content(weights, unexpected=("extra/weights",)))
    for words in ("1 missing: block_5_expand/kernel", "1 unexpected: extra/weights", "1 misshapen", "1 not finite"):
        assert words in str(caught.value)


def test_no_weights_at_all() -> None:
    with pytest.raises(WeightsError, match="holds no variable of a MobileNetV2; it holds a, b"):
        assemble(PATH, "test", Content({}, unexpected=("a", "b")))


def test_impossible_fields_are_errors_of_the_file() -> None:
    with pytest.raises(WeightsError, match="its configuration or its shapes are impossible: image_size"):
        assemble(PATH, "test", Content(random_checkpoint().weights, {"image_size": 1}))
