"""How near a picture is to a sentence, by the two networks of a text-image pair.

DAMSM's pair is taken where its image encoder is there: it knows every word that the generator
knows. Else the small contrastive pair that reads prompts of the latent methods does.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, Protocol

import cv2
import numpy as np

from mien.engines import Catalog, Engine
from mien.engines.errors import ModelError
from mien.engines.face_space import IMAGE_TOWER, TEXT_TOWER
from mien.engines.text_faces import IMAGE_ENCODER
from mien.runtime.text.sentence import Sentence
from mien.runtime.words import stated_vocabulary, tokenise

LUMA: Final = np.array([0.114, 0.587, 0.299], np.float32)  # of B, G, R: BT.601


class Ranking(Protocol):
    """Says how near pictures are to a sentence. name: of the network that sees them."""

    name: str

    def __call__(
        self, sentence: Sentence, code: np.ndarray, pictures: Sequence[np.ndarray], /
    ) -> list[float]:
        """The cosine of each picture, uint8 (s, s, 3) BGR; code: the text encoder's, (width,)."""
        ...

    def close(self) -> None:
        """Close the networks."""
        ...


def open_ranking(catalog: Catalog, *, provider: str = "cpu") -> Ranking | None:
    """What ranks with the networks of a catalog, None where it has no pair. Raises ModelError."""
    there = {entry.network for entry in catalog.entries}
    if IMAGE_ENCODER in there:
        return DamsmRanking(catalog.open(IMAGE_ENCODER, provider=provider))
    if not {TEXT_TOWER, IMAGE_TOWER} <= there:
        return None
    with ExitStack() as opened:
        text = opened.enter_context(catalog.open(TEXT_TOWER, provider=provider))
        image = opened.enter_context(catalog.open(IMAGE_TOWER, provider=provider))
        made = PairRanking(text, image)
        opened.pop_all()
    return made


class DamsmRanking:
    """By the image encoder that was trained together with the generator's text encoder."""

    def __init__(self, encoder: Engine) -> None:
        self.name = encoder.network.name
        self._encoder = encoder
        self._size = encoder.network.inputs[0].shape[-1]

    def __call__(
        self, _: Sentence, code: np.ndarray, pictures: Sequence[np.ndarray]
    ) -> list[float]:
        return [cosine(self.code(picture), code) for picture in pictures]

    def code(self, picture: np.ndarray) -> np.ndarray:
        """The code of a picture, uint8 (s, s, 3) BGR: float32 (width,). Raises ModelError."""
        planes = signed_planes(picture[..., ::-1], self._size)
        found = self._encoder.infer({"image": _repeated(planes, self._encoder)})
        if "code" not in found:
            raise ModelError(f"{self.name} gives no code; export it again with mien export")
        code: np.ndarray = found["code"][0]
        return code

    def close(self) -> None:
        self._encoder.close()


class PairRanking:
    """By the contrastive pair of mien's face space, which sees luma."""

    def __init__(self, text: Engine, image: Engine) -> None:
        self.name = image.network.name
        self._text, self._image = text, image
        self._vocabulary = stated_vocabulary(text.metadata)
        self._length = text.network.inputs[0].shape[1]
        self._size = image.network.inputs[0].shape[-1]

    def __call__(
        self, sentence: Sentence, _: np.ndarray, pictures: Sequence[np.ndarray]
    ) -> list[float]:
        tokens = tokenise(" ".join(sentence.words), self._vocabulary, self._length)
        said = self._text.infer({"tokens": _repeated(tokens, self._text)})["embedding"][0]
        return [cosine(self._seen(picture), said) for picture in pictures]

    def _seen(self, picture: np.ndarray) -> np.ndarray:
        planes = signed_planes(picture @ LUMA, self._size)
        embedding: np.ndarray = self._image.infer({"image": _repeated(planes, self._image)})[
            "embedding"
        ][0]
        return embedding

    def close(self) -> None:
        self._text.close()
        self._image.close()


def signed_planes(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture (s, s) or (s, s, c) of 0 to 255 as float32 (c, size, size) in [-1, 1]."""
    own = picture.astype(np.float32)
    if len(own) != size:
        method = cv2.INTER_AREA if len(own) > size else cv2.INTER_LINEAR
        own = np.asarray(cv2.resize(own, (size, size), interpolation=method))
    planes = own[None] if own.ndim == 2 else own.transpose(2, 0, 1)
    signed: np.ndarray = planes / np.float32(127.5) - 1
    return np.ascontiguousarray(np.clip(signed, -1, 1), np.float32)


def _repeated(values: np.ndarray, engine: Engine) -> np.ndarray:
    """One input as often as the graph takes at once."""
    return np.repeat(values[None], engine.network.inputs[0].shape[0], 0)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine between two codes (d,)."""
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(a @ b) / max(lengths, 1e-12)
