"""Faces drawn from a sentence, the one that fits it best first.

Source: Fu et al., "Facial Expression Generation from Text with FaceCLIP", JCST 2025. As its
demonstration does, several faces are drawn and ranked by how near a text-image pair finds them to
the sentence. A face is known by its seed and its number: how many are drawn beside it, and on which
machine, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import cv2
import numpy as np

from mien.engines import Catalog, Engine
from mien.engines.errors import ModelError, UsageError, VideoError
from mien.engines.text_faces import (
    ENCODER,
    GENERATOR,
    SIGNED,
    picture_name,
    shapes_of,
)
from mien.runtime.text.ranking import Ranking, open_ranking
from mien.runtime.text.sentence import Sentence, Vocabulary

SIZE: Final = 256  # pixels a side of what `draw_faces` gives
MOST_FACES: Final = 64
MOST_SEED: Final = 2**31 - 1
HOW: Final = (
    "those of mien are used without --models; train others with python -m mien.training text, or "
    "write your own checkpoints with mien export --into DIR"
)


@dataclass(frozen=True, slots=True)
class DrawnFace:
    """A face made from a sentence.

    pixels: uint8 (s, s, 3), BGR. number: which of its seed's faces it is, from 0 on. nearness: the
    cosine between picture and sentence, None where nothing ranks them. attention: where each word
    of the sentence was looked for, float32 (words, s', s'), over the words 1; None where it was not
    asked for, or the generator has none.
    """

    pixels: np.ndarray
    number: int
    nearness: float | None = None
    attention: np.ndarray | None = None


class TextFaces:
    """Draws faces from sentences.

    encoder, generator: of `mien.engines.text_faces`, both of one model. ranking: what says how near
    a picture is to a sentence, None for the order in which they are drawn. They are closed with it.

    Raises ModelError where the two are of different models.
    """

    def __init__(self, encoder: Engine, generator: Engine, ranking: Ranking | None = None) -> None:
        self._encoder, self._generator, self._ranking = encoder, generator, ranking
        taken, given = shapes_of(generator.network), shapes_of(encoder.network)
        for name in ("words", "sentence", "present"):
            if name not in taken or taken[name] != given.get(name):
                raise ModelError(
                    f"the text encoder gives {name} {given.get(name)} and the generator takes "
                    f"{taken.get(name)}; use two networks of one model, exported with one batch"
                )
        tokens = encoder.network.inputs[0]
        known = int(tokens.range[1]) + 1 if tokens.range else 0
        self.vocabulary = Vocabulary.stated(encoder.metadata, known)
        self._length = tokens.shape[1]
        self._picture = picture_name(generator.network)
        maps = [spec.name for spec in generator.network.outputs if "attention" in spec.name]
        self._attention = max(maps, key=lambda name: taken[name][-1], default=None)

    @classmethod
    def open(cls, catalog: Catalog, *, provider: str = "cpu") -> TextFaces:
        """The networks of a catalog at work. Raises ModelError, naming those that are missing."""
        there = {entry.network for entry in catalog.entries}
        missing = [name for name in (ENCODER, GENERATOR) if name not in there]
        if missing:
            raise ModelError(f"faces from text lack the networks {', '.join(missing)}; {HOW}")
        with ExitStack() as opened:
            encoder = opened.enter_context(catalog.open(ENCODER, provider=provider))
            generator = opened.enter_context(catalog.open(GENERATOR, provider=provider))
            ranking = open_ranking(catalog, provider=provider)
            if ranking is not None:
                opened.callback(ranking.close)
            made = cls(encoder, generator, ranking)
            opened.pop_all()
        return made

    @property
    def ranked_by(self) -> str | None:
        """The network that ranks, None where nothing does."""
        return None if self._ranking is None else self._ranking.name

    @property
    def size(self) -> int:
        """Pixels a side of the pictures."""
        return shapes_of(self._generator.network)[self._picture][-1]

    def read(self, text: str) -> Sentence:
        """A text as the encoder reads it. Raises UsageError where it cannot be drawn."""
        return self.vocabulary.read(text, self._length)

    def draw(
        self, sentence: Sentence, *, count: int = 1, seed: int = 0, with_attention: bool = False
    ) -> list[DrawnFace]:
        """`count` faces of a sentence, the one that fits it best first. Raises UsageError."""
        if not 1 <= count <= MOST_FACES:
            raise UsageError(f"1 to {MOST_FACES} faces can be drawn at once, not {count}")
        if not 0 <= seed <= MOST_SEED:
            raise UsageError(f"a seed lies in 0..{MOST_SEED}, not {seed}")
        codes = self._encoder.infer({"tokens": np.repeat(sentence.tokens, self._batch, 0)})
        faces = [
            self._one(codes, seed, number, len(sentence.words) if with_attention else 0)
            for number in range(count)
        ]
        if self._ranking is None:
            return faces
        nearness = self._ranking(sentence, codes["sentence"][0], [face.pixels for face in faces])
        scored = [
            DrawnFace(face.pixels, face.number, near, face.attention)
            for face, near in zip(faces, nearness, strict=True)
        ]
        return sorted(scored, key=lambda face: -(face.nearness or 0.0))

    @property
    def _batch(self) -> int:
        return self._encoder.network.inputs[0].shape[0]

    def _one(self, codes: dict[str, np.ndarray], seed: int, number: int, words: int) -> DrawnFace:
        """One face; words: of how many to keep the attention maps."""
        taken = shapes_of(self._generator.network)
        random = np.random.default_rng((seed, number))
        noise = {name: random.standard_normal(taken[name][1], np.float32) for name in ("z", "eps")}
        feeds = {name: np.repeat(values[None], taken[name][0], 0) for name, values in noise.items()}
        found = self._generator.infer(feeds | dict(codes))
        attention = found[self._attention][0, :words] if words and self._attention else None
        return DrawnFace(pixels_of(found[self._picture][0]), number, attention=attention)

    def close(self) -> None:
        """Close the networks."""
        if self._ranking is not None:
            self._ranking.close()
        self._generator.close()
        self._encoder.close()

    def __enter__(self) -> TextFaces:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def draw_faces(
    prompt: str,
    n: int = 1,
    seed: int = 0,
    *,
    models: str | Path | None = None,
    provider: str = "cpu",
) -> list[np.ndarray]:
    """`n` faces of a sentence, uint8 (256, 256, 3) BGR, the one that fits it best first.

    models: a folder of models, or several as `mien.engines.catalog.joined_folders` joins them.

    Raises UsageError for a sentence that says nothing known, ModelError where networks are missing.
    """
    catalog = Catalog.bundled() if models is None else Catalog.load(models)
    with TextFaces.open(catalog, provider=provider) as faces:
        drawn = faces.draw(faces.read(prompt), count=n, seed=seed)
    return [resized(face.pixels, SIZE) for face in drawn]


def pixels_of(image: np.ndarray) -> np.ndarray:
    """A picture of a generator, float32 (3, s, s) RGB in [-1, 1], as uint8 (s, s, 3) BGR."""
    low, high = SIGNED
    levels = (np.clip(image, low, high) - low) * np.float32(255 / (high - low))
    return np.ascontiguousarray(np.rint(levels).astype(np.uint8).transpose(1, 2, 0)[..., ::-1])


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """A picture at `size` pixels a side."""
    if len(pixels) == size:
        return pixels
    method = cv2.INTER_AREA if len(pixels) > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=method))


def encoded(pixels: np.ndarray, suffix: str) -> bytes:
    """A picture, uint8 BGR, as a file of a suffix that OpenCV knows. Raises VideoError."""
    done, data = cv2.imencode(suffix.lower(), pixels)
    if not done:
        raise VideoError(f"OpenCV cannot write {suffix}; give a name that ends in .png")
    return bytes(data.tobytes())


def grid_of(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one size beside and below each other, uint8 BGR; what stays empty is black."""
    across = int(np.ceil(np.sqrt(len(pictures))))
    blank = np.zeros_like(pictures[0])
    padded = [*pictures, *[blank] * (-len(pictures) % across)]
    rows = [np.concatenate(padded[i : i + across], 1) for i in range(0, len(padded), across)]
    return np.concatenate(rows, 0)
