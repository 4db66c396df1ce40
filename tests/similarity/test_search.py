"""The two functions: where the index is kept, what a query is, what is refused."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import npmnv2
from npmnv2 import ArgumentError, DuplicateGroup, ImageError, IndexFileError, SimilarPhotos
from npmnv2.cli.duplicates import _THRESHOLD
from npmnv2.similarity import search
from npmnv2.similarity.vectors import NEAR_DUPLICATE


def names(found) -> list[str]:
    return [Path(photo.source).name for photo in found]


def tree(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_one_query_and_several(folder, model):
    found = npmnv2.similar(folder / "two.bmp", folder, model=model, top=2)
    assert isinstance(found, SimilarPhotos)
    assert found.source == str(folder / "two.bmp")
    assert len(found) == 2
    assert "two.bmp" not in names(found)
    picture = Image.open(folder / "one small.png")
    first, second = npmnv2.similar([picture, np.asarray(picture)], folder, model=model)
    assert first.source is None
    assert names(first)[0] == "one small.png"
    assert first.photos == second.photos
    assert first[0].similarity == pytest.approx(1)


def test_a_copy_of_the_query_is_found(folder, model):
    found = npmnv2.similar(folder / "one.png", folder, model=model, threshold=0.99)
    assert names(found) == ["copy.png", "one small.png"]


def test_near_duplicates_of_a_folder(folder, model):
    (group,) = npmnv2.duplicates(str(folder), model=model, threshold=0.99)
    assert isinstance(group, DuplicateGroup)
    assert names(group) == ["copy.png", "one.png", "one small.png"]
    assert npmnv2.duplicates(folder, model=model, threshold=1) == [DuplicateGroup(group.photos[:2])]


def test_the_index_is_in_the_cache_and_nothing_in_the_folder(folder, model, cache):
    before = tree(folder)
    npmnv2.duplicates(folder, model=model)
    (index,) = (cache / "npmnv2" / "similarity").iterdir()
    written = index.stat().st_mtime_ns
    npmnv2.similar(folder / "one.png", os.path.relpath(folder), model=model)
    assert [path.name for path in index.parent.iterdir()] == [index.name]
    assert index.stat().st_mtime_ns == written, "nothing has changed"
    assert tree(folder) == before


def test_a_cache_that_cannot_be_made_says_where_else(folder, model, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(search, "user_cache", lambda: tmp_path / "file")
    with pytest.raises(IndexFileError, match=r"similarity cannot be made .*; name a file for it \(index=, --index\)"):
        npmnv2.duplicates(folder, model=model)
    assert npmnv2.duplicates(folder, model=model, index=tmp_path / "index.sqlite")


def test_each_model_has_an_index_of_its_own_unless_a_file_is_named(folder, model, cache, tmp_path):
    other = type(model)(model.config, model.weights, dtype="float64")
    for one in (model, other, model):
        npmnv2.duplicates(folder, model=one)
    assert len(list((cache / "npmnv2" / "similarity").iterdir())) == 2
    npmnv2.duplicates(folder, model=model, index=tmp_path / "index")
    with pytest.raises(IndexFileError, match="was made with a different model"):
        npmnv2.duplicates(folder, model=other, index=tmp_path / "index")


def test_photos_that_cannot_be_used_are_logged_and_queries_raised(folder, model, caplog):
    (folder / "broken.jpg").write_bytes(b"no photo")
    with caplog.at_level(logging.WARNING, "npmnv2"):
        assert len(npmnv2.duplicates(folder, model=model, threshold=0.99)) == 1
    assert f"{folder / 'broken.jpg'} is not an image" in caplog.text
    with pytest.raises(ImageError, match=r"broken\.jpg is not an image"):
        npmnv2.similar(folder / "broken.jpg", folder, model=model)
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        npmnv2.similar("absent.jpg", folder, model=model)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: npmnv2.duplicates("absent"), r"folder \(='absent'\) must be an existing folder"),
        (lambda: npmnv2.duplicates("absent", threshold=0), r"threshold \(=0\) must be above 0"),
        (lambda: npmnv2.similar("x.jpg", "absent", top=0), r"top \(=0\) must be an integer of at least 1"),
        (lambda: npmnv2.similar("x.jpg", "absent", threshold=2), r"threshold \(=2\) must be from -1 to 1"),
    ],
)
def test_impossible_arguments_are_refused_before_anything_is_computed(call, message):
    with pytest.raises((ArgumentError, FileNotFoundError), match=message):
        call()


def test_the_command_has_the_default_threshold_of_the_function():
    assert _THRESHOLD == NEAR_DUPLICATE
