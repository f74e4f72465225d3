"""Pixel formats: how the planes of each are to be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_SUBSAMPLING = {
    "420": (2, 2),
    "422": (2, 1),
    "444": (1, 1),
    "440": (1, 2),
    "411": (4, 1),
    "410": (4, 4),
}
_PLANAR_YUV = re.compile(r"yuv(?P<kind>[aj]?)(?P<sub>4\d\d)p(?P<depth>9|10|12|14|16)?(le)?")
_SEMI_PLANAR = re.compile(r"nv(?P<code>12|16|24)")
_HIGH_SEMI_PLANAR = re.compile(r"p(?P<sub>[024])(?P<depth>10|12|16)le")
_GRAY = re.compile(r"gray(?P<depth>9|10|12|14|16)?(le)?")
_PLANAR_RGB = re.compile(r"gbr(?P<alpha>a?)p(?P<depth>9|10|12|14|16)?(le)?")
_PACKED_RGB = {
    "rgb24": (0, 1, 2),
    "bgr24": (2, 1, 0),
    "rgba": (0, 1, 2),
    "rgb0": (0, 1, 2),
    "bgra": (2, 1, 0),
    "bgr0": (2, 1, 0),
    "argb": (1, 2, 3),
    "0rgb": (1, 2, 3),
    "abgr": (3, 2, 1),
    "0bgr": (3, 2, 1),
}
# Formats whose samples cannot be seen as arrays, and the format that holds the same values.
_SAME_VALUES_IN = {
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yvyu422": "yuv422p",
    "uyyvyy411": "yuv411p",
    "nv21": "yuv420p",
    "nv42": "yuv444p",
    "nv20le": "yuv422p10le",
    "xv30le": "yuv444p10le",
    "y210le": "yuv422p10le",
    "vuya": "yuva444p",
    "vuyx": "yuv444p",
    "ayuv64le": "yuva444p16le",
    "pal8": "bgra",
    "monow": "gray",
    "monob": "gray",
    "rgb555le": "gbrp",
    "bgr555le": "gbrp",
    "rgb565le": "gbrp",
    "bgr565le": "gbrp",
    "rgb8": "gbrp",
    "bgr8": "gbrp",
    "rgb4_byte": "gbrp",
    "bgr4_byte": "gbrp",
    "rgb48le": "gbrp16le",
    "bgr48le": "gbrp16le",
    "rgba64le": "gbrap16le",
    "bgra64le": "gbrap16le",
    "ya8": "gbrap",
    "ya16le": "gbrap16le",
    "x2rgb10le": "gbrp10le",
    "x2bgr10le": "gbrp10le",
}
# Of those, the ones that hold every value of the format on the right.
_HOLDS_ALL_OF = frozenset(("rgb48le", "bgr48le", "rgba64le", "bgra64le"))


@dataclass(frozen=True, slots=True)
class FormatLayout:
    """The planes of one pixel format.

    planes: per plane, the samples it interleaves and the luma samples one of them covers.
    rgb_order, shift, depth: as in `PixelLayout`.
    full_range: whether the format's own name says so (yuvj420p, RGB).
    """

    kind: Literal["yuv", "rgb", "gray"]
    planes: tuple[tuple[int, tuple[int, int]], ...]
    depth: int = 8
    shift: int = 0
    rgb_order: tuple[int, int, int] = (0, 1, 2)
    full_range: bool = False
    alpha: bool = False

    @property
    def item_size(self) -> int:
        """Bytes a stored sample takes."""
        return 1 if self.depth <= 8 else 2

    @property
    def subsampling_xy(self) -> tuple[int, int]:
        """The coarsest sampling among the planes."""
        steps = [step for _, step in self.planes]
        return max(x for x, _ in steps), max(y for _, y in steps)


def format_layout(name: str) -> FormatLayout | None:
    """How the planes of pixel format `name` lie, None where they cannot be seen as arrays."""
    return _yuv_layout(name) or _rgb_layout(name) or _gray_layout(name)


def stored_layout(name: str) -> FormatLayout | None:
    """What an encoder that is given `name` can store, as the layout of a format that is like it.

    None where it is not known to be as much as the format it is converted from.
    """
    same = name.removesuffix("be") + "le" if name.endswith("be") else name
    if same in _HOLDS_ALL_OF:
        return format_layout(_SAME_VALUES_IN[same])
    return format_layout(same)


def _yuv_layout(name: str) -> FormatLayout | None:
    if match := _PLANAR_YUV.fullmatch(name):
        step = _SUBSAMPLING[match["sub"]]
        alpha = match["kind"] == "a"
        planes = ((1, (1, 1)), (1, step), (1, step), *([(1, (1, 1))] * alpha))
        depth, full = int(match["depth"] or 8), match["kind"] == "j"
        return FormatLayout("yuv", planes, depth, full_range=full, alpha=alpha)
    if match := _SEMI_PLANAR.fullmatch(name):
        step = {"12": (2, 2), "16": (2, 1), "24": (1, 1)}[match["code"]]
        return FormatLayout("yuv", ((1, (1, 1)), (2, step)))
    if match := _HIGH_SEMI_PLANAR.fullmatch(name):
        step = {"0": (2, 2), "2": (2, 1), "4": (1, 1)}[match["sub"]]
        depth = int(match["depth"])
        return FormatLayout("yuv", ((1, (1, 1)), (2, step)), depth, shift=16 - depth)
    return None


def _rgb_layout(name: str) -> FormatLayout | None:
    if name in _PACKED_RGB:
        count, order = (3 if name.endswith("24") else 4), _PACKED_RGB[name]
        packed = ((count, (1, 1)),)
        return FormatLayout("rgb", packed, rgb_order=order, full_range=True, alpha="a" in name)
    if match := _PLANAR_RGB.fullmatch(name):
        alpha = bool(match["alpha"])
        planes = ((1, (1, 1)),) * (3 + alpha)
        depth = int(match["depth"] or 8)
        return FormatLayout("rgb", planes, depth, rgb_order=(2, 0, 1), full_range=True, alpha=alpha)
    return None


def _gray_layout(name: str) -> FormatLayout | None:
    match = _GRAY.fullmatch(name)
    return FormatLayout("gray", ((1, (1, 1)),), int(match["depth"] or 8)) if match else None


def readable_format(name: str) -> str | None:
    """`name` where its planes can be seen as arrays, else the format that holds the same values."""
    if format_layout(name) is not None:
        return name
    if name.endswith("be"):
        return readable_format(name[:-2] + "le")
    return _SAME_VALUES_IN.get(name)
