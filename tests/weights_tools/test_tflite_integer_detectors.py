"""Quantized TFLite detectors in integers: the uint8 object localizer, whole, in every tensor, and damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from npmnv2.weights_tools.tflite import Model, Walk
from npmnv2.weights_tools.tflite_integers import Match
from PIL import Image

import npmnv2
from npmnv2 import MobileNetV2ForObjectDetection, WeightsError
from npmnv2.errors import ArgumentError
from npmnv2.kernels import quantized
from npmnv2.network.quantization import Logistic
from npmnv2.weights.assemble import plan_for
from npmnv2.weights_tools import convert, read, write

litert = pytest.importorskip("ai_edge_litert.interpreter")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
flatbuffers = pytest.importorskip("flatbuffers")
flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")


@pytest.fixture(scope="module")
def localizer(shared_data: Path) -> Path:
    return shared_data / "weights" / "detection" / "mobile_object_localizer_v1_1_default_1.tflite"


@pytest.fixture(scope="module")
def bytes_of_a_photo(shared_data: Path) -> np.ndarray:
    with Image.open(shared_data / "photos" / "cats_and_dogs.jpg") as image:
        return np.asarray(image.convert("RGB").resize((192, 192), Image.Resampling.BILINEAR))[None]


def test_every_tensor_is_litert_s(localizer: Path, bytes_of_a_photo) -> None:
    walk = Walk(Model.open(localizer))
    walk.run()
    checkpoint = read(localizer)
    match = Match(walk, plan_for(checkpoint.config, checkpoint.weights))
    match.run()
    interpreter = litert.Interpreter(
        str(localizer),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], bytes_of_a_photo)
    interpreter.invoke()
    model = MobileNetV2ForObjectDetection.from_checkpoint(checkpoint, arithmetic="reference")
    x = quantized.dequantize(bytes_of_a_photo, checkpoint.quantization.values["image"])
    trace = model.trace(x, raw=True)
    assert {"class_logits", "box_encodings", "BoxPredictor_5_ClassPredictor_depthwise"} <= set(match.tensors)
    for name, number in match.tensors.items():
        if name != "image":
            expected = interpreter.get_tensor(number)
            np.testing.assert_array_equal(trace[name].reshape(expected.shape), expected, err_msg=name)


def test_things_are_found_on_photos(localizer: Path, shared_data: Path, bytes_of_a_photo) -> None:
    model = npmnv2.load(localizer)
    # A photo of the network's own size reaches it as its own bytes.
    image = model.quantization.values["image"]
    assert np.array_equal(quantized.quantize(model.prepare(list(bytes_of_a_photo)), image), bytes_of_a_photo)
    found = model.predict(shared_data / "photos" / "cats_and_dogs.jpg", threshold=0.4)
    # Two cats and a dog, in the photo's pixels.
    wanted = np.array([[390, 208, 654, 594], [616, 155, 907, 597], [81, 380, 454, 596]])
    assert np.abs(found.boxes - wanted).max() < 15
    scores = model.invoke(bytes_of_a_photo)[2]
    assert np.abs(found.scores - scores[0, :3]).max() < 0.1


def test_native_files_hold_detectors_in_integers(localizer: Path, tmp_path: Path, bytes_of_a_photo) -> None:
    convert(localizer, tmp_path / "model.h5")
    model, original = npmnv2.load(tmp_path / "model.h5"), npmnv2.load(localizer)
    assert original.quantization.interface.steps == (Logistic(quantized.TensorQuantization((1 / 256,), 0)),)
    assert model.quantization == original.quantization
    assert model.config == original.config
    for result, expected in zip(model.invoke(bytes_of_a_photo), original.invoke(bytes_of_a_photo), strict=True):
        assert np.array_equal(result, expected)


def test_detectors_are_not_written_as_tflite_integers(localizer: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="detector"):
        write(read(localizer), tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()


# --- what can be wrong -----------------------------------------------------------------------------------------------


def edited(path: Path, edit, target: Path) -> Path:
    """A copy of a file, after a function has changed something."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))
    (graph,) = model.subgraphs
    edit(graph, graph.operators[-1], model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))
    return target


def with_options(**changes):
    options = {
        "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0, "max_detections": 100, "num_classes": 1,
        "nms_score_threshold": 0.0, "nms_iou_threshold": 0.6, "max_classes_per_detection": 1, **changes,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}

    def edit(graph, operator, model) -> None:
        operator.customOptions = np.frombuffer(flexbuffers.Dumps(given), np.uint8)

    return edit


def further_output(graph, operator, model) -> None:
    graph.outputs = [*graph.outputs, operator.inputs[1]]


def silent_change_of_scale(graph, operator, model) -> None:
    (tensor,) = (tensor for tensor in graph.tensors if tensor.name == b"BoxPredictor_2/Reshape")
    tensor.quantization.scale = np.array([0.5], np.float32)


def other_scores(graph, operator, model) -> None:
    graph.tensors[operator.inputs[1]].quantization.scale = np.array([0.5], np.float32)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (further_output, "has 1 inputs and 5 outputs, not one and those of the detector"),
        (silent_change_of_scale, "is a RESHAPE to another scale"),
        (other_scores, "LOGISTIC must have the scale 1/256"),
    ],
)
def test_what_is_wrong_is_named(localizer: Path, tmp_path: Path, edit, problem) -> None:
    with pytest.raises(WeightsError, match=problem) as caught:
        read(edited(localizer, edit, tmp_path / "model.tflite"))
    assert "model.tflite" in str(caught.value)


def test_regular_suppression(localizer: Path, tmp_path: Path, bytes_of_a_photo) -> None:
    options = with_options(use_regular_nms=True, max_detections=7, detections_per_class=5, nms_score_threshold=0.3)
    path = edited(localizer, options, tmp_path / "model.tflite")
    model = npmnv2.load(path)
    assert model.config.ssd.nms.suppression == "per_class"
    interpreter = litert.Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], bytes_of_a_photo)
    interpreter.invoke()
    for detail, result in zip(interpreter.get_output_details(), model.invoke(bytes_of_a_photo), strict=True):
        np.testing.assert_array_equal(result, interpreter.get_tensor(detail["index"]))
