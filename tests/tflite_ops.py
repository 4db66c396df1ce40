"""Quantized TFLite files made by hand, and LiteRT's interpreters to run them: the outside judges of integer kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

ARITHMETICS = ("xnnpack", "reference")


class Tensor(NamedTuple):
    """What a file says of a tensor; `value` is None for one that is computed."""

    shape: tuple[int, ...]
    dtype: str
    scale: Any = None
    zero_point: Any = 0
    axis: int = 0
    value: Any = None


class Op(NamedTuple):
    """An operator between tensors, by their positions in the list; a custom one has bytes for options."""

    kind: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    options_kind: str | None = None
    options: Any = None


def tflite_file(tensors: Sequence[Tensor], ops: Sequence[Op], inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
    """The bytes of a TFLite file with one graph."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.operatorCodes, model.subgraphs = 3, [schema.BufferT()], [], [graph]
    graph.tensors = [_tensor(schema, model, number, tensor) for number, tensor in enumerate(tensors)]
    graph.operators = [_operator(schema, model, op) for op in ops]
    graph.inputs, graph.outputs = list(inputs), list(outputs)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(schema, model, number: int, tensor: Tensor) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.buffer = f"t{number}", list(tensor.shape), 0
    made.type = getattr(schema.TensorType, tensor.dtype.upper())
    if tensor.value is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.asarray(tensor.value, tensor.dtype).tobytes(), np.uint8)
        made.buffer = len(model.buffers)
        model.buffers.append(buffer)
    if tensor.scale is not None:
        made.quantization = schema.QuantizationParametersT()
        scales = np.atleast_1d(tensor.scale).astype(np.float32)
        made.quantization.scale = scales
        made.quantization.zeroPoint = np.broadcast_to(np.asarray(tensor.zero_point, np.int64), scales.shape)
        made.quantization.quantizedDimension = tensor.axis
    return made


def _operator(schema, model, op: Op) -> Any:
    made = schema.OperatorT()
    code = schema.OperatorCodeT()
    builtin = getattr(schema.BuiltinOperator, op.kind, schema.BuiltinOperator.CUSTOM)
    if builtin == schema.BuiltinOperator.CUSTOM:
        code.customCode, made.customOptions = op.kind, np.frombuffer(op.options, np.uint8)
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), _VERSIONS.get(op.kind, 1)
    made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes), list(op.inputs), list(op.outputs)
    model.operatorCodes.append(code)
    if op.options_kind:
        made.builtinOptionsType = getattr(schema.BuiltinOptions, op.options_kind)
        made.builtinOptions = getattr(schema, f"{op.options_kind}T")()
        for key, value in (op.options or {}).items():
            setattr(made.builtinOptions, key, value)
    return made


_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "ADD": 2, "MEAN": 2, "SOFTMAX": 2,
             "AVERAGE_POOL_2D": 2, "CONCATENATION": 2, "RESIZE_BILINEAR": 3, "QUANTIZE": 2, "DEQUANTIZE": 2,
             "ARG_MAX": 2, "PAD": 2, "LOGISTIC": 2}  # fmt: skip


def interpreter(content: bytes | str, arithmetic: str) -> Any:
    """LiteRT's interpreter for a file's content or path, with XNNPACK or with the reference kernels."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    resolver = {"xnnpack": litert.OpResolverType.AUTO, "reference": litert.OpResolverType.BUILTIN_REF}[arithmetic]
    source = {"model_content": content} if isinstance(content, bytes) else {"model_path": str(content)}
    made = litert.Interpreter(**source, num_threads=1, experimental_op_resolver_type=resolver)
    made.allocate_tensors()
    return made


def run(content: bytes | str, arithmetic: str, *values: Any) -> list[Any]:
    """All outputs of a file for these inputs."""
    made = interpreter(content, arithmetic)
    for detail, value in zip(made.get_input_details(), values):
        made.set_tensor(detail["index"], value)
    made.invoke()
    return [made.get_tensor(detail["index"]) for detail in made.get_output_details()]
