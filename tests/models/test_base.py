"""What all models share: calls, hidden states, files, and models as objects."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from children import run_python
from networks import SMALL

from npmnv2 import (
    ArgumentError,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2Model,
    WeightsError,
    load,
)
from npmnv2.backends.integers import real_weights
from npmnv2.models.base import MobileNetV2PreTrainedModel
from npmnv2.weights.equalize import equalize
from npmnv2.weights.native import write_h5


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
        (lambda x: x[..., :3], "at least 32×32 pixels, got 65×3"),
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


@pytest.mark.parametrize("item", [True, np.True_, 1.5, None, (1,)])
def test_hidden_states_are_indices_or_names(model, pixels, item) -> None:
    with pytest.raises(TypeError, match="must be an index or an endpoint's name"):
        model(pixels, output_hidden_states=[item])


def test_arguments_of_another_kind(model, photos) -> None:
    with pytest.raises(TypeError, match=r"endpoints \(='block_3'\) must be a list of names"):
        model.features(photos[0], endpoints="block_3")
    with pytest.raises(TypeError, match="images must be an image, a path or a list of them, got dict"):
        model.predict({photos[0]: 1})


def test_constructor_refuses_nonsense() -> None:
    for options, error, message in [
        ({"dtype": "float16"}, ValueError, r"dtype \(='float16'\)"),
        ({"backend": "cuda"}, ValueError, r"backend \(='cuda'\) must be one of auto, compiled, numba, numpy"),
        ({"backend": "numba", "dtype": "float64"}, ValueError, "must be float32 with backend='numba'"),
    ]:
        with pytest.raises(error, match=message):
            MobileNetV2Model(SMALL, seed=0, **options)
    with pytest.raises(TypeError, match="config must be a MobileNetV2Config, got dict"):
        MobileNetV2Model({})
    with pytest.raises(TypeError, match="abstract"):
        MobileNetV2PreTrainedModel(SMALL)


def test_profile_prints_a_table(model, photos) -> None:
    profile = model.profile(photos[0])
    # The Numba backend runs the first convolution and the block after it as one.
    assert profile[0].name == {"numpy": "Conv1", "compiled": "Conv1 + expanded_conv"}[model.backend.name]
    assert sum(t.multiply_adds for t in profile) == model.plan.multiply_adds(64)
    lines = str(profile).splitlines()
    assert lines[0].split()[:4] == ["layer", "ms", "GFLOP/s", "share"]
    assert lines[-1].startswith("total")


# --- as objects ------------------------------------------------------------------------------------------------------


def logits_of(model: MobileNetV2ForImageClassification, x: np.ndarray) -> np.ndarray:
    return model(x).logits


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


def by_sklearn(model):
    return pytest.importorskip("sklearn.base").clone(model)


def by_joblib(model):
    joblib = pytest.importorskip("joblib")
    import io

    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("duplicate", [by_pickle, copy.deepcopy, copy.copy, by_sklearn, by_joblib])
def test_copies_give_the_same_bits(model, pixels, duplicate) -> None:
    reference = logits_of(model, pixels)
    again = duplicate(model)
    assert "executable" not in vars(again)
    assert type(again) is type(model)
    assert again.backend.name == model.backend.name
    assert again.processor == model.processor
    assert again.labels == model.labels
    assert again.plan == model.plan
    np.testing.assert_array_equal(logits_of(again, pixels), reference)
    np.testing.assert_array_equal(logits_of(model, pixels), reference)


def test_a_deep_copy_has_weights_of_its_own(model) -> None:
    again = copy.deepcopy(model)
    assert again.weights.keys() == model.weights.keys()
    assert not any(np.shares_memory(again.weights[name], model.weights[name]) for name in model.weights)


def test_other_processes_give_the_same_bits(backend, tmp_path: Path) -> None:
    run_python(
        f"""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import numpy as np
from networks import SMALL
from npmnv2 import MobileNetV2ForImageClassification

if __name__ == "__main__":
    model = MobileNetV2ForImageClassification(SMALL, seed=0, backend={backend!r})
    photos = [np.full((80, 100, 3), shade, np.uint8) for shade in (50, 200)]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for photo, result in zip(photos, pool.map(model.predict, photos)):
            np.testing.assert_array_equal(result.logits, model.predict(photo).logits)
