"""Features with threads that decode."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2.learn.embedding import embeddings


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_bits_of_features_in_order(network, batch_size) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (70 + k, 90, 3), np.uint8) for k in range(11)]
    found = np.stack(list(embeddings(network, images, batch_size=batch_size)))
    assert np.array_equal(found, np.stack(network.features(images)))


def test_a_bad_image_is_its_exception(network, tmp_path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = np.zeros((64, 64, 3), np.uint8)
    found = list(embeddings(network, [good, tmp_path / "bad.png", good, tmp_path / "none.png"], batch_size=2))
    assert [type(one).__name__ for one in found] == ["ndarray", "ImageError", "ndarray", "FileNotFoundError"]
    assert "bad.png" in str(found[1])


def test_maps_are_averaged(network) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    (found,) = embeddings(network, [image], "block_13_expand")
    expected = network.features(image, ["block_13_expand"])["block_13_expand"].mean(axis=(0, 1))
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_images_of_several_sizes_as_the_preset_leaves_them(network) -> None:
    images = [np.zeros((64, 64, 3), np.uint8), np.ones((96, 64, 3), np.uint8), np.ones((96, 64, 3), np.uint8)]
    found = np.stack(list(embeddings(network, images, transform="raw")))
    assert np.array_equal(found, np.stack(network.features(images, transform="raw")))
