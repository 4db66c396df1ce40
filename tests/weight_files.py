"""Small weight files in foreign formats, written by hand so that tests of the readers need no other
framework.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from npmnv2.weights_tools.crc32c import crc32c, masked
from npmnv2.weights_tools.names import slim_name, slim_scope, to_slim_layout, to_torch_layout, torchvision_name
from npmnv2.weights_tools.tensors import write_tensors

from npmnv2 import MobileNetV2Config
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.layers import Conv, Dense, Depthwise
from npmnv2.network.plan import BATCH_NORM_VARIABLES, batch_norm_name
from npmnv2.weights.assemble import plan_for
from npmnv2.weights.checkpoint import Checkpoint, fold_batch_norms, initialize
from npmnv2.weights.names import split

# 40,000 weights: small enough to be read thousands of times.
TINY = {"depth_multiplier": 0.05, "finegrained_output": False, "expand_ratio": 2}


def random_checkpoint(task="classification", seed=0, labels=None, **fields) -> Checkpoint:
    """Random weights with batch norms that are not neutral."""
    config = MobileNetV2Config(**{**TINY, "num_labels": 0 if task == "features" else 3, **fields})
    layers = {"classification": ["predictions/kernel"], "features": [], "segmentation": ["logits_semantic/kernel"]}
    layers["detection"] = ["BoxPredictor_0_ClassPredictor/kernel"]
    plan = plan_for(config, dict.fromkeys([*layers[task], "Conv_1/kernel"]))
    if labels is not None:
        config = config.replace(id2label=dict(enumerate(labels)))
    weights = unit_gain_weights(plan, seed)
    preprocessing = {"preset": "hf", "size": config.image_size}
    return Checkpoint(weights, task, config, labels, preprocessing, {"format": "test", "ema": False})


def noisy(plan, config, seed=0):
    """Random weights whose batch norms are not neutral, so that no part of them can be forgotten unnoticed."""
    rng = np.random.default_rng(seed)
    weights = initialize(plan, config, rng)
    for name, array in weights.items():
        if not name.endswith("/kernel"):
            spread = (
                rng.uniform(0.5, 1.5, array.shape)
                if "variance" in name or "gamma" in name
                else rng.normal(size=array.shape)
            )
            weights[name] = spread.astype(np.float32)
    return weights


def slim_variables(checkpoint: Checkpoint, detection=None) -> dict[str, np.ndarray]:
    """The checkpoint's weights under TF-slim's names and in its layouts; below FeatureExtractor for detection."""
    detection = checkpoint.task == "detection" if detection is None else detection
    return {
        slim_name(*split(name), detection): to_slim_layout(name, value) for name, value in checkpoint.weights.items()
    }


def assert_same_weights(found, expected) -> None:
    """Bit-equal, with nothing missing and nothing more."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == np.float32, name
        assert found[name].shape == value.shape, name
        assert np.array_equal(found[name], value), name


def folded(checkpoint: Checkpoint) -> Checkpoint:
    """The same network with its batch norms folded away, in canonical layout."""
    plan = plan_for(checkpoint.config, checkpoint.weights)
    shapes = plan.parameter_shapes()
    weights = {}
    for name, value in fold_batch_norms(plan, checkpoint.weights).items():
        weights[name] = value.reshape(shapes[name]) if name in shapes else value
    return Checkpoint(weights, checkpoint.task, checkpoint.config)


