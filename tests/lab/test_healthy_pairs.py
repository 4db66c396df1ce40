"""Fifty pairs of right runs, none of which is accused: widths, sizes, strides, number types, backends, frameworks."""

from __future__ import annotations

import numpy as np
import planted
import pytest
from engines import BACKENDS
from weight_files import random_checkpoint

import npmnv2
from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation
from npmnv2.lab.adapters.selection import open_side
from npmnv2.lab.diagnosis import diagnose
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.weights.native import write_h5

PHOTO = np.random.default_rng(7).integers(0, 256, (50, 60, 3), dtype=np.uint8).repeat(3, 0).repeat(3, 1)
WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
SIZES = (64, 65, 75, 96)
SMALL = {
    "stride 8": {"output_stride": 8},
    "stride 16": {"output_stride": 16},
    "symmetric padding": {"tf_padding": False},
    "relu": {"hidden_act": "relu"},
    "hardswish": {"hidden_act": "hardswish"},
    "first residual": {"depth_multiplier": 0.1, "width_rule": "slim"},
}


def model_of(seed=0, kind=MobileNetV2ForImageClassification, **fields):
    config = MobileNetV2Config(**{"depth_multiplier": 0.35, "image_size": 64, "num_labels": 21, **fields})
    weights = unit_gain_weights(kind.build(config), seed)
    return kind(config, weights, backend="numpy", dtype="float64")


def healthy(model, other) -> None:
    found = npmnv2.compare(model, other, PHOTO)
    assert found.findings == ()
    assert len(found.layers) > 55


# 24 pairs: two number types, and the compiled kernels where there are any.
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("width", [w if w < 1 else pytest.param(w, marks=pytest.mark.slow) for w in WIDTHS])
def test_widths_and_sizes(width, size) -> None:
    model = model_of(int(100 * width) + size, depth_multiplier=width, image_size=size)
    backend = BACKENDS[-1] if size % 2 else "numpy"
    healthy(model, MobileNetV2ForImageClassification(model.config, model.weights, backend=backend))


# 6 pairs
@pytest.mark.parametrize("name", SMALL)
def test_other_architectures(name) -> None:
    model = model_of(**SMALL[name])
    healthy(model, MobileNetV2ForImageClassification(model.config, model.weights, backend="numpy"))


# 6 pairs: every value rounded to half precision, or to bfloat16's eight bits.
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("bits", [11, 8])
def test_low_precision(bits, seed) -> None:
    model = model_of(seed)
    x = model.prepare([PHOTO])

    def rounded(executable, part, *inputs):
        value = planted.evaluate(executable, part, *inputs)
        mantissa, exponent = np.frexp(value)
        return np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)

    values = planted.run(model, x, {part.name: rounded for part in model.plan.parts()})
    assert diagnose(model, values, x, photo=PHOTO) == ()


# 4 pairs
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integers(dtype) -> None:
    model = model_of()
    reference = MobileNetV2ForImageClassification(model.config, model.weights, backend="numpy")
    integers = reference.quantize([PHOTO], dtype=dtype)
    healthy(reference, integers)
    healthy(integers, reference)


# 1 pair
def test_segmentation() -> None:
    model = model_of(kind=MobileNetV2ForSemanticSegmentation, output_stride=16, image_size=97)
    healthy(model, MobileNetV2ForSemanticSegmentation(model.config, model.weights, backend="numpy"))


# 7 pairs
@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "fields"),
    [
        ("keras", {}),
        ("keras", {"image_size": 75}),
        ("keras", {"depth_multiplier": 1.0}),
        ("torch", {}),
        ("torch", {"image_size": 75}),
        ("torch", {"depth_multiplier": 1.0}),
        ("torch", {"tf_padding": False}),
    ],
)
def test_frameworks(runtime, fields, tmp_path) -> None:
    pytest.importorskip({"keras": "keras", "torch": "transformers"}[runtime])
    model = model_of(**fields)
    write_h5(model.to_checkpoint(), tmp_path / "m.h5")
    healthy(model, open_side(f"{tmp_path / 'm.h5'}@{runtime}"))


# 2 pairs
@pytest.mark.parametrize("file", ["segmentation/deeplabv3.tflite", "classification/mobilenet_v2_1.0_224_quant.tflite"])
def test_litert(shared_data, file) -> None:
    pytest.importorskip("ai_edge_litert")
    path = shared_data / "weights" / file
    healthy(str(path), f"{path}@litert")


def test_background_is_no_fault() -> None:
    from npmnv2.weights_tools import with_classes

    checkpoint = random_checkpoint(num_labels=1001, image_size=64)
    with_background, without = (
        MobileNetV2ForImageClassification.from_checkpoint(with_classes(checkpoint, count), backend="numpy")
        for count in (1001, 1000)
    )
    assert npmnv2.compare(with_background, without, PHOTO).agree
