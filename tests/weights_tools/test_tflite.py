"""TFLite: real files, and small ones that are made here."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from weight_files import assert_same_weights, folded, random_checkpoint, tflite_model

from npmnv2 import MobileNetV2ForImageClassification, WeightsError
from npmnv2.backends.selection import get_backend
from npmnv2.network.deeplab import segmenter
from npmnv2.weights.checkpoint import fold_batch_norms
from npmnv2.weights_tools import detect_format, inspect, read

litert = pytest.importorskip("ai_edge_litert.interpreter")


def archive(**files) -> bytes:
    """A zip archive as TFLite's metadata writer appends it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, text in files.items():
            made.writestr(f"{name}.txt", text)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def deeplab(shared_data: Path) -> Path:
    return shared_data / "weights" / "segmentation" / "deeplabv3.tflite"


@pytest.fixture(scope="module")
def interpreter(deeplab: Path):
    plain = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    made = litert.Interpreter(str(deeplab), experimental_preserve_all_tensors=True, experimental_op_resolver_type=plain)
    made.allocate_tensors()
    return made


def test_deeplab_says_what_it_is(deeplab: Path) -> None:
    found = read(deeplab)
    assert found.task == "segmentation"
    config = found.config
    assert (config.depth_multiplier, config.depth_divisible_by, config.min_depth) == (0.5, 1, 1)
    assert (config.output_stride, config.image_size, config.classes) == (8, 257, 21)
    assert (found.labels[0], found.labels[20], len(found.labels)) == ("background", "tv", 21)
    assert found.preprocessing == {"preset": "deeplab", "size": 257}
    assert inspect(deeplab)["batch_norm"] == "folded"


def test_deeplab_tensor_by_tensor(deeplab: Path, interpreter) -> None:
    weights = read(deeplab).weights
    numbers = {detail["name"]: detail["index"] for detail in interpreter.get_tensor_details()}
    assert len(weights) == 2 * 55
    for layer, scope in (
        ("Conv1", "MobilenetV2/Conv"),
        ("expanded_conv_depthwise", "MobilenetV2/expanded_conv/depthwise"),
        ("block_9_expand", "MobilenetV2/expanded_conv_9/expand"),
        ("block_16_project", "MobilenetV2/expanded_conv_16/project"),
        ("image_pooling", "image_pooling"),
        ("concat_projection", "concat_projection"),
        ("logits_semantic", "logits/semantic"),
    ):
        depthwise = layer.endswith("depthwise")
        kernel = interpreter.get_tensor(numbers[f"{scope}/{'depthwise_' if depthwise else ''}weights"])
        bias = interpreter.get_tensor(numbers[f"{scope}/{'depthwise' if depthwise else 'Conv2D'}_bias"])
        # (out, height, width, in) there; depthwise (1, height, width, channels).
        expected = kernel.transpose(1, 2, 3, 0)
        assert np.array_equal(weights[f"{layer}/kernel"], expected), layer
        assert np.array_equal(weights[f"{layer}/bias"], bias), layer


def test_deeplab_logits(deeplab: Path, interpreter) -> None:
    image = np.random.default_rng(0).uniform(-1, 1, (1, 257, 257, 3)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    numbers = {detail["name"]: detail["index"] for detail in interpreter.get_tensor_details()}
    expected = interpreter.get_tensor(numbers["logits/semantic/BiasAdd"])
    found = read(deeplab)
    plan = segmenter(found.config)
    run = get_backend("numpy").compile(plan, fold_batch_norms(plan, found.weights))
    logits = run(image, ("logits_semantic",))["logits_semantic"]
    assert logits.shape == expected.shape == (1, 33, 33, 21)
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_real_file_of_another_network_is_refused(shared_data: Path) -> None:
    path = shared_data / "weights" / "detection" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    with pytest.raises(WeightsError, match="not part of MobileNetV2") as caught:
        read(path)
    assert str(path) in str(caught.value)
    facts = inspect(path)
    assert (facts["format"], facts["readable"], facts["problem"]) == ("tflite", False, str(caught.value))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"output_stride": 8},
        {"output_stride": 16},
        {"first_layer_is_expansion": False},
        {"num_channels": 1},
        {"hidden_act": "relu"},
        {"width_rule": "slim"},
    ],
    ids=str,
)
def test_small_models_and_litert_agree(tmp_path: Path, fields) -> None:
    checkpoint = folded(random_checkpoint(**fields))
    data = tflite_model(checkpoint, channels=checkpoint.config.num_channels)
    (tmp_path / "model.tflite").write_bytes(data)
    found = read(tmp_path / "model.tflite")
    assert_same_weights(found.weights, checkpoint.weights)
    assert found.config.output_stride == checkpoint.config.output_stride
    assert found.config.hidden_act == checkpoint.config.hidden_act
    assert found.config.first_layer_is_expansion == checkpoint.config.first_layer_is_expansion
    image = np.random.default_rng(0).normal(size=(1, 64, 64, checkpoint.config.num_channels)).astype(np.float32)
    judge = litert.Interpreter(str(tmp_path / "model.tflite"))
    judge.allocate_tensors()
    judge.set_tensor(judge.get_input_details()[0]["index"], image)
    judge.invoke()
    expected = judge.get_tensor(judge.get_output_details()[0]["index"])
    model = MobileNetV2ForImageClassification.from_checkpoint(found, backend="numpy")
    assert np.abs(model(image.transpose(0, 3, 1, 2)).logits - expected).max() <= 1e-4 * np.abs(expected).max()


