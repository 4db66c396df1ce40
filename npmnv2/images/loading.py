"""From whatever holds an image (a file, bytes, a Pillow image, an array) to an array (height, width, channels).

The rules by which pixels become 8-bit RGB:

=========================== ==========================================================================================
in the source               in the array
=========================== ==========================================================================================
gray, 1-bit, palette, CMYK… what Pillow's conversion to RGB gives; gray is repeated over the three channels
alpha, transparent color   laid over white, as transformers does
16 bits a pixel             ``round(value / 257)``, so that 65535 becomes 255
several frames              the first one, or the one that a Pillow image stands at
EXIF orientation            applied, so the photo stands upright
float array                 stays float; the range is for the image processor to judge
integer array               8-bit; other integer types must hold values from 0 to 255; booleans become 0 and 255
=========================== ==========================================================================================

Files are read in the formats of `FORMATS`: those of Pillow that hold pixels and start no other program.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import threading
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from npmnv2.errors import ArgumentTypeError, ImageError
from npmnv2.forks import renew_in_children

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[Any]


class SupportsArray(Protocol):
    """An array or a tensor: NumPy, PyTorch, TensorFlow, JAX, …"""

    def __array__(self) -> Any:
        """Its values as a NumPy array."""


class SupportsDLPack(Protocol):
    """An array or a tensor of a library that follows the array API standard."""

    def __dlpack__(self) -> Any:
        """Its memory, for another library."""


ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | Image.Image | SupportsArray | SupportsDLPack"

# The formats in which files are read, where this Pillow has them. Left out are EPS, which starts Ghostscript, WMF,
# which calls Windows, and the containers of scientific data, which hold more than a picture.
FORMATS = (
    "JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "MPO", "JPEG2000", "PPM", "TGA", "DIB", "ICO", "PCX", "PSD",
    "QOI", "SGI", "DDS",
)  # fmt: skip

# More than an uncompressed file of MAX_PIXELS takes. Checked before anything is read.
MAX_FILE_BYTES = 1 << 30

# Twice Pillow's warning level, where Pillow refuses by itself: 13,377 × 13,377 pixels, half a gigabyte as RGB.
MAX_PIXELS = 178_956_970

# How to turn a photo upright, by the value of its EXIF orientation tag (1 is upright): Pillow's names.
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_ORIENTATION_TAG = 0x0112

# Larger images are converted in bands of this many pixels.
_BAND_PIXELS = 4 * 1024 * 1024


class _PillowLimit:
    """Pillow's own limit, one global number with a warning below an error; ours is an argument.

    Pillow's is lifted only while a header is read, and that decodes no pixels.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limit: int | None = None
        renew_in_children(self)

    def __enter__(self) -> None:
        from PIL import Image

        self._lock.acquire()
        self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None

    def __exit__(self, *_: object) -> None:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = self._limit
        self._lock.release()

    def renew_after_fork(self) -> None:
        """In a child that was forked while another thread was reading a header."""
        if self._lock.locked():
            from PIL import Image

            Image.MAX_IMAGE_PIXELS = self._limit
        self._lock = threading.Lock()


_without_pillow_limit = _PillowLimit()


def load_image(
    source: ImageSource,
    *,
    exif_orientation: bool = True,
    convert_rgb: bool = True,
    max_pixels: int = MAX_PIXELS,
    min_side: int = 1,
) -> Pixels:
    """Read an image.

    Parameters
    ----------
    source : path, bytes, binary file, PIL.Image.Image or array
        Paths are of regular files of at most `MAX_FILE_BYTES`. Bytes and binary files (such as ``sys.stdin.buffer``)
        hold an image file. Arrays, and tensors in the memory of the CPU, have the shape (height, width),
        (height, width, 1), (height, width, 3) or (height, width, 4), channels in the order RGB(A).
    exif_orientation : bool
        Turn photos upright as their EXIF tag says.
    convert_rgb : bool
        Bring everything to three channels by the rules above; False keeps gray at one channel, palette indices as
        they are, and so on.
    max_pixels : int
        Refuse files of more pixels before they are decoded: a small file can unpack to gigabytes. Reading takes about
        7 bytes a pixel beside the file, 0.7 GB for 10,000 × 10,000.
    min_side : int
        Refuse images of which a side is shorter.

    Returns
    -------
    array [shape=(height, width, channels)]
        uint8, or the source's own dtype if that is a float array; possibly a read-only or shared view of the source,
        which is never changed.

    Raises
    ------
    ImageError
        If the source is not an image, damaged, too large or too small, not a regular file, has NaN or infinite pixels,
        or a different shape.
    FileNotFoundError
        If there is no file at the path.
    TypeError
        If `source` is none of the above.
    """
    name = describe(source)
    if is_pillow(source):
        pixels = _pillow_to_array(_decoded(source, name, exif_orientation), name, convert_rgb)
    elif isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(source, "read"):
        image = _open(file_content(source, name), name, max_pixels)
        pixels = _pillow_to_array(_decoded(image, name, exif_orientation), name, convert_rgb)
    elif is_array(source):
        pixels = _checked_array(to_numpy(source), name, convert_rgb)
    else:
        raise ArgumentTypeError(
            "an image must be a path, bytes, a binary file, a PIL image or an array of shape (height, width, 3), "
            f"got {type(source).__name__}"
        )
    _check_sides(pixels, min_side, name)
    return pixels


