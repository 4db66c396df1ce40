"""The promise that embeddings stay the same between versions: an index that was made once stays right.

The pictures are made by NumPy and are the network's input as they are, so that neither a decoder nor a resize takes
part. The network in the package runs in integers, whose bits are the same on any machine.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from npmnv2 import load
from npmnv2.similarity.model_digest import model_digest

DIGEST = "9f98877e65a13f3b1d6d1599d881b514755822142a4fb882fc28fa61c586fd36"
MODEL = "6198942208b3b447493ba4ded02dcada9a10f0fa58bcbdd783010fbf5a41587a"
FIRST = [[0, 3.011645, 3.3881006, 0], [0, 3.5528, 0.96466756, 0], [0, 4.493939, 0.21175629, 0]]


def pictures() -> np.ndarray:
    """Three waves of color, (3, 224, 224, 3), in the network's own range of -1 to 1."""
    y, x = np.mgrid[:224, :224]
    colors = [(x * a + y * b + 60 * c) % 256 for a, b in ((1, 2), (3, 1), (5, 7)) for c in range(3)]
    return (np.array(colors, np.float32).reshape(3, 3, 224, 224).transpose(0, 2, 3, 1) / 127.5 - 1).astype(np.float32)


@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_embeddings_are_those_of_every_version(backend: str) -> None:
    vectors = load(backend=backend).embed(pictures())
    assert (vectors.shape, vectors.dtype) == ((3, 1280), np.float32)
    np.testing.assert_array_equal(vectors[:, :4], np.float32(FIRST))
    assert hashlib.sha256(vectors.astype("<f4").tobytes()).hexdigest() == DIGEST


def test_an_index_made_by_an_earlier_version_knows_the_model_in_the_package() -> None:
    assert model_digest(load()) == MODEL
