"""The index of a folder: what is known of its photos, in one SQLite file.

Every change is a transaction of SQLite's: a killed process, a full disk or two processes at once leave the index as it
was before or after it. Contents are kept apart from the files that hold them, so that a file that was moved or copied
is found by its digest.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npmnv2.errors import IndexFileError
from npmnv2.kernels import Array

FORMAT_VERSION = 1

# SQLite's first bytes, and where its header has what a program calls its files.
_SQLITE = b"SQLite format 3\0"
_APPLICATION = b"NPMV"
_APPLICATION_AT = 68
_HEADER_BYTES = 100

# How long one process waits for a transaction of a different one.
_BUSY_SECONDS = 60

_SCHEMA = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {int.from_bytes(_APPLICATION, "big")};
PRAGMA user_version = {FORMAT_VERSION};
CREATE TABLE IF NOT EXISTS model (digest TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS contents (
    digest BLOB PRIMARY KEY, width INTEGER NOT NULL, height INTEGER NOT NULL,
    embedding BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS files (
    name BLOB PRIMARY KEY, bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL
);
COMMIT;
"""


class Stamp(NamedTuple):
    """By which a file is known to be unchanged: its size in bytes and the time of its last change."""

    bytes: int
    mtime_ns: int


class Content(NamedTuple):
    """What is known of a file's bytes.

    Attributes
    ----------
    digest : bytes
        SHA-256.
    width, height : int
        In pixels.
    embedding : Array [shape=(C,)]
    """

    digest: bytes
    width: int
    height: int
    embedding: Array


class Entry(NamedTuple):
    """A file that is in the index: its name in the folder, its stamp, and the digest of its content."""

    name: str
    stamp: Stamp
    digest: bytes


class Index:
    """An open index.

    Parameters
    ----------
    path : Path
        Made if there is none.
    model_digest : str
        Of everything that embeddings depend on.
    model_name : str
        For messages.

    Raises
    ------
    IndexFileError
        If the file is not an index, damaged, or was made with a different model or by a different version of npmnv2.
        The file is then as it was.
    OSError
        If its folder is not there.
    """

    def __init__(self, path: Path, model_digest: str, model_name: str) -> None:
        self.path = path
        _check_header(path)
        with self._errors():
            self._connection = sqlite3.connect(path.absolute(), timeout=_BUSY_SECONDS, isolation_level=None)
        self._connection.text_factory = lambda text: text.decode("utf-8", "replace")  # damaged text is a different one
        try:
            with self._errors():
                self._begin_using(model_digest, model_name)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_using(self, digest: str, name: str) -> None:
        self._connection.execute("PRAGMA trusted_schema = OFF")
        if self._connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            self._connection.executescript(_SCHEMA)
        with self._transaction():
            made_with = self._connection.execute("SELECT digest, name FROM model").fetchone()
            if made_with is None:
                self._connection.execute("INSERT INTO model VALUES (?, ?)", (digest, name))
            elif made_with[0] != digest:
                raise IndexFileError(
                    f"index {self.path} was made with a different model or for photos prepared differently: with "
                    f"{made_with[1]}, not with {name}; use that, or choose a different file, or delete this one"
                )

    # --- reading -----------------------------------------------------------------------------------------------------

    def entries(self) -> dict[str, Entry]:
        """All files whose content is known, by name."""
        query = "SELECT name, bytes, mtime_ns, digest FROM files WHERE digest IN (SELECT digest FROM contents)"
        with self._errors():
            rows = self._connection.execute(query).fetchall()
        if not all(isinstance(name, bytes) for name, *_ in rows):
            raise self._damaged("a file has no name")
        found = (Entry(os.fsdecode(name), Stamp(size, mtime_ns), digest) for name, size, mtime_ns, digest in rows)
        return {entry.name: entry for entry in found}

    def digests(self) -> set[bytes]:
        """Of all contents that are known."""
        with self._errors():
            return {digest for (digest,) in self._connection.execute("SELECT digest FROM contents")}

    def contents(self) -> Iterator[Content]:
        """All contents, one after the other.

        Raises
        ------
        IndexFileError
            If an embedding is not as it was written.
        """
        query = "SELECT digest, width, height, embedding, checksum FROM contents"
        with self._errors():
            for *known, checksum in self._connection.execute(query):
                if _checksum(known) != checksum:
                    raise self._damaged("what it says of a photo has changed")
                digest, width, height, values = known
                yield Content(digest, width, height, np.frombuffer(values, "<f4"))

    # --- writing -----------------------------------------------------------------------------------------------------

    def add(self, entries: Iterable[Entry], contents: Iterable[Content] = ()) -> list[str]:
        """Add files, in one transaction; those of the same name are replaced.

        Returns
        -------
        list of str
            Names of files that were not added, because their content is neither given nor in the index.
        """
        with self._transaction():
            self._connection.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?)", map(_row, contents))
            return [entry.name for entry in entries if not self._add(entry)]

    def _add(self, entry: Entry) -> bool:
        added = self._connection.execute(
            "INSERT OR REPLACE INTO files SELECT ?, ?, ?, digest FROM contents WHERE digest = ?",
            (os.fsencode(entry.name), *entry.stamp, entry.digest),
        )
        return added.rowcount == 1

    def remove(self, names: Iterable[str]) -> None:
        """Forget files, and contents that no file has."""
        with self._transaction():
            self._connection.executemany("DELETE FROM files WHERE name = ?", ((os.fsencode(name),) for name in names))
            self._connection.execute("DELETE FROM contents WHERE digest NOT IN (SELECT digest FROM files)")

    # --- errors ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._connection.in_transaction:  # SQLite itself goes back where a disk is full
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say which file SQLite complains about, and what helps."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise IndexFileError(f"index {self.path} cannot be used: {error}") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter where a message quotes the damage
            raise self._damaged(str(error)) from error

    def _damaged(self, reason: str) -> IndexFileError:
        return IndexFileError(f"index {self.path} is damaged ({reason}): delete it, and it is made anew")


def _check_header(path: Path) -> None:
    """Refuse what is not an index before SQLite may change it."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"index {path} must be in a folder that exists, got {str(path.parent)!r}")
    if not path.exists():
        return
    if not path.is_file():
        raise IndexFileError(f"index {path} must be a file")
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header:
        return
    if not header.startswith(_SQLITE) or header[_APPLICATION_AT:][:4] != _APPLICATION:
        raise IndexFileError(f"{path} is not an index of photos; it was left as it is: choose a different file")
    version = int.from_bytes(header[60:64], "big")
    if version != FORMAT_VERSION:
        raise IndexFileError(
            f"index {path} has format {version}, this npmnv2 reads {FORMAT_VERSION}: choose a different file, or "
            "delete this one"
        )


def _row(content: Content) -> tuple[object, ...]:
    values = np.ascontiguousarray(content.embedding, "<f4").tobytes()
    known = content.digest, content.width, content.height, values
    return *known, _checksum(known)


def _checksum(known: Sequence[Any]) -> int | None:
    """CRC-32 of a row of contents; None where the types are wrong."""
    digest, width, height, values = known
    try:
        return zlib.crc32(b"%b %d %d %b" % (digest, width, height, values))
    except TypeError:
        return None
