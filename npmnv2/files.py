"""Writing files so that nothing is ever left half written."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the place of `path` when all went well.

    If the block raises, an existing file at `path` is as it was and the temporary one is gone.

    Raises
    ------
    OSError
        If the folder of `path` does not exist or cannot be written to, or if `path` is a folder itself.
    """
    path = Path(path)
    # The system's own message would name the temporary file, which tells nobody anything.
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} must be in a folder that exists, got {str(path.parent)!r}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} must be a file to write, got a folder")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; what replaces the target shall have ordinary permissions.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
