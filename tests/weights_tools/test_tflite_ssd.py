"""SSD detectors in TFLite files: the layers of their heads, their anchors, and the options of their post-processing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from npmnv2.weights_tools.tflite import read_real
from weight_files import assert_same_weights, folded, random_checkpoint

from npmnv2 import WeightsError
from npmnv2.backends.selection import get_backend
from npmnv2.kernels import ssd_anchors
from npmnv2.network.detection import AnchorOptions, ExplicitAnchors, Extra, NonMaxSuppression, SSDConfig
from npmnv2.network.ssd import BOX_ENCODINGS, CLASS_LOGITS, detector, map_sizes
from npmnv2.weights.checkpoint import fold_batch_norms
from npmnv2.weights_tools import read, tflite_bytes

SIBLINGS = {
    "ssdlite": SSDConfig(),
    "full predictors": SSDConfig(predictor_depthwise=False),
    "pointwise predictors": SSDConfig(extra_depthwise=False, predictor_depthwise=False, predictor_kernel=1),
    "two extras": SSDConfig(
        extras=(Extra(24, 40), Extra(8, 16)),
        anchors=AnchorOptions(aspect_ratios=(1.0, 2.0, 0.5), reduce_boxes_in_lowest_layer=False),
    ),
}
OPTIONS = {
    "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0, "num_classes": 2, "max_detections": 20,
    "max_classes_per_detection": 3, "detections_per_class": 50, "use_regular_nms": False,
    "nms_score_threshold": 0.3, "nms_iou_threshold": 0.45,
}  # fmt: skip
LITE = NonMaxSuppression(0.3, 0.45, "agnostic", 50, 20, "never", "tflite", 3)


def checkpoint_of(kind, **fields):
    return folded(random_checkpoint("detection", ssd=SIBLINGS[kind], image_size=64, **fields))


@pytest.mark.parametrize("labels", [3, 4])
@pytest.mark.parametrize("kind", SIBLINGS)
def test_a_file_that_ends_in_boxes_and_scores(tmp_path: Path, kind, labels) -> None:
    checkpoint = checkpoint_of(kind, num_labels=labels)
    (tmp_path / "model.tflite").write_bytes(edited(tflite_bytes(checkpoint), lambda model: None))
    found = read(tmp_path / "model.tflite")
    assert (found.task, found.config.ssd, found.config.classes) == ("detection", SIBLINGS[kind], labels)
    assert found.preprocessing == {"preset": "ssd", "size": 64}
    assert_same_weights(found.weights, checkpoint.weights)


def edited(data: bytes, change) -> bytes:
    """The file after a change of its tables, without npmnv2's own entry, which would say what it is."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    model.metadata = None
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_postprocess(data: bytes, options, anchors, converter="LOGISTIC", name="TFLite_Detection_PostProcess") -> bytes:
    """The same file, with scores and the operator of the Object Detection API after the network."""
    return edited(data, lambda model: add_postprocess(model, options, anchors, converter, name))


def add_postprocess(model, options, anchors, converter, name) -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")
    graph = model.subgraphs[0]

    def tensor(shape, value=None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = b"x", list(shape), 0, 0
        if value is not None:
            made.buffer = len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(np.float32(value).tobytes(), np.uint8)
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operator(code, inputs, outputs, custom=None) -> None:
        entry, made = schema.OperatorCodeT(), schema.OperatorT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        entry.customCode = name.encode() if custom else None
        model.operatorCodes.append(entry)
        made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes) - 1, inputs, outputs
        if custom:
            made.customOptions = np.frombuffer(bytes(flexbuffers.Dumps(custom)), np.uint8)
        graph.operators.append(made)

    names = {graph.tensors[number].name.decode(): number for number in graph.outputs}
    boxes = next(number for text, number in names.items() if "box" in text)
    scores = next(number for text, number in names.items() if "box" not in text)
    if converter:
        converted = tensor(graph.tensors[scores].shape)
        operator(getattr(schema.BuiltinOperator, converter), [scores], [converted])
        scores = converted
    outputs = [tensor(()) for _ in range(4)]
    operator(schema.BuiltinOperator.CUSTOM, [boxes, scores, tensor(anchors.shape, anchors)], outputs, options)
    graph.outputs = outputs
    # Outputs of the network may not be called by their names any more.
    for number in names.values():
        graph.tensors[number].name = b"y"


@pytest.fixture(scope="module")
def network():
    """A checkpoint, its file, and the anchors of its image size."""
    checkpoint = checkpoint_of("ssdlite")
    return checkpoint, tflite_bytes(checkpoint), ssd_anchors(map_sizes(checkpoint.config, 64, 64))


@pytest.mark.parametrize(
    ("changes", "converter", "settings"),
    [
        ({}, "LOGISTIC", {"nms": LITE}),
        ({"use_regular_nms": True}, "SOFTMAX", {"nms": replace(LITE, suppression="per_class")}),
        ({"num_classes": 3, "y_scale": 8.0}, None, {"nms": LITE, "background": False, "box_scales": (8, 10, 5, 5)}),
    ],
)
def test_postprocessing(tmp_path: Path, network, changes, converter, settings) -> None:
    checkpoint, data, anchors = network
    (tmp_path / "m.tflite").write_bytes(with_postprocess(data, {**OPTIONS, **changes}, anchors, converter))
    found = read(tmp_path / "m.tflite")
    word = {"LOGISTIC": "sigmoid", "SOFTMAX": "softmax", None: "identity"}[converter]
    assert found.config.ssd == SSDConfig(score_converter=word, **settings)
    assert_same_weights(found.weights, checkpoint.weights)


