"""Faults that are planted in real networks are named at the right layer, and healthy runs are not accused."""

from __future__ import annotations

import numpy as np
import planted
import pytest

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification, load
from npmnv2.backends.integers import real_weights
from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.kernels import quantized
from npmnv2.lab.alignment import completed
from npmnv2.lab.diagnosis import FAULTS, diagnose, unexplained
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.lab.side_by_side import in_arithmetic
from npmnv2.network.plan import IMAGE

PHOTO = np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
PHOTO[20:90, 30:140, 0] //= 3


def model_of(**fields):
    config = MobileNetV2Config(**{"depth_multiplier": 0.35, "image_size": 96, "num_labels": 1001, **fields})
    weights = unit_gain_weights(MobileNetV2ForImageClassification.build(config), 5)
    return MobileNetV2ForImageClassification(config, weights, backend="numpy", dtype="float64")


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.fixture(scope="module")
def x(model):
    return model.prepare([PHOTO])


def found(model, x, faults, show=lambda name: name != IMAGE, photo=None, **options):
    values = planted.run(model, x, faults, **options)
    findings = diagnose(
        model, {name: value for name, value in values.items() if show(name)}, model.prepare([PHOTO]), photo=photo
    )
    assert {finding.fault for finding in findings} <= set(FAULTS)
    for finding in findings:
        assert finding.evidence["error_after"] <= finding.evidence["error_before"]
    return [(finding.fault, finding.layer) for finding in findings]


def places(model, seed, *endings, count=3):
    """Random layers of these kinds."""
    known = [part.name for part in model.plan.parts() if part.name.endswith(endings)]
    return [str(name) for name in np.random.default_rng(seed).choice(known, count, replace=False)]


WINDOWS = ("Conv1", "depthwise")
CONVOLUTIONS = ("Conv1", "Conv_1", "expand", "depthwise", "project")
STRIDED = ("Conv1", "block_1_depthwise", "block_3_depthwise", "block_6_depthwise", "block_13_depthwise")


def folded(scale_of):
    """Kernel and bias of a batch norm that is folded in another way."""

    def change(kernel, gamma, beta, mean, variance):
        scale, bias = scale_of(gamma, beta, mean, variance)
        return kernel * (scale[:, None] if kernel.shape[-1] == 1 and kernel.shape[0] == 3 else scale), bias

    return change


def _epsilon(gamma, beta, mean, variance):
    scale = gamma / np.sqrt(variance + 1e-5)
    return scale, beta - mean * scale


def _twice(gamma, beta, mean, variance):
    scale = gamma / np.sqrt(variance + 1e-3)
    return scale**2, scale * (beta - mean * scale) + beta - mean * scale


def _never(gamma, beta, mean, variance):
    return np.ones_like(gamma), np.zeros_like(beta)


def _drifted(gamma, beta, mean, variance):
    scale = gamma / np.sqrt(variance + 1e-3) * np.linspace(0.7, 1.4, len(gamma))
    return scale, beta - mean * scale + 0.1


# Fault, where it can be, and what it does there.
PLANTED = [
    ("padding", ("stride 2",), lambda model, layer: planted.with_layer(tf_padding=False)),
    ("padding", ("depthwise",), lambda model, layer: planted.with_pads(1, 0)),
    ("padding", ("depthwise",), lambda model, layer: planted.with_pads(-1, -1)),
    ("kernel_transposed", WINDOWS, lambda m, layer: planted.with_kernel(lambda k: k.swapaxes(0, 1))),
    ("kernel_flipped", WINDOWS, lambda m, layer: planted.with_kernel(lambda k: k[::-1, ::-1])),
    ("kernel_flipped", WINDOWS, lambda m, layer: planted.with_kernel(lambda k: k[:, ::-1])),
    ("activation", ("expand", "depthwise"), lambda m, layer: planted.with_layer(activation="linear")),
    ("activation", ("expand", "depthwise"), lambda m, layer: planted.with_layer(activation="hardswish")),
    ("activation", ("project",), lambda m, layer: planted.with_layer(activation="relu6")),
    ("epsilon", CONVOLUTIONS, lambda m, layer: planted.with_batch_norm(m, layer, folded(_epsilon))),
    ("batch_norm_twice", CONVOLUTIONS, lambda m, layer: planted.with_batch_norm(m, layer, folded(_twice))),
    ("batch_norm_missing", CONVOLUTIONS, lambda m, layer: planted.with_batch_norm(m, layer, folded(_never))),
    ("batch_norm_other", CONVOLUTIONS, lambda m, layer: planted.with_batch_norm(m, layer, folded(_drifted))),
    ("residual_missing", ("add",), lambda m, layer: lambda executable, part, a, b: a),
    ("residual_extra", ("add",), lambda m, layer: lambda executable, part, a, b: a + b + b),
    ("dilation", ("depthwise",), lambda m, layer: planted.with_layer(dilation=2, stride=1)),
    ("layout", CONVOLUTIONS, lambda m, layer: planted.after(lambda y: y.transpose(0, 3, 1, 2).reshape(y.shape))),
    ("layout", CONVOLUTIONS, lambda m, layer: planted.after(lambda y: y.swapaxes(1, 2))),
]


