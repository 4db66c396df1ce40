"""TensorFlow writes checkpoints, frozen graphs and SavedModels; the readers read them without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from npmnv2.weights_tools.crc32c import crc32c
from npmnv2.weights_tools.names import slim_name, slim_scope
from npmnv2.weights_tools.tf_checkpoint import Bundle
from PIL import Image
from weight_files import (
    assert_same_weights,
    folded,
    frozen_graph,
    random_checkpoint,
    slim_variables,
    write_bundle,
)

from npmnv2 import MobileNetV2ForImageClassification, WeightsError
from npmnv2.network.layers import Add, Conv, Dense, Depthwise
from npmnv2.weights.assemble import plan_for
from npmnv2.weights_tools import detect_format, inspect, read

tf = pytest.importorskip("tensorflow")
tf1 = tf.compat.v1


def tensorflow_graph(checkpoint, size, *, frozen):
    """A TF-slim MobileNetV2 in TensorFlow 1: the graph, its input, its logits, and a saver for its variables."""
    weights = slim_variables(checkpoint)
    graph = tf.Graph()

    def value(name):
        if frozen:
            return tf1.identity(tf1.constant(weights[name], name=name), name=f"{name}/read")
        return tf1.get_variable(name, initializer=weights[name], use_resource=False)

    with graph.as_default():
        results = {"image": tf1.placeholder(tf.float32, (1, size, size, 3), name="input")}
        for part in plan_for(checkpoint.config, checkpoint.weights).parts():
            layer, x = part.layer, results[part.inputs[0]]
            if isinstance(layer, Add):
                x = x + results[part.inputs[1]]
            elif isinstance(layer, Conv | Depthwise):
                kernel = value(slim_name(part.name, "kernel"))
                depthwise = isinstance(layer, Depthwise)
                name = f"{slim_scope(part.name)}/{'depthwise' if depthwise else 'Conv2D'}"
                convolve = tf1.nn.depthwise_conv2d if depthwise else tf1.nn.conv2d
                # depthwise_conv2d opens a scope of this name and repeats it, as slim's own graphs do.
                x = convolve(x, kernel, strides=[1, layer.stride, layer.stride, 1], padding="SAME", name=name)
                norm = [
                    value(slim_name(part.name, role)) for role in ("gamma", "beta", "moving_mean", "moving_variance")
                ]
                name = f"{slim_scope(part.name)}/BatchNorm/FusedBatchNorm"
                x = tf1.nn.fused_batch_norm(x, *norm, epsilon=layer.norm, is_training=False, name=name)[0]
                x = x if layer.activation == "linear" else tf.nn.relu6(x)
            elif isinstance(layer, Dense):
                kernel, bias = value(slim_name(part.name, "kernel")), value(slim_name(part.name, "bias"))
                x = tf1.nn.conv2d(x, kernel, padding="VALID", name=f"{slim_scope(part.name)}/Conv2D")
                x = tf1.squeeze(tf1.nn.bias_add(x, bias, name=f"{slim_scope(part.name)}/BiasAdd"), [1, 2])
            else:
                x = tf.reduce_mean(x, [1, 2], keepdims=True)
            results[part.name] = x
            results[part.name.rpartition("_")[0]] = x
        return graph, results["image"], x


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint(depth_multiplier=0.35, finegrained_output=True, expand_ratio=6, num_labels=5)


@pytest.fixture(scope="module")
def written(checkpoint, tmp_path_factory) -> Path:
    """A folder with a checkpoint (``model.ckpt``), a SavedModel and a frozen graph, all written by
    TensorFlow.
    """
    folder = tmp_path_factory.mktemp("tensorflow")
    graph, image, logits = tensorflow_graph(checkpoint, 96, frozen=False)
    with graph.as_default(), tf1.Session() as session:
        tf1.train.get_or_create_global_step()
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(folder / "model.ckpt"))
        tf1.saved_model.simple_save(session, str(folder / "saved"), {"image": image}, {"logits": logits})
    graph, _, _ = tensorflow_graph(checkpoint, 96, frozen=True)
    (folder / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    return folder


# --- checkpoints --------------------------------------------------------------------------------------------


def test_checkpoint(written: Path, checkpoint) -> None:
    found = read(written / "model.ckpt")
    assert found.task == "classification"
    assert found.config.depth_multiplier == 0.35
    assert found.config.classes == 5
    assert found.source["ema"] is False
    assert found.preprocessing["preset"] == "slim"
    assert_same_weights(found.weights, checkpoint.weights)


@pytest.mark.parametrize("name", ["model.ckpt", "model.ckpt.index", "model.ckpt.data-00000-of-00001", "."])
def test_every_name_of_a_checkpoint_means_it(written: Path, name, checkpoint) -> None:
    assert detect_format(written / name) == "tf-checkpoint"
    assert_same_weights(read(written / name).weights, checkpoint.weights)


def test_every_variable_is_what_tensorflow_reads(written: Path) -> None:
    judge = tf.train.load_checkpoint(str(written / "model.ckpt"))
    shapes = judge.get_variable_to_shape_map()
    with Bundle(written / "model.ckpt") as bundle:
        assert set(bundle.entries) == set(shapes)
        for name in shapes:
            assert np.array_equal(bundle.value(name), judge.get_tensor(name)), name


def test_our_own_bundle_writer_is_read_by_tensorflow(tmp_path: Path, checkpoint) -> None:
    # The tests of damaged files start from files of this writer: they have to be true ones.
    variables = slim_variables(checkpoint) | {"global_step": np.array(7, np.int64)}
    prefix = write_bundle(tmp_path / "model.ckpt", variables, shards=3)
    judge = tf.train.load_checkpoint(str(prefix))
    assert set(judge.get_variable_to_shape_map()) == set(variables)
    assert all(np.array_equal(judge.get_tensor(name), value) for name, value in variables.items())


def test_sharded_checkpoint_of_tensorflow(tmp_path: Path, checkpoint) -> None:
    variables = list(slim_variables(checkpoint).items())
    parts = []
    for number, part in enumerate((variables[::2], variables[1::2])):
        parts.append(str(tmp_path / f"part{number}"))
        names, values = zip(*part)
        tf.raw_ops.SaveV2(prefix=parts[-1], tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(tmp_path / "model.ckpt"))
    assert len(list(tmp_path.glob("*.data-*-of-00002"))) == 2
    assert_same_weights(read(tmp_path / "model.ckpt").weights, checkpoint.weights)
    (tmp_path / "model.ckpt.data-00001-of-00002").unlink()
    with pytest.raises(WeightsError, match="data-00001-of-00002: is missing"):
        read(tmp_path / "model.ckpt")


def averages(checkpoint, roles) -> dict[str, np.ndarray]:
    names = {name: value for name, value in slim_variables(checkpoint).items() if name.endswith(roles)}
    return {f"{name}/ExponentialMovingAverage": value + 1 for name, value in names.items()}


TRAINED = ("weights", "biases", "gamma", "beta")
STATISTICS = ("moving_mean", "moving_variance")


@pytest.mark.parametrize(
    ("roles", "averaged"),
    [((), ()), (TRAINED, TRAINED), (TRAINED + STATISTICS, TRAINED + STATISTICS), (STATISTICS, ())],
    ids=["none", "trained", "all", "statistics only"],
)
def test_averages_are_preferred(tmp_path: Path, roles, averaged) -> None:
    checkpoint = random_checkpoint()
    raw = slim_variables(checkpoint)
    slots = {f"{name}/RMSProp{n}": value for n in ("", "_1") for name, value in raw.items()}
    slots |= {"MobilenetV2/Conv/BatchNorm/moving_mean/biased": np.zeros(8, np.float32)}
    slots |= {f"{name}/Momentum": value for name, value in raw.items()} | {"global_step": np.array(1, np.int64)}
    write_bundle(tmp_path / "m.ckpt", raw | slots | (averages(checkpoint, roles) if roles else {}))
    found = read(tmp_path / "m.ckpt")
    assert found.source["ema"] is bool(averaged)
    assert inspect(tmp_path / "m.ckpt")["ema"] is bool(averaged)
    kinds = {"kernel": "weights", "bias": "biases"}
    expected = {}
    for name, value in checkpoint.weights.items():
        role = name.rpartition("/")[2]
        expected[name] = value + 1 if kinds.get(role, role) in averaged else value
    assert_same_weights(found.weights, expected)


def test_all_wrong_names_are_reported_at_once(tmp_path: Path) -> None:
    variables = slim_variables(random_checkpoint())
    del variables["MobilenetV2/Conv_1/BatchNorm/gamma"]
    variables["MobilenetV2/expanded_conv_17/expand/weights"] = np.zeros((1, 1, 8, 8), np.float32)
    variables["MobilenetV2/expanded_conv_3/project/weights"] = np.zeros((1, 1, 9, 8), np.float32)
    write_bundle(tmp_path / "m.ckpt", variables)
    with pytest.raises(WeightsError) as caught:
        read(tmp_path / "m.ckpt")
    for words in (
        "m.ckpt.index",
        "1 missing: Conv_1_bn/gamma",
        "1 unexpected: MobilenetV2/expanded_conv_17",
        "1 misshapen",
    ):
        assert words in str(caught.value)


def test_two_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    variables = slim_variables(random_checkpoint())
    variables |= slim_variables(random_checkpoint("features"), detection=True)
    write_bundle(tmp_path / "m.ckpt", variables)
    with pytest.raises(WeightsError, match=r"both 'FeatureExtractor/MobilenetV2/.* would be .*keep one model"):
        read(tmp_path / "m.ckpt")


def test_fake_quantization_without_ranges_is_refused(tmp_path: Path) -> None:
    variables = slim_variables(random_checkpoint())
    variables["MobilenetV2/Conv/weights_quant/min"] = np.zeros((), np.float32)
    write_bundle(tmp_path / "m.ckpt", variables)
    with pytest.raises(WeightsError, match=r"m\.ckpt\.index: lacks the ranges of .* Conv1, Conv1/kernel"):
        read(tmp_path / "m.ckpt")


def test_compressed_index_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "m.ckpt", slim_variables(random_checkpoint()), kind=1)
    with pytest.raises(WeightsError, match="compressed"):
        read(tmp_path / "m.ckpt")


def test_published_detectors_are_read_whole(shared_data: Path, tmp_path: Path) -> None:
    listed = shared_data.parent / "facts" / "dumps" / "ssdlite_mobilenet_v2_coco_2018_05_09.vars.txt"
    variables = {}
    for line in listed.read_text().splitlines():
        name, _, rest = line.partition(" [")
        shape = tuple(int(n) for n in rest.partition("]")[0].split(", ") if n)
        variables[name] = np.full(shape, len(name), np.int64 if "int64" in rest else np.float32)
    write_bundle(tmp_path / "model.ckpt", variables)
    found = read(tmp_path / "model.ckpt")
    assert (found.task, found.config.depth_multiplier) == ("detection", 1.0)
    assert len(found.weights) == 404
    assert (found.config.classes, found.preprocessing) == (91, {"preset": "ssd", "size": 300})
    assert found.weights["BoxPredictor_5_ClassPredictor/kernel"].shape == (1, 1, 128, 546)
    del variables["BoxPredictor_3/ClassPredictor/biases"], variables["FeatureExtractor/MobilenetV2/Conv/weights"]
    write_bundle(tmp_path / "model.ckpt", variables)
    with pytest.raises(WeightsError, match="Conv1"):
        read(tmp_path / "model.ckpt")


@pytest.mark.parametrize("fields", [{}, {"decoder": True}, {"atrous_rates": (6, 12, 18), "output_stride": 16}])
def test_deeplab_checkpoint(tmp_path: Path, fields) -> None:
    checkpoint = random_checkpoint("segmentation", **{"output_stride": 16, **fields})
    write_bundle(tmp_path / "model.ckpt", slim_variables(checkpoint))
    found = read(tmp_path / "model.ckpt")
    assert found.task == "segmentation"
    assert (found.config.decoder, found.config.atrous_rates, found.config.output_stride) == (
        checkpoint.config.decoder,
        checkpoint.config.atrous_rates,
        16,
    )
    assert found.preprocessing == {"preset": "deeplab", "size": 513}
    assert_same_weights(found.weights, checkpoint.weights)


@pytest.mark.parametrize("length", [0, 1, 9, 8191, 8192, 8193, 8195, 20_000, 65_537])
def test_checksum(length) -> None:
    data = np.random.default_rng(length).bytes(length)
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(data) == crc ^ 0xFFFFFFFF


# --- SavedModels and frozen graphs --------------------------------------------------------------------------


def test_saved_model_of_tensorflow_1(written: Path, checkpoint) -> None:
    assert detect_format(written / "saved") == detect_format(written / "saved" / "saved_model.pb") == "saved-model"
    assert_same_weights(read(written / "saved").weights, checkpoint.weights)
    assert_same_weights(read(written / "saved" / "saved_model.pb").weights, checkpoint.weights)


def test_frozen_graph(written: Path, checkpoint) -> None:
    found = read(written / "frozen.pb")
    assert detect_format(written / "frozen.pb") == "graph-def"
    assert (found.config.image_size, found.config.output_stride, found.config.layer_norm_eps) == (96, 32, 0.001)
    assert_same_weights(found.weights, checkpoint.weights)


@pytest.mark.parametrize("fold", [False, True])
def test_our_own_graph_writer_is_read_by_tensorflow(tmp_path: Path, fold) -> None:
    checkpoint = random_checkpoint()
    checkpoint = folded(checkpoint) if fold else checkpoint
    (tmp_path / "graph.pb").write_bytes(frozen_graph(checkpoint))
    judge = tf1.GraphDef.FromString((tmp_path / "graph.pb").read_bytes())
    kernel = next(node for node in judge.node if node.name == "MobilenetV2/Conv/weights")
    assert np.array_equal(tf.make_ndarray(kernel.attr["value"].tensor), checkpoint.weights["Conv1/kernel"])
    assert_same_weights(read(tmp_path / "graph.pb").weights, checkpoint.weights)


@pytest.mark.parametrize("fields", [{}, {"decoder": True}], ids=str)
def test_frozen_deeplab(tmp_path: Path, fields) -> None:
    checkpoint = random_checkpoint("segmentation", output_stride=8, **fields)
    (tmp_path / "graph.pb").write_bytes(frozen_graph(checkpoint))
    found = read(tmp_path / "graph.pb")
    assert (found.task, found.config.output_stride) == ("segmentation", 8)
    assert_same_weights(found.weights, checkpoint.weights)


@pytest.mark.parametrize(("pads", "tf_padding"), [((1, 1), False), ((0, 1), True)])
def test_frozen_graph_with_explicit_padding(tmp_path: Path, pads, tf_padding) -> None:
    graph = tf1.GraphDef.FromString(frozen_graph(random_checkpoint()))
    stem = next(node for node in graph.node if node.name == "MobilenetV2/Conv/Conv2D")
    stem.input[0] = "Pad"
    graph.node.add(name="Pad", op="Pad", input=["input", "paddings"])
    paddings = graph.node.add(name="paddings", op="Const")
    paddings.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.array([(0, 0), pads, pads, (0, 0)], np.int32)))
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    assert read(tmp_path / "graph.pb").config.tf_padding is tf_padding


def test_frozen_graph_with_fake_quantization_without_ranges_is_refused(tmp_path: Path) -> None:
    graph = tf1.GraphDef.FromString(frozen_graph(random_checkpoint()))
    for node in graph.node:
        if node.name == "MobilenetV2/Conv/weights/read":
            node.op = "FakeQuantWithMinMaxVars"
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(WeightsError, match=r"lacks the ranges of fake quantization"):
        read(tmp_path / "graph.pb")


def test_frozen_graph_with_equal_numbers_stated_once(tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    graph = tf1.GraphDef.FromString(frozen_graph(checkpoint))
    for node in graph.node:
        if node.name.endswith("Conv/BatchNorm/beta"):
            tensor = node.attr["value"].tensor
            tensor.tensor_content = b""
            tensor.float_val.extend([1.5, 0.25])
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    beta = read(tmp_path / "graph.pb").weights["bn_Conv1/beta"]
    assert beta.tolist() == [1.5, 0.25, *[0.25] * (len(beta) - 2)]


def test_unfrozen_graph_says_where_its_weights_are(written: Path, tmp_path: Path) -> None:
    graph = tf.Graph()
    with graph.as_default():
        tf1.get_variable("MobilenetV2/Conv/weights", shape=(3, 3, 3, 8), use_resource=False)
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(WeightsError, match="freeze it or read the checkpoint"):
        read(tmp_path / "graph.pb")


# --- the same logits ----------------------------------------------------------------------------------------


def test_logits_on_a_photo_are_tensorflows(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "weights" / "classification" / "mobilenet_v2_1.0_224_slim_variables.npz"
    original = read(source)
    photo = Image.open(shared_data / "photos" / "cat.bmp").convert("RGB").resize((224, 224))
    image = (np.asarray(photo, np.float32) / 127.5 - 1)[np.newaxis]
    graph, placeholder, logits = tensorflow_graph(original, 224, frozen=False)
    with graph.as_default(), tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
        tf1.saved_model.simple_save(session, str(tmp_path / "saved"), {"image": placeholder}, {"logits": logits})
        expected = session.run(logits, {placeholder: image})
    frozen, _, _ = tensorflow_graph(original, 224, frozen=True)
    (tmp_path / "frozen.pb").write_bytes(frozen.as_graph_def().SerializeToString())
    assert expected.argmax() == 286  # Egyptian cat
    for path in (source, tmp_path / "model.ckpt", tmp_path / "saved", tmp_path / "frozen.pb"):
        model = MobileNetV2ForImageClassification.from_checkpoint(read(path), backend="numpy")
        found = model(image.transpose(0, 3, 1, 2)).logits
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max(), path
