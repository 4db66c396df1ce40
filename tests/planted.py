"""Networks with faults planted in them, for tests of diagnosis: run part by part, and some parts go wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from npmnv2.backends.integers import QuantizedBackend
from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.kernels import Geometry, conv, depthwise, quantized
from npmnv2.network.layers import Conv, Depthwise
from npmnv2.network.plan import IMAGE, batch_norm_name, parts_of
from npmnv2.weights.checkpoint import fold_batch_norms


def run(model, x, faults=None, weights=None, dtype=np.float32):
    """A trace of a model in which the parts of `faults` are computed by functions of (executable, part, inputs).

    A fault at a block's name is a function of the block's value and its input.
    """
    faults = faults or {}
    executable = NumpyExecutable(model.plan, fold_batch_norms(model.plan, weights or model.weights, dtype))
    values = {IMAGE: x.astype(dtype)}
    for node in model.plan.nodes:
        for part in parts_of(node):
            inputs = [values[name] for name in part.inputs]
            compute = faults.get(part.name, evaluate)
            values[part.name] = compute(executable, part, *inputs).astype(dtype)
        last = values[parts_of(node)[-1].name]
        changed = (
            faults[node.name](last, *(values[n] for n in node.inputs))
            if node.name in faults and len(parts_of(node)) > 1
            else last
        )
        values[node.name] = changed.astype(dtype)
    return values


def evaluate(executable, part, *inputs):
    return executable.compute(part, *inputs)


def with_layer(**changes):
    """A layer with other hyper-parameters."""
    return lambda executable, part, *inputs: evaluate(
        executable, part._replace(layer=replace(part.layer, **changes)), *inputs
    )


def with_kernel(change):
    """A layer with a changed kernel."""

    def compute(executable, part, *inputs):
        name = f"{part.name}/kernel"
        own = NumpyExecutable(executable.plan, {**executable.weights, name: change(executable.weights[name])})
        return evaluate(own, part, *inputs)

    return compute


def with_pads(down, across):
    """A window that begins pixels earlier."""

    def compute(executable, part, x):
        layer = part.layer
        assert isinstance(layer, Conv | Depthwise)
        stride, dilation, ((top, bottom), (left, right)) = layer.geometry(*x.shape[1:3])
        padded = np.pad(x, ((0, 0), (top + 2, bottom + 2), (left + 2, right + 2), (0, 0)))
        bottom_cut, right_cut = 2 + down, 2 + across
        moved = padded[:, 2 - down : padded.shape[1] - bottom_cut, 2 - across : padded.shape[2] - right_cut]
        kernel, bias = (executable.weights[f"{part.name}/{v}"] for v in ("kernel", "bias"))
        compute = depthwise if isinstance(layer, Depthwise) else conv
        return compute(
            np.ascontiguousarray(moved), kernel, bias, Geometry(stride, dilation, ((0, 0), (0, 0))), (0.0, 6.0)
        )

    return compute


def after(change):
    """A layer whose result is changed."""
    return lambda executable, part, *inputs: change(evaluate(executable, part, *inputs))


def with_batch_norm(model, layer, change):
    """A layer that is given other (kernel, bias), made of its own raw kernel and batch norm."""
    norm = batch_norm_name(layer)
    raw = model.weights[f"{layer}/kernel"].astype(np.float64)
    gamma, beta, mean, variance = (
        model.weights[f"{norm}/{v}"].astype(np.float64) for v in ("gamma", "beta", "moving_mean", "moving_variance")
    )

    def compute(executable, part, *inputs):
        kernel, bias = change(raw, gamma, beta, mean, variance)
        shape = executable.weights[f"{layer}/kernel"].shape
        kernel = kernel.reshape(raw.shape).reshape(shape).astype(np.float32)
        own = NumpyExecutable(
            executable.plan,
            {**executable.weights, f"{layer}/kernel": kernel, f"{layer}/bias": bias.astype(np.float32)},
        )
        return evaluate(own, part, *inputs)

    return compute


def run_integers(model, x, faults):
    """A trace of a quantized model, as real numbers; a fault is a function of (integers, part, its inputs)."""
    executable = QuantizedBackend(model.quantization).compile(model.plan, model.weights)
    values = {IMAGE: quantized.quantize(x, model.quantization.values[IMAGE])}
    for node in model.plan.nodes:
        for part in parts_of(node):
            inputs = [values[name] for name in part.inputs]
            value = executable.compute(part, *inputs)
            if part.name in faults:
                limits = model.quantization.values[part.name].limits
                value = np.clip(faults[part.name](value, part, inputs), *limits).astype(value.dtype)
            values[part.name] = value
        values[node.name] = values[part.name]
    return {name: quantized.dequantize(value, executable.values[name]) for name, value in values.items()}
