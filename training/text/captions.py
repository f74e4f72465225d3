"""The captions of the text recipe: the grammar of the small pair, and what it cannot say.

Source: Table 2 of the paper: a caption has a subject, what it has, what it wears, and what it is.
Here every attribute is measured and none is guessed: the facts of `mien.training.latent.attributes`
with sex and age, which FaceRes estimates and only where it is sure, and the side that light comes
from. `make_caption` of the small pair is one of the forms, so that whatever that pair reads is a
caption here as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mien.engines.text_faces import FIRST, PADDING, WORDS
from mien.runtime.target import EMOTIONS
from mien.runtime.words import ADJECTIVES, words_of
from mien.training.latent.attributes import FACTS, ramp
from mien.training.latent.captions import PHRASES, SURE, Caption, make_caption
from mien.training.latent.captions import vocabulary as pair_vocabulary
from mien.training.latent.data import CodedFaces

SUBJECTS = ("woman", "man")
AGES = ("young", "old")
LIGHT = ("light_left", "light_right")
TEXT_FACTS = (*FACTS, *SUBJECTS, *AGES, *LIGHT)
INDEX = {name: i for i, name in enumerate(TEXT_FACTS)}
GRAMMARS_SHARE = 0.25  # of captions, in the form of the small pair
MOST_FURTHER = 3  # facts beside emotion, subject and age
SECOND = 0.25  # of the votes, for a second emotion to be named
YOUNG, MAYBE_YOUNG, MAYBE_OLD, OLD = 26.0, 32.0, 44.0, 54.0  # years
# As PHRASES of the pair, in the shorter order that people type.
SHORT = {
    "lips_apart": ("lips parted", "mouth open"),
    "lips_closed": ("lips closed", "mouth closed"),
    "smiling": ("smiling",),
    "eyes_narrow": ("eyes narrowed",),
    "eyes_wide": ("eyes wide open",),
    "brows_raised": ("brows raised", "eyebrows raised"),
    "brows_lowered": ("brows lowered", "eyebrows lowered"),
    "turned_left": ("looking left",),
    "turned_right": ("looking right",),
    "straight": ("facing the camera",),
    "glasses": ("wearing glasses", "glasses"),
    "no_glasses": ("without glasses",),
    "light_left": ("lit from the left",),
    "light_right": ("lit from the right",),
}
AGE_WORDS = {"young": ("young",), "old": ("old", "elderly")}
PRONOUNS = {"woman": "she", "man": "he"}
WORN = ("glasses", "no_glasses")


def text_facts(faces: CodedFaces, holds: np.ndarray, people: np.ndarray) -> np.ndarray:
    """How surely each of TEXT_FACTS holds for each face: float32 (n, len(TEXT_FACTS)).

    holds: of `face_facts`. people: FaceRes's estimates (n, 2), how surely male, and years.
    """
    middle = faces.crops.pixels[:, 32:112, 24:104].astype(np.float32)
    half = middle.shape[2] // 2
    side = middle[:, :, :half].mean((1, 2)) - middle[:, :, half:].mean((1, 2))
    low, lower, upper, high = (float(q) for q in np.quantile(side, (0.1, 0.25, 0.75, 0.9)))
    male, years = people[:, 0], people[:, 1]
    columns = [
        ramp(male, 0.4, 0.1),
        ramp(male, 0.6, 0.9),
        ramp(years, MAYBE_YOUNG, YOUNG),
        ramp(years, MAYBE_OLD, OLD),
        ramp(side, upper, high),
        ramp(side, lower, low),
    ]
    return np.concatenate([holds, np.stack(columns, 1)], 1).astype(np.float32)


def chosen_facts(
    holds: np.ndarray, random: np.random.Generator, usable: np.ndarray
) -> tuple[int, ...]:
    """Which facts of a face a caption states, as indices of TEXT_FACTS.

    holds: (len(TEXT_FACTS),). usable: bool, which may be stated at all.
    """
    emotions = holds[: len(EMOTIONS)] * usable[: len(EMOTIONS)]
    stated: list[int] = []
    if emotions.sum() > 0 and random.random() < 0.85:
        stated.append(int(random.choice(len(EMOTIONS), p=emotions / emotions.sum())))
        second = int(np.argsort(emotions)[-2])
        if emotions[second] >= SECOND and second not in stated and random.random() < 0.5:
            stated.append(second)
    sure = [i for i in range(len(EMOTIONS), len(holds)) if holds[i] >= SURE and usable[i]]
    who = [i for i in sure if TEXT_FACTS[i] in (*SUBJECTS, *AGES) and random.random() < 0.6]
    further = [i for i in sure if TEXT_FACTS[i] not in (*SUBJECTS, *AGES)]
    count = int(random.integers(0 if stated or who else 1, MOST_FURTHER + 1))
    stated += who + [int(i) for i in random.permutation(further)[:count]]
    return tuple(stated)


def caption_of(facts: Sequence[int], random: np.random.Generator) -> Caption:
    """A caption that states just these facts, in at most WORDS words."""
    names = [TEXT_FACTS[i] for i in facts]
    emotions = [name for name in names if name in EMOTIONS]
    plain = len(emotions) < 2 and all(name in FACTS for name in names)
    if plain and random.random() < GRAMMARS_SHARE:
        holds = np.zeros(len(FACTS), np.float32)
        holds[list(facts)] = 1
        made = make_caption(holds, random)
        if set(made.facts) == set(facts):
            return made
    forms = (_in_one_phrase, _in_sentences, _as_a_list)
    order = random.permutation(len(forms))
    texts = [forms[i](names, emotions, random) for i in order]
    fitting = [text for text in texts if len(words_of(text)) <= WORDS]
    return Caption(fitting[0] if fitting else texts[int(np.argmax(order == 2))], tuple(facts))


def _feelings(emotions: Sequence[str], random: np.random.Generator) -> str:
    return " and ".join(str(random.choice(ADJECTIVES[name])) for name in emotions)


def _subject(names: Sequence[str], random: np.random.Generator, adjectives: str = "") -> str:
    """The noun with what stands before it: "a young happy woman"."""
    ages = [str(random.choice(AGE_WORDS[name])) for name in names if name in AGES]
    noun = next((name for name in names if name in SUBJECTS), "person")
    words = " ".join([*ages, *([adjectives] if adjectives else []), noun])
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _further(names: Sequence[str]) -> list[str]:
    return [n for n in names if n not in (*EMOTIONS, *SUBJECTS, *AGES)]


def _long(name: str, random: np.random.Generator) -> str:
    """A noun phrase, or a participle where there is none."""
    return str(random.choice(PHRASES.get(name, SHORT[name])))


def _listed(phrases: Sequence[str]) -> str:
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]] if phrases[1:] else phrases)


def _in_one_phrase(
    names: Sequence[str], emotions: Sequence[str], random: np.random.Generator
) -> str:
    """A young happy woman with raised brows and glasses, lit from the left."""
    has = [_long(n, random) for n in _further(names) if n in PHRASES]
    rest = [_long(n, random) for n in _further(names) if n not in PHRASES]
    text = _subject(names, random, _feelings(emotions, random))
    text += f" with {_listed(has)}" if has else ""
    return ", ".join([text, *rest])


def _in_sentences(
    names: Sequence[str], emotions: Sequence[str], random: np.random.Generator
) -> str:
    """The woman is young and happy. She has raised brows. She wears glasses."""
    noun = next((name for name in names if name in SUBJECTS), "person")
    ages = [str(random.choice(AGE_WORDS[name])) for name in names if name in AGES]
    feels = [_feelings(emotions, random)] if emotions else []
    is_a = _listed([*ages, *feels]) or "shown"
    who = PRONOUNS.get(noun, "the person")
    has = [_long(n, random) for n in _further(names) if n in PHRASES and n not in WORN]
    wears = [_long(n, random) for n in _further(names) if n in WORN]
    rest = [_long(n, random) for n in _further(names) if n not in PHRASES]
    parts = [f"the {noun} is {is_a}", *([f"{who} has {_listed(has)}"] if has else [])]
    parts += [f"{who} wears {_listed(wears)}"] if wears else []
    parts += [f"{who} is {_listed(rest)}"] if rest else []
    return ". ".join(parts)


def _as_a_list(names: Sequence[str], emotions: Sequence[str], random: np.random.Generator) -> str:
    """A young woman, happy, brows raised."""
    feels = [_feelings(emotions, random)] if emotions else []
    has = [str(random.choice(SHORT[name])) for name in _further(names)]
    return ", ".join([_subject(names, random), *feels, *has])


def vocabulary() -> tuple[str, ...]:
    """Every word that the grammar can say, sorted."""
    said = {word for phrases in SHORT.values() for text in phrases for word in words_of(text)}
    said |= {word for words in AGE_WORDS.values() for word in words}
    said |= {*SUBJECTS, *PRONOUNS.values(), "person", "a", "an", "the", "and", "with"}
    said |= {"is", "has", "wears", "shown"}
    return tuple(sorted(said | set(pair_vocabulary())))


def tokens_of(texts: Sequence[str]) -> np.ndarray:
    """The tokens of captions: int64 (n, WORDS), as `mien.runtime.text.sentence` reads them."""
    numbers = {word: FIRST + i for i, word in enumerate(vocabulary())}
    tokens = np.full((len(texts), WORDS), PADDING, np.int64)
    for row, text in zip(tokens, texts, strict=True):
        found = [numbers[word] for word in words_of(text) if word in numbers][:WORDS]
        row[: len(found)] = found
    return tokens
