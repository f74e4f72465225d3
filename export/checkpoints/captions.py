"""The vocabulary of a text encoder, from the file of captions that lies beside public ones.

`captions.pickle` of AttnGAN and its family holds four things: the captions for training and for
testing as lists of tokens, the words by token, and the tokens by word. Nothing but Python's own
lists, dictionaries, texts and numbers is taken from it.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mien.engines.errors import ModelError, is_out_of_memory
from mien.engines.text_faces import FIRST
from mien.export.checkpoints.inert import InertUnpickler
from mien.export.checkpoints.reading import bounded_memory

PARTS = 4
MOST_BYTES = 256 << 20  # 300,000 captions of 20 words take some 15 MB
MOST_WORDS = 200_000
WORD = re.compile(r"\w+")
NO_CLASS = re.compile(r"(?!)")
HINT = "give the captions.pickle that its text encoder was trained with"


def read_vocabulary(path: Path, *, limit: int) -> tuple[str, ...]:
    """The words of a file of captions in the order of their tokens, which begin with FIRST.

    limit: the most memory that reading it may take, in bytes. Raises ModelError, also for a pickle
    that could run code.
    """
    held = _held(path, limit)
    if not (isinstance(held, Sequence) and len(held) == PARTS and isinstance(held[2], Mapping)):
        raise ModelError(f"{path} holds no captions with their vocabulary; {HINT}")
    by_token = held[2]
    if not 0 < len(by_token) <= MOST_WORDS or set(by_token) != set(range(len(by_token))):
        raise ModelError(
            f"{path} numbers its {len(by_token)} words with gaps, expected 0 to "
            f"{len(by_token) - 1}; {HINT}"
        )
    words = tuple(by_token[token] for token in range(FIRST, len(by_token)))
    strange = [word for word in words if not (isinstance(word, str) and WORD.fullmatch(word))]
    if strange or len(set(words)) != len(words):
        shown = repr(strange[0])[:40] if strange else "a word twice"
        raise ModelError(f"{path} has {shown} among its words, expected different words; {HINT}")
    return words


def _held(path: Path, limit: int) -> object:
    """What a pickle of plain values holds. Raises ModelError."""
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        raise ModelError(f"{path} is no file of captions of up to 256 MB; {HINT}")
    try:
        with path.open("rb") as file, bounded_memory(limit):
            return InertUnpickler(file, {}, NO_CLASS).load()
    except pickle.UnpicklingError as error:
        asked = str(error).partition("GLOBAL ")[2]
        if asked:
            raise ModelError(
                f"{path} holds more than captions: loading it would call on {asked[:60]}, and mien "
                f"runs nothing from a file; {HINT}"
            ) from error
        raise ModelError(f"{path} is no pickle, or damaged; {HINT}") from error
    except Exception as error:  # of pickle, which raises whatever the bytes lead to
        if is_out_of_memory(error):
            raise ModelError(
                f"{path} takes more memory than allowed; if you trust it, raise --max-memory"
            ) from error
        raise ModelError(f"{path} is no pickle, or damaged; {HINT}") from error
