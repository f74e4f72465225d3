"""Parts to parts: a generator sees each part of the face by itself."""

from __future__ import annotations

from mien.engines import Catalog
from mien.runtime.methods import Method, MethodOptions
from mien.runtime.methods.gan.editor import Looked
from mien.runtime.methods.gan.method import NetworkOpener
from mien.runtime.methods.gan.segmentation import FaceParser, Segmenter
from mien.runtime.methods.gan.squares import WideFace


def open_method(catalog: Catalog, *, provider: str, options: MethodOptions) -> Method:
    """The method with its networks from `catalog`."""
    return NetworkOpener(catalog, provider, options).open_parsed_method("parts", PartsLook)


class PartsLook:
    """Looks at the parts of one face; a part that cannot be seen is left unchanged."""

    def __init__(self, parser: FaceParser) -> None:
        self._segment = Segmenter(parser)

    def __call__(self, face: WideFace, time_s: float) -> Looked:
        """The square of each part that can be seen."""
        found = self._segment(face, time_s)
        return Looked(found.boxes, found.region, found.missing, found.is_fresh)
