"""Ranges of quantization-aware training, in checkpoints and graphs, and TensorFlow's own run of such a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from npmnv2.weights_tools.names import slim_name, slim_scope, split
from quantized_networks import integer_image
from weight_files import random_checkpoint, slim_variables, write_bundle

import npmnv2
from npmnv2 import WeightsError
from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.kernels import TensorQuantization, quantized
from npmnv2.network.layers import Add, Conv, Dense, Depthwise, GlobalAveragePool
from npmnv2.network.plan import batch_norm_name
from npmnv2.network.quantization import value_parts
from npmnv2.weights.assemble import plan_for
from npmnv2.weights.checkpoint import fold_batch_norms
from npmnv2.weights_tools import read

IMAGE = TensorQuantization((1 / 128,), 128)


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint(image_size=64, width_rule="slim")


@pytest.fixture(scope="module")
def image():
    return quantized.dequantize(integer_image(IMAGE, (2, 64, 64, 3)), IMAGE)


@pytest.fixture(scope="module")
def ranges(checkpoint, image):
    """Of every layer's folded kernel and result, as training would have found them."""
    plan = plan_for(checkpoint.config, checkpoint.weights)
    folded = fold_batch_norms(plan, checkpoint.weights)
    parts = [part for part in plan.parts() if not isinstance(part.layer, GlobalAveragePool)]
    values = NumpyExecutable(plan, folded)(image, [part.name for part in parts])
    found = {name: (min(float(x.min()), 0.0), max(float(x.max()), 0.1)) for name, x in values.items()}
    kernels = {name: (min(float(x.min()), 0.0), max(float(x.max()), 0.1)) for name, x in folded.items()}
    return {**found, **{name: pair for name, pair in kernels.items() if name.endswith("/kernel")}}


def scope_of(name: str, residual: str = "post_activation_bypass_quant") -> str:
    """Scope of the FakeQuant operation of a kernel or value."""
    if name.endswith("/kernel"):
        return f"{slim_scope(split(name)[0])}/weights_quant"
    if name.endswith("_add"):
        return f"{slim_scope(name.replace('_add', '_project')).rpartition('/')[0]}/{residual}"
    return f"{slim_scope(name)}/act_quant"


def variables(checkpoint, ranges, **options):
    found = slim_variables(checkpoint)
    for name, pair in ranges.items():
        scope = scope_of(name, **options)
        for end, value in zip(("min", "max"), pair):
            found[f"{scope}/{end}"] = np.float32(value)
            found[f"{scope}/{end}/biased"] = np.float32(value)
            found[f"{scope}/{end}/local_step"] = np.float32(3)
    return found


@pytest.mark.parametrize("residual", ["post_activation_bypass_quant", "add_quant"])
def test_checkpoints_become_integers(tmp_path: Path, checkpoint, ranges, residual) -> None:
    write_bundle(tmp_path / "model.ckpt", variables(checkpoint, ranges, residual=residual))
    found = read(tmp_path / "model.ckpt.index")
    quantization = found.quantization
    assert quantization.arithmetic == "fakequant"
    for name, (low, high) in ranges.items():
        if name.endswith("/kernel"):
            q = quantization.kernels[split(name)[0]]
            assert q.scale[0] == pytest.approx((high - low) / 254, rel=1e-6)
            assert found.weights[name].min() >= 1
        else:
            assert quantization.values[name].scale[0] == pytest.approx((high - low) / 255, rel=1e-6), name
    assert quantization.values["image"] == IMAGE
    pool = quantization.values["global_average_pooling2d"]
    assert pool.scale == quantization.values["Conv_1"].scale


def test_all_arithmetics_run(tmp_path: Path, checkpoint, ranges, image) -> None:
    write_bundle(tmp_path / "model.ckpt", variables(checkpoint, ranges))
    logits = {}
    for arithmetic in (None, "fakequant", "xnnpack", "reference"):
        model = npmnv2.load(tmp_path / "model.ckpt.index", arithmetic=arithmetic)
        logits[arithmetic] = model.run(image, ["predictions"])["predictions"]
    assert np.array_equal(logits[None], logits["fakequant"])
    step = model.quantization.values["predictions"].scale[0]
    assert np.abs(logits["xnnpack"] - logits["fakequant"]).max() <= 8 * step


def test_missing_and_impossible_ranges_are_named(tmp_path: Path, checkpoint, ranges) -> None:
    some = {name: pair for name, pair in ranges.items() if name not in ("block_3_expand", "Conv1/kernel")}
    write_bundle(tmp_path / "some", variables(checkpoint, some))
    with pytest.raises(WeightsError, match=r"lacks the ranges of fake quantization of Conv1/kernel, block_3_expand"):
        read(tmp_path / "some.index")
    for number, pair in enumerate([(1.0, 2.0), (0.0, 0.0), (float("nan"), 1.0), (-1e38, 1e38)]):
        write_bundle(tmp_path / f"wrong{number}", variables(checkpoint, {**ranges, "block_3_expand": pair}))
        with pytest.raises(WeightsError, match="block_3_expand has the range"):
            read(tmp_path / f"wrong{number}.index")


