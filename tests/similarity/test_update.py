"""What an update computes, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npmnv2.errors import ImageError
from npmnv2.similarity import update as module
from npmnv2.similarity.index import Index
from npmnv2.similarity.update import find_files, update

ALL = ["in/copy.png", "one small.png", "one.png", "two.bmp"]


class Counting:
    """A model that counts the images that its network runs on."""

    def __init__(self, model) -> None:
        self._model = model
        self.count = 0

    def __getattr__(self, name):
        return getattr(self._model, name)

    def embed(self, x):
        self.count += len(x)
        return self._model.embed(x)


@pytest.fixture
def counting(model) -> Counting:
    return Counting(model)


@pytest.fixture
def index(tmp_path: Path):
    with Index(tmp_path / "index.sqlite", "aa", "a model") as opened:
        yield opened


def computed(index, folder, counting) -> int:
    before = counting.count
    assert update(index, folder, counting) == {}
    return counting.count - before


def embeddings(index) -> dict[str, np.ndarray]:
    contents = {content.digest: content.embedding for content in index.contents()}
    return {name: contents[entry.digest] for name, entry in index.entries().items()}


def test_embeddings_are_those_of_features(index, folder, model):
    update(index, folder, model)
    found = embeddings(index)
    assert sorted(found) == ALL
    for name, vector in found.items():
        np.testing.assert_array_equal(vector, model.features(folder / name), strict=True)


def test_only_what_is_new_or_changed_is_computed(index, folder, counting):
    assert 3 <= computed(index, folder, counting) <= 4  # the copy's content may be known in time
    assert computed(index, folder, counting) == 0
    Image.open(folder / "one.png").transpose(Image.Transpose.ROTATE_90).save(folder / "two.bmp")
    Image.open(folder / "one.png").transpose(Image.Transpose.ROTATE_180).save(folder / "new.png")
    assert computed(index, folder, counting) == 2
    assert sorted(embeddings(index)) == sorted([*ALL, "new.png"])


def test_a_change_of_the_same_size_is_noticed(index, folder, counting, model):
    update(index, folder, model)
    before = (folder / "two.bmp").stat()
    Image.fromarray(255 - np.asarray(Image.open(folder / "two.bmp"))).save(folder / "two.bmp")
    assert (folder / "two.bmp").stat().st_size == before.st_size
    assert computed(index, folder, counting) == 1


def test_files_that_were_touched_moved_or_copied_are_known_by_content(index, folder, counting, model):
    update(index, folder, model)
    os.utime(folder / "one.png", ns=(1, 1))
    (folder / "two.bmp").rename(folder / "in" / "two moved.bmp")
    shutil.copy(folder / "one small.png", folder / "in" / "again.png")
    assert computed(index, folder, counting) == 0
    assert sorted(index.entries()) == ["in/again.png", "in/copy.png", "in/two moved.bmp", "one small.png", "one.png"]
    assert index.entries()["one.png"].stamp.mtime_ns == 1


def test_what_is_gone_is_forgotten(index, folder, counting, model):
    update(index, folder, model)
    shutil.rmtree(folder / "in")
    (folder / "two.bmp").unlink()
    assert computed(index, folder, counting) == 0
    assert sorted(index.entries()) == ["one small.png", "one.png"]
    assert len(index.digests()) == 2


def test_photos_that_cannot_be_used_are_named_and_tried_again(index, folder, model):
    update(index, folder, model)
    good = (folder / "two.bmp").read_bytes()
    (folder / "two.bmp").write_bytes(good[:1000])
    (folder / "empty.jpg").touch()
    errors = update(index, folder, model)
    assert sorted(errors) == ["empty.jpg", "two.bmp"]
    assert all(isinstance(error, ImageError) for error in errors.values())
    assert str(folder / "two.bmp") in str(errors["two.bmp"])
    assert sorted(index.entries()) == ALL[:3]
    (folder / "two.bmp").write_bytes(good)
    assert sorted(update(index, folder, model)) == ["empty.jpg"]
    assert sorted(index.entries()) == ALL


def test_inputs_that_the_network_refuses_spare_the_others(index, folder, model, monkeypatch):
    def refuse(x):
        raise ImageError("too small for the network")

    counting = Counting(model)
    monkeypatch.setattr(counting, "embed", refuse, raising=False)
    assert sorted(update(index, folder, counting)) == ALL
    assert index.entries() == {}


def test_an_interrupted_run_keeps_what_it_computed(index, folder, counting, monkeypatch):
    monkeypatch.setattr(module, "BATCH_SIZE", 1)
    embed = counting.embed

    def interrupted(x):
        if counting.count == 2:
            raise KeyboardInterrupt
        return embed(x)

    monkeypatch.setattr(counting, "embed", interrupted, raising=False)
    threads = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        update(index, folder, counting)
    assert set(threading.enumerate()) <= threads
    assert len(index.digests()) == 2
    monkeypatch.undo()
    assert computed(index, folder, counting) == 1


def test_content_that_a_different_process_forgot_is_computed(index, folder, counting, model, monkeypatch):
    update(index, folder, model)
    known = index.digests()
    for name in ALL:
        os.utime(folder / name, ns=(1, 1))
    monkeypatch.setattr(index, "digests", lambda: set(known))
    index.remove(["two.bmp"])
    assert computed(index, folder, counting) == 1
    assert sorted(embeddings(index)) == ALL


def test_every_file_is_counted_once(index, folder, model):
    (folder / "empty.jpg").touch()
    for _ in range(2):
        seen = []
        update(index, folder, model, on_file=lambda seen=seen: seen.append(1))
        assert len(seen) == 5


def test_photos_of_different_sizes_without_a_resize(index, folder, model):
    from npmnv2 import MobileNetV2ImageProcessor

    model = type(model)(model.config, model.weights, processor=MobileNetV2ImageProcessor.preset("raw", 64))
    assert update(index, folder, model) == {}
    for name, vector in embeddings(index).items():
        np.testing.assert_array_equal(vector, model.features(folder / name))


def test_links_to_photos_of_the_folder_are_no_photos_of_their_own(folder, tmp_path):
    (folder / "link.png").symlink_to(folder / "one.png")
    shutil.copy(folder / "one.png", tmp_path / "outside.png")
    (folder / "outside.png").symlink_to(tmp_path / "outside.png")
    assert sorted(find_files(folder)) == sorted([*ALL, "outside.png"])
