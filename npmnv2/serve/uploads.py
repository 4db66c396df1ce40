"""Photos in a request: read into memory within the limits, never onto a disk, and checked before they are decoded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import PurePosixPath, PureWindowsPath
from typing import NamedTuple

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from npmnv2.errors import ImageError
from npmnv2.images.loading import read_header
from npmnv2.serve.limits import Limits

# What cameras and browsers write. Formats whose header may understate what unpacking takes (ICO, TIFF) are left out.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP")

# A progressive JPEG repeats its scan of the whole photo; cameras and editors write about ten.
MAX_SCANS = 100
_START_OF_SCAN = b"\xff\xda"

# A client that sends too much is read to the end, so that it sees the answer; up to here, and so long.
_DRAINED_BYTES = 1 << 28
_DRAIN_SECONDS = 5

_RAW_TYPES = ("image/", "application/octet-stream")
_HOW = "send photos as multipart/form-data, or one as the body, with Content-Type: image/jpeg or another image's"


class Upload(NamedTuple):
    """One photo of a request: what results call it, and its file's content."""

    name: str | None
    content: bytes


class Refused(ImageError):
    """A photo that is not decoded, and the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Held:
    """The bytes of all requests in memory; a request that finds no room is sent away."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0

    def take(self, count: int) -> None:
        """Count bytes that have arrived."""
        if self.bytes + count > self.limit:
            raise HTTPException(429, "the server holds as many photos as it may; try again", {"Retry-After": "1"})
        self.bytes += count

    def give_back(self, count: int) -> None:
        """Count bytes that are gone."""
        self.bytes -= count


class Body:
    """The body of one request, whose bytes are counted from arrival until the request is answered."""

    def __init__(self, request: Request, limits: Limits, held: Held) -> None:
        self._request, self._limits, self._held = request, limits, held
        self._stream = request.stream()
        self._bytes = 0

    async def __aenter__(self) -> Body:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._held.give_back(self._bytes)

    async def uploads(self) -> list[Upload]:
        """Read the photos.

        Raises
        ------
        HTTPException
            400 if there is none or the body is malformed, 408 if it is slow, 413 if it is too large, 415 if it is of
            a type that holds no photos, 429 if there is no room for it now.
        """
        await self._check_length()
        try:
            found = await asyncio.wait_for(self._read(), self._limits.body_seconds)
        except asyncio.TimeoutError:
            seconds = f"{self._limits.body_seconds:g} s"
            raise HTTPException(408, f"the photos did not arrive within {seconds}", {"Connection": "close"}) from None
        if not found or not all(upload.content for upload in found):
            raise HTTPException(400, f"the request holds no photo: {_HOW}")
        return found

    async def _read(self) -> list[Upload]:
        kind = self._request.headers.get("content-type", "").lower()
        if kind.startswith("multipart/form-data"):
            return await self._read_form()
        if kind.startswith(_RAW_TYPES):
            return [Upload(None, b"".join([chunk async for chunk in self._chunks()]))]
        raise HTTPException(415, f"Content-Type (={kind!r}) holds no photos: {_HOW}")

    async def _read_form(self) -> list[Upload]:
        try:
            most = self._limits.images
            parser = _InMemoryParser(self._request.headers, self._chunks(), max_files=most, max_fields=most)
            form = await parser.parse()
        except (MultiPartException, FormParserError) as error:
            raise HTTPException(400, f"multipart/form-data must hold photos as files: {error}") from None
        texts = [name for name, value in form.multi_items() if not isinstance(value, UploadFile)]
        if texts:
            problem = f"{texts[0]!r} is text; with curl: -F photo=@cat.jpg"
            raise HTTPException(400, f"multipart/form-data must hold photos as files, {problem}")
        files = [file for _, file in form.multi_items() if isinstance(file, UploadFile)]
        found = [Upload(_base_name(file.filename), file.file.read()) for file in files]
        await form.close()
        return found

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in self._stream:
                if self._bytes + len(chunk) > self._limits.bytes:
                    await self._refuse_length()
                self._held.take(len(chunk))
                self._bytes += len(chunk)
                yield chunk
        except ClientDisconnect:  # nobody reads this; it is counted, and is no failure
            raise HTTPException(400, "the client left before its photos had arrived") from None

    async def _check_length(self) -> None:
        stated = self._request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > self._limits.bytes:
            await self._refuse_length()

    async def _refuse_length(self) -> None:
        if "expect" not in self._request.headers:
            await self._drain()
        raise HTTPException(
            413, f"a request may hold {self._limits.megabytes:g} MB, this one is larger", {"Connection": "close"}
        )

    async def _drain(self) -> None:
        """Let the client finish sending: one whose connection is closed before sees no answer."""

        async def read() -> None:
            size = 0
            async for chunk in self._stream:
                size += len(chunk)
                if size > _DRAINED_BYTES:
                    return

        try:
            await asyncio.wait_for(read(), _DRAIN_SECONDS)
        except asyncio.TimeoutError:
            return


class _InMemoryParser(MultiPartParser):
    """Starlette's parser, whose parts would move to a temporary file above 1 MB."""

    spool_max_size = 1 << 40


def _base_name(name: str | None) -> str | None:
    """The last part of a name, from either kind of system: it is shown, never opened."""
    return PureWindowsPath(PurePosixPath(name).name).name or None if name else None


def check(content: bytes, limits: Limits) -> None:
    """Look at the header of a photo before it is decoded.

    Raises
    ------
    Refused
        With status 415 if it is not a photo in one of `FORMATS`, and 413 if decoding would take too much.
    """
    try:
        header = read_header(content)
    except ImageError:
        raise Refused(415, f"this is no photo in one of the formats that are read: {', '.join(FORMATS)}") from None
    if header.format not in FORMATS:
        raise Refused(415, f"photos are read in the formats {', '.join(FORMATS)}, not in {header.format}")
    if header.width * header.height > limits.pixels:
        raise Refused(
            413, f"the photo has {header.width} × {header.height} pixels, more than {limits.megapixels:g} megapixels"
        )
    if header.format in ("JPEG", "MPO") and content.count(_START_OF_SCAN) > MAX_SCANS:
        raise Refused(413, f"the photo has more than {MAX_SCANS} scans, each of which would be decoded")
