"""Keras: files that it opens, and its SavedModels, checkpoints and frozen graphs read without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tflite_ops import run
from weight_files import assert_same_weights, folded, random_checkpoint

import npmnv2
from npmnv2 import MobileNetV2ForImageClassification, WeightsError
from npmnv2.weights_tools import convert, read, write_keras

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint(
        depth_multiplier=0.35, expand_ratio=6, finegrained_output=True, num_labels=5, image_size=96
    )


@pytest.fixture(scope="module")
def file(checkpoint, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "model.h5"
    write_keras(checkpoint, path)
    return path


@pytest.fixture(scope="module")
def model(file):
    """Keras's own network with the weights of `checkpoint`."""
    made = keras.applications.MobileNetV2(
        weights=None, alpha=0.35, input_shape=(96, 96, 3), classes=5, classifier_activation=None
    )
    made.load_weights(file)
    return made


@pytest.fixture
def photo(shared_data: Path) -> np.ndarray:
    image = Image.open(shared_data / "photos" / "cat.bmp").convert("RGB").resize((96, 96))
    return (np.asarray(image, np.float32) / 127.5 - 1)[np.newaxis]


def opened(path: Path):
    """A file opened by Keras, with logits instead of probabilities."""
    network = keras.models.load_model(path)
    network.layers[-1].activation = keras.activations.linear
    return network


def has_same_logits(path: Path, network, image) -> bool:
    """Whether what we read from a file computes what Keras's network computes."""
    ours = MobileNetV2ForImageClassification.from_checkpoint(read(path), backend="numpy")
    expected = network(image, training=False).numpy()
    return np.abs(ours(image.transpose(0, 3, 1, 2)).logits - expected).max() <= 1e-4 * np.abs(expected).max()


def test_load_weights_pairs_every_array(model, checkpoint) -> None:
    assert_same_weights({variable.path: value for variable, value in _variables(model)}, checkpoint.weights)


def _variables(model):
    return zip(model.weights, model.get_weights())


def test_load_model_opens_the_file(file: Path, model, photo) -> None:
    network = opened(file)
    assert np.array_equal(network(photo).numpy(), model(photo).numpy())
    # Unlike Keras's own network it pads by the size that comes, not by the one it was made for.
    assert network(np.zeros((1, 65, 97, 3), np.float32)).shape == (1, 5)


def test_features_file_has_no_top(tmp_path: Path) -> None:
    checkpoint = random_checkpoint("features", depth_multiplier=0.35, expand_ratio=6, finegrained_output=True)
    write_keras(checkpoint, tmp_path / "no_top.h5")
    made = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(96, 96, 3), include_top=False)
    made.load_weights(tmp_path / "no_top.h5")
    assert_same_weights({variable.path: value for variable, value in _variables(made)}, checkpoint.weights)
    assert keras.models.load_model(tmp_path / "no_top.h5").output_shape == (None, None, None, 1280)


@pytest.mark.parametrize(
    "fields",
    [{"tf_padding": False}, {"output_stride": 8}, {"first_layer_is_expansion": False}, {"num_channels": 1}],
    ids=str,
)
def test_unusual_networks_open_too(tmp_path: Path, fields) -> None:
    checkpoint = random_checkpoint(**{"depth_multiplier": 0.1, **fields})
    write_keras(checkpoint, tmp_path / "model.h5")
    image = np.random.default_rng(0).normal(size=(1, 64, 64, checkpoint.config.num_channels)).astype(np.float32)
    assert has_same_logits(tmp_path / "model.h5", opened(tmp_path / "model.h5"), image)


def test_folded_weights_open_too(tmp_path: Path, checkpoint, model, photo) -> None:
    write_keras(folded(checkpoint), tmp_path / "model.h5")
    expected = model(photo).numpy()
    assert np.abs(opened(tmp_path / "model.h5")(photo).numpy() - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("task", "fields", "words"),
    [("segmentation", {}, "no MobileNetV2 for segmentation"), ("classification", {"hidden_act": "silu"}, "hidden_act")],
)
def test_what_keras_does_not_have_is_refused(tmp_path: Path, task, fields, words) -> None:
    with pytest.raises(WeightsError, match=words):
        write_keras(random_checkpoint(task, **fields), tmp_path / "model.h5")
    assert not list(tmp_path.iterdir())


def test_what_keras_saves_is_read(tmp_path: Path, model, checkpoint, photo) -> None:
    model.save_weights(tmp_path / "model.weights.h5")
    tf.train.Checkpoint(model=model, optimizer=keras.optimizers.Adam()).write(str(tmp_path / "model.ckpt"))
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec((1, 96, 96, 3)))
    (tmp_path / "frozen.pb").write_bytes(_frozen(function).SerializeToString())
    for name in ("model.weights.h5", "model.ckpt", "frozen.pb"):
        found = read(tmp_path / name)
        assert_same_weights(found.weights, checkpoint.weights)
        assert found.preprocessing["preset"] == "keras", name
    assert read(tmp_path / "frozen.pb").config.image_size == 96
    assert has_same_logits(tmp_path / "frozen.pb", model, photo)


