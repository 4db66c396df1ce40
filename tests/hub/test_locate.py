"""From what a user writes to a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from npmnv2.errors import ArgumentError, OfflineError
from npmnv2.hub.locate import locate


@pytest.fixture(autouse=True)
def offline(home, tmp_path, monkeypatch):
    monkeypatch.setenv("NPMNV2_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


def test_existing_paths_come_first(tmp_path):
    (tmp_path / "mobilenet_v2_1.0_224").mkdir()
    assert locate("mobilenet_v2_1.0_224").is_dir()
    (tmp_path / "w.h5").touch()
    assert locate("w.h5").samefile(tmp_path / "w.h5")
    assert locate(tmp_path / "w.h5") == tmp_path / "w.h5"


def test_a_prefix_of_a_tensorflow_checkpoint_is_a_path(tmp_path):
    (tmp_path / "model.ckpt-5.index").touch()
    assert locate(tmp_path / "model.ckpt-5") == tmp_path / "model.ckpt-5"


def test_names_are_looked_up_in_the_cache(home):
    target = home / "huggingface" / "google--mobilenet_v2_1.0_224.h5"
    target.parent.mkdir(parents=True)
    target.touch()
    Path("google").mkdir()  # a folder of that name does not make it a path
    assert locate("google/mobilenet_v2_1.0_224") == target
    with pytest.raises(OfflineError):
        locate("google/mobilenet_v2_1.4_224")


@pytest.mark.parametrize("path", ["w.h5", "./w", "~/absent-w", "/absent/w", "folder/w", "model.ckpt", "w.safetensors"])
def test_missing_files_are_not_unknown_names(tmp_path, path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match="must be an existing file or directory"):
        locate(path)


def test_a_missing_path_object(tmp_path):
    with pytest.raises(FileNotFoundError, match="must be an existing file or directory"):
        locate(tmp_path / "1.0_224")


@pytest.mark.parametrize("name", ["mobilenet_v2", "org/model"])
def test_what_is_neither(name):
    with pytest.raises(ArgumentError, match=f"^'{name}' is neither an existing file nor .* All names: npmnv2 list$"):
        locate(name)


@pytest.mark.parametrize("nothing", ["", None, 5, b"w.h5"])
def test_what_cannot_be_a_name(nothing):
    with pytest.raises(ArgumentError, match="must be a name, a file or a directory"):
        locate(nothing)
