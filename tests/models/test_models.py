"""The models: calls, outputs, files, prediction."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npmnv2 import (
    ImageError,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2ImageProcessor,
    MobileNetV2Model,
    WeightsError,
    load,
)
from npmnv2.models.base import MobileNetV2PreTrainedModel
from npmnv2.weights.native import write_h5

SMALL = MobileNetV2Config(depth_multiplier=0.35, image_size=64, num_labels=3, id2label={0: "cat", 1: "dog", 2: "owl"})


@pytest.fixture(scope="module", params=["numpy", "numba"])
def backend(request) -> str:
    if request.param == "numba":
        pytest.importorskip("numba")
    return request.param


@pytest.fixture(scope="module")
def model(backend: str) -> MobileNetV2ForImageClassification:
    # The default deviation of 0.02 lets the signal die out in an untrained network.
    return MobileNetV2ForImageClassification(SMALL.replace(initializer_range=0.3), seed=0, backend=backend)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[str]:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    paths = [str(folder / f"{i}.png") for i in range(5)]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (80 + i, 100, 3), np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (2, 3, 65, 33)).astype(np.float32)


# --- calls -----------------------------------------------------------------------------------------------------------


def test_outputs_by_attribute_key_and_position(model, pixels) -> None:
    output = model(pixels, output_hidden_states=True, labels=[0, 2])
    assert output.logits.shape == (2, 3)
    assert output["logits"] is output.logits is output[1]
    assert list(output) == output.keys() == ["loss", "logits", "hidden_states"]
    assert output.to_tuple() == output[:]
    assert len(output.hidden_states) == 16
    assert output.hidden_states[0].shape == (2, 8, 17, 9)
    assert output.hidden_states[-1].shape == (2, 112, 3, 2)
    assert "loss" not in model(pixels)
    logits, hidden = model(pixels, output_hidden_states=True, return_dict=False)
    np.testing.assert_array_equal(logits, output.logits)
    np.testing.assert_array_equal(hidden[5], output.hidden_states[5])


def test_backbone_outputs(model, pixels) -> None:
    body = MobileNetV2Model(
        SMALL, {k: v for k, v in model.weights.items() if "predictions" not in k}, backend=model.backend.name
    )
    output = body(pixels)
    assert output.last_hidden_state.shape == (2, 1280, 3, 2)
    np.testing.assert_allclose(output.pooler_output, output.last_hidden_state.mean((2, 3)), rtol=1e-5, atol=1e-6)
    last = body(pixels.transpose(0, 2, 3, 1), data_format="channels_last")
    np.testing.assert_array_equal(last.last_hidden_state, output.last_hidden_state.transpose(0, 2, 3, 1))


def test_chosen_hidden_states_stop_the_run(model, pixels) -> None:
    everything = model(pixels, output_hidden_states=True)
    chosen = model(pixels, output_hidden_states=[2, "layer_5", -14, "block_3_depthwise"])
    assert chosen.keys() == ["hidden_states"]
    assert [h.shape[1] for h in chosen.hidden_states] == [16, 16, 16, 48]
    np.testing.assert_array_equal(chosen.hidden_states[0], everything.hidden_states[2])
    np.testing.assert_array_equal(chosen.hidden_states[0], chosen.hidden_states[1])
    np.testing.assert_array_equal(chosen.hidden_states[0], chosen.hidden_states[2])
    ran = [timing.name for timing in model.executable.profile(pixels.transpose(0, 2, 3, 1), ["block_3"])]
    assert ran[-1].startswith("block_3")
    assert not any(name.startswith(("block_4", "Conv_1", "predictions")) for name in ran)


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ([16], ValueError, r"index \(=16\)"),
        (["block_99"], ValueError, "endpoint"),
        ("block_1", TypeError, "must be True"),
    ],
)
def test_impossible_hidden_states(model, pixels, wanted, error, message) -> None:
    with pytest.raises(error, match=message):
        model(pixels, output_hidden_states=wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: None, "pixel_values must be given"),
        (lambda x: x[0], "four dimensions"),
        (lambda x: x[:, :2], r"num_channels \(=3\)"),
        (lambda x: x[:, :, :31], "at least 32×32 pixels, got 31×33"),
        (lambda x: x.transpose(0, 2, 3, 1), "got .*; for channels last pass data_format='channels_last'"),
    ],
)
def test_impossible_pixel_values(model, pixels, change, message) -> None:
    with pytest.raises(ValueError, match=message):
        model(change(pixels))


def test_pixel_values_are_not_changed(model, pixels) -> None:
    before = pixels.copy()
    model(pixels)
    model(pixels.transpose(0, 2, 3, 1), data_format="channels_last")
    np.testing.assert_array_equal(pixels, before)


def test_results_belong_to_the_caller(model, pixels) -> None:
    """A later call must not write into what an earlier one returned."""
    first = model(pixels, output_hidden_states=True)
    kept = first.logits.copy(), first.hidden_states[3].copy()
    model(-pixels, output_hidden_states=True)
    np.testing.assert_array_equal(first.logits, kept[0])
    np.testing.assert_array_equal(first.hidden_states[3], kept[1])


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (97, 64), (224, 225)])
def test_float32_stays_near_float64(model, size) -> None:
    """float32 stays within 1e-4 of float64 of the same weights, relative to the largest logit."""
    x = np.random.default_rng(1).uniform(-1, 1, (1, *size, 3))
    exact = MobileNetV2ForImageClassification(model.config, model.weights, dtype="float64")
    reference = exact.run(x, ["predictions"])["predictions"]
    assert reference.dtype == np.float64
    comp = model.run(x, ["predictions"])["predictions"]
    assert comp.dtype == np.float32
    assert np.abs(comp - reference).max() <= 1e-4 * max(1, np.abs(reference).max())


def test_fixed_window_equals_global_pooling_at_its_size(model) -> None:
    x = np.random.default_rng(2).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    fixed = MobileNetV2ForImageClassification(
        model.config.replace(pooling_window=2), model.weights, backend=model.backend.name
    )
    np.testing.assert_allclose(
        fixed(x, data_format="channels_last").logits, model(x, data_format="channels_last").logits, rtol=1e-5, atol=1e-5
    )
    larger = np.random.default_rng(3).uniform(-1, 1, (1, 128, 96, 3)).astype(np.float32)
    logits = fixed(larger, data_format="channels_last").logits
    assert logits.shape == (1, 3, 2, 3)
    with pytest.raises(ValueError, match=r"pooling_window \(=2\) must not be larger than the feature map"):
        fixed(x[:, :32, :32], data_format="channels_last")


def test_other_activations() -> None:
    config = SMALL.replace(hidden_act="silu", initializer_range=0.3)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 40, 40)).astype(np.float32)
    by_name = MobileNetV2ForImageClassification(config, seed=0)
    by_function = MobileNetV2ForImageClassification(
        config.replace(hidden_act=lambda v: v / (1 + np.exp(-v))), by_name.weights
    )
    np.testing.assert_allclose(by_name(x).logits, by_function(x).logits, rtol=1e-4, atol=1e-5)


def test_random_weights_follow_the_seed() -> None:
    a, b, c = (MobileNetV2Model(SMALL, seed=s).weights["Conv1/kernel"] for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert abs(float(a.std()) - 0.02) < 0.004


def test_trace_holds_every_endpoint_in_order(model, pixels) -> None:
    trace = model.trace(pixels.transpose(0, 2, 3, 1))
    assert tuple(trace) == model.plan.endpoints
    np.testing.assert_array_equal(trace["block_2_add"], trace["block_2"])
    np.testing.assert_array_equal(
        trace["block_2"], model(pixels, output_hidden_states=[1]).hidden_states[0].transpose(0, 2, 3, 1)
    )


# --- files -----------------------------------------------------------------------------------------------------------


def test_save_and_load_directory(model, pixels, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["config.json", "model.h5", "preprocessor_config.json"]
    for again in (
        MobileNetV2ForImageClassification.from_pretrained(tmp_path / "m", backend=model.backend.name),
        load(tmp_path / "m", backend=model.backend.name),
        load(str(tmp_path / "m" / "model.h5"), backend=model.backend.name),
    ):
        np.testing.assert_array_equal(again(pixels).logits, model(pixels).logits)
        assert again.labels == ("cat", "dog", "owl")
        assert again.processor == model.processor
    body = MobileNetV2Model.from_pretrained(tmp_path / "m", backend=model.backend.name)
    assert body(pixels).pooler_output.shape == (2, 1280)


def test_wrong_task_and_wrong_labels(model, tmp_path: Path) -> None:
    body = MobileNetV2Model(SMALL, seed=0)
    write_h5(body.to_checkpoint(), tmp_path / "body.h5")
    with pytest.raises(WeightsError, match=r"body\.h5 must hold a classification model .* got features"):
        MobileNetV2ForImageClassification.from_pretrained(tmp_path / "body.h5")
    checkpoint = model.to_checkpoint()
    checkpoint.labels = tuple("abcd")
    write_h5(checkpoint, tmp_path / "labels.h5")
    with pytest.raises(WeightsError, match="labels must name each of the 3 classes of the model, got 4"):
        load(tmp_path / "labels.h5")


def test_messages_name_the_file_that_was_given(model, tmp_path: Path) -> None:
    checkpoint = model.to_checkpoint()
    checkpoint.source = {"file": "origin.npz"}
    write_h5(checkpoint, tmp_path / "mine.h5")
    with pytest.raises(WeightsError, match=r"mine\.h5 must hold a segmentation model .* got classification"):
        MobileNetV2ForSemanticSegmentation.from_pretrained(tmp_path / "mine.h5")


def test_a_classifier_without_classes_takes_a_file_of_features(tmp_path: Path, pixels) -> None:
    body = MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.35, image_size=64, num_labels=0), seed=0)
    write_h5(body.to_checkpoint(), tmp_path / "body.h5")
    model = MobileNetV2ForImageClassification.from_pretrained(tmp_path / "body.h5")
    np.testing.assert_array_equal(model(pixels).logits, body(pixels).pooler_output)


@pytest.mark.parametrize("item", [True, np.True_, 1.5, None, (1,)])
def test_hidden_states_are_indices_or_names(model, pixels, item) -> None:
    with pytest.raises(TypeError, match="must be an index or an endpoint's name"):
        model(pixels, output_hidden_states=[item])


def test_arguments_of_another_kind(model, photos) -> None:
    with pytest.raises(TypeError, match=r"endpoints \(='block_3'\) must be a list of names"):
        model.features(photos[0], endpoints="block_3")
    with pytest.raises(TypeError, match="images must be an image, a path or a list of them, got dict"):
        model.predict({photos[0]: 1})


@pytest.mark.parametrize("nothing", ["", None, 3])
def test_load_of_nothing(nothing) -> None:
    with pytest.raises(ValueError, match=r"name_or_path \(=.*\) must be a name, a file or a directory"):
        load(nothing)


def test_load_of_what_is_not_there(home: Path) -> None:
    with pytest.raises(FileNotFoundError, match="must be an existing file"):
        load("absent.h5")
    with pytest.raises(FileNotFoundError):
        load("./absent")
    with pytest.raises(ValueError, match=r"mobilenet_v2_1\.0_224"):
        load("mobilenet_v2_1.0_223")


def test_constructor_refuses_nonsense() -> None:
    for options, error, message in [
        ({"dtype": "float16"}, ValueError, r"dtype \(='float16'\)"),
        ({"backend": "cuda"}, ValueError, r"backend \(='cuda'\) must be one of auto, numba, numpy"),
        ({"backend": "numba", "dtype": "float64"}, ValueError, "must be float32 with backend='numba'"),
    ]:
        with pytest.raises(error, match=message):
            MobileNetV2Model(SMALL, seed=0, **options)
    with pytest.raises(TypeError, match="config must be a MobileNetV2Config, got dict"):
        MobileNetV2Model({})
    with pytest.raises(TypeError, match="abstract"):
        MobileNetV2PreTrainedModel(SMALL)


# --- photos ----------------------------------------------------------------------------------------------------------


def test_predict_one_list_and_iterator(model, photos) -> None:
    one = model.predict(photos[0])
    assert [c.index for c in one] == list(np.argsort(-one.logits, kind="stable"))
    assert one.top.label in ("cat", "dog", "owl")
    assert one.source == photos[0]
    assert sum(c.score for c in one) == pytest.approx(1, abs=1e-6)
    many = model.predict(photos, top_k=2, batch_size=2)
    assert [p.source for p in many] == photos
    assert all(len(p) == 2 for p in many)
    # NumPy's matrix product may round differently for another batch size; Numba's may not.
    np.testing.assert_allclose(many[0].logits, one.logits, rtol=1e-4, atol=1e-4)
    stream = model.predict(iter(photos), batch_size=3)
    assert iter(stream) is stream
    # The labels are compared where rounding cannot turn them: the logits of two classes lie further apart than that.
    margins = [np.diff(np.sort(p.logits)[-2:])[0] for p in many]
    assert min(margins) > 1e-3
    assert [p.top.label for p in stream] == [p.top.label for p in many]


def test_an_endless_iterator_is_read_no_further_than_a_batch(model, photos) -> None:
    taken = []

    def endless():
        for path in itertools.cycle(photos):
            taken.append(path)
            yield path

    stream = model.predict(endless(), batch_size=2)
    assert not taken
    next(stream)
    assert len(taken) == 2


def test_predict_takes_arrays_and_pillow(model, photos) -> None:
    image = Image.open(photos[0])
    array = np.asarray(image)
    reference = model.predict(photos[0]).logits
    np.testing.assert_array_equal(model.predict(image).logits, reference)
    np.testing.assert_array_equal(model.predict(array).logits, reference)
    np.testing.assert_allclose(model.predict(np.stack([array, array]))[1].logits, reference, rtol=1e-4, atol=1e-4)


def test_predict_refuses_nonsense(model, photos, tmp_path) -> None:
    for options, message in [({"top_k": 0}, "top_k"), ({"top_k": True}, "top_k"), ({"batch_size": 0}, "batch_size")]:
        with pytest.raises(ValueError, match=message):
            model.predict(photos[0], **options)
    with pytest.raises(TypeError, match="images must be an image"):
        model.predict(3)
    with pytest.raises(FileNotFoundError, match="absent"):
        model.predict(str(tmp_path / "absent.jpg"))
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"empty\.jpg"):
        model.predict(tmp_path / "empty.jpg")


def test_features(model, photos) -> None:
    vector = model.features(photos[0])
    assert vector.shape == (1280,)
    assert [v.shape for v in model.features(photos[:2])] == [(1280,)] * 2
    maps = model.features(photos[0], endpoints=["block_13_expand", "layer_2"])
    assert {name: value.shape[-1] for name, value in maps.items()} == {"block_13_expand": 192, "layer_2": 8}
    with pytest.raises(ValueError, match="endpoint"):
        model.features(photos[0], endpoints=["nothing"])


def test_images_of_different_sizes_without_a_resize(backend) -> None:
    raw = MobileNetV2ForImageClassification(
        SMALL, seed=0, backend=backend, processor=MobileNetV2ImageProcessor.preset("keras", 64)
    )
    raw.processor = MobileNetV2ImageProcessor(do_resize=False, do_center_crop=False)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, 40, 3), np.uint8) for h in (40, 40, 50)]
    results = raw.predict(images)
    for image, result in zip(images, results):
        np.testing.assert_allclose(raw.predict(image).logits, result.logits, rtol=1e-4, atol=1e-5)


def test_profile_prints_a_table(model, photos) -> None:
    profile = model.profile(photos[0])
    # The Numba backend runs the first convolution and the block after it as one.
    assert profile[0].name == {"numpy": "Conv1", "numba": "Conv1 + expanded_conv"}[model.backend.name]
    assert sum(t.multiply_adds for t in profile) == model.plan.multiply_adds(64)
    lines = str(profile).splitlines()
    assert lines[0].split() == ["layer", "ms", "GFLOP/s", "share"]
    assert lines[-1].startswith("total")


def test_real_photos(shared_data: Path, backend, tmp_path: Path) -> None:
    """Real weights name what is on real photos."""
    from npmnv2.weights_tools import convert

    source = shared_data / "weights/classification/mobilenet_v2_1.0_224_slim_variables.npz"
    convert(source, tmp_path / "m.h5")
    real = load(tmp_path / "m.h5", backend=backend)
    expected = {"cat.bmp": 286, "parrot.jpg": 89, "grace_hopper.bmp": 653, "sunflower.bmp": 986}
    found = {name: real.predict(shared_data / "photos" / name).top.index for name in expected}
    assert found == expected
    cat = real.predict(shared_data / "photos" / "cat.bmp").top
    assert (cat.wnid, cat.label) == ("n02124075", "Egyptian cat")
