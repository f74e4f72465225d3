"""Captions of faces from a probabilistic grammar, and how well a caption fits any face.

A caption states some facts of `mien.training.latent.attributes` that surely hold for the face it is
drawn from. It may hold for other faces of a batch as well, and counts as theirs then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mien.runtime.target import EMOTIONS
from mien.runtime.words import ADJECTIVES, NOUNS, tokenise, words_of
from mien.training.latent.attributes import FACTS

LENGTH = 24  # tokens of a caption
SURE = 0.7  # a fact is stated from here on
MOST_FACTS = 3  # beside the emotion

PHRASES = {
    "lips_apart": ("open lips", "parted lips", "an open mouth"),
    "lips_closed": ("closed lips", "a closed mouth"),
    "smiling": ("a smile", "a smiling mouth"),
    "eyes_narrow": ("narrow eyes", "narrowed eyes"),
    "eyes_wide": ("wide eyes", "wide open eyes"),
    "brows_raised": ("raised brows", "raised eyebrows"),
    "brows_lowered": ("lowered brows", "lowered eyebrows"),
    "turned_left": ("the head turned left", "the head turned to the left"),
    "turned_right": ("the head turned right", "the head turned to the right"),
    "straight": ("the head straight",),
    "glasses": ("glasses", "spectacles"),
    "no_glasses": ("no glasses",),
}
OPENINGS = (
    "{a} {adjective} face",
    "{a} {adjective} person",
    "a person who looks {adjective}",
    "a face full of {noun}",
    "an emotion of {noun}",
    "an emotion of {adjective}",
    "the face of {a} {adjective} person",
)
PLAIN = ("a face", "a person", "the face of a person")


@dataclass(frozen=True, slots=True)
class Caption:
    """A text, and which of FACTS it states, as their indices."""

    text: str
    facts: tuple[int, ...]


def make_caption(holds: np.ndarray, random: np.random.Generator) -> Caption:
    """A caption of a face for which each of FACTS holds as surely as `holds` (len(FACTS),) says."""
    emotions = holds[: len(EMOTIONS)]
    stated: list[int] = []
    opening = str(random.choice(PLAIN))
    if emotions.sum() > 0 and random.random() < 0.85:
        emotion = int(random.choice(len(EMOTIONS), p=emotions / emotions.sum()))
        stated.append(emotion)
        opening = _opening(EMOTIONS[emotion], random)
    sure = len(EMOTIONS) + np.flatnonzero(holds[len(EMOTIONS) :] >= SURE)
    least = 0 if stated else 1
    count = int(random.integers(least, MOST_FACTS + 1))
    further = random.permutation(sure)[:count]
    phrases = [str(random.choice(PHRASES[FACTS[fact]])) for fact in further]
    stated += [int(fact) for fact in further]
    return Caption(opening + _joined(phrases), tuple(stated))


def emotion_caption(emotion: str) -> str:
    """The prompt of the paper: "an emotion of happiness"."""
    return f"an emotion of {NOUNS[emotion][0]}"


def fitting(holds: np.ndarray, captions: list[Caption]) -> np.ndarray:
    """How surely each caption holds for each face: float32 (n faces, m captions)."""
    columns = [
        np.prod(holds[:, list(caption.facts)], axis=1) if caption.facts else np.ones(len(holds))
        for caption in captions
    ]
    return np.stack(columns, 1).astype(np.float32)


def vocabulary() -> tuple[str, ...]:
    """Every word that the grammar can say, sorted."""
    adjectives = [word for words in ADJECTIVES.values() for word in words]
    nouns = [word for words in NOUNS.values() for word in words]
    phrases = [phrase for options in PHRASES.values() for phrase in options]
    texts = [*OPENINGS, *PLAIN, *adjectives, *nouns, *phrases, "a an with and"]
    said = {word for text in texts for word in words_of(text)}
    return tuple(sorted(said - {"adjective", "noun"}))


def caption_tokens(captions: list[str]) -> np.ndarray:
    """The tokens of captions: int64 (n, LENGTH)."""
    words = vocabulary()
    return np.stack([tokenise(text, words, LENGTH) for text in captions])


def _opening(emotion: str, random: np.random.Generator) -> str:
    adjective = str(random.choice(ADJECTIVES[emotion]))
    article = "an" if adjective[0] in "aeiou" else "a"
    pattern = str(random.choice(OPENINGS))
    noun = str(random.choice(NOUNS[emotion]))
    return pattern.format(a=article, adjective=adjective, noun=noun)


def _joined(phrases: list[str]) -> str:
    if not phrases:
        return ""
    return " with " + (", ".join(phrases[:-1]) + " and " if phrases[1:] else "") + phrases[-1]
