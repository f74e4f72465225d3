"""The errors a user of mien can meet, as one tree.

MienError                 anything mien says itself
├── UsageError            an argument, an emotion name, a timeline: what was typed
├── VideoError            a video, picture or output file
├── ModelError            a model file: missing, damaged, not the declared one
├── EngineError           running a network: wrong name, dtype or shape, a failed run
└── DeviceError           a provider or device that is missing
"""

from __future__ import annotations

import os
import re
import traceback
import unicodedata


class MienError(Exception):
    """Anything mien reports by itself: one line, what was wrong and what to do."""


class UsageError(MienError):
    """What was asked for makes no sense: an unknown emotion, a bad timeline, a bad range."""


class VideoError(MienError):
    """A video, picture or output file cannot be read or written."""


class ModelError(MienError):
    """A model file is missing, damaged, or not the network it is declared to be."""


class EngineError(MienError):
    """A network was given the wrong tensors, or failed while running."""


class DeviceError(MienError):
    """A provider or device was asked for that this machine does not have."""


# Unicode's categories: controls, such as those of writing direction, halves of pairs, line ends.
STEERING = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
MOST_WORDS = 300
MOST_SHOWN, END_SHOWN = 2000, 400
TRACEBACK = "MIEN_TRACEBACK"  # in the environment: print where an error comes from as well
# What native libraries write where memory runs out, and no class of their own says so.
NO_MEMORY = re.compile(
    r"bad[_ ]?alloc|allocate memory|out ?of ?memory|insufficient memory|failed to allocate"
    r"|failed to map segment|start new thread",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    return isinstance(error, MemoryError) or bool(NO_MEMORY.search(str(error)))


def message_of(error: BaseException) -> str:
    """What to tell people of an error, whatever it is; prints where it comes from if asked to."""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    if isinstance(error, MienError):
        return str(error)
    if is_out_of_memory(error):
        return "out of memory; try a smaller picture, video or network, or close other programs"
    if isinstance(error, OSError):
        return f"{error.filename or 'the output'}: {error.strerror or error}"
    kind, words = type(error).__name__, " ".join(str(error).split())[:MOST_WORDS]
    return (
        f"this is a fault of mien itself ({kind}: {words}); please report it, with what is printed "
        f"with {TRACEBACK}=1 in the environment"
    )


def one_line(text: object) -> str:
    """`text` in one line, fit for any terminal: what would steer it is shown and not obeyed.

    Names of files, and what models and cameras say of themselves, can be anything.
    """
    line = str(text)
    return line if line.isprintable() else "".join(map(_shown, line))


def short_line(text: object) -> str:
    """`one_line` of a text, cut in its middle where it is very long: the end says what to do."""
    line = one_line(text)
    if len(line) <= MOST_SHOWN:
        return line
    return f"{line[: MOST_SHOWN - END_SHOWN]} ... {line[-END_SHOWN:]}"


def plain_lines(text: str) -> str:
    """`text` with each of its lines as of `one_line`."""
    return "\n".join(map(one_line, text.split("\n")))


def _shown(sign: str) -> str:
    steers = unicodedata.category(sign) in STEERING
    return sign.encode("unicode_escape").decode() if steers else sign