def test_other_anchors_are_kept(tmp_path: Path, network) -> None:
    _, data, anchors = network
    other = anchors + np.float32(0.01)
    (tmp_path / "m.tflite").write_bytes(with_postprocess(data, OPTIONS, other))
    found = read(tmp_path / "m.tflite").config.ssd.anchors
    assert isinstance(found, ExplicitAnchors)
    np.testing.assert_array_equal(np.float32(found.boxes), other)


def test_files_that_do_not_fit(tmp_path: Path, network) -> None:
    _, data, anchors = network
    path = tmp_path / "m.tflite"
    path.write_bytes(with_postprocess(data, OPTIONS, anchors[1:]))
    with pytest.raises(WeightsError, match=rf"lists {len(anchors) - 1} anchors; .* need {len(anchors)}"):
        read(path)
    path.write_bytes(with_postprocess(data, {"num_classes": 2}, anchors))
    with pytest.raises(WeightsError, match="the options of TFLite_Detection_PostProcess lack y_scale"):
        read(path)
    path.write_bytes(with_postprocess(data, {**OPTIONS, "nms_iou_threshold": 7.0}, anchors))
    with pytest.raises(WeightsError, match="impossible settings: iou_threshold"):
        read(path)
    path.write_bytes(with_postprocess(data, OPTIONS, anchors, name="Other"))
    with pytest.raises(WeightsError, match="two convolutions look like layer block_13_depthwise"):
        read(path)


@pytest.mark.parametrize(("code", "layer", "activation"), [(1, "layer_19_1_Conv2d_2", "relu"), (3, "BoxPred", "relu6")])
def test_other_activations_in_the_head(tmp_path: Path, network, code, layer, activation) -> None:
    def change(model) -> None:
        tensors = model.subgraphs[0].tensors
        for operator in model.subgraphs[0].operators:
            options, name = operator.builtinOptions, tensors[operator.outputs[0]].name.decode()
            if name.startswith(layer) and hasattr(options, "strideH") and not name.endswith("depthwise"):
                options.fusedActivationFunction = code

    (tmp_path / "m.tflite").write_bytes(edited(network[1], change))
    with pytest.raises(WeightsError, match=rf"layer {layer}\w+ has the activation {activation}, not"):
        read(tmp_path / "m.tflite")


LOCALIZER = "mobile_object_localizer_v1_1_default_1.tflite"


def test_the_real_localizer(shared_data: Path) -> None:
    """One class without background, another width, 192 pixels, and anchors that are rounded to 8 bits."""
    _, found = read_real(shared_data / "weights" / "detection" / LOCALIZER)
    config = found.config
    assert (config.depth_multiplier, config.image_size, config.classes) == (0.75, 192, 1)
    assert config.ssd.extras == (Extra(192, 384), Extra(96, 192), Extra(96, 192), Extra(48, 96))
    assert (config.ssd.background, config.ssd.score_converter) == (False, "sigmoid")
    assert config.ssd.nms == NonMaxSuppression(1e-8, 0.6, "agnostic", 100, 100, "never", "tflite")
    boxes = ssd_anchors(map_sizes(config, 192, 192))
    assert 1e-4 < abs(np.array(config.ssd.anchors.boxes) - boxes).max() < 5e-3


def test_the_real_localizer_in_real_numbers(shared_data: Path) -> None:
    """What its integers stand for, run in float32, stays within some steps of LiteRT's results in integers."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    from PIL import Image

    path = shared_data / "weights" / "detection" / LOCALIZER
    photo = Image.open(shared_data / "photos" / "cat.bmp").convert("RGB").resize((192, 192))
    pixels = np.asarray(photo, np.uint8)[None]
    walk, found = read_real(path)
    kind = litert.OpResolverType.BUILTIN_REF
    judge = litert.Interpreter(str(path), experimental_op_resolver_type=kind, experimental_preserve_all_tensors=True)
    judge.allocate_tensors()
    image = walk.model.scales(walk.model.inputs[0])
    judge.set_tensor(walk.model.inputs[0], pixels)
    judge.invoke()
    plan = detector(found.config)
    run = get_backend("numpy").compile(plan, fold_batch_norms(plan, found.weights))
    x = ((pixels - np.float32(image.zero_point[0])) * image.scale[0]).astype(np.float32)
    values = run(x, (CLASS_LOGITS, BOX_ENCODINGS))
    scores = next(operator for operator in walk.model.operators if operator.kind == "LOGISTIC").inputs[0]
    for output, number in ((CLASS_LOGITS, scores), (BOX_ENCODINGS, walk.head.postprocess.inputs[0])):
        step = walk.model.scales(number)
        expected = (judge.get_tensor(number).astype(np.float32) - step.zero_point[0]) * step.scale[0]
        steps = abs(values[output] - expected) / step.scale[0]
        assert values[output].shape == expected.shape
        assert steps.mean() < 3, (output, steps.mean(), steps.max())
