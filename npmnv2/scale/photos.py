"""Photos by name as a model takes them, fetched ahead of the network."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

from npmnv2.errors import ImageError
from npmnv2.images.loading import MAX_FILE_BYTES
from npmnv2.scale.storage import is_local, locate

# Photos that are fetched at once, while as many are computed. Both are in memory, as files.
_GROUP = 16


class NamedPhoto(BytesIO):
    """The bytes of a photo, which messages call by its name; reading raises what came instead of bytes."""

    def __init__(self, name: str, content: bytes | Exception) -> None:
        super().__init__(content if isinstance(content, bytes) else b"")
        self.name = name
        self._error = None if isinstance(content, bytes) else content

    def read(self, size: int | None = -1, /) -> bytes:
        """The bytes.

        Raises
        ------
        Exception
            What the file system raised.
        """
        if self._error is not None:
            raise self._error
        return super().read(size)


class Reader:
    """Reads photos; an archive is opened once."""

    def __init__(self) -> None:
        self._archives: dict[str, Any] = {}

    def photos(self, names: Sequence[str]) -> Iterator[str | NamedPhoto]:
        """What a model takes for each name: a path of this machine, or the content of a file, fetched ahead."""
        groups = [names[at : at + _GROUP] for at in range(0, len(names), _GROUP)]
        with ThreadPoolExecutor(1) as pool:
            ahead = [pool.submit(self._group, groups[0])] if groups else []
            for group in [*groups[1:], ()]:
                fetched = ahead.pop().result()
                ahead.append(pool.submit(self._group, group))
                yield from fetched

    def _group(self, names: Sequence[str]) -> list[str | NamedPhoto]:
        places = [self._locate(name) for name in names]
        remote = [(fs, path) for fs, path in places if fs.async_impl]
        contents = iter(_fetch_together(remote) if remote else [])
        return [
            path if is_local(fs) else NamedPhoto(name, next(contents) if fs.async_impl else _fetch(fs, path))
            for name, (fs, path) in zip(names, places, strict=True)
        ]

    def _locate(self, name: str) -> tuple[Any, str]:
        inner, chain, outer = name.partition("::")
        if not chain:
            return locate(name)
        kind, _, path = inner.partition("://")
        if outer not in self._archives:
            self._archives[outer], _ = locate(f"{kind}://::{outer}")
        return self._archives[outer], path


def _fetch(fs: Any, path: str) -> bytes | Exception:
    try:
        with fs.open(path, "rb") as file:
            return bytes(file.read(MAX_FILE_BYTES + 1))
    except KeyError:  # of archives, as fsspec leaves it
        return FileNotFoundError(f"no {path} in the archive")
    except Exception as error:  # raised where the photo's turn comes
        return error


def _fetch_together(places: Sequence[tuple[Any, str]]) -> list[bytes | Exception]:
    from fsspec.asyn import sync

    async def fetch() -> list[bytes | Exception]:
        found: list[Any] = await asyncio.gather(*(fs._cat_file(path) for fs, path in places), return_exceptions=True)
        return found

    contents: list[bytes | Exception] = sync(places[0][0].loop, fetch)
    return contents


def is_about_the_photo(error: Exception) -> bool:
    """Whether an error stands for the photo, now and later: a row of the table, and no reason to try again."""
    return isinstance(error, (ImageError, FileNotFoundError, IsADirectoryError, NotADirectoryError))
