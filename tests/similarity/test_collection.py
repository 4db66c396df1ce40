"""Photos of a folder in memory: which is which, what is near, what to keep."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from npmnv2.errors import IndexFileError
from npmnv2.similarity.collection import Collection
from npmnv2.similarity.index import Content, Entry, Index, Stamp
from npmnv2.similarity.update import update


@pytest.fixture
def index(tmp_path: Path):
    with Index(tmp_path / "index.sqlite", "aa", "a model") as opened:
        yield opened


@pytest.fixture
def collection(index, folder, model) -> Collection:
    update(index, folder, model)
    return Collection(folder, index)


def added(index: Index, *photos: tuple[str, int, int, list[float]]) -> Collection:
    """A collection of made-up photos: name, width, bytes, embedding."""
    for name, width, size, embedding in photos:
        digest = repr(embedding).encode()
        index.add([Entry(name, Stamp(size, 0), digest)], [Content(digest, width, 1, np.float32(embedding))])
    return Collection(Path("f"), index)


def test_rows_are_sorted_by_name_and_found_by_any_path(collection, folder, monkeypatch):
    assert [entry.name for entry in collection.entries] == ["in/copy.png", "one small.png", "one.png", "two.bmp"]
    assert len(collection) == len(collection.embeddings) == 4
    assert collection.row(folder / "in" / ".." / "one.png") == 2
    monkeypatch.chdir(folder / "in")
    assert collection.row("copy.png") == 0
    assert collection.row(os.path.join("..", "two.bmp")) == 3
    shutil.copy(folder / "one.png", folder.parent / "one.png")
    assert collection.row(folder.parent / "one.png") is None
    assert collection.row("absent.png") is None


def test_the_photo_with_the_most_pixels_is_kept_and_copies_are_marked(collection, folder):
    (group,) = collection.duplicates(0.99)
    assert [photo.source for photo in group] == [
        str(folder / name) for name in ("in/copy.png", "one.png", "one small.png")
    ]
    assert [photo.same_bytes_as for photo in group] == [None, str(folder / "in/copy.png"), None]
    assert (group.keep.width, group.keep.height, group.keep.similarity) == (192, 160, 1)
    assert group.keep.bytes == (folder / "one.png").stat().st_size
    assert (group.others[1].width, group.others[1].height) == (96, 80)
    assert group.others[0].similarity == pytest.approx(1)


def test_of_equal_sizes_the_larger_file_and_then_the_first_name_is_kept(index):
    collection = added(
        index, ("c", 2, 9, [1, 0.2]), ("b", 2, 9, [1, 0.1]), ("a", 2, 8, [1, 0]), ("small", 1, 10, [1, 0.3])
    )
    (group,) = collection.duplicates(0.9)
    assert [photo.source for photo in group] == [os.path.join("f", name) for name in ("b", "c", "a", "small")]


def test_copies_among_the_others_refer_to_each_other(index):
    collection = added(index, ("large", 9, 1, [1, 0]), ("x", 1, 1, [1, 0.1]), ("y", 1, 1, [1, 0.1]))
    (group,) = collection.duplicates(0.9)
    assert [photo.same_bytes_as for photo in group] == [None, None, os.path.join("f", "x")]


def test_the_nearest_of_several_queries_without_themselves(index):
    collection = added(index, ("a", 1, 1, [1, 0]), ("b", 1, 1, [1, 1]), ("c", 1, 1, [0, 1]))
    first, second = collection.nearest([np.float32([1, 0]), np.float32([0, 2])], [0, None], 2, -1)
    assert [photo.source for photo in first] == [os.path.join("f", name) for name in "bc"]
    assert [photo.source for photo in second] == [os.path.join("f", name) for name in "cb"]
    assert [photo.similarity for photo in second] == pytest.approx([1, 0.5**0.5])
    assert collection.nearest([], [], 2, -1) == []


def test_an_empty_folder_has_no_groups_and_no_neighbors(index):
    collection = Collection(Path("f"), index)
    assert collection.duplicates(0.9) == []
    assert collection.nearest([np.ones(3, np.float32)], [None], 2, -1) == [()]


def test_embeddings_of_two_lengths_are_damage(index):
    with pytest.raises(IndexFileError, match="embeddings differ in length"):
        added(index, ("a", 1, 1, [1, 0]), ("b", 1, 1, [1, 0, 0]))
