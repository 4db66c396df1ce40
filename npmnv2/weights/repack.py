"""Rewrite an HDF5 file in the plain layout that `npmnv2.weights.hdf5` reads, with the HDF5 library in a child process.

The library ends or damages its process on some damaged files, so it never opens other people's files in the user's
own. `repack` starts this file as a program, which limits its own time and memory, gives up the right to write files,
and sends the plain file back through a pipe.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# Read by the reader: npmnv2's own attribute, Keras's description of the model, and its names of layers.
_ATTRIBUTES = ("npmnv2", "model_config", "name")
_MAX_DEPTH = 32
_REFUSED = 3


def seconds(size: int) -> float:
    """CPU time that the library may take for a file of `size` bytes: unpacking runs at 100 MB/s and more."""
    return 0.5 + size / 20e6


# --- in the user's process --------------------------------------------------------------------------------------------


def repack(path: Path, size: int) -> bytes:
    """The plain form of an HDF5 file, of at most `size` bytes.

    Raises
    ------
    ValueError
        If the library cannot read the file, crashes, or takes too long.
    """
    import subprocess

    if getattr(sys, "frozen", False) or not sys.executable:
        # A frozen application is its own interpreter, and would start itself again.
        raise ValueError("there is no Python interpreter to run it in a child process")
    # The child finds h5py where this process does; an empty entry would be the current folder.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(Path(__file__).resolve()), str(path), str(size)]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env=environment, timeout=600)
    except Exception as error:  # whatever the library makes of the file, it is refused
        raise ValueError(f"the HDF5 library could not be run in a child process: {error}") from None
    if done.returncode == _REFUSED:
        raise ValueError(done.stderr.decode("utf-8", "replace").strip())
    if done.returncode != 0:
        raise ValueError(f"the HDF5 library failed on it ({_ending(done.returncode)})")
    return done.stdout


def _ending(code: int) -> str:
    import signal

    if -code in (getattr(signal, "SIGPROF", 0), getattr(signal, "SIGALRM", 0)):
        return "it took too long"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


# --- in the child -----------------------------------------------------------------------------------------------------


def main() -> None:
    """Read the file that the first argument names, and write its plain form to standard output."""
    # The folder of this file would hide packages whose names its modules have.
    del sys.path[0]
    import io

    import h5py

    path, size = sys.argv[1], int(sys.argv[2])
    _limit(os.path.getsize(path), size)
    image = io.BytesIO()
    try:
        with h5py.File(path, "r") as source, h5py.File(image, "w", libver=("earliest", "v110")) as target:
            Copy(target, size).group(source, "")
    except Exception as error:  # whatever the library makes of the file, it is refused
        sys.stderr.write(f"{type(error).__name__}: {error}"[:300])
        sys.exit(_REFUSED)
    sys.stdout.buffer.write(image.getbuffer())


def _limit(file_size: int, size: int) -> None:
    """Give up the right to write files, to start processes, and to take much time and memory."""
    import signal

    try:
        import resource
    except ModuleNotFoundError:  # Windows has none of this; the parent's timeout remains.
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    try:
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        limit = used + 3 * size + file_size
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except OSError:
        pass
    signal.setitimer(signal.ITIMER_PROF, seconds(file_size))


class Copy:
    """Copies groups, arrays of numbers and text attributes, and nothing that leads out of the file."""

    def __init__(self, target: Any, size: int) -> None:
        self.target, self.left = target, size
        self.visited: set[int] = set()

    def group(self, source: Any, path: str, depth: int = 0) -> None:
        import h5py

        if depth > _MAX_DEPTH:
            raise ValueError(f"groups are nested deeper than {_MAX_DEPTH}")
        self.attributes(source, self.target.require_group(path) if path else self.target)
        for name in source:
            if not isinstance(source.get(name, getlink=True), h5py.HardLink):
                continue
            item = source[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in self.visited:
                continue
            self.visited.add(address)
            self.spend(200 + len(path))
            if isinstance(item, h5py.Group):
                self.group(item, f"{path}/{name}", depth + 1)
            elif isinstance(item, h5py.Dataset):
                self.dataset(item, f"{path}/{name}")

    def dataset(self, source: Any, path: str) -> None:
        if source.external or source.is_virtual:
            raise ValueError(f"{path} points to another file, which is not followed")
        if source.shape is None or source.dtype.kind not in "fiu":
            return
        self.spend(source.size * source.dtype.itemsize)
        # The file keeps the type, so that the reader refuses integers where weights should be.
        little = source.dtype.newbyteorder("<")
        self.target.create_dataset(path, data=source[()].astype(little), dtype=little)

    def attributes(self, source: Any, target: Any) -> None:
        for name in _ATTRIBUTES:
            value = source.attrs.get(name)
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            if isinstance(value, str):
                self.spend(len(value))
                # Longer ones do not fit into the header of an object.
                target.attrs[name] = value

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError("it unpacks to more bytes than a file of its size may")


if __name__ == "__main__":
    main()
