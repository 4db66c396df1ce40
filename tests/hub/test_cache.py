"""The folders of downloaded weights: where they are, what they hold, and the sole right to make a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from npmnv2.errors import WeightsError
from npmnv2.hub import cache
from npmnv2.hub.cache import Downloaded, cache_home, exclusive_write, read_record, write_record
from npmnv2.hub.registry import entry


@pytest.fixture(autouse=True)
def others(tmp_path, monkeypatch):
    """Caches of Keras and huggingface_hub that are empty."""
    for name in ("HF_HUB_CACHE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))


def test_the_cache_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("NPMNV2_HOME", "~/weights")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_home(tmp_path / "given") == tmp_path / "given"
    assert cache_home() == Path.home() / "weights"
    monkeypatch.delenv("NPMNV2_HOME")
    assert cache_home() == tmp_path / "npmnv2"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert "npmnv2" in cache_home().parts


def test_snapshots_of_huggingface_hub_are_found(tmp_path, monkeypatch):
    wanted = entry("google/mobilenet_v2_0.35_96")
    assert cache.find_in_other_caches(wanted) is None
    folder = tmp_path / "huggingface" / "hub" / "models--google--mobilenet_v2_0.35_96"
    for revision in ("aaa", "bbb", "ccc"):
        (folder / "snapshots" / revision).mkdir(parents=True)
        (folder / "snapshots" / revision / "config.json").touch()
    for revision in ("aaa", "bbb"):
        (folder / "snapshots" / revision / "model.safetensors").touch()
        os.utime(folder / "snapshots" / revision, (1, 1 if revision == "aaa" else 2))
    assert cache.find_in_other_caches(wanted).name == "bbb"
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("aaa")
    assert cache.find_in_other_caches(wanted).name == "aaa"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nowhere"))
    assert cache.find_in_other_caches(wanted) is None
    assert cache.other_cache_paths(wanted) == [tmp_path / "nowhere" / folder.name]


def test_keras_keeps_files_by_their_name(tmp_path):
    wanted = entry("mobilenet_v2_1.0_224", "keras")
    (path,) = cache.other_cache_paths(wanted)
    assert path == tmp_path / "keras" / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
    assert cache.find_in_other_caches(wanted) is None
    path.parent.mkdir(parents=True)
    path.touch()
    assert cache.find_in_other_caches(wanted) == path


def test_nobody_else_has_what_tensorflow_publishes():
    wanted = entry("mobilenet_v2_1.0_224", "tensorflow")
    assert cache.find_in_other_caches(wanted) is None
    assert cache.other_cache_paths(wanted) == []


# --- exclusive_write --------------------------------------------------------------------------------------------------


def test_the_workspace_is_empty_and_gone_afterwards(tmp_path):
    target = tmp_path / "new" / "folder" / "w.h5"
    with exclusive_write(target) as workspace:
        assert list(workspace.iterdir()) == []
        (workspace / "part").touch()
    assert [path.name for path in target.parent.iterdir()] == ["w.lock"]


def test_what_a_killed_process_left_is_cleared(tmp_path):
    (tmp_path / "w.tmp" / "inner").mkdir(parents=True)
    with exclusive_write(tmp_path / "w.h5") as workspace:
        assert list(workspace.iterdir()) == []


def test_an_error_clears_the_workspace(tmp_path):
    with pytest.raises(ValueError, match="stop"), exclusive_write(tmp_path / "w.h5") as workspace:
        raise ValueError("stop")
    assert not workspace.exists()


@pytest.mark.timeout(60)
def test_a_busy_file_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_LOCK_TIMEOUT", 0.2)
    target = tmp_path / "w.h5"
    with exclusive_write(target) as workspace:
        (workspace / "part").touch()
        with (
            pytest.raises(TimeoutError, match=r"lock has been locked .* for 0\.2 seconds"),
            exclusive_write(target),
        ):
            pytest.fail("two at once")
        assert (workspace / "part").exists()
    with exclusive_write(target):
        pass


# --- records ----------------------------------------------------------------------------------------------------------


def test_records_are_read_back(tmp_path):
    known = entry("1.0_96")
    file = Downloaded(url=known.urls[0], sha256="0" * 64, bytes=5)
    assert read_record(tmp_path / "w.h5") == {}
    write_record(tmp_path / "w.h5", known, [file])
    assert read_record(tmp_path / "w.h5") == {known.urls[0]: file}
    assert json.loads((tmp_path / "w.json").read_text())["name"] == known.name


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"files": [{}]}', '{"files": 5}', "[" * 100_000])
def test_damaged_records_are_reported(tmp_path, text):
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(WeightsError, match=r"is damaged .* delete it to trust the next download anew"):
        read_record(tmp_path / "w.h5")
