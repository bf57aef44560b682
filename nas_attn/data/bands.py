"""Images with any number of bands, read as their files have them: TIFF, NumPy's arrays, DICOM, and
what else Pillow opens.

Nothing is blended, cut off or scaled: values of 8 bits stay bytes, all others become float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.image_file import is_deep, opened_image
from nas_attn.errors import DataError
from nas_attn.system.importing import installing

TIFF_ENDINGS = (".tif", ".tiff")
# files that no program shows as a photograph
ARRAY_ENDINGS = (".npy", ".npz", ".dcm", ".dicom")
# ending -> the package that reads it, and our extra with that
READERS = {
    ".tif": ("tifffile", "bands"),
    ".tiff": ("tifffile", "bands"),
    ".dcm": ("pydicom", "dicom"),
    ".dicom": ("pydicom", "dicom"),
}
# (height, width, bands), uint8 or float32
Bands = NDArray[Any]


def is_array(path: Path) -> bool:
    """Whether a file is no photograph, by its ending."""
    return path.suffix.lower() in ARRAY_ENDINGS


def missing_reader(paths: Iterable[Path]) -> str:
    """Returns which package is missing to read the bands of these files, with the way out; empty if
    none is.
    """
    for ending in sorted({path.suffix.lower() for path in paths}):
        package, extra = READERS.get(ending, ("", ""))
        if package and find_spec(package) is None:
            return f"{ending} needs {package} for its bands: {installing(extra)}"
    return ""


def read_bands(path: Path, channels: int | None = None) -> Bands:
    """Reads all bands of an image.

    Args:
        path: Its file.
        channels: How many bands it must have; None: any number.

    Returns:
        (height, width, bands), uint8 or float32.

    Raises:
        ValueError: another number of bands, or values that are no finite numbers; for broken files,
            its reader's error, of any kind.
        DataError: the package that reads such files is missing.
    """
    if lacking := missing_reader([path]):
        raise DataError(lacking)
    values = _bands_last(_values(path), channels)
    if values.dtype.kind not in "uifb":
        raise ValueError(f"values of the type {values.dtype}, not plain numbers")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("values that are no finite numbers: write a number for them, such as 0")
    return values.astype(np.uint8 if values.dtype in (np.uint8, np.bool_) else np.float32)


def _values(path: Path) -> NDArray[Any]:
    """The values of a file, whatever the order of its axes."""
    ending = path.suffix.lower()
    if ending in (".npy", ".npz"):
        try:
            loaded = np.load(path, allow_pickle=False)
        except SystemError:
            # Python 3.11 parses the header's literals, which fails at times beside other threads
            loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if len(loaded.files) != 1:
                raise ValueError(f"{len(loaded.files)} arrays: write one array into each file")
            only: NDArray[Any] = loaded[loaded.files[0]]
            return only
    if ending in TIFF_ENDINGS:
        import tifffile

        return np.asarray(tifffile.imread(path, series=0))
    if ending in ARRAY_ENDINGS:
        return _dicom(path)
    with opened_image(path) as opened:
        if is_deep(opened) and len(opened.getbands()) > 1:
            return _deep_colours(path)
        if opened.mode in ("P", "PA"):
            return np.asarray(opened.convert("RGBA" if "transparency" in opened.info else "RGB"))
        return np.asarray(opened)


def _deep_colours(path: Path) -> NDArray[Any]:
    """Colours of 16 bits, of which Pillow reads 8. Raises DataError: their reader is missing."""
    try:
        from imagecodecs import imread
    except ImportError:
        raise DataError(f"16-bit colours need imagecodecs: {installing('bands')}") from None
    return np.asarray(imread(path))


def _dicom(path: Path) -> NDArray[Any]:
    """The image of a DICOM file in its unit (Hounsfield units of a CT), bright where much is."""
    import pydicom
    from pydicom.pixels import apply_rescale

    file = pydicom.dcmread(path)
    frames = int(file.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(f"{frames} frames: write each into a file of its own")
    values = file.pixel_array
    if file.PhotometricInterpretation == "MONOCHROME1":
        # there, the smallest value is white
        highest = -1 if file.PixelRepresentation else (1 << file.BitsStored) - 1
        values = (highest - values.astype(np.int64)).astype(values.dtype)
    return np.asarray(apply_rescale(values, file))


def _bands_last(values: NDArray[Any], channels: int | None) -> NDArray[Any]:
    """(H, W, bands) of (H, W), (H, W, bands) or (bands, H, W). Raises ValueError: it is neither, or
    has another number of bands.
    """
    if values.ndim > 3:
        values = values.squeeze()
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"an array of the shape {values.shape}, not (height, width, bands)")
    first, middle, last = values.shape
    # without a number, the bands are clearly fewer than the pixels in a row and in a column
    is_first = 3 * first < 2 * min(middle, last)
    if channels is None and not is_first and 3 * last >= 2 * min(first, middle):
        raise ValueError(
            f"an array of the shape {values.shape} may have {last} bands or {first}: give their"
            " number, data.channels"
        )
    if first == channels != last or (channels is None and is_first):
        values = np.moveaxis(values, 0, 2)
    found = values.shape[2]
    if channels not in (None, found):
        raise ValueError(f"{found} bands, and data.channels is {channels}")
    return values
