"""`npmnv2.compare`: any two runs on one photo."""

from __future__ import annotations

import shutil

import numpy as np
import planted
import pytest
from weight_files import random_checkpoint

import npmnv2
from npmnv2 import ArgumentError, MobileNetV2ForImageClassification
from npmnv2.lab import diagnosis
from npmnv2.lab.adapters.selection import open_side, split_options
from npmnv2.lab.comparison import DIVERGED_STEPS
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.plan import IMAGE
from npmnv2.weights.native import write_h5

PHOTO = np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    checkpoint = random_checkpoint(image_size=64, depth_multiplier=0.35)
    return MobileNetV2ForImageClassification.from_checkpoint(checkpoint, backend="numpy", dtype="float64")


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("compare") / "m.h5"
    write_h5(model.to_checkpoint(), path)
    return str(path)


def test_a_model_and_its_file(model, file) -> None:
    found = npmnv2.compare(model, f"{file}@numpy,float64", PHOTO)
    assert found.verdict == "all layers are equal, bit for bit"
    assert found.other == "m.h5 (npmnv2, numpy, float64)"
    assert [layer.name for layer in found.layers] == list(model.plan.endpoints)
    assert found.image.shape == (64, 64, 3)
    assert found.environment["python"]
    single = npmnv2.compare(model, file, PHOTO)
    assert single.agree
    assert 0 < single.worst.relative < 1e-4


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_dumped_activations(model, tmp_path, suffix) -> None:
    """Without a batch axis, with the channels first, or under another maker's names."""
    x = model.prepare([PHOTO])
    values = planted.run(model, x, {"block_3_project": planted.with_layer(activation="relu6")})
    dumped = {
        "MobilenetV2/Conv/Relu6": values["Conv1"].transpose(0, 3, 1, 2),
        "features.2.conv.0": values["block_1_expand"][0],
        "mobilenet_v2.layer.2.reduce_1x1": values["block_3_project"],
        "block_2_add": values["block_2"],
        "predictions": values["predictions"],
        **{name: values[name] for name in ("block_3_expand", "block_3_depthwise")},
    }
    path = tmp_path / f"dump{suffix}"
    if suffix == ".npz":
        np.savez(path, **{name.replace("/", "."): value for name, value in dumped.items()})
    else:
        import h5py

        with h5py.File(path, "w") as file:
            for name, value in dumped.items():
                file[name] = value
    for side in (str(path), f"{path}@activations", dumped):
        found = npmnv2.compare(model, side, PHOTO)
        assert [(f.fault, f.layer) for f in found.findings] == [("activation", "block_3_project")]
        assert found.first_divergent.name == "block_3_project"
        assert "Conv1" not in found.left_out
        assert "block_5_expand" in found.left_out


def test_names_that_tell_nothing(model) -> None:
    """Values by shape and order: of a convolution, its batch norm and its activation the last is ours."""
    x = model.prepare([PHOTO])
    values = planted.run(model, x)
    parts = [part.name for part in model.plan.parts()]
    numbered = {}
    for number, name in enumerate(parts):
        numbered[f"tensor_{number}a"] = values[name] * 0.5 - 0.1  # something like it, of the same shape
        numbered[f"tensor_{number}b"] = values[name]
    found = npmnv2.compare(model, numbered, x)
    assert found.agree, found.verdict
    assert len(found.layers) > len(parts)


def test_own_input(model, file) -> None:
    other = npmnv2.load(file, backend="numpy")
    other.processor = type(other.processor).preset("slim", 64)
    assert npmnv2.compare(model, other, PHOTO).agree
    found = npmnv2.compare(model, other, PHOTO, own_input=True)
    assert [(f.fault, f.layer) for f in found.findings] == [("resize", IMAGE)]
    assert npmnv2.compare(model, other, PHOTO, own_input=True, diagnose=False).findings == ()


def test_dumps_of_equal_names_need_no_network() -> None:
    a = {"x": np.ones((1, 2)), "y": np.ones(3)}
    found = npmnv2.compare(a, {"x": np.ones((1, 2)), "z": np.ones(3)}, np.zeros((1, 8, 8, 3)))
    assert [layer.name for layer in found.layers] == ["x"]
    assert found.left_out == ("y", "z")
    with pytest.raises(ArgumentError, match="one side must be a network that npmnv2 reads"):
        npmnv2.compare(a, {"other": np.ones(3)}, np.zeros((1, 8, 8, 3)))
    with pytest.raises(ArgumentError, match="photo must be the network's input"):
        npmnv2.compare(a, a, PHOTO)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m.h5@numpy,float64", ("m.h5", {"backend": "numpy", "dtype": "float64"})),
        ("m.tflite@litert", ("m.tflite", {"runtime": "litert"})),
        ("q.h5@reference", ("q.h5", {"arithmetic": "reference"})),
        ("m.h5", ("m.h5", {})),
    ],
)
def test_options_after_an_at_sign(text, expected) -> None:
    assert split_options(text) == expected


