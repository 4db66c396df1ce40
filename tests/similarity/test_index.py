"""The file of an index: what it keeps, what it refuses, and what disturbs it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from npmnv2.errors import IndexFileError
from npmnv2.similarity.index import FORMAT_VERSION, Content, Entry, Index, Stamp

CONTENT = Content(b"c" * 32, 640, 480, np.arange(5, dtype=np.float32))
ENTRY = Entry("in/\udcff ä.jpg", Stamp(1 << 40, (1 << 60) + 1), CONTENT.digest)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "photos.sqlite"


@pytest.fixture
def index(path: Path) -> Iterator[Index]:
    with Index(path, "aa", "a model") as opened:
        yield opened


def filled(path: Path) -> bytes:
    with Index(path, "aa", "a model") as index:
        index.add([ENTRY], [CONTENT])
    return path.read_bytes()


def test_it_keeps_what_it_is_given(path: Path) -> None:
    filled(path)
    with Index(path, "aa", "a model") as index:
        assert index.entries() == {ENTRY.name: ENTRY}
        assert index.digests() == {CONTENT.digest}
        (content,) = index.contents()
    assert content[:3] == CONTENT[:3]
    np.testing.assert_array_equal(content.embedding, CONTENT.embedding, strict=True)


def test_a_file_of_unknown_content_is_not_added(index: Index) -> None:
    assert index.add([ENTRY]) == [ENTRY.name]
    assert index.entries() == {}
    assert index.add([ENTRY], [CONTENT]) == []
    assert index.add([ENTRY._replace(name="moved.jpg")]) == []
    assert sorted(index.entries()) == [ENTRY.name, "moved.jpg"]


def test_content_lives_as_long_as_one_of_its_files(index: Index) -> None:
    index.add([ENTRY, ENTRY._replace(name="copy.jpg")], [CONTENT])
    index.remove([ENTRY.name])
    assert index.digests() == {CONTENT.digest}
    index.remove(["copy.jpg"])
    assert index.digests() == set()


def test_an_error_in_the_middle_changes_nothing(index: Index) -> None:
    def entries() -> Iterator[Entry]:
        yield ENTRY
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(entries(), [CONTENT])
    assert (index.entries(), index.digests()) == ({}, set())


# --- files that cannot be used ----------------------------------------------------------------------------------------


def test_a_different_model_is_refused_by_name(path: Path) -> None:
    before = filled(path)
    with pytest.raises(IndexFileError, match=r"with a different model .* with a model, not with b.h5"):
        Index(path, "bb", "b.h5")
    assert path.read_bytes() == before


def test_a_different_format_is_refused(path: Path) -> None:
    content = bytearray(filled(path))
    content[60:64] = (FORMAT_VERSION + 1).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(IndexFileError, match=f"has format {FORMAT_VERSION + 1}, this npmnv2 reads {FORMAT_VERSION}"):
        Index(path, "aa", "a model")


def foreign_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    connection.close()


@pytest.mark.parametrize("make", [foreign_database, lambda path: path.write_bytes(b"\xff\xd8\xff a photo")])
def test_what_is_not_an_index_is_left_as_it_is(path: Path, make) -> None:
    make(path)
    before = path.read_bytes()
    with pytest.raises(IndexFileError, match="is not an index of photos; it was left as it is"):
        Index(path, "aa", "a model")
    assert path.read_bytes() == before


def test_an_empty_file_becomes_an_index(path: Path) -> None:
    path.touch()
    filled(path)


@pytest.mark.parametrize("place", ["", "absent/photos.sqlite"])
def test_folders_that_are_no_place_for_a_file(tmp_path: Path, place: str) -> None:
    with pytest.raises((IndexFileError, FileNotFoundError), match=r"must be (a file|in a folder that exists)"):
        Index(tmp_path / place, "aa", "a model")


def read(path: Path) -> list[Content]:
    with Index(path, "aa", "a model") as index:
        index.entries()
        return list(index.contents())


def test_no_damage_goes_unnoticed_or_escapes_as_a_foreign_error(path: Path) -> None:
    whole = filled(path)
    expected = read(path)
    rng = np.random.default_rng(0)
    noticed = 0
    for _ in range(300):
        content = bytearray(whole)
        for at in rng.integers(100, len(whole), size=4):
            content[at] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        try:
            found = read(path)
        except IndexFileError:
            noticed += 1
        else:
            # Damage to a place that is not used, or to the list of files.
            assert [c[:3] for c in found] in ([], [c[:3] for c in expected])
            for one in found:
                np.testing.assert_array_equal(one.embedding, CONTENT.embedding)
    assert noticed


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_a_file_cut_short_is_an_error(path: Path, share: float) -> None:
    whole = filled(path)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(IndexFileError, match=r"index .* is damaged|cannot be used"):
        read(path)


def test_an_embedding_with_a_changed_bit_is_an_error(path: Path) -> None:
    content = bytearray(filled(path))
    content[content.index(CONTENT.embedding.tobytes()) + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(IndexFileError, match=r"is damaged \(what it says of a photo has changed\): delete it"):
        read(path)


# --- several processes ------------------------------------------------------------------------------------------------

WRITER = """
import sys, numpy as np
from pathlib import Path
from npmnv2.similarity.index import Content, Entry, Index, Stamp
with Index(Path(sys.argv[1]), "aa", "a model") as index:
    for number in range(20):
        digest = number.to_bytes(32, "big")
        content = Content(digest, number, number, np.full(100, number, np.float32))
        index.add([Entry(f"{number}.jpg", Stamp(number, number), digest)], [content])
        if number % 10 == 9:
            index.remove([f"{number - 5}.jpg"])
            index.add([Entry(f"{number - 5}.jpg", Stamp(1, 1), digest)])
"""


def test_processes_that_write_at_once_leave_a_whole_index(path: Path) -> None:
    children = [subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) for _ in range(2)]
    assert [child.wait(timeout=300) for child in children] == [0, 0]
    contents = read(path)
    assert len(contents) >= 18
    for content in contents:
        np.testing.assert_array_equal(content.embedding, np.full(100, content.width, np.float32))
    with Index(path, "aa", "a model") as index:
        assert set(index.entries()) == {f"{number}.jpg" for number in range(20)}


def test_a_process_killed_while_it_writes_leaves_a_whole_index(path: Path) -> None:
    code = WRITER.replace("for number in range(20)", "import itertools\n    for number in itertools.count()")
    child = subprocess.Popen([sys.executable, "-c", code, str(path)])
    while not (path.exists() and path.stat().st_size > 50_000):
        assert child.poll() is None
    child.kill()
    child.wait()
    assert len(read(path)) > 10
    filled(path)
