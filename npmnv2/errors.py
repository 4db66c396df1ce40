"""The exceptions that npmnv2 raises for what a user can mend. Anything else that escapes is a bug.

Each is also one of Python's own exceptions, so that ``except ValueError`` works as one expects. A missing file is
Python's plain FileNotFoundError, as are other errors of the operating system.
"""

from __future__ import annotations


class Npmnv2Error(Exception):
    """Base of all exceptions of npmnv2."""


class ArgumentError(Npmnv2Error, ValueError):
    """An argument with an impossible value; the message names it, what is allowed and what was received."""


class ArgumentTypeError(Npmnv2Error, TypeError):
    """An argument of the wrong type."""


class MissingPackageError(Npmnv2Error, ModuleNotFoundError):
    """A feature needs an optional package that is not installed; the message names the extra."""


class WeightsError(Npmnv2Error, ValueError):
    """A weight file that cannot be used: damaged, incomplete, of an unknown format, or made for a different model."""


class ImageError(Npmnv2Error, ValueError):
    """An image that cannot be used: not an image, damaged, too small, or with impossible pixels."""


class OfflineError(Npmnv2Error, ConnectionError):
    """A file is not in the cache and may not, or could not, be downloaded."""


class IndexFileError(Npmnv2Error, ValueError):
    """An index of photos that cannot be used: not an index, damaged, or made with a different model."""