# --- protocol buffers ---------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value) -> bytes:
    """One field: integers as varints, bytes and text with their length, floats as four bytes."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else bytes(value)
    return varint(number << 3 | 2) + varint(len(data)) + data


def shape_message(shape) -> bytes:
    return b"".join(field(2, field(1, int(extent))) for extent in shape)


# --- TensorFlow checkpoints ---------------------------------------------------------------------------------


def block(entries, restart_every=16) -> bytes:
    """Entries with shared beginnings left out, as LevelDB writes them."""
    out, restarts, last = bytearray(), [], b""
    for index, (key, value) in enumerate(entries):
        shared = 0
        if index % restart_every:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        else:
            restarts.append(len(out))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(entries, kind=0, block_entries=64) -> bytes:
    """A LevelDB table of sorted entries."""
    out, index = bytearray(), []

    def append(contents: bytes) -> bytes:
        handle = varint(len(out)) + varint(len(contents))
        body = contents + bytes([kind])
        out.extend(body + struct.pack("<I", masked(crc32c(body))))
        return handle

    for at in range(0, len(entries), block_entries):
        part = entries[at : at + block_entries]
        index.append((part[-1][0], append(block(part))))
    footer = append(block([])) + append(block(index, restart_every=1))
    return bytes(out) + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def write_bundle(prefix: Path, variables: dict[str, np.ndarray], shards=1, kind=0) -> Path:
    """Write a TensorFlow checkpoint; returns its prefix."""
    data = [bytearray() for _ in range(shards)]
    header = field(1, shards) + field(3, field(1, 1))
    entries = [(b"", header)]
    for number, (name, value) in enumerate(sorted(variables.items())):
        dtype = {"float32": 1, "int64": 9, "float16": 19}[value.dtype.name]
        raw, shard = value.tobytes(), number % shards
        message = field(1, dtype) + field(2, shape_message(value.shape)) + field(3, shard)
        message += field(4, len(data[shard])) + field(5, len(raw))
        message += varint(6 << 3 | 5) + struct.pack("<I", masked(crc32c(raw)))
        entries.append((name.encode(), message))
        data[shard] += raw
    prefix.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{prefix}.index").write_bytes(table(entries, kind))
    for number, content in enumerate(data):
        Path(f"{prefix}.data-{number:05d}-of-{shards:05d}").write_bytes(content)
    return prefix


# --- frozen graphs ------------------------------------------------------------------------------------------


def node(name, kind, inputs=(), **attributes) -> bytes:
    """One node of a GraphDef, attributes as encoded AttrValues."""
    message = field(1, name) + field(2, kind) + b"".join(field(3, source) for source in inputs)
    return field(1, message + b"".join(field(5, field(1, k) + field(2, v)) for k, v in attributes.items()))


def constant(name, value) -> bytes:
    tensor = field(1, 1) + field(2, shape_message(value.shape)) + field(4, value.tobytes())
    return node(name, "Const", dtype=field(6, 1), value=field(8, tensor))


def frozen_graph(checkpoint: Checkpoint) -> bytes:
    """A GraphDef with TF-slim's names: what the reader needs of one, and an order that is the network's."""
    out = [node("input", "Placeholder", dtype=field(6, 1), shape=field(7, shape_message((1, 64, 64, 3))))]
    last = "input"
    plan = plan_for(checkpoint.config, checkpoint.weights)
    for part in plan.parts():
        layer = part.layer
        if not isinstance(layer, Conv | Dense | Depthwise):
            continue
        detection = checkpoint.task == "detection"
        scope, kernel = slim_scope(part.name, detection), slim_name(part.name, "kernel", detection)
        out.append(constant(kernel, to_slim_layout(f"{part.name}/kernel", checkpoint.weights[f"{part.name}/kernel"])))
        out.append(node(f"{kernel}/read", "Identity", [kernel]))
        kind = "DepthwiseConv2dNative" if isinstance(layer, Depthwise) else "Conv2D"
        stride = getattr(layer, "stride", 1)
        strides = field(1, b"".join(field(3, step) for step in (1, stride, stride, 1)))
        operation = f"{scope}/{'depthwise' if isinstance(layer, Depthwise) else 'Conv2D'}"
        out.append(node(operation, kind, [last, f"{kernel}/read"], strides=strides))
        if f"{part.name}/bias" in checkpoint.weights:
            out.append(constant(f"{scope}/biases", checkpoint.weights[f"{part.name}/bias"]))
            last = f"{scope}/BiasAdd"
            out.append(node(last, "BiasAdd", [operation, f"{scope}/biases"]))
            continue
        inputs = []
        for variable in BATCH_NORM_VARIABLES:
            value = checkpoint.weights[f"{batch_norm_name(part.name)}/{variable}"]
            inputs.append(f"{scope}/BatchNorm/{variable}")
            out.append(constant(inputs[-1], value))
        last = f"{scope}/BatchNorm/FusedBatchNorm"
        out.append(node(last, "FusedBatchNorm", [operation, *inputs], epsilon=field(4, float(layer.norm))))
    return b"".join(out)


# --- TensorFlow.js ------------------------------------------------------------------------------------------


def stored(value, kind) -> tuple[np.ndarray, dict]:
    """A weight as TensorFlow.js's converter stores it, and what the manifest says of that."""
    if kind == "float32":
        return value, {"dtype": "float32"}
    if kind == "float16":
        return value.astype(np.float16), {
            "dtype": "float32", "quantization": {"dtype": kind, "original_dtype": "float32"},
        }  # fmt: skip
    low, high = float(value.min()), float(value.max())
    scale = (high - low) / np.iinfo(kind).max or 1.0
    integers = np.rint((value - low) / scale).astype(kind)
    quantization = {"dtype": kind, "min": low, "scale": scale, "original_dtype": "float32"}
    return integers, {"dtype": "float32", "quantization": quantization}


