"""The backbone, and `features` of any model."""

from __future__ import annotations

import numpy as np
import pytest
from networks import SMALL

from npmnv2 import (
    ImageError,
    MobileNetV2ForImageClassification,
    MobileNetV2ImageProcessor,
    MobileNetV2Model,
)
from npmnv2.network.architecture import CLASSIFIER, POOL

UNCHANGED = MobileNetV2ImageProcessor(do_resize=False, do_center_crop=False)


def test_backbone_outputs(model, pixels) -> None:
    body = MobileNetV2Model(
        SMALL, {k: v for k, v in model.weights.items() if "predictions" not in k}, backend=model.backend.name
    )
    output = body(pixels)
    assert output.last_hidden_state.shape == (2, 1280, 3, 2)
    np.testing.assert_allclose(output.pooler_output, output.last_hidden_state.mean((2, 3)), rtol=1e-5, atol=1e-6)
    last = body(pixels.transpose(0, 2, 3, 1), data_format="channels_last")
    np.testing.assert_array_equal(last.last_hidden_state, output.last_hidden_state.transpose(0, 2, 3, 1))


def test_features(model, photos) -> None:
    vector = model.features(photos[0])
    assert vector.shape == (1280,)
    assert [v.shape for v in model.features(photos[:2])] == [(1280,)] * 2
    maps = model.features(photos[0], endpoints=["block_13_expand", "layer_2"])
    assert {name: value.shape[-1] for name, value in maps.items()} == {"block_13_expand": 192, "layer_2": 8}
    with pytest.raises(ValueError, match="endpoint"):
        model.features(photos[0], endpoints=["nothing"])


def test_one_list_and_iterator_of_features(model, photos) -> None:
    one = model.features(photos[0])
    many = model.features(photos, batch_size=2)
    stream = model.features(iter(photos))
    assert isinstance(many, list)
    assert iter(stream) is stream
    for comp in (many[0], next(stream)):
        np.testing.assert_allclose(comp, one, rtol=1e-4, atol=1e-4)


def test_maps_have_channels_last_and_hidden_states_first(model, photos) -> None:
    x = model.prepare([photos[0]])
    states = model(x, output_hidden_states=["block_3"], data_format="channels_last").hidden_states
    comp = model.features(photos[0], ["block_3"])["block_3"]
    np.testing.assert_array_equal(comp, states[0][0])
    first = model(x.transpose(0, 3, 1, 2), output_hidden_states=["block_3"]).hidden_states
    np.testing.assert_array_equal(comp, first[0][0].transpose(1, 2, 0))


def test_bad_photos_among_features(model, photos, tmp_path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photo")
    results = model.features([photos[0], bad, photos[1]], errors="return")
    assert [type(result) for result in results] == [np.ndarray, ImageError, np.ndarray]
    assert len(model.features([photos[0], bad, photos[1]], errors="skip")) == 2


def test_a_fixed_window_leaves_one_vector(model, photos) -> None:
    fixed = MobileNetV2Model(SMALL.replace(pooling_window=2), seed=0, backend=model.backend.name)
    x = np.random.default_rng(0).uniform(-1, 1, (96, 128, 3)).astype(np.float32)
    map_ = fixed.run(x[None], ["avg_pool"])["avg_pool"][0]
    assert map_.shape == (2, 3, 1280)
    np.testing.assert_allclose(fixed.features(x, transform="raw"), map_.mean(axis=(0, 1)), rtol=1e-5, atol=1e-7)


def test_features_and_scores_of_a_map_of_windows_are_its_mean(backend) -> None:
    """With a fixed pooling window a large photo leaves a map; one vector is made of it in double precision."""
    config = SMALL.replace(pooling_window=2, initializer_range=0.3)
    model = MobileNetV2ForImageClassification(config, seed=0, backend=backend, processor=UNCHANGED)
    photo = np.random.default_rng(0).integers(0, 256, (200, 130, 3), np.uint8)
    maps = model.features(photo, [POOL, CLASSIFIER])
    assert maps[POOL].shape == (6, 4, 1280)
    mean = maps[POOL].mean((0, 1), dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(model.features(photo), mean)
    logits = maps[CLASSIFIER].mean((0, 1), dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(model.predict(photo).logits, logits)
