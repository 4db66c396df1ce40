"""The one decorator of all compiled functions, and the folder that keeps their machine code for the next process.

Numba's own cache would not do: its key leaves out compilation options (numba#6845), the sources of the functions that a
function calls, and its closure in any form that survives a new process; it fails at import where no folder can be
written to; and a damaged file ends in an exception. Here

* a folder is named by a digest of everything that machine code depends on but its signature and processor;
* a file holds the code of one function for one signature and processor, after a digest of its own content;
* whatever goes wrong with a file or a folder costs a compilation and nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.runtime.nrt import rtsys
from numba.core.serialize import dumps

from npmnv2.files import write_atomically

from .notice import announce_compilation

# Numba's settings (NUMBA_… in the environment) that change machine code.
_SETTINGS = (
    "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "ENABLE_AVX", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE",
)  # fmt: skip
_DIGEST_SIZE = hashlib.sha256().digest_size
_FORGOTTEN_AFTER_DAYS = 90


announce_compilation()


def njit(
    function: Callable[..., Any] | None = None, *, variant: str = "", cached: bool = True, inline: bool = False
) -> Any:
    """Compile a function the way all kernels are: without the global lock, without fastmath.

    Parameters
    ----------
    function : callable
    variant : str
        Tells functions apart that one piece of source makes, as a factory of kernels does.
    cached : bool
        Whether to keep the machine code on disk. Needless for what only other compiled functions call: it becomes
        part of their code.
    inline : bool
        Whether to put it into its callers before they are compiled. Every function is otherwise compiled with all that
        it calls, so a long chain of calls compiles its innermost function once per link.

    Raises
    ------
    ValueError
        If a factory made two functions with the same `variant`; one would be taken for the other.
    """
    if function is None:
        return functools.partial(njit, variant=variant, cached=cached, inline=inline)
    _claim_variant(function, variant)
    if variant:
        # Machine code from two processes may meet in a third, where names are all that tells functions apart.
        function.__qualname__ += f"[{variant}]"
    compiled: Any = numba.njit(nogil=True, error_model="numpy", inline="always" if inline else "never")(function)
    if cached and hasattr(compiled, "_cache"):  # a plain function under NUMBA_DISABLE_JIT has none
        compiled._cache = _Cache(function, variant)
    return compiled


_variants: dict[tuple[int, str], Any] = {}


def _claim_variant(function: Callable[..., Any], variant: str) -> None:
    code = function.__code__
    if function.__closure__ is not None and (id(code), variant) in _variants:
        raise ValueError(f"variant (={variant!r}) must differ between the functions made by {function.__qualname__}")
    _variants[id(code), variant] = code  # kept, so that no other code gets this id


class _Cache(NullCache):
    """Machine code of one function on disk, one file per signature and processor."""

    def __init__(self, function: Callable[..., Any], variant: str) -> None:
        self._name = f"{function.__module__}.{function.__qualname__}.{variant}"
        self._code = function.__code__.co_code

    @property
    def cache_path(self) -> str | None:
        folder = cache_folder()
        return None if folder is None else str(folder)

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """Return the compiled function, None if there is none, or none that is sound."""
        path = self._path(signature, target_context.codegen())
        if path is None:
            return None
        try:
            stored = _read_own(path)
            digest, content = stored[:_DIGEST_SIZE], stored[_DIGEST_SIZE:]
            if hashlib.sha256(content).digest() != digest:
                return None
            # Not target_context.refresh(): that imports and registers, for 0.2 s, what only compiling needs.
            rtsys.initialize(target_context)
            return CompileResult._rebuild(target_context, *pickle.loads(content))
        # Whatever a damaged or an old file raises (unpickling can raise anything), compiling anew is the answer.
        except Exception:
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep a compiled function, if there is a place for it."""
        path = self._path(signature, compiled.library.codegen)
        if path is None or compiled.library.has_dynamic_globals:
            return
        content = dumps(compiled._reduce())
        with suppress(OSError):
            _write_own(path, hashlib.sha256(content).digest() + content)

    def _path(self, signature: Any, codegen: Any) -> Path | None:
        folder = cache_folder()
        if folder is None:
            return None
        key = hashlib.sha256(repr((self._name, self._code, signature, codegen.magic_tuple())).encode()).hexdigest()
        short = self._name.rpartition(".kernels.")[2].replace("<locals>.", "").rstrip(".")
        return folder / f"{short}-{key[:16]}.bin"


def _is_own(about: os.stat_result) -> bool:
    """Whether only this user and root can have written a file or folder. Windows keeps a user's cache to the user."""
    if not hasattr(os, "geteuid"):
        return True
    return about.st_uid in (os.geteuid(), 0) and not about.st_mode & 0o022


def _read_own(path: Path) -> bytes:
    with path.open("rb") as file:
        if not _is_own(os.fstat(file.fileno())):
            raise PermissionError(f"{path} can be written by others")
        return file.read()


def _write_own(path: Path, content: bytes) -> None:
    """Write a file that this user alone can write, so that other processes see all of it or nothing."""
    path.unlink(missing_ok=True)  # one that others can write to would pass its mode on
    with write_atomically(path) as temporary:
        temporary.chmod(0o600)
        temporary.write_bytes(content)


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder for machine code, made if need be; None if there is no place for one.

    It stands in ``$NUMBA_CACHE_DIR`` or the user's cache directory, never in ``$NPMNV2_HOME``: that is meant to be
    copied from machine to machine, and what is kept here is code that will run.
    """
    try:
        folder = _home() / f"{sys.implementation.cache_tag}-{_digest()}"
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            _remove_forgotten(folder.parent)
        tempfile.TemporaryFile(dir=folder).close()
        return folder if _is_own(folder.stat()) else None
    except (OSError, RuntimeError):  # read-only, or a user without a home
        return None


def _home() -> Path:
    if shared := getattr(config, "CACHE_DIR", ""):
        return Path(shared) / "npmnv2"
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "npmnv2" / "kernels"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "npmnv2" / "kernels"
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / caches / "npmnv2" / "kernels"


def _digest() -> str:
    """Digest of what the machine code of all functions depends on: every source, the compilers, their settings."""
    found = hashlib.sha256()
    settings = [str(getattr(config, name, None)) for name in _SETTINGS]
    found.update(repr([sys.version, numba.__version__, llvmlite.__version__, *settings]).encode())
    kernels = __package__.rpartition(".")[0]
    for package in (__package__, f"{__package__}.integers", f"{kernels}.host", kernels):
        for source in sorted(resources.files(package).iterdir(), key=lambda file: file.name):
            if source.name.endswith((".py", ".pyc")):
                found.update(source.name.encode() + b"\0" + source.read_bytes())
    return found.hexdigest()[:16]


def _remove_forgotten(home: Path) -> None:
    """Remove the folders of versions that nothing was compiled for in a long time."""
    oldest = time.time() - _FORGOTTEN_AFTER_DAYS * 24 * 3600
    for folder in home.iterdir():
        if folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)
