"""Photos on the command line: finding them, and reporting those that cannot be used."""

from __future__ import annotations

import argparse
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from npmnv2.cli.console import log_stderr, progress
from npmnv2.errors import ArgumentError
from npmnv2.images.folders import SUFFIXES, photos_in
from npmnv2.memory import keep_freed_memory

# First bytes of image files. BMP's two letters may also begin a file name; its header has zeros that no name has.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")
_MAX_STDIN_BYTES = 1 << 28
_STDIN = "-"


class Photo(NamedTuple):
    """One photo: what messages and results call it, and what a model takes (a path, or the bytes of a file)."""

    name: str
    image: str | bytes

    @property
    def stem(self) -> str:
        """Name for files made of this photo."""
        return Path(self.name).stem if isinstance(self.image, str) else "stdin"


def find_photos(options: argparse.Namespace) -> list[Photo]:
    """Photos named by the arguments: files, folders, patterns, and what is on standard input.

    Of folders, files whose suffix is in `SUFFIXES`, sorted by path; hidden files and folders are left out. Folders
    inside folders are searched with ``--recursive``.

    Raises
    ------
    FileNotFoundError
        If none of them exists, before a model is loaded for nothing.
    """
    photos = [photo for argument in options.photos for photo in _find(argument, options)]
    if photos and not any(isinstance(photo.image, bytes) or os.path.exists(photo.image) for photo in photos):
        more = f" and {len(photos) - 1} more" if len(photos) > 1 else ""
        raise FileNotFoundError(f"{photos[0].name}{more}: no such file")
    return photos


def _find(argument: str, options: argparse.Namespace) -> Iterable[Photo]:
    if argument == _STDIN:
        return _from_stdin(sys.stdin.buffer, options.null)
    path = Path(argument)
    if path.is_dir():
        paths = [str(photo) for photo in photos_in(path, options.recursive)]
        missing = f"{argument} holds no photos ({', '.join(sorted(SUFFIXES))}){_recursive_hint(path, options)}"
    elif glob.has_magic(argument) and not path.exists():
        paths, missing = sorted(glob.glob(argument, recursive=True)), f"{argument} matches no file"
    else:
        paths, missing = [argument], ""
    if not paths:
        log_stderr(missing)
    return [Photo(path, path) for path in paths]


def _recursive_hint(folder: Path, options: argparse.Namespace) -> str:
    return "; --recursive finds those in its folders" if not options.recursive and photos_in(folder, True) else ""


def _from_stdin(stream: BinaryIO, null: bool) -> list[Photo]:
    """The image that standard input is, or the files that it lists."""
    content = stream.read(_MAX_STDIN_BYTES + 1)
    if len(content) > _MAX_STDIN_BYTES:
        raise ArgumentError(f"standard input has more than {_MAX_STDIN_BYTES >> 20} MiB: pass the file's name instead")
    if _is_image(content):
        return [Photo(_STDIN, content)]
    lines = content.split(b"\0") if null else content.splitlines()
    paths = (os.fsdecode(line if null else line.strip()) for line in lines)
    return [Photo(path, path) for path in paths if path]


def _is_image(content: bytes) -> bool:
    webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    bmp = content[:2] == b"BM" and content[6:10] == bytes(4)
    avif = content[4:8] == b"ftyp"  # and HEIC, which then is refused as an image, not as a list of names
    return content.startswith(_SIGNATURES) or webp or bmp or avif


def images_of(photos: Sequence[Photo]) -> Iterator[str | bytes]:
    """What a model takes, one by one: results then come while later photos are still to be read."""
    return (photo.image for photo in photos)


def run_options(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `predict` and `features` that say how photos are run."""
    transform = {} if options.transform is None else {"transform": options.transform}
    return {"batch_size": options.batch_size, **transform}


def usable_results(
    results: Iterable[Any], photos: Sequence[Photo], options: argparse.Namespace
) -> Iterator[tuple[Photo, Any]]:
    """Pair each photo with its result, with a progress bar; an exception is reported and left out."""
    with progress(len(photos), options.quiet) as bar:
        for photo, result in zip(photos, results, strict=True):
            if isinstance(result, Exception):
                log_stderr(str(result) if photo.name in str(result) else f"{photo.name}: {result}")
            else:
                yield photo, result
            bar.update()


def exit_code(usable: int, total: int) -> int:
    """0 if all photos could be used; else say how many could not, and 1."""
    if not total:
        log_stderr("no photos were given")
    if usable < total:
        log_stderr(f"{total - usable} of {total} photos could not be used")
    return 1 if usable < total or not total else 0


def load_model(options: argparse.Namespace) -> Any:
    """Load the model of a command that works on photos, and settle the batch size."""
    import npmnv2

    keep_freed_memory()
    model = npmnv2.load(options.model, backend=options.backend, precision=options.precision, n_threads=options.threads)
    # Built now, so that an impossible option is reported here and not for every photo.
    _ = model.executable
    if options.batch_size is None:
        # A segmented photo is large, and its network fills the processor alone.
        options.batch_size = 1 if model.task == "segmentation" else 8
    return model
