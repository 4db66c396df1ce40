"""What a quantized TFLite file may not be, named in the error; and weights alone in integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from npmnv2.weights_tools.tflite_writer import tflite_bytes
from quantized_networks import quantized_checkpoint
from weight_files import folded, random_checkpoint, tflite_model

from npmnv2 import WeightsError
from npmnv2.weights_tools import convert, read

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
flatbuffers = pytest.importorskip("flatbuffers")


@pytest.fixture(scope="module")
def quantized() -> bytes:
    return tflite_bytes(quantized_checkpoint("int8"))


@pytest.fixture(scope="module")
def segmenter() -> bytes:
    return tflite_bytes(quantized_checkpoint("uint8", task="segmentation", output_stride=16))


def edited(data: bytes, edit, path: Path) -> Path:
    """A file in which `edit(graph, tensors by name, model)` has changed something."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    (graph,) = model.subgraphs
    edit(graph, {tensor.name.decode(): tensor for tensor in graph.tensors}, model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def set_scale(name, *scale):
    def edit(graph, tensors, model) -> None:
        tensors[name].quantization.scale = np.array(scale, np.float32)
        tensors[name].quantization.zeroPoint = np.zeros(len(scale), np.int64)

    return edit


def set_zero_point(name, value, at=slice(None)):
    def edit(graph, tensors, model) -> None:
        zero_point = np.array(tensors[name].quantization.zeroPoint)
        zero_point[at] = value
        tensors[name].quantization.zeroPoint = zero_point

    return edit


def set_type(code, *names):
    def edit(graph, tensors, model) -> None:
        for name, tensor in tensors.items():
            if name in names or (not names and "/" not in name):
                tensor.type = code

    return edit


def set_operator(kind, other):
    def edit(graph, tensors, model) -> None:
        for code in model.operatorCodes:
            if code.builtinCode == getattr(schema.BuiltinOperator, kind):
                code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, other)

    return edit


def make_sparse(graph, tensors, model) -> None:
    tensors["Conv1/kernel"].sparsity = schema.SparsityParametersT()


def drop_scale(graph, tensors, model) -> None:
    tensors["block_3_expand"].quantization = None


def drop_bias(graph, tensors, model) -> None:
    graph.operators[0].inputs = list(graph.operators[0].inputs[:2])


def scales_along_another_axis(graph, tensors, model) -> None:
    tensors["block_3_depthwise/kernel"].quantization.quantizedDimension = 0


def map_without_a_shape(graph, tensors, model) -> None:
    tensors["Conv_1"].shape = []


def second_output(graph, tensors, model) -> None:
    graph.outputs = [*graph.outputs, 3]


def left_over(graph, tensors, model) -> None:
    spare = schema.OperatorT()
    spare.opcodeIndex = len(model.operatorCodes)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.TANH
    model.operatorCodes.append(code)
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = "spare", [1], 9, 0
    graph.tensors.append(tensor)
    # It reads a constant, so nothing of the network depends on it.
    spare.inputs, spare.outputs = [2], [len(graph.tensors) - 1]
    graph.operators.append(spare)


def large_bias(graph, tensors, model) -> None:
    buffer = model.buffers[tensors["Conv1/bias"].buffer]
    buffer.data = np.frombuffer(np.full(len(buffer.data) // 4, 2**31 - 9, np.int32).tobytes(), np.uint8)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (set_scale("block_3_expand", 0.0), "block_3_expand has the scale 0.0, scales must be finite and above 0"),
        (set_scale("block_3_expand", np.nan), "block_3_expand has the scale nan"),
        (set_scale("block_2_add", 1e38), "block_2_add has the scale 1e\\+38"),
        (set_scale("Conv1", 1e38), "Conv1 multiplies its sums by up to"),
        (set_scale("Conv1/kernel", *[0.1] * 5), "Conv1/kernel' of shape .* has 5 scales along axis 0"),
        (set_scale("Conv1/bias", 1.0), "the bias of Conv1 has a scale other than that of its input times its kernel's"),
        (set_zero_point("Conv1", 300), "Conv1 has the zero point 300, which int8 cannot hold"),
        (set_zero_point("Conv1/kernel", 3), "the kernel of Conv1 has the zero point 3, int8 kernels must have 0"),
        (set_zero_point("Conv1/kernel", 3, 0), "'Conv1/kernel' has a zero point per channel"),
        (set_type(7), "has int16 activations, only uint8 and int8 are supported"),
        (set_type(0, "block_3_expand"), "is quantized in part only, .* block_3_depthwise takes float32"),
        (set_operator("SOFTMAX", "TANH"), "is followed by operator 28, must be one of"),
        (set_operator("ADD", "SUB"), "SUB before layer block_3_expand is not part of MobileNetV2"),
        (make_sparse, "'Conv1/kernel' is sparse, which is not read"),
        (drop_scale, "'block_3_expand' has no scale"),
        (drop_bias, "Conv1 has no bias"),
        (scales_along_another_axis, "scales along axis 0"),
        (map_without_a_shape, r"'Conv_1' must be a map \(1, H, W, C\), has the shape \(\)"),
        (second_output, "has 1 inputs and 2 outputs, not one each"),
        (left_over, "has operators that are no part of a quantized MobileNetV2: operator 28"),
        (large_bias, r"the sums of Conv1 can reach \d+, beyond int32"),
    ],
)
def test_what_is_wrong_is_named(quantized, tmp_path: Path, edit, problem) -> None:
    path = edited(quantized, edit, tmp_path / "model.tflite")
    with pytest.raises(WeightsError, match=problem) as caught:
        read(path)
    assert str(path) in str(caught.value)