class Header(NamedTuple):
    """What an image file says of itself: Pillow's name of the format, and pixels."""

    format: str
    width: int
    height: int


def read_header(content: bytes) -> Header:
    """Read the header of an image file and decode nothing.

    Raises
    ------
    ImageError
        If the file is not an image or its header is damaged.
    """
    image = _open(content, describe(content), sys.maxsize)
    return Header(str(image.format), *image.size)


def describe(source: object) -> str:
    """What error messages call an image: its path or its kind."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"image of {len(source)} bytes"
    if is_pillow(source):
        return getattr(source, "filename", "") or f"PIL image of mode {source.mode}"
    if is_array(source):
        return f"array of shape {tuple(getattr(source, 'shape', ()))}"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else type(source).__name__


def is_pillow(source: object) -> TypeGuard[Image.Image]:
    """Whether `source` is a Pillow image, which nothing is before Pillow was imported."""
    # While another thread imports the module it has no class yet, and nothing is of it.
    kind = getattr(sys.modules.get("PIL.Image"), "Image", None)
    return kind is not None and isinstance(source, kind)


def is_array(source: object) -> bool:
    """Whether `source` is an array or a tensor of some library."""
    return not is_pillow(source) and (hasattr(source, "__array__") or hasattr(source, "__dlpack__"))


def is_column(source: Any) -> bool:
    """Whether an array holds paths or other objects instead of pixels, like a column of a table."""
    return np.ndim(source) == 1 and to_numpy(source).dtype.kind in "OSU"


def to_numpy(source: Any) -> Pixels:
    """An array or tensor of any library as a NumPy array, without a copy where that is possible.

    Raises
    ------
    TypeError
        If the library refuses, as PyTorch does for tensors on a GPU or with gradients.
    """
    try:
        return np.asarray(source) if hasattr(source, "__array__") else np.from_dlpack(source)
    except Exception as error:  # every library has its own
        raise ArgumentTypeError(
            f"{type(source).__name__} must be convertible to a NumPy array: {error} (for PyTorch: "
            "tensor.detach().cpu().float().numpy())"
        ) from error


def file_content(source: Any, name: str) -> bytes:
    """Read an image file: bytes, an open file, or the path of a regular file of at most `MAX_FILE_BYTES`.

    Raises
    ------
    ImageError
        If it is too large or not a regular file.
    FileNotFoundError
        If there is none; errors call it `name`.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if hasattr(source, "read"):
        content = source.read(MAX_FILE_BYTES + 1)
        if not isinstance(content, bytes):
            raise ArgumentTypeError(f"{name} must be opened in binary mode, its read() gave {type(content).__name__}")
        _check_bytes(len(content), name)
        return content
    if isinstance(source, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", source):
        raise ImageError(f"{name} is a URL: images are not downloaded; save it to a file and pass its path")
    if not os.path.exists(source):
        raise FileNotFoundError(f"image (={name!r}) must be an existing file")
    _check_regular(os.stat(source), name)
    with open(source, "rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _check_regular(status: os.stat_result, name: str) -> None:
    """Refuse what would block, never end, or fill the memory, before it is opened."""
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{name} is a folder, not an image")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{name} is not a regular file; to read from a pipe or a device, open it and pass the file")
    _check_bytes(status.st_size, name)


def _check_bytes(size: int, name: str) -> None:
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{name} must have at most {MAX_FILE_BYTES >> 20} MiB to be read as an image")


def _open(content: bytes, name: str, max_pixels: int) -> Image.Image:
    """Read the header only."""
    if not content:
        raise ImageError(f"{name} is empty (0 bytes)")
    from PIL import UnidentifiedImageError

    with _without_pillow_limit:
        try:
            image = _identified(content)
        except UnidentifiedImageError:
            raise ImageError(
                f"{name} is not an image in one of the formats that are read ({', '.join(_formats())})"
            ) from None
        except Exception as error:  # a damaged header: Pillow's plugins raise whatever their parsing trips over
            raise ImageError(f"{name} is damaged: {error}") from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width} × {height} pixels, more than max_pixels (={max_pixels}); "
            "if the file can be trusted, read it with npmnv2.images.loading.load_image(…, max_pixels=…) "
            "and pass on the array"
        )
    return image