def write_tfjs(folder: Path, topology: dict, weights: dict[str, np.ndarray], kind="float32", shards=2) -> Path:
    """Write a TensorFlow.js model; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    listed, data = [], b""
    for name, value in weights.items():
        array, said = stored(value, kind) if value.dtype == np.float32 else (value, {"dtype": value.dtype.name})
        listed.append({"name": name, "shape": list(value.shape), **said})
        data += array.tobytes()
    paths = [f"group1-shard{number}of{shards}.bin" for number in range(1, shards + 1)]
    size = -(-len(data) // shards)
    for number, path in enumerate(paths):
        (folder / path).write_bytes(data[number * size : (number + 1) * size])
    manifest = [{"paths": paths, "weights": listed}]
    model = {"format": "graph-model", "modelTopology": topology, "weightsManifest": manifest}
    (folder / "model.json").write_text(json.dumps(model))
    return folder


def tfjs_graph(folder: Path, checkpoint: Checkpoint, kind="float32", byte_lists=False) -> Path:
    """Write a graph model as the converter does: batch norms folded into the kernels of full convolutions, written out
    as factor and addend after depthwise ones, and left alone in SSD's predictors.
    """
    weights: dict[str, np.ndarray] = {}
    nodes = [{"name": "input", "op": "Placeholder", "attr": {"shape": {"shape": {"dim": [
        {"size": str(size)} for size in (1, 64, 64, 3)]}}}}]  # fmt: skip
    same = [83, 65, 77, 69] if byte_lists else "U0FNRQ=="

    def operation(name, kind, inputs, **attributes) -> str:
        nodes.append({"name": name, "op": kind, "input": inputs, "attr": {"padding": {"s": same}, **attributes}})
        return name

    def value(name, array) -> str:
        weights[name] = np.ascontiguousarray(array, np.float32)
        nodes.append({"name": name, "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}}})
        return name

    last, detection = "input", checkpoint.task == "detection"
    variables, flat = slim_variables(checkpoint), folded(checkpoint).weights
    for part in plan_for(checkpoint.config, checkpoint.weights).parts():
        layer = part.layer
        if not isinstance(layer, Conv | Dense | Depthwise):
            continue
        scope, kernel = slim_scope(part.name, detection), slim_name(part.name, "kernel", detection)
        stride = getattr(layer, "stride", 1)
        strides = {"list": {"i": ["1", str(stride), str(stride), "1"]}}
        depthwise = isinstance(layer, Depthwise)
        operator = "DepthwiseConv2dNative" if depthwise else "Conv2D"
        norm = f"{scope}/BatchNorm/FusedBatchNorm"
        if f"{part.name}/bias" in checkpoint.weights:
            last = operation(f"{scope}/Conv2D", operator, [last, value(kernel, variables[kernel])], strides=strides)
            last = operation(f"{scope}/BiasAdd", "BiasAdd", [last, value(f"{scope}/biases", flat[f"{part.name}/bias"])])
        elif depthwise and part.name.startswith("BoxPredictor"):
            last = operation(f"{scope}/depthwise", operator, [last, value(kernel, variables[kernel])], strides=strides)
            names = [f"{scope}/BatchNorm/{variable}" for variable in BATCH_NORM_VARIABLES]
            inputs = [last, *(value(name, variables[name]) for name in names)]
            last = operation(norm, "FusedBatchNormV3", inputs, epsilon={"f": layer.norm})
        elif depthwise:
            gamma, variance = (variables[f"{scope}/BatchNorm/{v}"] for v in ("gamma", "moving_variance"))
            last = operation(f"{scope}/depthwise", operator, [last, value(kernel, variables[kernel])], strides=strides)
            factor = value(f"{norm}/Scaled", gamma / np.sqrt(variance + layer.norm))
            last = operation(f"{norm}/Mul", "Mul", [last, factor])
            last = operation(norm, "Add", [last, value(f"{norm}/Offset", flat[f"{part.name}/bias"])])
        else:
            merged = value(f"{scope}/Conv2D/merged_input", flat[f"{part.name}/kernel"])
            last = operation(f"{norm}/Mul", operator, [last, merged], strides=strides)
            last = operation(norm, "Add", [last, value(f"{norm}/Offset", flat[f"{part.name}/bias"])])
    return write_tfjs(folder, {"node": nodes}, weights, kind)


def tfjs_layers(folder: Path, checkpoint: Checkpoint, kind="float32") -> Path:
    """Write a layers model, whose weights have Keras's names."""
    names = {name: name.replace("depthwise/kernel", "depthwise/depthwise_kernel") for name in checkpoint.weights}
    weights = {names[name]: value for name, value in checkpoint.weights.items()}
    layer = {"class_name": "InputLayer", "config": {"name": "input_1", "batch_input_shape": [None, 64, 64, 3]}}
    config = {"class_name": "Functional", "config": {"name": "m", "layers": [layer]}}
    return write_tfjs(folder, {"keras_version": "2.9.0", "model_config": config}, weights, kind)


# --- TFLite -------------------------------------------------------------------------------------------------


