"""Groups and neighbors against plain loops, and what grouping promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmnv2.errors import ArgumentError
from npmnv2.kernels import Array
from npmnv2.similarity import vectors
from npmnv2.similarity.vectors import Group, near_duplicates, nearest


def clustered(seed: int, count: int, noise: float = 0.4, channels: int = 6) -> Array:
    """Vectors around few centers, so that some are near duplicates."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(max(1, count // 4), channels))
    return centers[rng.integers(len(centers), size=count)] + noise * rng.normal(size=(count, channels))


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def grouped_one_by_one(rows: Array, threshold: float, preference: Array) -> dict[int, list[int]]:
    """The definition: preferred ones first, each takes what it resembles and nobody has taken."""
    order = sorted(range(len(rows)), key=lambda row: -preference[row])
    groups: dict[int, list[int]] = {}
    taken: set[int] = set()
    for keep in order:
        if keep not in taken:
            taken.add(keep)
            groups[keep] = [row for row in order if row not in taken and cosine(rows[keep], rows[row]) >= threshold]
            taken.update(groups[keep])
    return {keep: others for keep, others in groups.items() if others}


@given(seed=st.integers(0, 10_000), count=st.integers(0, 40), rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_groups_are_those_of_plain_loops_whatever_the_blocks(seed: int, count: int, rows: int, columns: int) -> None:
    embeddings = clustered(seed, count)
    preference = np.random.default_rng(seed).integers(0, 5, size=count).astype(np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "_ROWS", rows)
        patch.setattr(vectors, "_COLUMNS", columns)
        groups = near_duplicates(embeddings, 0.9, preference)
    assert {group.keep: list(group.others) for group in groups} == grouped_one_by_one(
        embeddings, 0.9, preference.astype(int)
    )
    for group in groups:
        for other, similarity in zip(group.others, group.similarities, strict=True):
            assert similarity == pytest.approx(cosine(embeddings[group.keep], embeddings[other]), abs=1e-5)


def test_similarity_does_not_chain() -> None:
    angles = np.deg2rad([0, 20, 40, 60])
    steps = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # each resembles the next one only
    assert [(g.keep, g.others) for g in near_duplicates(steps, 0.9)] == [(0, (1,)), (2, (3,))]
    assert [(g.keep, g.others) for g in near_duplicates(steps, 0.9, [0, 9, 0, 0])] == [(1, (0, 2))]


def test_equal_rows_are_one_group_also_at_the_threshold_of_one() -> None:
    rows = np.tile(np.random.default_rng(0).normal(size=(1, 1280)), (3000, 1))  # several blocks
    (group,) = near_duplicates(rows, 1.0)
    assert group[:2] == (0, tuple(range(1, 3000)))
    np.testing.assert_allclose(group.similarities, 1, rtol=1e-6)


def test_length_does_not_count_and_zeros_resemble_nothing() -> None:
    assert near_duplicates([[1, 2], [10, 20], [0, 0], [0, 0]], 0.99) == [Group(0, (1,), (pytest.approx(1),))]


def test_the_rows_of_the_caller_stay_as_they_are() -> None:
    rows = clustered(1, 20)
    before = rows.copy()
    near_duplicates(rows, 0.9)
    nearest(rows, rows, 3)
    np.testing.assert_array_equal(rows, before)


@given(seed=st.integers(0, 10_000), count=st.integers(0, 30), top=st.integers(1, 40))
def test_nearest_are_those_of_sorting(seed: int, count: int, top: int) -> None:
    rows, query = clustered(seed, count), clustered(seed + 1, 1)
    (found,) = nearest(query, rows.reshape(count, 6), top, threshold=0.1)
    cosines = [cosine(query[0], row) for row in rows]
    expected = sorted((row for row in range(count) if cosines[row] >= 0.1), key=lambda row: -cosines[row])[:top]
    np.testing.assert_allclose(found.similarities, [cosines[row] for row in expected], atol=1e-5)
    assert list(found.rows) == expected


def test_of_equally_near_rows_the_first_ones_are_found() -> None:
    (found,) = nearest([[1.0, 0.0]], [[0, 1], [1, 0], [2, 0], [3, 0]], 2)
    assert found.rows == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0],), r"embeddings must be numbers of shape \(N, C\), got float64 of shape \(2,\)"),
        (([["a"]],), "embeddings must be numbers"),
        (([[1.0, np.nan]],), "embeddings must be finite"),
        (([[1.0]], 0.0), r"threshold \(=0.0\) must be above 0"),
        (([[1.0]], 1.5), r"threshold \(=1.5\) must be above 0 and at most 1"),
        (([[1.0]], 0.9, [1, 2]), r"preference must have the shape \(1,\), got \(2,\)"),
    ],
)
def test_impossible_arguments_say_what_is_allowed(arguments: tuple, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        near_duplicates(*arguments)


def test_queries_of_a_different_model_are_refused() -> None:
    with pytest.raises(ArgumentError, match="as many columns"):
        nearest([[1.0, 2.0]], [[1.0, 2.0, 3.0]], 1)


def test_no_cosine_is_rounded_beyond_1() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (300, 37)).astype(np.float32)
    assert max(s for neighbors in nearest(rows, rows, 1) for s in neighbors.similarities) == 1
    groups = near_duplicates(np.concatenate([rows, rows]), 0.999)
    assert len(groups) == 300
    assert max(s for group in groups for s in group.similarities) == 1
