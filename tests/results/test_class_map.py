"""Label maps from logits: the best class at every pixel, whatever is skipped on the way."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
from hypothesis import given
from hypothesis import strategies as st

from npmnv2.kernels import VARIANTS, resize_bilinear, softmax
from npmnv2.results.class_map import Grid, best_classes, class_map, mean_scores, resized_logits, sampled


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(VARIANTS), st.floats(0, 8), st.integers(0, 2**32 - 1))
def test_classes_that_cannot_win_are_left_out(h, w, variant, spread, seed):
    """The farther the classes lie apart, the fewer are looked at; the result is that of looking at all."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(h, w, 12)) + spread * rng.normal(size=12)).astype(np.float32)
    ref = resize_bilinear(logits[None], (40, 31), variant)[0].argmax(-1)
    npt.assert_array_equal(best_classes(logits, Grid.resize((h, w), (40, 31), variant), np.int16), ref)


def test_a_class_can_win_between_logits_that_it_loses():
    logits = np.array([[[4, 3, 0, -9], [0, 3, 4, -9]]], np.float32)
    label_map = best_classes(logits, Grid.resize((1, 2), (1, 5), "tf1_align_corners"))
    npt.assert_array_equal(label_map, [[0, 0, 1, 1, 2]])


def test_logits_that_are_no_numbers():
    """Where a class is NaN it never wins; the other pixels are labeled as ever."""
    grid = Grid.resize((5, 5), (20, 20), "half_pixel")
    npt.assert_array_equal(best_classes(np.full((5, 5, 4), np.nan, np.float32), grid), 0)
    logits = np.random.default_rng(0).normal(size=(5, 5, 4)).astype(np.float32)
    logits[..., 2] += 1
    expected = best_classes(logits, grid)
    assert (expected[:6, :6] == 2).any()
    logits[0, 0, 2] = np.nan
    found = best_classes(logits, grid)
    assert not (found[:2, :2] == 2).any()
    npt.assert_array_equal(found[6:], expected[6:])
    npt.assert_array_equal(found[:, 6:], expected[:, 6:])


def logits_of(h, w, classes=5, seed=0):
    return np.random.default_rng(seed).normal(size=(h, w, classes)).astype(np.float32)


def test_logits_of_the_size_of_the_map_are_not_resized():
    logits = logits_of(4, 7)
    npt.assert_array_equal(class_map(logits, (4, 7), "tf1"), logits.argmax(-1))


def test_level_classes_give_the_lower_index():
    npt.assert_array_equal(class_map(np.zeros((2, 2, 3), np.float32), (5, 5), "half_pixel"), 0)


def test_resized_logits_of_their_own_size_are_the_same_object():
    logits = logits_of(4, 7)
    assert resized_logits(logits, (4, 7), "half_pixel") is logits
    npt.assert_array_equal(
        resized_logits(logits, (8, 9), "half_pixel"), resize_bilinear(logits[None], (8, 9), "half_pixel")[0]
    )


def test_bands_together_are_the_resize(monkeypatch):
    monkeypatch.setattr("npmnv2.results.class_map._BLOCK_BYTES", 1000)
    logits = logits_of(4, 7)
    bands = list(sampled(logits, Grid.resize((4, 7), (40, 31), "tf1")))
    assert len(bands) > 5
    npt.assert_array_equal(
        np.concatenate([values for _, values in bands]), resize_bilinear(logits[None], (40, 31), "tf1")[0]
    )
    assert [rows.start for rows, _ in bands] == list(range(0, 40, bands[0][0].stop))


def test_mean_scores_average_probabilities():
    maps = [logits_of(4, 7), logits_of(3, 2, seed=1), logits_of(5, 5, seed=2)]
    grids = [Grid.resize(m.shape[:2], (9, 8), "half_pixel") for m in maps]
    ref = np.mean([softmax(resize_bilinear(m[None], (9, 8), "half_pixel")[0]) for m in maps], axis=0)
    comp = np.concatenate([values for _, values in mean_scores(maps, grids)])
    npt.assert_allclose(comp, ref, atol=1e-6)
    npt.assert_allclose(comp.sum(-1), 1, atol=1e-6)


def test_float64_stays_float64():
    logits = logits_of(4, 7).astype(np.float64)
    ((_, values),) = sampled(logits, Grid.resize((4, 7), (9, 8), "half_pixel"))
    assert values.dtype == np.float64


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 90), st.integers(1, 90), st.sampled_from(VARIANTS))
def test_class_map_is_argmax_of_the_resized_logits(h, w, height, width, variant):
    logits = np.random.default_rng(h * 100 + w).normal(size=(h, w, 5)).astype(np.float32)
    ref = resize_bilinear(logits[None], (height, width), variant)[0].argmax(-1)
    comp = class_map(logits, (height, width), variant)
    assert comp.dtype == np.int64
    npt.assert_array_equal(comp, ref)


def test_class_map_in_several_blocks():
    logits = np.random.default_rng(0).normal(size=(20, 30, 21)).astype(np.float32)
    ref = resize_bilinear(logits[None], (700, 400), "half_pixel")[0].argmax(-1)
    npt.assert_array_equal(class_map(logits, (700, 400), "half_pixel"), ref)