@pytest.mark.parametrize("alpha", [0.05, 0.14, 0.16, 0.25, 0.28, 0.56, 0.84, 1.12])
def test_unpublished_multipliers(tmp_path: Path, alpha) -> None:
    """Keras truncates the widths of blocks only, and adds the input of the first block where the widths agree."""
    made = keras.applications.MobileNetV2(
        weights=None, alpha=alpha, input_shape=(64, 64, 3), classes=3, classifier_activation=None
    )
    rng = np.random.default_rng(0)
    made.set_weights([rng.uniform(0.5, 1.5, w.shape) if w.ndim == 1 else w for w in made.get_weights()])
    made.save(tmp_path / "model.h5")
    made.save_weights(tmp_path / "model.weights.h5")
    tf.train.Checkpoint(model=made).write(str(tmp_path / "model.ckpt"))
    image = rng.normal(size=(1, 64, 64, 3)).astype(np.float32)
    for name in ("model.h5", "model.weights.h5", "model.ckpt"):
        assert has_same_logits(tmp_path / name, made, image), name


def _frozen(function):
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(function).graph.as_graph_def()


def test_fine_tuned_classifier_by_another_name(tmp_path: Path, model) -> None:
    base = keras.Model(model.input, model.layers[-2].output)
    tuned = keras.Sequential([base, keras.layers.Dropout(0.3), keras.layers.Dense(2, name="cats_or_dogs")])
    tuned.build((None, 96, 96, 3))
    tf.train.Checkpoint(tuned).write(str(tmp_path / "model.ckpt"))
    found = read(tmp_path / "model.ckpt")
    assert found.config.classes == 2
    assert np.array_equal(found.weights["predictions/kernel"], tuned.get_layer("cats_or_dogs").get_weights()[0])


@pytest.mark.slow
def test_saved_models_of_keras(tmp_path: Path, saved, model, checkpoint, photo) -> None:
    # The two differ in where they keep variables: under the layers, or in numbered lists.
    tf.saved_model.save(model, str(tmp_path / "saved"))
    for path in (tmp_path / "saved", Path(saved)):
        assert_same_weights(read(path).weights, checkpoint.weights)
        assert has_same_logits(path, model, photo)


# --- TFLite -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("tflite") / "saved")
    model.export(path, verbose=False)
    return path


@pytest.mark.slow
def test_tflite_of_a_keras_model(tmp_path: Path, saved, checkpoint, model, photo) -> None:
    (tmp_path / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(saved).convert())
    found = read(tmp_path / "model.tflite")
    assert (found.task, found.config.classes, found.config.image_size) == ("classification", 5, 96)
    assert (found.config.tf_padding, found.preprocessing["preset"]) == (True, "keras")
    expected = folded(checkpoint).weights
    assert set(found.weights) == set(expected)
    for name, value in expected.items():
        # The converter folds in float32, we in float64: two roundings of a product.
        assert np.allclose(found.weights[name], value, rtol=1e-5, atol=1e-6), name
    assert has_same_logits(tmp_path / "model.tflite", model, photo)


@pytest.mark.slow
def test_tflite_with_float16_weights(tmp_path: Path, saved, checkpoint) -> None:
    converter = tf.lite.TFLiteConverter.from_saved_model(saved)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    found = read(tmp_path / "model.tflite").weights
    for name, value in folded(checkpoint).weights.items():
        assert np.allclose(found[name], value, rtol=2**-10, atol=2**-14), name


@pytest.mark.slow
def test_tflite_with_integer_weights(tmp_path: Path, saved, checkpoint) -> None:
    converter = tf.lite.TFLiteConverter.from_saved_model(saved)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    found = read(tmp_path / "model.tflite")
    assert found.quantization is None
    for name, value in folded(checkpoint).weights.items():
        # Half a step of the largest weight's 127.
        assert np.abs(found.weights[name] - value).max() <= 0.51 * np.abs(value).max() / 127, name


@pytest.mark.slow
@pytest.mark.parametrize("interface", ["uint8", "float32"])
def test_wholly_quantized_tflite_runs_as_litert_runs_it(tmp_path: Path, saved, interface) -> None:
    rng = np.random.default_rng(0)
    converter = tf.lite.TFLiteConverter.from_saved_model(saved)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    images = [rng.uniform(-1, 1, (1, 96, 96, 3)).astype(np.float32) for _ in range(4)]
    converter.representative_dataset = lambda: ([image] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, interface)
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    x = rng.integers(0, 256, (1, 96, 96, 3), dtype=np.uint8) if interface == "uint8" else images[0]
    for arithmetic in ("xnnpack", "reference"):
        (expected,) = run(str(tmp_path / "model.tflite"), arithmetic, x)
        model = npmnv2.load(tmp_path / "model.tflite", arithmetic=arithmetic)
        np.testing.assert_array_equal(model.invoke(x), expected)


def test_keras_h5_from_the_command_line_route(tmp_path: Path, file: Path, checkpoint) -> None:
    convert(file, tmp_path / "again.h5", to="keras")
    made = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(96, 96, 3), classes=5)
    made.load_weights(tmp_path / "again.h5")
    assert_same_weights({variable.path: value for variable, value in _variables(made)}, checkpoint.weights)
