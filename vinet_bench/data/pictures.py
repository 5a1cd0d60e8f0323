"""One picture or mask file in, one array out: PNG, JPG and .npy, read as untrusted input."""

import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vinet_bench.data.hounsfield import windowed
from vinet_bench.data.tables import shown

LARGEST = 4096
LARGEST_NUMBER = 32  # bytes of numpy's widest, a complex one
GREY_8 = ("1", "L", "LA")
GREY_16 = ("I", "I;16", "I;16B", "I;16L")

Pixels = NDArray[np.uint8] | NDArray[np.float32]
Part = tuple[float, float, float, float]


class PictureError(ValueError):
    """A file that is no usable picture: the rest of the sentence 'picture a.png ...'."""


@dataclass(frozen=True)
class Picture:
    """Grey pixels (H, W), uint8 (0..255) or float32 (0..1), and whether they had colours."""

    pixels: Pixels
    had_colour: bool = False


def read_picture(path: Path) -> Picture:
    """One picture in grey; 8-bit files stay uint8, int16 .npy is HU. Raises PictureError."""
    if path.suffix.lower() == ".npy":
        return Picture(_scaled(_read_npy(path)))
    with _quiet():
        image = _read_image(path)
        if image.mode in GREY_16:
            return Picture(np.asarray(image).astype(np.float32) / np.float32(65535))
        if image.mode in GREY_8:
            return Picture(np.array(image.convert("L")))
        colours = image.convert("RGB")
        channels = np.asarray(colours)
        return Picture(np.array(colours.convert("L")), bool((channels != channels[..., :1]).any()))


def read_mask(path: Path) -> NDArray[np.bool_]:
    """One mask (H, W), true where the file is not zero (black). Raises PictureError."""
    if path.suffix.lower() == ".npy":
        values = _read_npy(path)
        if values.dtype.kind not in "buif" or not np.isfinite(values).all():
            raise PictureError("must hold finite numbers: save it as bool or uint8")
        return np.asarray(values != 0)
    with _quiet():
        image = _read_image(path)
        if image.format != "PNG":
            # JPEG leaves faint ringing around every edge, all of which would be evidence.
            raise PictureError("is a JPG, which blurs a mask's edges: save it as PNG")
        if image.mode not in GREY_8 + GREY_16:
            return np.asarray(np.asarray(image.convert("RGB")).any(axis=-1), dtype=np.bool_)
        values = np.asarray(image.convert("L") if image.mode == "LA" else image)
        return np.asarray(values != 0)


def resize_picture(pixels: Pixels, side: int, part: Part | None = None) -> Pixels:
    """(H, W) -> (side, side), bilinear, antialiased where it shrinks; same dtype.

    part: what of it becomes the picture, its left, top, right and bottom in pixels from the corner.
    """
    height, width = pixels.shape
    if (height, width) == (side, side) and part in (None, (0, 0, width, height)):
        return pixels
    resized = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR, box=part)
    return np.array(resized)


def resize_mask(mask: NDArray[np.bool_], side: int, part: Part | None = None) -> NDArray[np.bool_]:
    """(H, W) -> (side, side): what is covered by half or more; never empty if it was not."""
    covered = resize_picture(mask.astype(np.float32), side, part)
    kept = np.asarray(covered >= 0.5)
    if covered.any() and not kept.any():
        kept.flat[int(covered.argmax())] = True
    return kept


def _quiet() -> AbstractContextManager[object]:
    """Pillow's warnings say nothing here that an error does not say."""
    return warnings.catch_warnings(action="ignore")


def _read_image(path: Path) -> Image.Image:
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise PictureError("is of an unknown kind: use .png, .jpg or .npy")
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            _check_size(image.height, image.width)
            image.load()
            return image
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(_too_large()) from None
    except Exception:  # a damaged file makes the decoders raise almost anything
        raise PictureError("cannot be read as PNG or JPG (damaged?): write it again") from None


def _read_npy(path: Path) -> NDArray[np.generic]:
    """The array of a .npy file, whose header is checked before its content is touched."""
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")  # refuses pickled objects
        if mapped.ndim != 2 or 0 in mapped.shape:
            shape = " x ".join(map(str, mapped.shape)) or "no dimensions"
            raise PictureError(f"has the shape {shape}: save one grey picture (height x width)")
        _check_size(*mapped.shape)
        if mapped.dtype.itemsize > LARGEST_NUMBER:  # one element may be as large as a disk
            raise _no_grey(mapped.dtype)
        return np.array(mapped)
    except PictureError:
        raise
    except Exception:  # as above
        raise PictureError(
            "cannot be read as .npy (damaged, or pickled objects?): save a plain array of numbers"
        ) from None


def _check_size(height: int, width: int) -> None:
    if max(height, width) > LARGEST:
        raise PictureError(_too_large())


def _too_large() -> str:
    return f"is larger than {LARGEST} x {LARGEST}: crop or shrink it first"


def _scaled(values: NDArray[np.generic]) -> Pixels:
    """uint8 as it is, the others as float32 in 0..1. Raises PictureError."""
    kind = f"{values.dtype.kind}{values.dtype.itemsize}"
    if kind == "u1":
        return values.astype(np.uint8)
    if kind == "u2":
        return values.astype(np.float32) / np.float32(65535)
    if kind == "i2":
        return windowed(values.astype(np.int16))
    if values.dtype.kind == "f":
        return _unit_floats(values.astype(np.float64))
    raise _no_grey(values.dtype)


def _no_grey(kind: np.dtype[np.generic]) -> PictureError:
    return PictureError(
        f"has the type {shown(str(kind))}: save uint8, uint16, int16 (HU) or float in 0..1"
    )


def _unit_floats(values: NDArray[np.float64]) -> NDArray[np.float32]:
    if not np.isfinite(values).all():
        raise PictureError("has NaN or infinite values: replace them")
    if values.min() < 0 or values.max() > 1:
        raise PictureError(
            f"has floats from {values.min():.6g} to {values.max():.6g}: scale them to 0..1, "
            "or save Hounsfield units as int16"
        )
    return values.astype(np.float32)
