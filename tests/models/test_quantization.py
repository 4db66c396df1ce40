"""`model.quantize`, and quantized models as objects."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from quantized_networks import integer_image, quantized_checkpoint
from tflite_ops import ARITHMETICS, run
from weight_files import random_checkpoint

import npmnv2
from npmnv2 import (
    MobileNetV2ForImageClassification,
    MobileNetV2ForObjectDetection,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2Model,
)
from npmnv2.errors import ArgumentError
from npmnv2.kernels import quantized
from npmnv2.lab.quantization import dequantized, quantization_report
from npmnv2.weights.checkpoint import fold_batch_norms
from npmnv2.weights_tools import write


def photos(count=3, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (70, 90, 3), dtype=np.uint8) for _ in range(count)]


def model(task="classification", **fields):
    checkpoint = random_checkpoint(task, image_size=64, **fields)
    cls = {"classification": MobileNetV2ForImageClassification, "segmentation": MobileNetV2ForSemanticSegmentation}[
        task
    ]
    return cls.from_checkpoint(checkpoint, backend="numpy")


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integers_stay_near_the_real_numbers(method, dtype) -> None:
    reference = model()
    found = reference.quantize(photos(), method=method, dtype=dtype)
    report = quantization_report(reference, found, photos())
    costs = {cost.name: cost for cost in report.layers}
    assert list(costs) == ["image", *(part.name for part in reference.plan.parts())]
    # Eight bits over a range: some 40 dB of what fills it.
    assert costs["Conv1"].own_snr > 30
    assert costs["predictions"].own_snr >= costs["predictions"].snr - 1e-6
    assert costs["Conv1"].snr > 20
    assert all(cost.saturated < 0.05 for cost in report.layers)
    assert 0 <= report.agreement <= 1
    lines = str(report).splitlines()
    assert lines[1].startswith("image")
    assert lines[-1].endswith("of 3 photos")


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_dequantized_weights_are_half_a_step_from_the_original_ones(dtype) -> None:
    reference = model()
    found = reference.quantize(photos(), dtype=dtype)
    real = dequantized(found, backend="numpy")
    assert real.quantization is None
    before, after = (fold_batch_norms(reference.plan, m.weights, np.float64) for m in (reference, real))
    for name, kernel in found.quantization.kernels.items():
        error = np.abs(before[f"{name}/kernel"] - after[f"{name}/kernel"])
        assert np.all(error <= kernel.scales * 0.5001), name
        assert error.max() > 0, name
    costs = quantization_report(real, found, photos())
    assert {cost.name: cost.snr for cost in costs.layers}["Conv1"] > 20
    with pytest.raises(ArgumentError, match="must be quantized to be dequantized"):
        dequantized(reference)


def test_the_results_have_the_threads_of_their_model() -> None:
    reference = MobileNetV2ForImageClassification.from_checkpoint(random_checkpoint(image_size=64), n_threads=3)
    found = reference.quantize(photos(1))
    assert found.n_threads == 3
    assert dequantized(found).n_threads == 3
    assert dequantized(found, n_threads=1).n_threads == 1


@pytest.mark.parametrize(("task", "fields"), [("classification", {}), ("segmentation", {"output_stride": 16})])
def test_the_result_is_litert_s_too(tmp_path: Path, task, fields) -> None:
    found = model(task, **fields).quantize(photos())
    write(found.to_checkpoint(), tmp_path / "model.tflite")
    x = integer_image(found.quantization.interface.input, found.quantization.interface.shape)
    assert x.dtype == np.uint8
    for arithmetic in ARITHMETICS:
        (expected,) = run(str(tmp_path / "model.tflite"), arithmetic, x)
        result = npmnv2.load(tmp_path / "model.tflite", arithmetic=arithmetic).invoke(x)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_detectors_become_integers(dtype) -> None:
    reference = MobileNetV2ForObjectDetection.from_checkpoint(random_checkpoint("detection", image_size=96))
    found = reference.quantize(photos(), dtype=dtype)
    costs = {cost.name: cost for cost in quantization_report(reference, found, photos()).layers}
    assert costs["class_logits"].snr > 20
    assert costs["box_encodings"].snr > 20
    photo = photos(1)[0]
    exact, rounded = (m.predict(photo, threshold=0.5).scores[0] for m in (reference, found))
    assert abs(exact - rounded) < 0.05
    pixels = np.random.default_rng(0).integers(0, 256, found.quantization.interface.shape, dtype=np.uint8)
    boxes, classes, scores, count = found.invoke(pixels)
    assert (boxes.shape, classes.shape, scores.shape, count.tolist()) == ((1, 100, 4), (1, 100), (1, 100), [100])
    assert 0 < scores.max() <= 1


def test_equalized_values_are_told_in_their_own_size(tmp_path: Path) -> None:
    reference = model()
    found = reference.quantize(photos(), dtype="uint8", equalize=True)
    assert found.quantization.exponents
    plain = reference.quantize(photos(), dtype="uint8")
    assert not plain.quantization.exponents
    report = quantization_report(reference, found, photos())
    costs = {cost.name: cost for cost in report.layers}
    (name, *_), values = found.quantization.exponents, found.quantization.values
    assert costs[name].equalized == 2.0 ** np.ptp(found.quantization.exponents[name]) > 1
    assert f"× {costs[name].equalized:g}" in str(report)
    # In units of the equalized network most channels would be off by factors of two.
    assert all(cost.snr > 10 and cost.own_snr > 20 for cost in report.layers)
    x = found.prepare(photos(1))
    exact = found.run(x, [name])[name]
    as_trained = MobileNetV2ForImageClassification.from_checkpoint(found.to_checkpoint(), arithmetic="fakequant")
    largest = 2.0 ** max(found.quantization.exponents[name]) * values[name].scale[0]
    assert np.abs(as_trained.run(x, [name])[name] - exact).max() < 20 * largest
    found.save_pretrained(tmp_path)
    again = npmnv2.load(tmp_path)
    assert again.quantization == found.quantization
    assert np.array_equal(again.run(x, [name])[name], exact)
    # The float network of the same integers has no factors, and so their size.
    real = dequantized(found, backend="numpy")
    assert real.quantization is None
    assert np.abs(real.run(x, [name])[name] - exact).max() < 20 * largest
    # LiteRT knows nothing of factors; the result is the same.
    write(found.to_checkpoint(), tmp_path / "model.tflite")
    pixels = integer_image(found.quantization.interface.input, found.quantization.interface.shape)
    (expected,) = run(str(tmp_path / "model.tflite"), "xnnpack", pixels)
    np.testing.assert_array_equal(found.invoke(pixels), expected)


def test_corrected_biases_come_nearer(tmp_path: Path) -> None:
    reference = model()
    corrected, plain = (reference.quantize(photos(), correct_biases=correct) for correct in (True, False))
    assert not np.array_equal(corrected.weights["Conv1/bias"], plain.weights["Conv1/bias"])
    assert corrected.source["quantization"]["correct_biases"] is True

    def mean_error(found) -> float:
        error = 0.0
        for photo in photos():
            exact, rounded = (m.run(m.prepare([photo]), ["Conv_1"])["Conv_1"] for m in (reference, found))
            error += np.abs((exact - rounded).mean(axis=(0, 1, 2))).sum()
        return error

    assert mean_error(corrected) < mean_error(plain)


def test_photos_reach_the_network_as_their_own_bytes() -> None:
    found = model().quantize(photos())
    x = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    as_bytes = found.invoke(x)
    real = found.processor.image_mean, found.processor.image_std
    prepared = ((x / 255 - np.array(real[0])) / np.array(real[1])).astype(np.float32)
    logits = found.run(prepared, ["predictions"])["predictions"]
    assert as_bytes.argmax() == logits.argmax()
    image = found.quantization.values["image"]
    assert np.array_equal(quantized.quantize(prepared, image).astype(int) + 128, x)


@pytest.mark.parametrize("equalize", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(
    "calibration",
    [np.zeros((64, 64, 3), np.uint8), [np.zeros((64, 64, 3), np.uint8)] * 3, photos(1)],
    ids=["one black photo", "black photos", "one photo"],
)
def test_photos_that_show_little(calibration, dtype, equalize) -> None:
    reference = model()
    found = reference.quantize(calibration, dtype=dtype, equalize=equalize)
    seen = calibration if isinstance(calibration, list) else [calibration]
    report = quantization_report(reference, found, seen)
    # What was calibrated on is still told apart from noise.
    assert report.layers[-1].snr > 5
    assert found.predict(photos(1)[0]).top.score > 0


def test_what_cannot_be_quantized() -> None:
    float_model = model()
    with pytest.raises(ArgumentError, match="photos must hold at least one photo"):
        float_model.quantize([])
    with pytest.raises(ArgumentError, match="this one is quantized"):
        float_model.quantize(photos()).quantize(photos())
    with pytest.raises(ArgumentError, match="hidden_act"):
        model(hidden_act="gelu").quantize(photos())
    with pytest.raises(ArgumentError, match="method"):
        float_model.quantize(photos(), method="best")
    with pytest.raises(ArgumentError, match=r"dtype \(='int16'\) must be 'int8' or 'uint8'"):
        float_model.quantize(photos(), dtype="int16")


# --- quantized models as objects -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def integers():
    return MobileNetV2ForImageClassification.from_checkpoint(quantized_checkpoint("uint8"))


def test_raw_traces_hold_the_integers_of_real_ones(integers) -> None:
    x = integers.prepare(photos(1))
    raw, real = integers.trace(x, raw=True), integers.trace(x)
    assert list(raw) == list(real) == list(integers.plan.endpoints)
    q = integers.quantization.values["block_3_expand"]
    assert raw["block_3_expand"].dtype == np.uint8
    assert np.array_equal(quantized.dequantize(raw["block_3_expand"], q), real["block_3_expand"])


def test_pickles_and_files_give_the_same_bits(integers, tmp_path: Path) -> None:
    x = integers.prepare(photos(1))
    expected = integers.run(x, ["predictions"])["predictions"]
    integers.save_pretrained(tmp_path / "saved")
    for copy in (pickle.loads(pickle.dumps(integers)), npmnv2.load(tmp_path / "saved")):
        assert np.array_equal(copy.run(x, ["predictions"])["predictions"], expected)
        assert copy.quantization == integers.quantization


def test_summary_has_a_second_table(integers) -> None:
    assert "zero" in integers.summary()
    assert integers.summary().count("block_16_project") == 1


def test_the_backbone_of_a_quantized_classifier() -> None:
    checkpoint = quantized_checkpoint("int8")
    backbone = MobileNetV2Model.from_checkpoint(checkpoint)
    assert backbone.features(photos(1)[0]).dtype == np.float32
    with pytest.raises(ArgumentError, match="invoke needs the interface of a TFLite file"):
        backbone.invoke(np.zeros((1, 64, 64, 3), np.int8))


def test_integers_of_a_float_network(tmp_path: Path) -> None:
    float_model = model()
    for wrong in (
        lambda: float_model.invoke(photos(1)[0][None]),
        lambda: float_model.trace(np.zeros((1, 64, 64, 3)), raw=True),
    ):
        with pytest.raises(ArgumentError, match="needs a quantized network"):
            wrong()
    with pytest.raises(ArgumentError, match="arithmetic"):
        MobileNetV2ForImageClassification(float_model.config, arithmetic="xnnpack")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"backend": "numba", "arithmetic": "fakequant"}, "backend"),
        ({"backend": "torch"}, "backend"),
        ({"dtype": "float64"}, "dtype"),
        ({"arithmetic": "exact"}, "arithmetic"),
    ],
)
def test_impossible_options(options, problem) -> None:
    with pytest.raises(ArgumentError, match=problem):
        MobileNetV2ForImageClassification.from_checkpoint(quantized_checkpoint("uint8"), **options)
