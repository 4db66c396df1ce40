"""Files by URL, through fsspec: what is read whole, and what is there as a whole or not at all."""

from __future__ import annotations

import os
import posixpath
import secrets
from typing import Any

from npmnv2.errors import MissingPackageError
from npmnv2.files import write_atomically

# Where a put makes an object at once, and a name stands for the old content until then.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"}


def locate(url: str) -> tuple[Any, str]:
    """Return the file system of a URL or path, and the path in it.

    Raises
    ------
    MissingPackageError
        If fsspec, or its package for this kind of URL, is not installed.
    """
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    except ImportError as error:
        raise MissingPackageError(f"{url}: {error} (pip install 'npmnv2[scale]' has files, S3 and HTTP)") from None


def is_local(fs: Any) -> bool:
    """Whether paths are those of this machine."""
    return "file" in _protocols(fs)


def absolute(url: str) -> str:
    """A path that means the same in other processes; a URL as it is."""
    first, chain, rest = url.rpartition("::")
    return first + chain + (rest if "://" in rest else os.path.abspath(rest))


def write_whole(fs: Any, path: str, content: bytes) -> None:
    """Write a file that nobody ever sees in part, over an existing one if need be."""
    if is_local(fs):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with write_atomically(path) as temporary, temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a loss of power may leave an empty file under the new name
    elif _protocols(fs) & _OBJECT_STORES:
        fs.pipe_file(path, content)
    else:
        folder, name = posixpath.split(path)
        fs.makedirs(folder, exist_ok=True)
        temporary_path = posixpath.join(folder, f".{name}-{secrets.token_hex(4)}")
        fs.pipe_file(temporary_path, content)
        fs.mv(temporary_path, path)


def _protocols(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
