"""The parts paper's methods: a generator restyles squares of a face, and they are put back.

The three differ in what they look at: the whole picture, one square over all parts of the face, or
each part by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from mien.engines import Catalog, Engine
from mien.engines.networks import FACE_PARSER_NAME, generator_name
from mien.runtime.faces.alignment import Crop
from mien.runtime.faces.region import face_region
from mien.runtime.methods.base import FaceEditor, Method
from mien.runtime.methods.gan import BLENDS
from mien.runtime.methods.gan.editor import Look, Looked, StyleEditor
from mien.runtime.methods.gan.generator import Restyler
from mien.runtime.methods.gan.parts import IMAGE_BOX
from mien.runtime.methods.gan.segmentation import FaceParser, Segmenter
from mien.runtime.methods.gan.squares import WideFace
from mien.runtime.spec import OptionValue
from mien.runtime.target import Target

CROP: Final = Crop(64)
REGION_CELLS: Final = 96  # cells a side of the region that the landmarks give
THREADS: Final = 2  # these networks are large enough to gain from a second one


class StyleMethod(Method):
    """A generator, with a way of looking at faces and one of putting back.

    make_look: a Look for each new face. blend: of BLENDS. engines: others that it uses.
    """

    def __init__(
        self,
        restyler: Restyler,
        make_look: Callable[[], Look],
        *,
        blend: str = BLENDS[0],
        engines: Sequence[Engine] = (),
    ) -> None:
        self._restyler = restyler
        self._make_look = make_look
        self._blend = blend
        self._engines = tuple(engines)

    @property
    def crop(self) -> Crop:
        """64 pixels of luma; the wide crop is taken from the frame beside it."""
        return CROP

    @property
    def providers(self) -> dict[str, str]:
        """Which provider runs each network."""
        own = {engine.network.name: engine.provider for engine in self._engines}
        return {self._restyler.name: self._restyler.provider} | own

    def check_target(self, target: Target) -> None:
        """Raise UsageError where the generator cannot make the target."""
        self._restyler.labels.check(target)

    def new_face(self) -> FaceEditor:
        """An editor for a face that has just appeared."""
        return StyleEditor(self._restyler, self._make_look(), pastes=self._blend == "paste")

    def close(self) -> None:
        """Close the networks."""
        self._restyler.close()
        for engine in self._engines:
            engine.close()


def open_image(catalog: Catalog, provider: str, options: Mapping[str, OptionValue]) -> Method:
    """Image to image: the generator sees the whole picture of the face."""
    restyler = _restyler(catalog, provider, generator_name(str(options["gan"]), "image"))
    return StyleMethod(restyler, lambda: look_at_image, blend=str(options["blend"]))


def open_face(catalog: Catalog, provider: str, options: Mapping[str, OptionValue]) -> Method:
    """Face to face: the generator sees one square over all parts of the face."""
    return _parsed("face", FaceLook, catalog, provider, options)


def open_parts(catalog: Catalog, provider: str, options: Mapping[str, OptionValue]) -> Method:
    """Parts to parts: the generator sees each part of the face by itself."""
    return _parsed("parts", PartsLook, catalog, provider, options)


def _parsed(
    mode: str,
    make_look: Callable[[FaceParser], Look],
    catalog: Catalog,
    provider: str,
    options: Mapping[str, OptionValue],
) -> Method:
    """The method of a mode that looks where the face parser says."""
    with ExitStack() as opening:  # what is open is closed where the next does not open
        engine = opening.enter_context(_open(catalog, provider, FACE_PARSER_NAME))
        parser = FaceParser(engine)
        restyler = _restyler(catalog, provider, generator_name(str(options["gan"]), mode))
        blend = str(options["blend"])
        method = StyleMethod(restyler, lambda: make_look(parser), blend=blend, engines=(engine,))
        opening.pop_all()
    return method


def _restyler(catalog: Catalog, provider: str, name: str) -> Restyler:
    with ExitStack() as opening:  # a generator that states nonsense is closed again
        restyler = Restyler(opening.enter_context(_open(catalog, provider, name)))
        opening.pop_all()
    return restyler


def _open(catalog: Catalog, provider: str, network: str) -> Engine:
    return catalog.open(network, provider=provider, threads=THREADS)


def look_at_image(face: WideFace, _time_s: float) -> Looked:
    """The whole picture; its region follows the landmarks, so that no parser is needed."""
    region = face_region(face.landmarks, REGION_CELLS)
    return Looked({"image": IMAGE_BOX}, region, pastes_beyond=True)


class FaceLook:
    """Looks at one face, which is left unchanged where a part cannot be seen, as in the paper."""

    def __init__(self, parser: FaceParser) -> None:
        self._segment = Segmenter(parser)

    def __call__(self, face: WideFace, time_s: float) -> Looked:
        """The square over all parts, where all can be seen."""
        found = self._segment(face, time_s)
        boxes = {} if found.face is None else {"face": found.face}
        return Looked(boxes, found.region, found.missing, found.is_fresh)


class PartsLook:
    """Looks at the parts of one face; a part that cannot be seen is left unchanged."""

    def __init__(self, parser: FaceParser) -> None:
        self._segment = Segmenter(parser)

    def __call__(self, face: WideFace, time_s: float) -> Looked:
        """The square of each part that can be seen."""
        found = self._segment(face, time_s)
        return Looked(found.boxes, found.region, found.missing, found.is_fresh)