def test_wrong_sides(tmp_path, file) -> None:
    for wrong in ("m.h5@numby", "m.h5@numpy,compiled"):
        with pytest.raises(ArgumentError, match="must be at most one of each: auto, compiled, numba, numpy; float32"):
            split_options(wrong)
    with pytest.raises(TypeError, match="a side must be a model, a name or path, a Keras model"):
        open_side(3)
    with pytest.raises(ArgumentError, match="must be left out with activations"):
        open_side(f"{file}@float64,activations")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04" + bytes(22) + b"\5\0\0\0a.npy")
    with pytest.raises(npmnv2.WeightsError, match=r"must be an \.npz or \.h5 file"):
        open_side(f"{tmp_path / 'x.npz'}@activations")
    at = tmp_path / "strange@name.h5"
    shutil.copy(file, at)
    assert open_side(str(at)).label.startswith("strange@name.h5")


def test_a_detector() -> None:
    from npmnv2.models.detection import MobileNetV2ForObjectDetection as Detector

    config = npmnv2.MobileNetV2Config(depth_multiplier=0.35, image_size=96, num_labels=5)
    weights = unit_gain_weights(Detector.build(config))
    reference = Detector(config, weights, backend="numpy", dtype="float64")
    found = npmnv2.compare(reference, Detector(config, weights, backend="numpy"), PHOTO)
    assert found.agree, found.verdict
    assert found.layers[-1].name == "class_logits"
    x = reference.prepare([PHOTO])
    values = planted.run(reference, x, {"BoxPredictor_0_BoxEncodingPredictor_depthwise": planted.with_pads(1, 1)})
    layers = [(f.fault, f.layer) for f in npmnv2.compare(reference, values, x).findings]
    assert layers == [("padding", "BoxPredictor_0_BoxEncodingPredictor_depthwise")]


def test_arithmetics_of_one_quantized_file(model, tmp_path) -> None:
    """In integers two right arithmetics part by rounding only, which the steps tell."""
    single = MobileNetV2ForImageClassification(model.config, model.weights, backend="numpy")
    path = tmp_path / "int8.h5"
    write_h5(single.quantize([PHOTO]).to_checkpoint(), path)
    found = npmnv2.compare(str(path), f"{path}@fakequant", PHOTO)
    assert found.reference.startswith("int8.h5 (npmnv2, ")
    assert found.findings == ()
    steps = [layer.steps for layer in found.layers]
    assert None not in steps
    assert 0 < max(steps) < 20
    assert npmnv2.compare(str(path), str(path), PHOTO).verdict == "all layers are equal, bit for bit"


def test_rounding_that_adds_up_is_no_fault(model, tmp_path) -> None:
    single = MobileNetV2ForImageClassification(model.config, model.weights, backend="numpy")
    path = tmp_path / "int8.h5"
    write_h5(single.quantize([PHOTO]).to_checkpoint(), path)
    first, second = (npmnv2.load(path, backend="numpy", arithmetic=name) for name in ("xnnpack", "reference"))
    found = npmnv2.compare(first, second, PHOTO)
    assert max(layer.steps for layer in found.layers) > DIVERGED_STEPS, "there is something to tell"
    assert found.agree, found.verdict
    assert found.verdict.startswith("every layer is within one step of what the reference makes of the same inputs")
    # Two steps in one layer are a fault, however little later layers make of them.
    x, name = first.prepare([PHOTO]), "block_5_expand"
    scales = {n: q.scale[0] for n, q in first.quantization.values.items()}
    values = dict(second.trace(x))
    assert diagnosis.only_rounds(first, values, x, scales)
    values[name] = values[name] + 2 * scales[name] * (np.arange(values[name].size) == 7).reshape(values[name].shape)
    assert not diagnosis.only_rounds(first, values, x, scales)


def test_what_no_known_fault_explains_is_said(model) -> None:
    x = model.prepare([PHOTO])
    values = planted.run(model, x, {"block_5_expand": planted.after(lambda y: np.sin(3 * y[..., ::-1]))})
    found = npmnv2.compare(model, values, x)
    assert found.findings == ()
    assert found.remarks == ("no known fault explains what is off at block_5_expand",)


def test_bfloat16_is_judged_by_its_own_rounding(model, file) -> None:
    for sides in ((file, f"{file}@bf16,numpy"), (f"{file}@bf16,numpy", file)):
        found = npmnv2.compare(*sides, PHOTO)
        assert found.worst.relative > 1e-2
        assert found.agree, found.verdict
        assert "within bfloat16's rounding" in found.verdict
        assert not found.remarks


def test_a_fault_is_found_behind_bfloat16_s_rounding(model) -> None:
    faulty = MobileNetV2ForImageClassification(
        model.config.replace(tf_padding=False), model.weights, backend="numpy", precision="bf16"
    )
    found = npmnv2.compare(model, faulty, PHOTO)
    assert not found.agree
    assert {finding.fault for finding in found.findings} == {"padding"}
    assert {f.layer for f in found.findings} <= {"Conv1", *(f"block_{i}_depthwise" for i in (1, 3, 6, 13))}


def test_other_input_is_no_rounding_of_bfloat16(model, file) -> None:
    other = open_side(f"{file}@bf16,numpy").model
    other.processor = npmnv2.MobileNetV2ImageProcessor.preset("keras", 64)
    found = npmnv2.compare(model, other, PHOTO, own_input=True, diagnose=False)
    assert found.first_divergent.name == IMAGE
