"""Which variables of a TensorFlow file become weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from weight_files import (
    assert_same_weights,
    random_checkpoint,
    slim_variables,
    write_bundle,
)

from npmnv2 import WeightsError
from npmnv2.weights_tools import inspect, read


def averages(checkpoint, roles) -> dict[str, np.ndarray]:
    names = {name: value for name, value in slim_variables(checkpoint).items() if name.endswith(roles)}
    return {f"{name}/ExponentialMovingAverage": value + 1 for name, value in names.items()}


TRAINED = ("weights", "biases", "gamma", "beta")
STATISTICS = ("moving_mean", "moving_variance")


@pytest.mark.parametrize(
    ("roles", "averaged"),
    [((), ()), (TRAINED, TRAINED), (TRAINED + STATISTICS, TRAINED + STATISTICS), (STATISTICS, ())],
    ids=["none", "trained", "all", "statistics only"],
)
def test_averages_are_preferred(tmp_path: Path, roles, averaged) -> None:
    checkpoint = random_checkpoint()
    raw = slim_variables(checkpoint)
    slots = {f"{name}/RMSProp{n}": value for n in ("", "_1") for name, value in raw.items()}
    slots |= {"MobilenetV2/Conv/BatchNorm/moving_mean/biased": np.zeros(8, np.float32)}
    slots |= {f"{name}/Momentum": value for name, value in raw.items()} | {"global_step": np.array(1, np.int64)}
    write_bundle(tmp_path / "m.ckpt", raw | slots | (averages(checkpoint, roles) if roles else {}))
    found = read(tmp_path / "m.ckpt")
    assert found.source["ema"] is bool(averaged)
    assert inspect(tmp_path / "m.ckpt")["ema"] is bool(averaged)
    kinds = {"kernel": "weights", "bias": "biases"}
    expected = {}
    for name, value in checkpoint.weights.items():
        role = name.rpartition("/")[2]
        expected[name] = value + 1 if kinds.get(role, role) in averaged else value
    assert_same_weights(found.weights, expected)


def test_all_wrong_names_are_reported_at_once(tmp_path: Path) -> None:
    variables = slim_variables(random_checkpoint())
    del variables["MobilenetV2/Conv_1/BatchNorm/gamma"]
    variables["MobilenetV2/expanded_conv_17/expand/weights"] = np.zeros((1, 1, 8, 8), np.float32)
    variables["MobilenetV2/expanded_conv_3/project/weights"] = np.zeros((1, 1, 9, 8), np.float32)
    write_bundle(tmp_path / "m.ckpt", variables)
    with pytest.raises(WeightsError) as caught:
        read(tmp_path / "m.ckpt")
    for words in (
        "m.ckpt.index",
        "1 missing: Conv_1_bn/gamma",
        "1 unexpected: MobilenetV2/expanded_conv_17",
        "1 misshapen",
    ):
        assert words in str(caught.value)


def test_two_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    variables = slim_variables(random_checkpoint())
    variables |= slim_variables(random_checkpoint("features"), detection=True)
    write_bundle(tmp_path / "m.ckpt", variables)
    with pytest.raises(WeightsError, match=r"both 'FeatureExtractor/MobilenetV2/.* would be .*keep one model"):
        read(tmp_path / "m.ckpt")


def test_fake_quantization_without_ranges_is_refused(tmp_path: Path) -> None:
    variables = slim_variables(random_checkpoint())
    variables["MobilenetV2/Conv/weights_quant/min"] = np.zeros((), np.float32)
    write_bundle(tmp_path / "m.ckpt", variables)
    with pytest.raises(WeightsError, match=r"m\.ckpt\.index: lacks the ranges of .* Conv1, Conv1/kernel"):
        read(tmp_path / "m.ckpt")