def _identified(content: bytes) -> Image.Image:
    """Try the usual formats first: those of all plugins take as long to import as everything else here."""
    from PIL import Image, UnidentifiedImageError

    Image.preinit()
    try:
        return Image.open(BytesIO(content), formats=_imported())
    except UnidentifiedImageError:
        return Image.open(BytesIO(content), formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow reads."""
    from PIL import Image

    Image.init()
    return _imported()


def _imported() -> tuple[str, ...]:
    """Those of `FORMATS` whose plugins are imported."""
    from PIL import Image

    return tuple(name for name in FORMATS if name in Image.OPEN)


def _decoded(image: Image.Image, name: str, exif_orientation: bool) -> Image.Image:
    """Decode the pixels and turn them upright."""
    from PIL import Image

    try:
        image.load()
    except Exception as error:  # as above: OSError when cut short, but also SyntaxError, ValueError, struct.error…
        raise ImageError(f"{name} is damaged or cut short: {error}") from error
    turn = _UPRIGHT.get(_orientation(image)) if exif_orientation else None
    return image if turn is None else image.transpose(getattr(Image.Transpose, turn))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a photo with garbage for EXIF is still a photo
        return 1


def _pillow_to_array(image: Image.Image, name: str, convert_rgb: bool) -> Pixels:
    """Pixels of a decoded image. A large one is converted in bands, because every conversion makes a copy."""
    width, height = image.size
    step = max(1, _BAND_PIXELS // max(1, width))
    if height <= step:
        return _band(image, name, convert_rgb)
    bands = (image.crop((0, top, width, min(top + step, height))) for top in range(0, height, step))
    first = _band(next(bands), name, convert_rgb)
    pixels = np.empty((height, *first.shape[1:]), first.dtype)
    pixels[:step] = first
    for at, band in enumerate(bands, start=1):
        pixels[at * step : (at + 1) * step] = _band(band, name, convert_rgb)
    return pixels


def _band(image: Image.Image, name: str, convert_rgb: bool) -> Pixels:
    if not convert_rgb:
        return _with_channels(np.asarray(image))
    if image.mode == "F":
        return _checked_array(np.asarray(image), name, convert_rgb)
    if image.mode.startswith("I"):
        return _three_channels(_with_channels(_from_16_bits(np.asarray(image), name)))
    if _has_alpha(image):
        return np.asarray(_over_white(image))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _from_16_bits(values: Pixels, name: str) -> Pixels:
    # Pillow holds 16-bit gray as mode I;16 or, from some formats and in its older versions, as 32-bit mode I.
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ImageError(f"{name} has pixels from {values.min()} to {values.max()}; integer pixels must lie in 0…65535")
    return ((values.astype(np.int32) + 128) // 257).astype(np.uint8)


def _has_alpha(image: Image.Image) -> bool:
    # The bands La and RGBa are those of premultiplied alpha, "a" being the alpha.
    return image.getbands()[-1] in {"A", "a"} or image.info.get("transparency") is not None


def _over_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _checked_array(values: Pixels, name: str, convert_rgb: bool) -> Pixels:
    if values.ndim not in (2, 3):
        raise ImageError(
            f"an image array must have the shape (height, width, 3) or (height, width), got {values.shape}"
        )
    pixels = _with_channels(values)
    if pixels.shape[-1] not in (1, 3, 4):
        hint = "; channels come last: np.moveaxis(image, 0, -1)" if pixels.shape[0] in (1, 3, 4) else ""
        raise ImageError(
            f"an image array must have the shape (height, width, 3), or 1 (gray) or 4 (RGBA) channels, "
            f"got {values.shape}{hint}"
        )
    pixels = _checked_values(pixels, name)
    return _three_channels(pixels) if convert_rgb else pixels


def _checked_values(pixels: Pixels, name: str) -> Pixels:
    if np.issubdtype(pixels.dtype, np.floating):
        if not np.isfinite(pixels).all():
            raise ImageError(f"{name} has NaN or infinite pixels")
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(pixels.dtype, np.integer):
        raise ImageError(f"{name} has dtype {pixels.dtype}; pixels must be uint8 or float")
    if pixels.dtype != np.uint8 and pixels.size and (pixels.min() < 0 or pixels.max() > 255):
        raise ImageError(
            f"{name} of dtype {pixels.dtype} has values from {pixels.min()} to {pixels.max()}; "
            "integer pixels must lie in 0…255 (divide 16-bit ones by 257)"
        )
    return pixels.astype(np.uint8, copy=False)


def _with_channels(pixels: Pixels) -> Pixels:
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _three_channels(pixels: Pixels) -> Pixels:
    channels = pixels.shape[-1]
    if channels == 1:
        return np.repeat(pixels, 3, axis=-1)
    if channels == 3:
        return pixels
    if pixels.dtype != np.uint8:
        raise ImageError(f"a float array must have 1 or 3 channels, got shape {pixels.shape}: blend the alpha in first")
    alpha = pixels[..., 3:] / 255
    return np.round(alpha * pixels[..., :3] + (1 - alpha) * 255).astype(np.uint8)


def _check_sides(pixels: Pixels, min_side: int, name: str) -> None:
    height, width = pixels.shape[:2]
    if min(height, width) < max(min_side, 1):
        raise ImageError(
            f"{name} must be at least {min_side} × {min_side} pixels, got {height} × {width} (height × width)"
        )