def test_float16_is_widened(tmp_path: Path) -> None:
    checkpoint = folded(random_checkpoint())
    (tmp_path / "model.tflite").write_bytes(tflite_model(checkpoint, dtype=np.float16))
    expected = {name: value.astype(np.float16).astype(np.float32) for name, value in checkpoint.weights.items()}
    assert_same_weights(read(tmp_path / "model.tflite").weights, expected)


@pytest.mark.parametrize(
    ("trailer", "labels"),
    [
        (b"", None),
        (archive(labels="cat\ndog\nbird\n"), ("cat", "dog", "bird")),
        (archive(readme="see labels", labels="cat\ndog\nbird"), ("cat", "dog", "bird")),
        (archive(labels="cat\ndog"), None),
        (archive(labels="cat\ndog\nbird")[:-30], None),
        (b"PK\x05\x06" + b"\0" * 18, None),
    ],
    ids=["none", "labels", "two files", "too few", "truncated", "empty archive"],
)
def test_labels_of_the_metadata(tmp_path: Path, trailer, labels) -> None:
    (tmp_path / "model.tflite").write_bytes(tflite_model(folded(random_checkpoint()), trailer=trailer))
    assert read(tmp_path / "model.tflite").labels == labels


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ([("MUL", 1 / 127.5), ("SUB", 1.0)], None),
        ([("MUL", 2 / 255), ("ADD", -1.0)], None),
        ([("SUB", 127.5), ("MUL", 1 / 127.5)], None),
        ([("MUL", 1 / 255)], "image times 0.00392157 plus 0"),
        ([("SUB", [104.0, 117.0, 123.0])], "SUB before layer Conv1"),
    ],
    ids=str,
)
def test_scaling_inside_the_graph(tmp_path: Path, before, message) -> None:
    checkpoint = folded(random_checkpoint())
    (tmp_path / "model.tflite").write_bytes(tflite_model(checkpoint, before=before))
    if message is None:
        assert_same_weights(read(tmp_path / "model.tflite").weights, checkpoint.weights)
    else:
        with pytest.raises(WeightsError, match=message):
            read(tmp_path / "model.tflite")


def test_network_without_residuals_is_refused(tmp_path: Path) -> None:
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tflite_model(folded(random_checkpoint()))))
    (graph,) = model.subgraphs
    names = [tensor.name.decode() for tensor in graph.tensors]
    number = names.index("block_2_add")
    for operator in graph.operators:
        operator.inputs = [names.index("block_2_project") if i == number else i for i in operator.inputs]
    graph.operators = [operator for operator in graph.operators if number not in operator.outputs]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (tmp_path / "model.tflite").write_bytes(bytes(builder.Output()))
    with pytest.raises(WeightsError, match=r"residual connections differ .* at block_2_project"):
        read(tmp_path / "model.tflite")


def test_network_without_padding_is_refused(tmp_path: Path) -> None:
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tflite_model(folded(random_checkpoint()))))
    (graph,) = model.subgraphs
    for operator in graph.operators:
        if operator.builtinOptionsType == schema.BuiltinOptions.Conv2DOptions:
            operator.builtinOptions.padding = schema.Padding.VALID
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (tmp_path / "model.tflite").write_bytes(bytes(builder.Output()))
    # All but the first are 1×1, where it makes no difference.
    with pytest.raises(WeightsError, match="layer Conv1 is not padded"):
        read(tmp_path / "model.tflite")


def test_another_network_is_refused(tmp_path: Path) -> None:
    checkpoint = folded(random_checkpoint())
    data = bytearray(tflite_model(checkpoint))
    (tmp_path / "model.tflite").write_bytes(data)
    assert detect_format(tmp_path / "model.tflite") == "tflite"
    wide = folded(random_checkpoint(depth_multiplier=0.05))
    kernel = wide.weights["block_5_project/kernel"]
    wide.weights["block_5_project/kernel"] = np.concatenate([kernel, kernel], -1)
    wide.weights["block_5_project/bias"] = np.concatenate([wide.weights["block_5_project/bias"]] * 2)
    (tmp_path / "model.tflite").write_bytes(tflite_model(wide))
    with pytest.raises(WeightsError, match=r"misshapen: .*block_5_project"):
        read(tmp_path / "model.tflite")
