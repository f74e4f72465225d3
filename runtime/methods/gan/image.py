"""Image to image: a generator sees the whole picture of the face."""

from __future__ import annotations

from typing import Final

from mien.engines import Catalog
from mien.runtime.faces.region import face_region
from mien.runtime.methods import Method, MethodOptions
from mien.runtime.methods.gan.editor import Look, Looked
from mien.runtime.methods.gan.method import NetworkOpener
from mien.runtime.methods.gan.parts import IMAGE_BOX
from mien.runtime.methods.gan.squares import WideFace

REGION_CELLS: Final = 96


def open_method(catalog: Catalog, *, provider: str, options: MethodOptions) -> Method:
    """The method with its network from `catalog`."""
    opener = NetworkOpener(catalog, provider, options)
    return opener.open_method("image", _new_look)


def look_at_image(face: WideFace, _time_s: float) -> Looked:
    """The whole picture; its region follows the landmarks, so that no parser is needed."""
    region = face_region(face.landmarks, REGION_CELLS)
    return Looked({"image": IMAGE_BOX}, region, pastes_beyond=True)


def _new_look() -> Look:
    return look_at_image
