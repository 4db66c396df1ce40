"""Finding photos: files, folders, patterns, standard input."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys

import pytest

from npmnv2.cli import photos
from npmnv2.cli.main import main
from npmnv2.cli.photos import find_photos
from npmnv2.images.folders import SUFFIXES


@pytest.mark.parametrize("how", ["folder", "pattern", "files", "stdin"])
def test_many_photos(model, folder, capsys, monkeypatch, how) -> None:
    names = [str(folder / n) for n in ("a.png", "b.JPG", "c.bmp")]
    arguments = {"folder": [str(folder)], "pattern": [str(folder / "*.[pJb]*")], "files": names, "stdin": ["-"]}[how]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join([*names, "", ""]).encode())))
    assert main(["predict", *arguments, "-m", model, "--json", "--batch-size", "2"]) == 0
    assert [json.loads(line)["source"] for line in capsys.readouterr().out.splitlines()] == names


def test_nothing_to_do(model, tmp_path, capsys) -> None:
    assert main(["predict", str(tmp_path), "-m", model]) == 1
    assert main(["predict", str(tmp_path / "*.png"), "-m", model]) == 1
    err = capsys.readouterr().err
    assert "holds no photos" in err
    assert "matches no file" in err


def find(*arguments, recursive=False, null=False):
    options = argparse.Namespace(photos=[str(a) for a in arguments], recursive=recursive, null=null)
    return [photo.name for photo in find_photos(options)]


@pytest.fixture
def tree(folder):
    for name in ("inner/d.png", "inner/deep/e.webp", "inner/.hidden.png", ".cache/f.png", ".g.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "folder.png").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
    return folder


def test_nothing_is_loaded_for_photos_that_do_not_exist(tmp_path, capsys):
    missing = [str(tmp_path / name) for name in ("x.jpg", "y.jpg")]
    assert main(["predict", *missing, "-m", "absent.h5"]) == 1
    assert capsys.readouterr().err == f"npmnv2: {missing[0]} and 1 more: no such file\n"
    assert main(["features", missing[0], "-m", "absent.h5"]) == 1
    assert capsys.readouterr().err == f"npmnv2: {missing[0]}: no such file\n"


def test_folders_give_what_is_directly_inside(tree):
    assert find(tree) == [str(tree / name) for name in ("a.png", "b.JPG", "c.bmp")]


def test_recursion_leaves_out_what_is_hidden(tree):
    names = ("a.png", "b.JPG", "c.bmp", "inner/d.png", "inner/deep/e.webp")
    assert find(tree, recursive=True) == [str(tree / name) for name in names]


def test_hidden_folders_may_be_named(tree):
    assert find(tree / ".cache") == [str(tree / ".cache/f.png")]


def test_a_folder_of_folders_gets_a_hint(tree, capsys):
    assert find(tree / "inner" / "deep", recursive=True)
    (tree / "only").mkdir()
    (tree / "inner").rename(tree / "only" / "inner")
    assert find(tree / "only") == []
    assert "--recursive finds those in its folders" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "null", "names"),
    [
        (b"a.png\n b.png \r\n\nc\xff.png", False, ["a.png", "b.png", "c\udcff.png"]),
        (b"a.png\0two\nlines.png\0 b.png\0", True, ["a.png", "two\nlines.png", " b.png"]),
        (b"BM.bmp\nBMW.jpg\n", False, ["BM.bmp", "BMW.jpg"]),
        (b"", False, []),
    ],
)
def test_lists_on_standard_input(monkeypatch, content, null, names):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    assert find("-", null=null) == names


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_images_on_standard_input(monkeypatch, suffix):
    from PIL import Image

    kind = Image.registered_extensions().get(suffix)
    if kind is None:
        pytest.skip("needs a Pillow that knows it")
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40)).save(buffer, kind)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(buffer.getvalue())))
    (photo,) = find_photos(argparse.Namespace(photos=["-"], recursive=False, null=False))
    assert photo == ("-", buffer.getvalue())


def test_endless_input_is_refused(monkeypatch, capsys, model):
    monkeypatch.setattr(photos, "_MAX_STDIN_BYTES", 1 << 20)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(2 << 20))))
    assert main(["predict", "-", "-m", model]) == 1
    assert "standard input has more than 1 MiB" in capsys.readouterr().err


@pytest.mark.parametrize(("task", "size"), [("classification", 8), ("segmentation", 1), ("features", 8)])
def test_how_many_photos_run_at_once(monkeypatch, task, size):
    options = argparse.Namespace(model="m.h5", backend="auto", precision="float32", threads=None, batch_size=None)
    monkeypatch.setattr("npmnv2.load", lambda *_, **__: argparse.Namespace(task=task, executable=None))
    photos.load_model(options)
    assert options.batch_size == size


def test_results_come_while_later_photos_are_still_to_be_read(model, folder, monkeypatch, capsys):
    seen = []

    def images():
        for name in ("a.png", "b.JPG", "c.bmp"):
            seen.append(name)
            yield str(folder / name)

    monkeypatch.setattr("npmnv2.cli.predict.images_of", lambda _: images())
    monkeypatch.setattr("builtins.print", lambda *_, **__: seen.append("result"))
    assert main(["predict", str(folder), "-m", model, "--batch-size", "1", "-q"]) == 0
    assert seen == ["a.png", "result", "b.JPG", "result", "c.bmp", "result"]
