"""DeepLab's heads: shapes and counts that are published, and values against TensorFlow's operations."""

from __future__ import annotations

import json
import math

import numpy as np
import numpy.testing as npt
import pytest
from engines import BACKENDS
from hypothesis import given, settings
from hypothesis import strategies as st

from npmnv2 import MobileNetV2Config, MobileNetV2ForSemanticSegmentation, WeightsError, load
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.deeplab import IMAGE_POOL, LOGITS, PUBLISHED, DeepLabHead, segmenter

SMALL = MobileNetV2Config(depth_multiplier=0.35, output_stride=16, num_labels=7)

# name: multiply-adds of a photo of the trained size in units of 10⁶, trainable parameters, as published or counted in
# the published graphs.
COUNTS = {
    "deeplabv3_mnv2_pascal_train_aug": (2_740_709_056, 2_113_557),
    "deeplabv3_mnv2_pascal_trainval": (8_825_853_632, 2_113_557),
    "deeplabv3_mnv2_dm05_pascal_trainaug": (867_496_704, 697_013),
    "deeplabv3_mnv2_dm05_pascal_trainval": (2_818_640_640, 697_013),
}


def trainable(plan):
    return sum(math.prod(shape) for name, shape in plan.parameter_shapes().items() if "moving_" not in name)


@pytest.mark.parametrize("name", COUNTS)
def test_published_counts(name):
    plan = segmenter(PUBLISHED[name])
    assert (plan.multiply_adds(513), trainable(plan)) == COUNTS[name]


def test_cityscapes_count():
    # The model zoo says 21.27 billion for its 1025 × 2049 images, resizes included.
    assert segmenter(PUBLISHED["deeplabv3_mnv2_cityscapes_train"]).multiply_adds(1025, 2049) / 1e9 == pytest.approx(
        21.27, rel=5e-3
    )


def test_narrow_models_round_widths_to_one():
    shapes = segmenter(PUBLISHED["deeplabv3_mnv2_dm05_pascal_trainaug"]).shapes(513, 513)
    widths = [shapes["expanded_conv"][-1], *(shapes[f"block_{i}"][-1] for i in range(1, 17))]
    assert widths == [8, 12, 12, 16, 16, 16, 32, 32, 32, 32, 48, 48, 48, 80, 80, 80, 160]
    assert shapes["image_pooling"] == (1, 1, 256), "the head does not follow the multiplier"


@pytest.mark.parametrize(("stride", "side"), [(8, 65), (16, 33), (32, 17)])
def test_the_run_stops_at_the_last_block(stride, side):
    plan = segmenter(MobileNetV2Config(output_stride=stride, num_labels=21))
    assert "Conv_1" not in plan.endpoints
    assert "Conv_1/kernel" not in plan.parameter_shapes()
    assert "layer_19" not in plan.aliases
    assert plan.shapes(513, 513)[LOGITS] == (side, side, 21)


def test_names_are_those_of_the_variables():
    head = [name for name in segmenter(SMALL).parameter_shapes() if not name.startswith(("Conv1", "bn_", "exp", "bl"))]
    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    convs = ("image_pooling", "aspp0", "concat_projection")
    names = [f"{conv}{suffix}" for conv in convs for suffix in ("/kernel", *(f"_BN/{v}" for v in norm))]
    assert head == [*names, "logits_semantic/kernel", "logits_semantic/bias"]


def test_decoder_shapes():
    shapes = segmenter(MobileNetV2Config(output_stride=16, num_labels=151, decoder=True)).shapes(257, 513)
    assert shapes["concat_projection"] == (17, 33, 256)
    assert shapes["block_2_depthwise"] == (65, 129, 144)
    assert shapes["decoder_feature_projection0"] == (65, 129, 48)
    assert shapes["decoder_conv0_depthwise"] == (65, 129, 304)
    assert shapes[LOGITS] == (65, 129, 151)


def test_atrous_branches():
    plan = segmenter(SMALL.replace(atrous_rates=(6, 12, 18)))
    layers = {node.name: node.layer for node in plan.nodes}
    assert [layers[f"aspp{i}_depthwise"].dilation for i in (1, 2, 3)] == [6, 12, 18]
    assert plan.shapes(64, 64)["aspp_concat"][-1] == 5 * 256


@pytest.mark.parametrize("value", [-1, 0])
def test_a_head_needs_classes(value):
    with pytest.raises(ValueError, match="num_labels"):
        segmenter(MobileNetV2Config(num_labels=value))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"atrous_rates": 6}, TypeError),
        ({"atrous_rates": (6, 12, 18, 24)}, TypeError),
        ({"atrous_rates": (0,)}, ValueError),
        ({"atrous_rates": (1.5,)}, TypeError),
        ({"decoder": 1}, TypeError),
    ],
)
def test_impossible_configurations(fields, error):
    with pytest.raises(error, match=next(iter(fields))):
        MobileNetV2Config(**fields)


