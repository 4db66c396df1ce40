"""What a client may ask of the server, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields

from npmnv2.errors import ArgumentError


@dataclass(frozen=True)
class Limits:
    """Bounds on size, number and time. The answer to a client that meets one names it.

    Attributes
    ----------
    megabytes : float
        Of one request's body.
    megapixels : float
        Of one photo, read from its header before anything is decoded. Decoding takes about 7 bytes a pixel.
    images : int
        In one request.
    queue : int
        Images that wait for a worker; beyond that a request is answered with 429.
    held_megabytes : float
        Of all bodies that are held at once, arriving ones included.
    connections : int
        Open at once; the next is answered with 503.
    seconds : float
        From the last byte of a request to its answer.
    body_seconds, header_seconds : float
        For a body, and for the line and headers before it, to arrive.
    """

    megabytes: float = 20
    megapixels: float = 50
    images: int = 16
    queue: int = 64
    held_megabytes: float = 200
    connections: int = 256
    seconds: float = 30
    body_seconds: float = 60
    header_seconds: float = 10

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float("inf"):
                raise ArgumentError(f"{field.name} (={value!r}) must be a number above 0")
        if self.queue < self.images:
            raise ArgumentError(f"queue (={self.queue}) must hold the images (={self.images}) of one request")

    @property
    def bytes(self) -> int:
        """Of one request's body."""
        return int(self.megabytes * 1e6)

    @property
    def held_bytes(self) -> int:
        """Of all bodies together, and of one at least."""
        return max(self.bytes, int(self.held_megabytes * 1e6))

    @property
    def pixels(self) -> int:
        """Of one photo."""
        return int(self.megapixels * 1e6)