""",
        tmp_path,
    )


def test_a_pickle_holds_no_folder(model, tmp_path: Path) -> None:
    (tmp_path / "private_folder").mkdir()
    file = tmp_path / "private_folder" / "m.h5"
    write_h5(model.to_checkpoint(), file)
    loaded = load(file, task="classification", backend=model.backend.name)
    loaded.source["file"] = str(file)
    content = pickle.dumps(loaded)
    assert b"private_folder" not in content
    assert pickle.loads(content).source["file"] == "m.h5"
    assert loaded.source["file"] == str(file), "the model itself keeps it"


def test_a_pickle_of_auto_takes_the_backend_that_is_there(monkeypatch) -> None:
    content = pickle.dumps(MobileNetV2Model(SMALL, seed=0))
    monkeypatch.setattr("npmnv2.backends.selection.get_backend", lambda *_: pytest.fail("looked up elsewhere"))
    asked = []
    monkeypatch.setattr("npmnv2.models.base.get_backend", lambda *options: asked.append(options))
    pickle.loads(content)
    assert asked == [("auto", np.float32, "float32")]


@pytest.mark.parametrize("duplicate", [by_pickle, copy.deepcopy, by_sklearn, by_joblib])
def test_copies_compute_in_bfloat16_as_their_original(duplicate) -> None:
    model = MobileNetV2ForImageClassification(SMALL, seed=0, backend="numpy", precision="bf16")
    again = duplicate(model)
    assert (again.precision, again.number_type) == ("bf16", "bf16")
    assert type(again.backend) is type(model.backend)
    assert "bf16>" in repr(again)


def test_a_pickle_of_bfloat16_is_refused_where_no_processor_multiplies_it(monkeypatch) -> None:
    """Rather than computed in another precision."""
    model = MobileNetV2ForImageClassification(SMALL, seed=0, backend="numpy", precision="bf16")
    model._wanted_backend = ("auto", None)
    content = pickle.dumps(model)
    monkeypatch.setattr("npmnv2.backends.selection.find_bfloat16_engine", lambda _: None)
    with pytest.raises(ArgumentError, match="needs an x86 processor with AVX-512 BF16"):
        pickle.loads(content)


def test_reprs_are_short(model) -> None:
    assert repr(model) == (
        "<MobileNetV2ForImageClassification: multiplier 0.35, image size 64, 3 classes, "
        f"0.4 M weights, {model.backend.name}, float32>"
    )
    assert repr(model.processor) == "MobileNetV2ImageProcessor.preset('hf', (64, 64))"
    big = MobileNetV2Model(MobileNetV2Config(num_labels=1001), seed=0, dtype="float64")
    assert repr(big) == "<MobileNetV2Model: multiplier 1, image size 224, 2.3 M weights, numpy, float64>"


def test_summary_is_the_table_of_the_plan(model) -> None:
    lines = model.summary().splitlines()
    assert lines[1].split()[:2] == ["Conv1", "32×32×16"]
    assert lines[-1].split()[-1] == f"{model.plan.multiply_adds(64):,}"
    assert model.summary(96, 64).splitlines()[1].split()[1] == "48×32×16"


def test_dir_lists_public_names(model) -> None:
    names = [name for name in dir(model) if not name.startswith("__")]
    assert {"predict", "features", "summary", "config", "weights", "run"} <= set(names)
    assert not [name for name in names if name.startswith("_")]


# --- arguments at the door -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [-1, 0, 10**9])
def test_impossible_numbers_of_threads(n_threads) -> None:
    with pytest.raises(ValueError, match=rf"n_threads \(={n_threads}\)"):
        MobileNetV2Model(SMALL, seed=0, n_threads=n_threads)


@pytest.mark.parametrize("dtype", ["float16", int, "nonsense", object()])
def test_impossible_dtypes(dtype) -> None:
    with pytest.raises(ValueError, match=r"dtype \(=.*\) must be one of float32, float64"):
        MobileNetV2Model(SMALL, seed=0, dtype=dtype)


def test_weights_are_checked_once_and_by_their_name(model, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr("npmnv2.models.base.check_weights", lambda plan, weights, where: calls.append(where))
    type(model).from_checkpoint(model.to_checkpoint(), "mine.h5")
    assert calls == ["mine.h5"]
    type(model)(model.config, model.weights)
    assert calls == ["mine.h5", "weights"]


@pytest.mark.parametrize(
    ("name", "value"), [("Conv1/kernel", np.nan), ("Conv1/kernel", np.inf), ("bn_Conv1/moving_variance", -1.0)]
)
def test_weights_that_give_no_numbers(model, name, value) -> None:
    """Found before anything is predicted, in a file and in the constructor."""
    weights = {key: array.copy() for key, array in model.weights.items()}
    weights[name].flat[0] = value
    with pytest.raises(WeightsError, match=name):
        type(model)(model.config, weights)
    checkpoint = model.to_checkpoint()
    checkpoint.weights = weights
    with pytest.raises(WeightsError, match=r"mine\.h5.*"):
        type(model).from_checkpoint(checkpoint, "mine.h5")


@pytest.mark.parametrize("quantized", [False, True])
def test_folded_weights_are_real_numbers_for_every_layer(quantized) -> None:
    model = MobileNetV2ForImageClassification(SMALL, seed=0, backend="numpy")
    folded = dict(model.folded_weights())
    if quantized:
        photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        again = dict(model.quantize([photo], correct_biases=False).folded_weights())
        assert set(again) == set(folded)
        for name, value in folded.items():
            assert again[name].shape == value.shape
            assert np.abs(again[name] - value).max() <= np.abs(value).max() / 100, name
        return
    assert folded["block_1_depthwise/kernel"].shape[:2] == (3, 3)
    assert folded["block_1_expand/kernel"].ndim == 2


def test_folded_weights_are_those_before_equalization() -> None:
    model = MobileNetV2ForImageClassification(SMALL, seed=0, backend="numpy")
    # Channels of very different sizes, which equalization evens out.
    gamma = model.weights["block_1_expand_BN/gamma"]
    model.weights["block_1_expand_BN/gamma"] = gamma * np.exp2(np.arange(gamma.size) % 9 - 4).astype(np.float32)
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    quantized = model.quantize([photo], equalize=True, correct_biases=False)
    assert "block_1_expand" in quantized.quantization.exponents
    again = dict(quantized.folded_weights())
    exponents = {name: np.array(found) for name, found in quantized.quantization.exponents.items()}
    stored = real_weights(quantized.plan, quantized.weights, quantized.quantization)
    evened = equalize(quantized.plan, again, exponents)
    for name, value in evened.items():
        np.testing.assert_array_equal(value, stored[name])
    expected = model.folded_weights()["block_1_expand/kernel"]
    sizes, found = (np.abs(kernel).max(axis=0) for kernel in (expected, again["block_1_expand/kernel"]))
    # Far less than a factor of two that was forgotten.
    np.testing.assert_allclose(found, sizes, rtol=0.02)
    assert np.abs(stored["block_1_expand/kernel"]).max(axis=0).min() > 2 * sizes.min()
