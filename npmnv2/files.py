"""Writing files so that nothing is ever left half written, and the user's own cache folder."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

# Temporary files say who makes them: of which machine and process, so that those of the dead can be told.
_TEMPORARY = re.compile(r"\..+\.npmnv2-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}(\..*)?")
_ABANDONED_AFTER_SECONDS = 24 * 3600


def printable(text: str) -> str:
    """The text, with backslashes for what is not valid UTF-8, as names of files may have it."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; when all went well, what was written there becomes the content of `path`.

    If the block raises, an existing file at `path` is as it was and the temporary one is gone. What a killed process
    has left in the folder is removed by the next one that writes there.

    Links are followed, and a file that exists keeps its mode and owner. Where a new file could not stand for the old
    one (it has several hard links, or an owner that cannot be kept), the finished content is copied into the old one at
    the end; so it is where `path` is a FIFO or a character device such as ``/dev/null``.

    Raises
    ------
    OSError
        If the folder of `path` does not exist or cannot be written to, or if `path` is a folder, a socket or a disk.
    """
    target, existing = _resolve(Path(path))
    replaces = existing is None or _is_replaceable(target, existing)
    temporary = _create_temporary(target, existing) if replaces else _create_elsewhere(target)
    try:
        yield temporary
        if replaces and (existing is None or _take_over(temporary, existing)):
            os.replace(temporary, target)
        else:
            _copy_into(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_directory(path: Path, writers: Mapping[str, Callable[[Path], object]]) -> None:
    """Write several files of a directory, each by its function; an error leaves every existing file as it was."""
    is_new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            temporaries = {name: stack.enter_context(write_atomically(path / name)) for name in writers}
            for name, write in writers.items():
                write(temporaries[name])
    except BaseException:
        if is_new:
            with suppress(OSError):
                path.rmdir()
        raise


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise the OSError that `write_atomically` would raise, before there is anything to write."""
    _resolve(Path(path))


def user_cache() -> Path:
    """Return npmnv2's folder in this user's cache: ``$XDG_CACHE_HOME/npmnv2``, or the platform's usual one.

    It belongs to this machine; what is meant to be copied to others has a folder of its own, ``$NPMNV2_HOME``.

    Raises
    ------
    RuntimeError
        If the user has no home directory.
    """
    import platformdirs

    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "npmnv2"
    return Path(platformdirs.user_cache_dir("npmnv2"))


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


# --- what is there ----------------------------------------------------------------------------------------------------


def _resolve(path: Path) -> tuple[Path, os.stat_result | None]:
    """Where the content goes once links are followed, and what is there."""
    try:
        existing = path.stat()
    except FileNotFoundError:
        existing = None
    if existing is not None and not stat.S_ISREG(existing.st_mode):
        _check_special(path, existing.st_mode)
        # Not resolved: the links in /dev and /proc lead to names that are no paths.
        return path, existing
    target = Path(os.path.realpath(path))
    # The system's own message would name the temporary file, which tells nobody anything.
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path} must be in a folder that exists, got {str(target.parent)!r}")
    return target, existing


def _check_special(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} must be a file to write, got a folder")
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        raise OSError(f"{path} must be a file to write, got a {'disk' if stat.S_ISBLK(mode) else 'socket'}")


def _is_replaceable(target: Path, existing: os.stat_result) -> bool:
    """Whether a file here may be replaced by a new one: it is known by this name only."""
    return stat.S_ISREG(existing.st_mode) and existing.st_nlink == 1 and os.access(target.parent, os.W_OK)


def _take_over(temporary: Path, existing: os.stat_result) -> bool:
    """Give a new file the owner and mode of the one that it replaces; False if that is not allowed."""
    made = temporary.stat()
    try:
        if (made.st_uid, made.st_gid) != (existing.st_uid, existing.st_gid):
            os.chown(temporary, existing.st_uid, existing.st_gid)
        temporary.chmod(stat.S_IMODE(existing.st_mode))
    except PermissionError:
        return False
    return True


# --- temporary files --------------------------------------------------------------------------------------------------


def _create_temporary(target: Path, existing: os.stat_result | None) -> Path:
    """Make an empty file beside the target: private where it replaces one, else with what the umask allows."""
    import secrets

    _remove_abandoned(target.parent)
    name = f".{target.name[:40]}.npmnv2-{_host()}-{os.getpid()}-{secrets.token_hex(4)}{target.suffix[:40]}"
    temporary = target.with_name(name)
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if existing is None else 0o600))
    return temporary


def _create_elsewhere(target: Path) -> Path:
    """Make an empty private file in the system's folder of temporary files."""
    import tempfile

    handle, name = tempfile.mkstemp(suffix=target.suffix)
    os.close(handle)
    return Path(name)


def _copy_into(source: Path, target: Path) -> None:
    import shutil

    with source.open("rb") as content, target.open("wb") as file:
        shutil.copyfileobj(content, file)


def _host() -> str:
    import socket

    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of processes that were killed."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (match := _TEMPORARY.fullmatch(entry.name)) and _is_abandoned(entry, match):
                with suppress(OSError):
                    os.unlink(entry)


def _is_abandoned(entry: os.DirEntry[str], match: re.Match[str]) -> bool:
    if time.time() - entry.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
        return True
    return match["host"] == _host() and not _is_running(int(match["process"]))


def _is_running(process: int) -> bool:
    # On Windows os.kill would end the process instead of asking for it.
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # a process of somebody else
        return True
    return True
