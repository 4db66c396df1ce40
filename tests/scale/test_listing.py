from __future__ import annotations

import tarfile
import tracemalloc
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import get_loop
from fsspec.implementations.memory import MemoryFileSystem

from npmnv2.scale import listing
from npmnv2.scale.listing import list_photos


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def relative(folder: Path, found: Any) -> list[str]:
    return [name.removeprefix(f"{folder}/") for name in found]


NAMES = ("b.jpg", "a.JPG", "notes.md", ".hidden.jpg", "in/c.png", "in/deep/d.webp")


def test_a_folder_gives_its_photos_and_with_recursive_those_below(tmp_path: Path) -> None:
    made(tmp_path, *NAMES)
    assert relative(tmp_path, list_photos([str(tmp_path)])) == ["a.JPG", "b.jpg"]
    everything = ["a.JPG", "b.jpg", "in/c.png", "in/deep/d.webp"]
    assert relative(tmp_path, list_photos([str(tmp_path)], recursive=True)) == everything


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["b.jpg"]),
        ("*/*.png", ["in/c.png"]),
        ("**/*.[pw]*", ["in/c.png", "in/deep/d.webp"]),
        ("**/d.webp", ["in/deep/d.webp"]),
        ("?.jpg", ["b.jpg"]),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    made(tmp_path, *NAMES)
    assert relative(tmp_path, list_photos([f"{tmp_path}/{pattern}"])) == expected


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    made(tmp_path, "a[1].jpg", "a1.jpg")
    assert relative(tmp_path, list_photos([f"{tmp_path}/a[1].jpg"])) == ["a[1].jpg"]


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    made(tmp_path, "in/c.png")
    (tmp_path / "in" / "again").symlink_to(tmp_path)
    assert relative(tmp_path, list_photos([str(tmp_path)], recursive=True)) == ["in/c.png"]


def test_a_pattern_without_a_match_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none/\*\.jpg matches no photo"):
        list(list_photos([f"{tmp_path}/none/*.jpg"]))
    with pytest.raises(FileNotFoundError, match=r"\*\.jpg matches no photo"):
        list(list_photos([f"{tmp_path}/*.jpg"]))


def test_a_folder_that_cannot_be_read_is_an_error_and_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, path: str, detail: bool = True) -> Any:
        if path == "/in":
            raise PermissionError("no")
        return [{"name": "/in", "type": "directory"}, {"name": "/a.jpg", "type": "file"}]

    monkeypatch.setattr(MemoryFileSystem, "ls", refuse)
    monkeypatch.setattr(MemoryFileSystem, "exists", lambda *_: False)
    with pytest.raises(PermissionError):
        list(list_photos(["memory:///**/*.jpg"]))


def pack(folder: Path, path: Path) -> None:
    """Make an archive of all files of a folder."""
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.write(folder / name, name)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name in names:
                archive.add(folder / name, name)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_an_archive_is_a_folder(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photos{suffix}"
    pack(made(tmp_path / "inside", *NAMES), path)
    kind = "zip" if suffix == ".zip" else "tar"
    members = [f"{kind}://{name}::{path}" for name in ("a.JPG", "b.jpg", "in/c.png", "in/deep/d.webp")]
    assert list(list_photos([str(path)])) == members
    assert list(list_photos([f"{tmp_path}/*{suffix}"])) == members
    assert list(list_photos([f"{kind}://in/*.png::{path}"])) == members[2:3]


def test_an_archive_of_the_current_folder(tmp_path: Path) -> None:
    made(tmp_path / "inside", *NAMES)
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(tmp_path / "inside", ".")
    names = list(list_photos([str(tmp_path / "photos.tar")]))
    assert [name.partition("::")[0] for name in names] == [
        f"tar://./{name}" for name in ("a.JPG", "b.jpg", "in/c.png", "in/deep/d.webp")
    ]
    with fsspec.open(names[0]) as file:
        assert file.read() == b""


def test_a_list_has_a_name_in_each_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.jpg\n\ns3://bucket/ä.jpg\n", encoding="utf-8")
    assert list(list_photos([str(tmp_path / "list.txt")])) == [f"{tmp_path}/a.jpg", "s3://bucket/ä.jpg"]


class Million(fsspec.AbstractFileSystem):
    """A thousand folders of a thousand photos, which are listed when they are asked for."""

    protocol = "million"
    cachable = False
    listed = 0

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        type(self).listed += 1
        if path.strip("/"):
            return [{"name": f"{path}/{number:03}.jpg", "type": "file", "size": 1} for number in range(1000)]
        return [{"name": f"/{number:03}", "type": "directory", "size": 0} for number in range(1000)]

    def exists(self, path: str, **_: Any) -> bool:
        return False


@pytest.fixture
def million(monkeypatch: pytest.MonkeyPatch) -> type[Million]:
    monkeypatch.setattr(Million, "listed", 0)
    fsspec.register_implementation("million", Million, clobber=True)
    return Million


def test_names_come_before_all_are_listed(million: type[Million]) -> None:
    assert next(list_photos(["million:///**/*.jpg"])) == "million:///000/000.jpg"
    assert million.listed == 2


def test_memory_does_not_grow_with_the_names(million: type[Million]) -> None:
    names = list_photos(["million:///**/*.jpg"])
    tracemalloc.start()
    try:
        assert sum(1 for _ in islice(names, 2_000)) == 2_000
        few = tracemalloc.get_traced_memory()[1]
        assert sum(1 for _ in islice(names, 8_000)) == 8_000
        assert tracemalloc.get_traced_memory()[1] < few + 200_000
    finally:
        tracemalloc.stop()


def test_pages_of_a_store_are_fetched_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Store:
        protocol = "s3"
        loop = get_loop()

        @staticmethod
        def split_path(path: str) -> tuple[str, str, None]:
            return "bucket", path.partition("/")[2], None

        @staticmethod
        async def _iterdir(bucket: str, prefix: str, delimiter: str) -> Any:
            assert (bucket, prefix, delimiter) == ("bucket", "in/", "")
            for number in range(7):
                asked.append(number)
                yield {"name": f"bucket/in/{number}.jpg", "type": "file"}
            yield {"name": "bucket/in/folder/", "type": "file"}

    monkeypatch.setattr(listing, "_PAGE", 3)
    found = listing._files(Store, "bucket/in", None)
    assert next(found) == "bucket/in/0.jpg"
    assert asked == [0, 1, 2]
    assert len(list(found)) == 6