def tflite_model(checkpoint: Checkpoint, size=64, dtype=np.float32, trailer=b"", channels=3, before=()) -> bytes:
    """A TFLite classifier of a checkpoint with folded batch norms; needs ai-edge-litert for the schema."""
    import pytest

    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    plan = plan_for(checkpoint.config, checkpoint.weights)
    shapes = plan.shapes(size, size)
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.operatorCodes, model.subgraphs = 3, [schema.BufferT()], [], [graph]
    graph.tensors, graph.operators = [], []
    codes, numbers = {}, {}

    def tensor(name, shape, value=None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), 0, 0
        if value is not None:
            buffer = schema.BufferT()
            value = np.ascontiguousarray(value, dtype if np.asarray(value).dtype == np.float32 else None)
            buffer.data = np.frombuffer(value.tobytes(), np.uint8)
            made.type = {"float32": 0, "float16": 1, "int32": 2, "int8": 9}[value.dtype.name]
            made.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operator(kind, inputs, output, options_kind=None, **options) -> None:
        made, code = schema.OperatorT(), getattr(schema.BuiltinOperator, kind)
        if code not in codes:
            codes[code] = len(model.operatorCodes)
            entry = schema.OperatorCodeT()
            entry.builtinCode = entry.deprecatedBuiltinCode = code
            entry.version = 1
            model.operatorCodes.append(entry)
        made.opcodeIndex, made.inputs, made.outputs = codes[code], inputs, [output]
        if options_kind:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, options_kind)
            made.builtinOptions = getattr(schema, f"{options_kind}T")()
            for key, value in options.items():
                setattr(made.builtinOptions, key, value)
        graph.operators.append(made)

    numbers["image"] = tensor("input", (1, size, size, channels))
    first = numbers["image"]
    for kind, value in before:
        # Arithmetic on the image before the first convolution: operator and constant.
        arguments = [numbers["image"], tensor(kind, np.shape(value), np.array(value, np.float32))]
        numbers["image"] = tensor(f"{kind} of the image", (1, size, size, channels))
        operator(kind, arguments, numbers["image"], {"ADD": "AddOptions", "SUB": "SubOptions"}.get(kind, "MulOptions"))
    for part in plan.parts():
        layer, inputs = part.layer, [numbers[name] for name in part.inputs]
        output = tensor(part.name, (1, *shapes[part.name]))
        numbers[part.name] = output
        block = part.name.rpartition("_")[0]
        if part.name.endswith(("_project", "_add")):
            numbers[block] = output
        kernel = checkpoint.weights.get(f"{part.name}/kernel")
        if kernel is None:
            if len(inputs) == 2:
                operator("ADD", inputs, output, "AddOptions")
            else:
                axes = tensor(f"{part.name}/axes", (2,), np.array([1, 2], np.int32))
                operator("MEAN", [*inputs, axes], output, "ReducerOptions")
            continue
        value = checkpoint.weights[f"{part.name}/bias"]
        bias = tensor(f"{part.name}/bias", value.shape, value)
        value = kernel.T if isinstance(layer, Dense) else kernel.transpose(3, 0, 1, 2)
        arguments = [*inputs, tensor(f"{part.name}/kernel", value.shape, value), bias]
        if isinstance(layer, Dense):
            operator("FULLY_CONNECTED", arguments, output, "FullyConnectedOptions")
            continue
        name = "DEPTHWISE_CONV_2D" if isinstance(layer, Depthwise) else "CONV_2D"
        options = {"strideW": layer.stride, "strideH": layer.stride, "dilationWFactor": layer.dilation}
        options |= {
            "dilationHFactor": layer.dilation,
            "fusedActivationFunction": {"linear": 0, "relu": 1, "relu6": 3}[layer.activation],
        }
        if isinstance(layer, Depthwise):
            options["depthMultiplier"] = 1
        operator(name, arguments, output, {"CONV_2D": "Conv2DOptions"}.get(name, "DepthwiseConv2DOptions"), **options)
    graph.inputs, graph.outputs = [first], [output]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()) + trailer


def save_torchvision(path: Path, checkpoint) -> None:
    """The checkpoint as torchvision's state dict, step counters included."""
    tensors = {}
    for name, value in checkpoint.weights.items():
        key = torchvision_name(*split(name))
        tensors[key] = to_torch_layout(name, value)
        if key.endswith("running_var"):
            tensors[key.replace("running_var", "num_batches_tracked")] = np.array(9, np.int64)
    write_tensors(path, tensors)


def randomize(network) -> None:
    """Give the batch norms statistics that are not neutral."""
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "norm.bias", "normalization.bias")):
            value.normal_(0, 0.5)
        if name.endswith(("running_var", "normalization.weight")):
            value.uniform_(0.5, 1.5)
