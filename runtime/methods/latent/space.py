"""A face space: the generator and the encoder, and what is opened beside them.

Codes are those of W+, float32 (layers, width); pictures float32 (c, s, s) in [0, 1], c = 1 for luma
and 3 for R, G, B. mien's own networks see tight crops of luma, the public ones FFHQ's alignment in
colour; which of the two follows from the channels of the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import cv2
import numpy as np

from mien.engines import Catalog, Engine
from mien.engines.errors import ModelError
from mien.engines.face_space import ENCODER
from mien.runtime.faces.alignment import AlignedFace, Crop

COLOURS: Final = {1: "luma", 3: "rgb"}
# The encoder sees pictures that were reduced by this, as in training: by area, and not by sampling.
REDUCED: Final = 2
MOST_SHOWN: Final = 256  # pixels a side; a larger picture is reduced before it is compared
HOW: Final = (
    "train them with python -m mien.training {recipe}, or write your own checkpoints with "
    "mien export --into DIR; then name the folder with --models DIR"
)


def check_there(
    method: str, networks: Sequence[str], catalog: Catalog, recipe: str = "latent-all"
) -> None:
    """Raise ModelError where the catalog lacks networks of a method, naming all of them.

    recipe: the one that trains them.
    """
    known = {entry.network for entry in catalog.entries}
    missing = [name for name in networks if name not in known]
    if missing:
        how = HOW.format(recipe=recipe)
        raise ModelError(f"the method {method} lacks the networks {', '.join(missing)}; {how}")


def stated_words(metadata: Mapping[str, str], key: str) -> tuple[str, ...]:
    """The comma-separated words that a graph states under `mien.<key>`, in small letters."""
    text = metadata.get(f"mien.{key}", "")
    return tuple(word.strip().lower() for word in text.split(",") if word.strip())


def shapes_of(engine: Engine) -> dict[str, tuple[int, ...]]:
    """The shapes of all that a network takes and gives, by `in NAME` and `out NAME`."""
    network = engine.network
    taken = {f"in {spec.name}": spec.shape for spec in network.inputs}
    return taken | {f"out {spec.name}": spec.shape for spec in network.outputs}


def check_sides(engine: Engine, expected: Mapping[str, tuple[int | None, ...]]) -> None:
    """Raise ModelError where a network's tensors are others.

    expected: by the names of `shapes_of`; None is a side that may be anything.
    """
    found = shapes_of(engine)
    fits = found.keys() == expected.keys() and all(
        len(found[name]) == len(sides)
        and all(side in (None, own) for side, own in zip(sides, found[name], strict=True))
        for name, sides in expected.items()
    )
    if not fits:
        wanted = {name: tuple("any" if s is None else s for s in v) for name, v in expected.items()}
        raise ModelError(
            f"{engine.network.name}: received {found}, expected {wanted}; use networks of one face "
            "space, exported together"
        )


class FaceSpace:
    """Faces to codes, and codes to pictures.

    layers, width: of a code. size: pixels a side of a generated picture, as it is compared.
    """

    def __init__(self, generator: Engine, encoder: Engine) -> None:
        self.engines = (generator, encoder)
        self._generator, self._encoder = generator, encoder
        image = shapes_of(encoder).get("in image", ())
        self._channels = image[1] if len(image) == 4 else 0
        if self._channels not in COLOURS or image[2] != image[3]:
            raise ModelError(
                f"{ENCODER}: received an image {image}, expected (n, c, s, s) with c = 1 for luma "
                "or 3 for colour; export it again"
            )
        check_sides(encoder, {"in image": (None,) * 4, "out codes": (None, None, None)})
        _, self.layers, self.width = shapes_of(encoder)["out codes"]
        codes, picture = (None, self.layers, self.width), (None, self._channels, None, None)
        check_sides(generator, {"in codes": codes, "out image": picture})
        self._seen = image[2]
        self.size = min(MOST_SHOWN, shapes_of(generator)["out image"][2])

    @property
    def crop(self) -> Crop:
        """The canonical crop of luma, or FFHQ's in colour."""
        size = REDUCED * self._seen
        return Crop(size) if self._channels == 1 else Crop(size, "ffhq", is_colour=True)

    def encode(self, face: AlignedFace) -> np.ndarray:
        """The code of a face in `crop`: float32 (layers, width)."""
        seen = 2 * resized(planes_of(face), self._seen) - 1
        batch = self._encoder.network.inputs[0].shape[0]
        feeds = {"image": np.repeat(seen[None], batch, 0).astype(np.float32)}
        code: np.ndarray = self._encoder.infer(feeds)["codes"][0]
        return code

    def pictures(self, codes: np.ndarray) -> np.ndarray:
        """What the generator makes of codes (n, layers, width): float32 (n, c, size, size).

        In one call where the graph takes as many at once, else in several.
        """
        batch = self._generator.network.inputs[0].shape[0]
        made = []
        for first in range(0, len(codes), batch):
            part = codes[first : first + batch]
            padded = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
            images = self._generator.infer({"codes": padded.astype(np.float32)})["image"]
            made += [resized(image, self.size) for image in images[: len(part)]]
        shown: np.ndarray = np.clip(np.stack(made) / 2 + np.float32(0.5), 0, 1)
        return shown


def planes_of(face: AlignedFace) -> np.ndarray:
    """The pixels of a crop with their channels first: float32 (c, s, s)."""
    return face.pixels[None] if face.pixels.ndim == 2 else face.pixels


def resized(planes: np.ndarray, size: int) -> np.ndarray:
    """Planes (c, s, s) at another size: float32 (c, size, size), reduced by area."""
    if planes.shape[-1] == size:
        return planes.astype(np.float32)
    method = cv2.INTER_AREA if planes.shape[-1] > size else cv2.INTER_LINEAR
    return np.stack([cv2.resize(p, (size, size), interpolation=method) for p in planes])
