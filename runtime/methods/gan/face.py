"""Face to face: a generator sees one square over all parts of the face."""

from __future__ import annotations

from mien.engines import Catalog
from mien.runtime.methods import Method, MethodOptions
from mien.runtime.methods.gan.editor import Looked
from mien.runtime.methods.gan.method import NetworkOpener
from mien.runtime.methods.gan.segmentation import FaceParser, Segmenter
from mien.runtime.methods.gan.squares import WideFace


def open_method(catalog: Catalog, *, provider: str, options: MethodOptions) -> Method:
    """The method with its networks from `catalog`."""
    return NetworkOpener(catalog, provider, options).open_parsed_method("face", FaceLook)


class FaceLook:
    """Looks at one face, which is left unchanged where a part cannot be seen, as in the paper."""

    def __init__(self, parser: FaceParser) -> None:
        self._segment = Segmenter(parser)

    def __call__(self, face: WideFace, time_s: float) -> Looked:
        """The square over all parts, where all can be seen."""
        found = self._segment(face, time_s)
        boxes = {} if found.face is None else {"face": found.face}
        return Looked(boxes, found.region, found.missing, found.is_fresh)