def test_configuration_in_json():
    config = SMALL.replace(atrous_rates=(6, 12), decoder=True)
    assert MobileNetV2Config.from_dict(json.loads(config.to_json_string())) == config
    assert not {"atrous_rates", "decoder"} & set(SMALL.to_dict()), "transformers does not know them"


# --- values -----------------------------------------------------------------------------------------------------------


def reference_head(tf, weights, head, features, low_level):
    """Logits by TensorFlow's own operations, batch norms not folded."""

    def conv(x, name, rate=1):
        kernel = weights[f"{name}/kernel"]
        if name.endswith("depthwise"):
            x = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME", dilations=[rate, rate])
        else:
            x = tf.nn.conv2d(x, kernel, 1, "SAME")
        scale, beta, mean, variance = (
            weights[f"{name}_BN/{v}"] for v in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return tf.nn.relu(tf.nn.batch_normalization(x, mean, variance, beta, scale, 1e-5))

    def resize(x, like):
        return tf.compat.v1.image.resize_bilinear(x, like.shape[1:3], align_corners=True)

    pooled = conv(tf.reduce_mean(features, [1, 2], keepdims=True), "image_pooling")
    branches = [resize(pooled, features), conv(features, "aspp0")]
    for i, rate in enumerate(head.atrous_rates, start=1):
        branches.append(conv(conv(features, f"aspp{i}_depthwise", rate), f"aspp{i}_pointwise"))
    x = conv(tf.concat(branches, 3), "concat_projection")
    if head.decoder:
        low_level = conv(low_level, "decoder_feature_projection0")
        x = tf.concat([resize(x, low_level), low_level], 3)
        for i in (0, 1):
            x = conv(conv(x, f"decoder_conv{i}_depthwise"), f"decoder_conv{i}_pointwise")
    return tf.nn.conv2d(x, weights["logits_semantic/kernel"], 1, "SAME") + weights["logits_semantic/bias"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"decoder": True},
        {"decoder": True, "output_stride": 8},
        {"decoder": True, "output_stride": 32, "atrous_rates": (1,)},
        {"atrous_rates": (6, 12, 18)},
        {"atrous_rates": (2, 3), "depth_multiplier": 0.5, "depth_divisible_by": 1, "min_depth": 1},
        {"decoder": True, "atrous_rates": (2,), "tf_padding": False},
    ],
    ids=lambda fields: ",".join(f"{k}={v}" for k, v in fields.items()) or "plain",
)
def test_head_against_tensorflow(backend, fields):
    tf = pytest.importorskip("tensorflow")
    config = SMALL.replace(**fields)
    plan = segmenter(config)
    weights = unit_gain_weights(plan)
    model = MobileNetV2ForSemanticSegmentation(config, weights, backend=backend)
    x = np.random.default_rng(1).uniform(-1, 1, (2, 97, 66, 3)).astype(np.float32)
    values = model.run(x, ("block_16", "block_2_depthwise", LOGITS))
    head = DeepLabHead.from_config(config)
    ref = reference_head(tf, weights, head, values["block_16"], values["block_2_depthwise"]).numpy()
    comp = values[LOGITS]
    assert comp.shape == ref.shape
    assert comp.dtype == np.float32
    assert ref.std(axis=(1, 2)).min() > 1e-2, "a dead network would agree, too"
    npt.assert_allclose(comp, ref, rtol=0, atol=1e-5 * np.abs(ref).max())


@pytest.mark.parametrize("fields", [{}, {"decoder": True, "atrous_rates": (2, 4)}], ids=["plain", "decoder"])
def test_both_backends_agree_with_double_precision(fields):
    config = SMALL.replace(**fields, output_stride=8)
    weights = unit_gain_weights(segmenter(config))
    x = np.random.default_rng(2).uniform(-1, 1, (1, 75, 50, 3)).astype(np.float32)
    exact = MobileNetV2ForSemanticSegmentation(config, weights, backend="numpy", dtype="float64").run(x, (LOGITS,))
    for backend in BACKENDS:
        comp = MobileNetV2ForSemanticSegmentation(config, weights, backend=backend).run(x, (LOGITS,))[LOGITS]
        npt.assert_allclose(comp, exact[LOGITS], rtol=0, atol=1e-5 * np.abs(exact[LOGITS]).max())