def pool_of_a_part(graph, tensors, model) -> None:
    (operator,) = (op for op in graph.operators if op.builtinOptionsType == schema.BuiltinOptions.Pool2DOptions)
    operator.builtinOptions.filterHeight = 2


def silent_change_of_scale(graph, tensors, model) -> None:
    """As TensorFlow's first converter did it."""
    resized = graph.tensors.index(tensors["image_pooling_spread/resized"])
    joined = graph.tensors.index(tensors["image_pooling_spread"])
    graph.operators = [op for op in graph.operators if list(op.inputs) != [resized]]
    for operator in graph.operators:
        operator.outputs = [joined if number == resized else number for number in operator.outputs]


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (pool_of_a_part, "image_pool pools over less than the whole map of"),
        (silent_change_of_scale, "a RESIZE_BILINEAR goes from the scale .* without a QUANTIZE"),
    ],
)
def test_what_is_wrong_in_a_head_is_named(segmenter, tmp_path: Path, edit, problem) -> None:
    with pytest.raises(WeightsError, match=problem):
        read(edited(segmenter, edit, tmp_path / "model.tflite"))


@pytest.mark.parametrize("per_channel", [False, True])
def test_weights_of_dynamic_range_models_are_widened(tmp_path: Path, per_channel) -> None:
    checkpoint = folded(random_checkpoint())
    integers: dict[str, np.ndarray] = {}

    def edit(graph, tensors, model) -> None:
        for name, tensor in tensors.items():
            if not name.endswith("/kernel"):
                continue
            buffer = model.buffers[tensor.buffer]
            kernel = np.frombuffer(np.asarray(buffer.data, np.uint8).tobytes(), np.float32).reshape(tensor.shape)
            axis = 3 if "depthwise" in name else 0
            others = tuple(at for at in range(kernel.ndim) if at != axis) if per_channel else None
            scale = np.abs(kernel).max(axis=others, keepdims=True).astype(np.float32) / np.float32(127)
            q = np.rint(kernel / scale).astype(np.int8)
            integers[name] = q * scale
            tensor.type, buffer.data = schema.TensorType.INT8, np.frombuffer(q.tobytes(), np.uint8)
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.quantizedDimension = scale.reshape(-1), axis
            tensor.quantization.zeroPoint = np.zeros(scale.size, np.int64)

    found = read(edited(tflite_model(checkpoint), edit, tmp_path / "model.tflite"))
    assert found.quantization is None
    assert len(integers) == sum(name.endswith("/kernel") for name in found.weights)
    for name, value in found.weights.items():
        if name.endswith("/kernel"):
            assert value.dtype == np.float32
            assert np.array_equal(np.sort(value.ravel()), np.sort(integers[name].ravel())), name
        else:
            assert np.array_equal(value, checkpoint.weights[name])


@pytest.mark.parametrize("target", ["model.npz", "directory"])
def test_only_native_files_hold_integers(quantized, tmp_path: Path, target) -> None:
    (tmp_path / "model.tflite").write_bytes(quantized)
    with pytest.raises(WeightsError, match=r"format \(='[a-z]+'\) must be native or tflite for a quantized network"):
        convert(tmp_path / "model.tflite", tmp_path / target)
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_native_files_keep_integers(tmp_path: Path, dtype) -> None:
    checkpoint = quantized_checkpoint(dtype)
    (tmp_path / "model.tflite").write_bytes(tflite_bytes(checkpoint))
    convert(tmp_path / "model.tflite", tmp_path / "model.h5")
    found = read(tmp_path / "model.h5")
    assert found.quantization == checkpoint.quantization
    for name, value in checkpoint.weights.items():
        assert found.weights[name].dtype == value.dtype
        assert np.array_equal(found.weights[name], value)
