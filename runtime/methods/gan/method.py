"""The parts paper's methods: a generator restyles squares of a face, and they are put back.

What each looks at (the whole picture, the face, each part) is its own module's under `methods`; how
they are opened, and what they have in common, is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from mien.engines import Catalog, Engine
from mien.engines.errors import UsageError
from mien.engines.networks import FACE_PARSER_NAME, GANS, generator_name
from mien.runtime.methods import FaceEditor, Method, MethodOptions
from mien.runtime.methods.gan.editor import Look, StyleEditor
from mien.runtime.methods.gan.generator import Restyler
from mien.runtime.methods.gan.segmentation import FaceParser
from mien.runtime.target import Target

CROP_SIZE: Final = 64
BLENDS: Final = ("field", "paste")
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
        blend: str = "field",
        engines: Sequence[Engine] = (),
    ) -> None:
        self._restyler = restyler
        self._make_look = make_look
        self._blend = blend
        self._engines = tuple(engines)

    @property
    def crop_size(self) -> int:
        """64, in pixels."""
        return CROP_SIZE

    @property
    def providers(self) -> dict[str, str]:
        """Which provider runs each network."""
        own = {engine.network.name: engine.provider for engine in self._engines}
        return {self._restyler.name: self._restyler.provider} | own

    @property
    def scales_own(self) -> bool:
        """It cannot."""
        return False

    def check_target(self, target: Target) -> None:
        """Nothing, where the generator can give it. Raises UsageError."""
        self._restyler.labels.check(target)

    def new_face(self) -> FaceEditor:
        """An editor for a face that has just appeared."""
        return StyleEditor(self._restyler, self._make_look(), pastes=self._blend == "paste")

    def close(self) -> None:
        """Nothing; gives the networks back."""
        self._restyler.close()
        for engine in self._engines:
            engine.close()


class NetworkOpener:
    """Opens the networks of one method, as its options say.

    blend: of BLENDS. Raises UsageError for options there are not.
    """

    def __init__(self, catalog: Catalog, provider: str, options: MethodOptions) -> None:
        self.blend = options.blend or BLENDS[0]
        self._gan = options.gan or GANS[0]
        for what, value, known in (("GAN", self._gan, GANS), ("blend", self.blend, BLENDS)):
            if value not in known:
                raise UsageError(f"unknown {what} {value!r} (known: {', '.join(known)})")
        self._catalog = catalog
        self._provider = provider

    def open_method(
        self, mode: str, make_look: Callable[[], Look], engines: Sequence[Engine] = ()
    ) -> StyleMethod:
        """The method of a mode. Raises ModelError, DeviceError."""
        with ExitStack() as opening:  # a generator that states nonsense is closed again
            engine = opening.enter_context(self._open(generator_name(self._gan, mode)))
            restyler = Restyler(engine)
            opening.pop_all()
        return StyleMethod(restyler, make_look, blend=self.blend, engines=engines)

    def open_parsed_method(self, mode: str, make_look: Callable[[FaceParser], Look]) -> StyleMethod:
        """The method of a mode that looks where the face parser says. Raises as `open_method`."""
        with ExitStack() as opening:  # what is open is closed where the next does not open
            engine = opening.enter_context(self._open(FACE_PARSER_NAME))
            parser = FaceParser(engine)
            method = self.open_method(mode, lambda: make_look(parser), (engine,))
            opening.pop_all()
        return method

    def _open(self, network: str) -> Engine:
        return self._catalog.open(network, provider=self._provider, threads=THREADS)
