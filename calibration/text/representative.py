"""What the networks of faces from text are shown: sentences of the words that they know."""

from __future__ import annotations

import numpy as np

from mien.engines import Catalog
from mien.engines.errors import ModelError
from mien.engines.text_faces import WORDS
from mien.runtime.text.faces import TextFaces
from mien.runtime.text.sentence import FILLING

FACES = 2  # drawn of each sentence


def draw_sentences(catalog: Catalog, count: int, *, seed: int = 0) -> None:
    """Draw faces of sentences from 1 to WORDS words, so that engines of a catalog see inputs.

    catalog: whose engines remember what they are given. count: of inputs at least. Raises
    ModelError where it lacks the text encoder or the generator.
    """
    random = np.random.default_rng(seed)
    with TextFaces.open(catalog) as faces:
        known = [word for word in faces.vocabulary.words if word.isascii() and word.islower()]
        telling = [word for word in known if word not in FILLING]
        if not telling:
            raise ModelError(
                "the text encoder knows no word in small ASCII letters; export it again"
            )
        for number in range(-(-count // FACES)):
            length = 1 + number % WORDS
            words = [str(random.choice(telling))]
            words += [str(random.choice(known)) for _ in range(length - 1)]
            faces.draw(faces.read(_shortened(words)), count=FACES, seed=number)


def _shortened(words: list[str], most: int = 400) -> str:
    """As many of the words as `most` characters hold."""
    while len(" ".join(words)) > most:
        words = words[:-1]
    return " ".join(words)
