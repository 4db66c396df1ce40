"""What the output of a run holds beside its parts: settings, weights, and the names of the photos of every part."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from npmnv2.errors import ArgumentError
from npmnv2.scale.storage import absolute, locate, write_whole

# Changes when the meaning of a file here does.
FORMAT = 1
_PART = re.compile(r"part-(\d{6,})\.parquet")
_NAMES = re.compile(r"(\d{6,})\.json")


class Output:
    """The folder of one table.

    Parameters
    ----------
    url : str
        Path or URL; the folder need not exist.
    """

    def __init__(self, url: str) -> None:
        self.url = absolute(url)
        self.fs, root = locate(self.url)
        self.root = root.rstrip("/")

    # --- settings and weights ----------------------------------------------------------------------------------------

    def begin(self, settings: Mapping[str, Any], weights: bytes) -> str:
        """Start a run here, or go on with one of the same settings; return the digest of the settings.

        Raises
        ------
        ArgumentError
            If there is a run of other settings, or something else.
        """
        content = _json({"format": FORMAT, **settings})
        if (earlier := self._read_or_none("run.json")) is None:
            self._check_unused()
            self._write("model.h5", weights)
            self._write("run.json", content)
        elif earlier != content:
            if (begun := json.loads(earlier).get("format")) != FORMAT:
                raise ArgumentError(
                    f"{self.url} holds a table of a different version of npmnv2 (format {begun}, not {FORMAT}); use "
                    "that version, or choose a new output"
                )
            # A fingerprint follows from everything else, and says something where nothing else does.
            old, new = ({**json.loads(each), "fingerprint": ""} for each in (earlier, content))
            differences = _differences(old, new)
            differences = differences or "this machine computes other bits of floats than the one that began it"
            raise ArgumentError(
                f"{self.url} holds a table of other settings: {differences}; repeat those, or choose a new output"
            )
        return hashlib.sha256(content).hexdigest()

    def settings(self, digest: str) -> dict[str, Any]:
        """The settings of the run of this digest."""
        content = self._read("run.json")
        if hashlib.sha256(content).hexdigest() != digest:
            raise ArgumentError(f"{self.url} must hold the table that was begun; it was replaced meanwhile")
        return json.loads(content)  # type: ignore[no-any-return]

    def weights(self) -> bytes:
        """The native weight file."""
        return self._read("model.h5")

    def _check_unused(self) -> None:
        # An earlier run may have been stopped before its settings were there.
        if found := [name for name in self._list(self.root) if name != "_manifest"]:
            raise ArgumentError(f"{self.url} must be new, or hold a table that was begun; it holds {found[0]}")

    # --- names -------------------------------------------------------------------------------------------------------

    def record(self, names: Iterable[str], part_size: int, on_part: Callable[[int, int], None]) -> None:
        """Record the names of every part in turn, and tell `on_part` its number and how many photos it has.

        Once all are listed they are never listed again. Before, those that an earlier run recorded must come again.

        Raises
        ------
        ArgumentError
            If the names are not those of the earlier run.
        """
        if (listed := self.listed()) is not None:
            for number in range(listed["parts"]):
                on_part(number, min(part_size, listed["photos"] - number * part_size))
            return
        known = self._recorded()
        photos = parts = 0
        for number, part in enumerate(_chunks(names, part_size)):
            if number in known:
                self._check_names(number, part)
            else:
                self._write(f"names/{number:06}.json", _json(part))
            photos, parts = photos + len(part), number + 1
            on_part(number, len(part))
        if parts in known:
            self._check_names(parts, [])
        self._write("listed.json", _json({"photos": photos, "parts": parts}))

    def names(self, number: int) -> list[str]:
        """Names of the photos of a part."""
        return json.loads(self._read(f"names/{number:06}.json"))  # type: ignore[no-any-return]

    def listed(self) -> dict[str, int] | None:
        """How many photos and parts there are; None before the last one is listed."""
        content = self._read_or_none("listed.json")
        return None if content is None else json.loads(content)

    def _recorded(self) -> set[int]:
        return _numbers(_NAMES, self._list(f"{self.root}/_manifest/names"))

    def _check_names(self, number: int, names: Sequence[str]) -> None:
        known = self.names(number)
        if known != list(names):
            changed = sorted(set(known) ^ set(names)) or known
            raise ArgumentError(
                f"{self.url} was begun with other photos, and stopped before all were listed: {changed[0]} "
                "was added or removed since; choose a new output"
            )

    # --- parts -------------------------------------------------------------------------------------------------------

    def done(self) -> set[int]:
        """Numbers of the parts that are there."""
        return _numbers(_PART, self._list(self.root))

    def write_part(self, number: int, content: bytes) -> None:
        """Write a part, as a whole or not at all."""
        write_whole(self.fs, f"{self.root}/part-{number:06}.parquet", content)

    def finish(self, photos: int, failed: int) -> None:
        """Say that the table is complete, as Hadoop and Spark do: by a file ``_SUCCESS``."""
        write_whole(self.fs, f"{self.root}/_SUCCESS", _json({"photos": photos, "failed": failed}))

    # --- files -------------------------------------------------------------------------------------------------------

    def _write(self, name: str, content: bytes) -> None:
        write_whole(self.fs, f"{self.root}/_manifest/{name}", content)

    def _read(self, name: str) -> bytes:
        return self.fs.cat_file(f"{self.root}/_manifest/{name}")  # type: ignore[no-any-return]

    def _read_or_none(self, name: str) -> bytes | None:
        try:
            return self._read(name)
        except FileNotFoundError:
            return None

    def _list(self, folder: str) -> list[str]:
        """Names in a folder; none where there is no folder."""
        self.fs.invalidate_cache()  # others write here
        try:
            paths = [path.rstrip("/") for path in self.fs.ls(folder, detail=False)]
        except FileNotFoundError:
            return []
        names = (path.rpartition("/")[2] for path in paths if path != folder)
        return sorted(name for name in names if not name.startswith("."))


def _json(values: Any) -> bytes:
    return json.dumps(values, indent=0, sort_keys=True).encode()


def _chunks(names: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(names)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _numbers(pattern: re.Pattern[str], names: Iterable[str]) -> set[int]:
    return {int(match[1]) for name in names if (match := pattern.fullmatch(name))}


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> str:
    """Where two settings differ: "top_k 5, not 3"."""
    found = []
    for key in sorted({*earlier, *now}):
        a, b = earlier.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += [_differences(a, b, f"{where}{key}.")] if a != b else []
        elif a != b:
            found.append(f"{where}{key} {a!r}, not {b!r}")
    return "; ".join(found)