@pytest.mark.skipif("compiled" not in BACKENDS, reason="needs Numba")
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("fields", [{}, {"output_stride": 8, "decoder": True}, {"atrous_rates": (2,)}], ids=str)
def test_leaving_the_joined_map_out_changes_no_bit(fields, n_threads):
    """Image pooling goes into the projection as a bias, unless somebody wants to see what is projected."""
    config = SMALL.replace(**fields)
    model = MobileNetV2ForSemanticSegmentation(
        config, unit_gain_weights(segmenter(config)), backend="compiled", n_threads=n_threads
    )
    x = np.random.default_rng(4).uniform(-1, 1, (3, 65, 50, 3)).astype(np.float32)
    names = ("concat_projection", LOGITS)
    short = model.run(x, names)
    for extra in ("aspp_concat", "image_pooling_spread"):
        whole = model.run(x, (*names, extra))
        for name in names:
            npt.assert_array_equal(short[name], whole[name])
    steps = [timing.name for timing in model.executable.profile(x, (LOGITS,))]
    joined = "image_pooling_spread + aspp_concat + concat_projection"
    assert (joined in steps) == (not config.atrous_rates)


@pytest.mark.parametrize("size", [(65, 97), (129, 33)])
def test_the_coarser_map_is_part_of_the_denser_one(size):
    """With odd sides, dilation computes exactly what halving would have, and the pixels in between."""
    weights = unit_gain_weights(segmenter(SMALL))
    x = np.random.default_rng(3).uniform(-1, 1, (1, *size, 3)).astype(np.float32)
    dense, medium, coarse = (
        MobileNetV2ForSemanticSegmentation(SMALL.replace(output_stride=stride), weights, backend="numpy").run(
            x, ("block_16",)
        )["block_16"]
        for stride in (8, 16, 32)
    )
    npt.assert_allclose(dense[:, ::2, ::2], medium, rtol=0, atol=1e-5 * np.abs(medium).max())
    npt.assert_allclose(medium[:, ::2, ::2], coarse, rtol=0, atol=1e-5 * np.abs(medium).max())


@given(st.integers(32, 130), st.integers(32, 130), st.sampled_from([8, 16, 32]), st.booleans())
@settings(max_examples=40)
def test_logits_have_the_strides_resolution(height, width, stride, decoder):
    plan = segmenter(SMALL.replace(output_stride=stride, decoder=decoder))
    at = 4 if decoder else stride
    assert plan.shapes(height, width)[LOGITS] == (math.ceil(height / at), math.ceil(width / at), 7)


def test_embedding_is_the_pooled_last_block():
    model = MobileNetV2ForSemanticSegmentation(SMALL, unit_gain_weights(segmenter(SMALL)), backend="numpy")
    photo = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    pooled = model.features(photo)
    maps = model.features(photo, ["block_16", IMAGE_POOL])
    assert pooled.shape == maps["block_16"].shape[-1:]
    npt.assert_allclose(pooled, maps["block_16"].mean((0, 1)), atol=1e-5)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"decoder": True, "atrous_rates": (2, 4)}], ids=["plain", "decoder"])
def test_saved_and_loaded(tmp_path, fields):
    config = SMALL.replace(**fields, id2label=dict(enumerate("abcdefg")))
    model = MobileNetV2ForSemanticSegmentation(config, unit_gain_weights(segmenter(config)), backend="numpy")
    model.save_pretrained(tmp_path / "m")
    for path in (tmp_path / "m", tmp_path / "m" / "model.h5"):
        loaded = load(path, backend="numpy")
        assert type(loaded) is MobileNetV2ForSemanticSegmentation
        assert loaded.config == config
        assert loaded.labels == tuple("abcdefg")
        assert loaded.weights.keys() == model.weights.keys()
        for name, array in model.weights.items():
            npt.assert_array_equal(loaded.weights[name], array)


def test_the_last_convolution_of_a_file_is_left_alone():
    checkpoint = MobileNetV2ForSemanticSegmentation(SMALL, seed=0, backend="numpy").to_checkpoint()
    unused = {"Conv_1/kernel": np.zeros((1, 1, 112, 1280), np.float32), "Conv_1_bn/beta": np.zeros(1280, np.float32)}
    names = list(checkpoint.weights)
    checkpoint.weights = {**checkpoint.weights, **unused}
    assert list(MobileNetV2ForSemanticSegmentation.from_checkpoint(checkpoint, backend="numpy").weights) == names


def test_a_classification_file_is_refused(tmp_path):
    from npmnv2 import MobileNetV2ForImageClassification

    MobileNetV2ForImageClassification(SMALL, seed=0, backend="numpy").save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="got classification"):
        MobileNetV2ForSemanticSegmentation.from_pretrained(tmp_path)


def test_a_missing_decoder_is_named():
    weights = unit_gain_weights(segmenter(SMALL))
    with pytest.raises(WeightsError, match=r"25 missing: decoder_feature_projection0/kernel"):
        MobileNetV2ForSemanticSegmentation(SMALL.replace(decoder=True), weights)
