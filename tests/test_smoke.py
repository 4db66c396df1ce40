"""Ten seconds that touch every room: what to run after every change, before the tests of what was changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bounds import assert_within, bound
from engines import BACKENDS

import npmnv2
from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification
from npmnv2.cli.main import main
from npmnv2.kernels import RELU6, Geometry, depthwise, pointwise, same_padding
from npmnv2.lab.random_weights import unit_gain_weights

pytestmark = pytest.mark.smoke

CONFIG = MobileNetV2Config(depth_multiplier=0.35, image_size=64, num_labels=5)


@pytest.fixture(scope="module")
def weights():
    return unit_gain_weights(MobileNetV2ForImageClassification.build(CONFIG))


@pytest.fixture(scope="module")
def cat() -> Path:
    return Path(npmnv2.__file__).parent / "data" / "cat.jpg"


def test_a_convolution_is_a_sum_of_products() -> None:
    rng = np.random.default_rng(0)
    x, kernel, bias = (rng.normal(size=shape).astype(np.float32) for shape in [(1, 6, 7, 9), (9, 5), (5,)])
    exact = np.clip(x.astype(np.float64) @ kernel + bias, *RELU6)
    assert_within(pointwise(x, kernel, bias, RELU6), exact, bound("pointwise", (x, kernel, bias, RELU6)))
    geometry = Geometry(2, 1, (same_padding(6, 3, 2), same_padding(7, 3, 2)))
    assert depthwise(x, np.ones((3, 3, 9), np.float32), np.zeros(9, np.float32), geometry).shape == (1, 3, 4, 9)


def test_the_plan_is_the_papers() -> None:
    plan = MobileNetV2ForImageClassification.build(MobileNetV2Config(num_labels=1001))
    assert plan.multiply_adds(224) == 300_775_552


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_agrees_with_float64(weights, cat: Path, backend: str) -> None:
    model = MobileNetV2ForImageClassification(CONFIG, weights, backend=backend)
    exact = MobileNetV2ForImageClassification(CONFIG, weights, backend="numpy", dtype="float64")
    logits, reference = model.predict(cat).logits, exact.predict(cat).logits
    assert logits.dtype == np.float32
    # Empirical: whole networks stay far below this (docs/numerics.md).
    np.testing.assert_allclose(logits, reference, rtol=0, atol=1e-4 * np.abs(reference).max())
    assert model.predict([cat, cat], batch_size=2)[1].top.label == model.predict(cat).top.label


def test_from_a_photo_and_a_file_to_the_terminal(weights, cat: Path, tmp_path: Path, capsys) -> None:
    model = MobileNetV2ForImageClassification(CONFIG, weights, backend="numpy")
    model.save_pretrained(tmp_path / "model")
    command = ["predict", str(cat), "--model", str(tmp_path / "model"), "--backend", "numpy", "--json"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])["candidates"][0]
    assert first["index"] == model.predict(cat).top.index