def training_graph(tf, checkpoint, ranges) -> bytes:
    """A frozen graph as TensorFlow's quantizing rewriter leaves it for inference: folded, with FakeQuant."""
    plan = plan_for(checkpoint.config, checkpoint.weights)
    v1 = tf.compat.v1
    weights = checkpoint.weights

    def fake_quant(x, name, narrow=False):
        low, high = ranges[name]
        return tf.raw_ops.FakeQuantWithMinMaxVars(
            inputs=x, min=np.float32(low), max=np.float32(high), narrow_range=narrow, num_bits=8,
            name=f"{scope_of(name)}/FakeQuantWithMinMaxVars",
        )  # fmt: skip

    with tf.Graph().as_default() as graph:
        values = {"image": v1.placeholder(tf.float32, (None, 64, 64, 3), "input")}
        for part in value_parts(plan):
            layer, x = part.layer, values[part.inputs[0]]
            if isinstance(layer, GlobalAveragePool):
                values[part.name] = tf.reduce_mean(x, (1, 2), keepdims=True)
                continue
            if isinstance(layer, Add):
                values[part.name] = fake_quant(tf.add(x, values[part.inputs[1]]), part.name)
                continue
            assert isinstance(layer, Conv | Depthwise | Dense)
            scope = slim_scope(part.name)
            kernel = weights[f"{part.name}/kernel"]
            kernel = tf.constant(
                kernel[None, None] if kernel.ndim == 2 else kernel, name=slim_name(part.name, "kernel")
            )
            if f"{part.name}/bias" in weights:
                bias = tf.constant(weights[f"{part.name}/bias"], name=f"{scope}/biases")
            else:
                gamma, beta, mean, variance = (
                    tf.constant(
                        weights[f"{batch_norm_name(part.name)}/{variable}"], name=f"{scope}/BatchNorm/{variable}"
                    )
                    for variable in ("gamma", "beta", "moving_mean", "moving_variance")
                )
                scale = gamma * tf.math.rsqrt(variance + np.float32(layer.norm))
                wide = tf.reshape(scale, (1, 1, -1, 1)) if isinstance(layer, Depthwise) else scale
                kernel, bias = tf.multiply(kernel, wide, name=f"{scope}/mul_fold"), beta - mean * scale
            kernel = fake_quant(kernel, f"{part.name}/kernel", narrow=True)
            strides = (1, getattr(layer, "stride", 1), getattr(layer, "stride", 1), 1)
            convolve = tf.nn.depthwise_conv2d if isinstance(layer, Depthwise) else tf.nn.conv2d
            kind = "depthwise_Fold" if isinstance(layer, Depthwise) else "Conv2D_Fold"
            if isinstance(layer, Depthwise):
                y = tf.raw_ops.DepthwiseConv2dNative(
                    input=x, filter=kernel, strides=strides, padding="SAME", name=f"{scope}/{kind}"
                )
            else:
                y = convolve(x, kernel, strides, "SAME", name=f"{scope}/{kind}")
            y = tf.add(y, bias, name=f"{scope}/add_fold")
            if getattr(layer, "activation", "linear") == "relu6":
                y = tf.nn.relu6(y, name=f"{scope}/Relu6")
            values[part.name] = fake_quant(y, part.name)
        tf.squeeze(values["predictions"], (1, 2), name="output")
    return graph.as_graph_def().SerializeToString()


def test_graphs_run_as_tensorflow_runs_them(tmp_path: Path, checkpoint, ranges, image) -> None:
    tf = pytest.importorskip("tensorflow")
    (tmp_path / "model.pb").write_bytes(training_graph(tf, checkpoint, ranges))
    model = npmnv2.load(tmp_path / "model.pb")
    assert model.quantization.arithmetic == "fakequant"
    definition = tf.compat.v1.GraphDef.FromString((tmp_path / "model.pb").read_bytes())
    names = [part.name for part in model.plan.parts() if not isinstance(part.layer, GlobalAveragePool)]
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
        wanted = [f"{scope_of(name)}/FakeQuantWithMinMaxVars:0" for name in names]
        with tf.compat.v1.Session(graph=graph) as session:
            expected = dict(zip(names, session.run(wanted, {"input:0": image})))
    values = {"image": image, **expected}
    for part in value_parts(model.plan):
        if part.name not in expected:
            values[part.name] = model.executable.compute(part, *(values[name] for name in part.inputs))
            continue
        # Each layer on TensorFlow's own input, so that no difference is older than the layer.
        inputs = [values[name] for name in part.inputs]
        found = model.executable.compute(part, *inputs).reshape(expected[part.name].shape)
        quantization = model.quantization
        step = quantization.values[part.name].scale[0]
        steps = np.abs(found - expected[part.name]) / step
        assert steps.max() <= 1.01, part.name
        # Our bias is rounded to its unit, s_x · s_w, which moves at most half of that share of a step's numbers to the
        # next one; the order of a sum moves fewer.
        unit = 0.0
        if part.name in quantization.kernels:
            unit = quantization.values[part.inputs[0]].scale[0] * quantization.kernels[part.name].scale[0]
        assert np.count_nonzero(steps > 0.01) <= 3 + (unit / step + 1e-3) * steps.size, part.name