def sites(model, fault, where, seed):
    if where == ("stride 2",):
        return [str(name) for name in np.random.default_rng(seed).choice(STRIDED, 3, replace=False)]
    if fault == "dilation":  # not where the stride goes as well
        return [n for n in places(model, seed, *where, count=12) if n not in STRIDED][:3]
    return places(model, seed, *where)


@pytest.mark.parametrize(("number", "fault"), [(number, fault) for number, (fault, _, _) in enumerate(PLANTED)])
def test_planted_faults_are_named(model, x, number, fault) -> None:
    _, where, make = PLANTED[number]
    chosen = sites(model, fault, where, number)
    assert len(chosen) == 3
    for layer in chosen:
        assert found(model, x, {layer: make(model, layer)}) == [(fault, layer)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_block_that_adds_although_it_should_not(seed) -> None:
    """At 0.35 the stride of block 1 and 0.1's first block leave the channels as they are."""
    model = model_of(depth_multiplier=(0.1, 0.35, 0.5)[seed], num_labels=5)
    layer = ("expanded_conv", "block_1", "block_3")[seed]

    def add(value, source):
        return value + source[:, :: source.shape[1] // value.shape[1], :: source.shape[2] // value.shape[2]]

    assert found(model, model.prepare([PHOTO]), {layer: add}) == [("residual_extra", layer)]
    shown = {"show": lambda name: name not in (IMAGE, f"{layer}_project")}
    assert found(model, model.prepare([PHOTO]), {layer: add}, **shown) == [("residual_extra", layer)]


@pytest.mark.parametrize("stride", [8, 16])
def test_dilation_that_begins_a_block_early(stride) -> None:
    model = model_of(output_stride=stride, num_labels=5)
    wrong = {8: "block_6_depthwise", 16: "block_13_depthwise"}[stride]
    faults = {wrong: planted.with_layer(dilation=2)}
    assert found(model, model.prepare([PHOTO]), faults) == [("dilation", wrong)]
    late = {8: "block_7_depthwise", 16: "block_14_depthwise"}[stride]
    assert found(model, model.prepare([PHOTO]), {late: planted.with_layer(dilation=1)}) == [("dilation", late)]


@pytest.mark.parametrize("name", STRIDED[:3])
def test_a_stride_that_is_left_out(model, x, name) -> None:
    assert found(model, x, {name: planted.with_layer(stride=1)}) == [("stride", name)]


@pytest.mark.parametrize(
    "change",
    [lambda y: np.roll(y, 1, -1), lambda y: np.roll(y, -1, -1), lambda y: y[..., :-1]],
    ids=["up", "down", "last"],
)
def test_classes_shifted_by_one(model, x, change) -> None:
    assert found(model, x, {"predictions": planted.after(change)}) == [("class_shift", "predictions")]


def test_classes_without_background_and_probabilities_are_healthy(model, x) -> None:
    assert found(model, x, {"predictions": planted.after(lambda y: y[..., 1:])}) == []
    softmax = planted.after(lambda y: np.exp(y - y.max()) / np.exp(y - y.max()).sum())
    assert found(model, x, {"predictions": softmax}) == []


INPUTS = [
    (["channel_order"], lambda model, x: x[..., ::-1]),
    (["input_scale"], lambda model, x: (x + 1) / 2),
    (["input_scale"], lambda model, x: (x + 1) * 127.5),
    (["input_scale"], lambda model, x: x * 127.5 / 128 - 0.5 / 128),
    (["resize"], lambda model, x: model.prepare([PHOTO], "slim")),
    (["resize"], lambda model, x: model.prepare([PHOTO], "keras")),
    (["channel_order", "input_scale"], lambda model, x: (x[..., ::-1] + 1) / 2),
    (["resize", "channel_order"], lambda model, x: model.prepare([PHOTO], "slim")[..., ::-1]),
    (["layout"], lambda model, x: x.transpose(0, 3, 1, 2).reshape(x.shape)),
]


@pytest.mark.parametrize("shown", [True, False], ids=["input shown", "input hidden"])
@pytest.mark.parametrize(("faults", "change"), INPUTS)
def test_faults_of_the_input(model, x, faults, change, shown) -> None:
    """Also where only the first layer tells."""
    given = np.ascontiguousarray(change(model, x))
    assert found(model, given, {}, photo=PHOTO, show=lambda name: shown or name != IMAGE) == [
        (f, IMAGE) for f in faults
    ]


def test_a_resize_that_nobody_knows(model, x) -> None:
    blurred = (x + np.roll(x, 1, 1) + np.roll(x, 1, 2)) / 3
    assert found(model, blurred, {}, photo=PHOTO, show=lambda name: True) == [("resize", IMAGE)]


def test_several_faults_in_one_run(model, x) -> None:
    faults = {
        "Conv1": planted.with_layer(tf_padding=False),
        "block_3_project": planted.with_layer(activation="relu6"),
        "block_4_depthwise": planted.with_kernel(lambda k: k.swapaxes(0, 1)),
        "block_8_add": lambda executable, part, a, b: a,
        "predictions": planted.after(lambda y: np.roll(y, 1, -1)),
    }
    assert found(model, x, faults) == [
        ("padding", "Conv1"),
        ("activation", "block_3_project"),
        ("kernel_transposed", "block_4_depthwise"),
        ("residual_missing", "block_8_add"),
        ("class_shift", "predictions"),
    ]


@pytest.mark.parametrize(
    ("layer", "fault", "change"),
    [
        ("block_5_depthwise", "kernel_flipped", planted.with_kernel(lambda k: k[::-1, ::-1])),
        ("block_9_project", "activation", planted.with_layer(activation="relu6")),
        ("block_6_depthwise", "padding", planted.with_layer(tf_padding=False)),
    ],
)
def test_a_suspect_that_shows_only_its_blocks(model, x, layer, fault, change) -> None:
    """As transformers' hidden states do: the fault is found inside the stretch."""
    blocks = {node.name for node in model.plan.nodes}
    assert found(model, x, {layer: change}, show=lambda name: name in blocks) == [(fault, layer)]


def test_what_nothing_known_explains(model, x) -> None:
    values = planted.run(model, x, {"block_5_expand": planted.after(lambda y: np.sin(3 * y[..., ::-1]))})
    assert diagnose(model, values, x) == ()
    assert unexplained(model, values, x, ()) == ["block_5_expand"]
    assert unexplained(model, planted.run(model, x), x, ()) == []


@pytest.mark.slow
def test_real_weights(shared_data) -> None:
    """The ImageNet classifier at 96×96; its weights make it hard: small variances, dead channels."""
    path = shared_data / "weights" / "classification" / "mobilenet_v2_1.0_224_slim_variables.npz"
    model = load(path, dtype="float64", backend="numpy")
    x = model.prepare([PHOTO])[:, :96, :96]
    values = planted.run(model, x)
    assert diagnose(model, values, x) == ()
    for number, (fault, where, make) in enumerate(PLANTED):
        layer = sites(model, fault, where, 100 + number)[0]
        findings = diagnose(model, planted.run(model, x, {layer: make(model, layer)}), x)
        assert [(f.fault, f.layer) for f in findings] == [(fault, layer)]


# --- integers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quantized_pair():
    config = MobileNetV2Config(depth_multiplier=0.35, image_size=96, num_labels=101)
    weights = unit_gain_weights(MobileNetV2ForImageClassification.build(config))
    reference = MobileNetV2ForImageClassification(config, weights, backend="numpy")
    return reference, reference.quantize([PHOTO])


def _floor(model, q):
    real = {k: v.astype(float) for k, v in real_weights(model.plan, model.weights, model.quantization).items()}
    low, high = quantized.clip_range(q, "reference")
    meanings = completed(dict(model.quantization.values), model.plan)

    def change(value, part, inputs):
        maps = (quantized.dequantize(x, meanings[n]).astype(float) for x, n in zip(inputs, part.inputs))
        exact = NumpyExecutable(model.plan, real).compute(part, *maps)
        return np.clip(np.floor(exact / q.scale[0]) + q.zero_point, low, high)

    return change


def _gain(model, q):
    return lambda value, *_: np.rint((value - float(q.zero_point)) * 0.9) + q.zero_point


INTEGER_FAULTS = {
    "gain": ("quantization_scale", _gain),
    "zero point": ("quantization_scale", lambda model, q: lambda v, *_: v + 3.0),
    "floor": ("quantization_rounding", _floor),
}


@pytest.mark.parametrize("how", INTEGER_FAULTS)
def test_faults_of_integers(quantized_pair, how) -> None:
    model = quantized_pair[1]
    fault, make = INTEGER_FAULTS[how]
    x = model.prepare([PHOTO])
    for layer in ("Conv1", "block_5_expand", "block_9_project"):
        q = model.quantization.values[layer]
        values = planted.run_integers(model, x, {layer: make(model, q)})
        assert [(f.fault, f.layer) for f in diagnose(model, values, x)] == [(fault, layer)]


def test_arithmetics_and_the_float_network_are_healthy(quantized_pair) -> None:
    reference, model = quantized_pair
    x = model.prepare([PHOTO])
    for arithmetic in ("reference", "fakequant"):
        assert diagnose(model, in_arithmetic(model, arithmetic).trace(x), x) == ()
    assert diagnose(model, reference.trace(x), x) == ()
    scales = {name: q.scale[0] for name, q in model.quantization.values.items()}
    assert diagnose(reference, model.trace(x), x, scales=scales) == ()


def test_compiled_integers_are_judged_as_those_of_numpy(quantized_pair) -> None:
    model = quantized_pair[1]
    pytest.importorskip("numba")
    compiled = type(model).from_checkpoint(model.to_checkpoint(), processor=model.processor, backend="compiled")
    x = model.prepare([PHOTO])
    assert diagnose(compiled, in_arithmetic(model, "reference").trace(x), x) == ()
