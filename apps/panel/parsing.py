"""The messages of pages and scripts, read and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from mien.apps.panel.protocol import (
    ApplyPreset,
    Change,
    ClientMessage,
    DeletePreset,
    Face,
    Offer,
    Ping,
    ProtocolError,
    SavePreset,
)
from mien.engines.errors import UsageError
from mien.runtime.faces.own_expression import LEAST, MOST
from mien.runtime.spec import OptionValue
from mien.runtime.target import EMOTIONS, MAX_STRENGTH, MAX_TEXT, emotion_name

MAX_OPTIONS: Final = 16  # that a method is told
MAX_OPTION: Final = 200  # characters of one of them, such as a list of attributes
MAX_NAME: Final = 40  # characters of a preset's name
MAX_MESSAGE: Final = 4096  # characters of a message; the longest that makes sense has a few hundred
MAX_DEPTH: Final = 8  # of objects in objects; messages have two
_MAX_DIGITS: Final = 20  # of a number
# Strings, of which brackets are no part, and brackets. A string may lack its end, so that every
# character is looked at once.
_PARTS: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{\]}]', re.DOTALL)


def parse_client_message(text: str | bytes) -> ClientMessage:
    """The message of a page or script. Raises ProtocolError, one line that says what is wrong."""
    if not isinstance(text, str):
        raise ProtocolError("a message must be text, not binary")
    if len(text) > MAX_MESSAGE:
        raise ProtocolError(f"a message may have {MAX_MESSAGE} characters, not {len(text)}")
    message = _object(text)
    kind = message.pop("type", None)
    parse = _PARSERS.get(kind) if isinstance(kind, str) else None
    if parse is None:
        raise ProtocolError(f"unknown type of message (known: {', '.join(_PARSERS)})")
    return parse(message)


def parse_offer(body: bytes) -> Offer:
    """The body of a POST to `/offer`. Raises ProtocolError."""
    try:
        offer = _object(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise ProtocolError("an offer must be UTF-8") from None
    sdp, camera = offer.get("sdp"), offer.get("camera", False)
    if offer.get("type") != "offer" or not isinstance(sdp, str) or not isinstance(camera, bool):
        raise ProtocolError("an offer must have type, sdp and camera")
    return Offer(sdp, camera)


def parse_weights(value: object) -> dict[str, float]:
    """A mix with all eight emotions, all 0 for null. Raises ProtocolError."""
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise ProtocolError('target must be an object such as {"happy": 0.7}')
    weights = dict.fromkeys(EMOTIONS, 0.0)
    for name, weight in value.items():
        weights[_emotion(name)] = _number("target", weight, 0.0, 1.0)
    return weights


def parse_intensity(value: object) -> float:
    """A strength in 0..1.5. Raises ProtocolError."""
    return _number("intensity", value, 0.0, MAX_STRENGTH)


def _own(value: object) -> float:
    return _number("own", value, LEAST, MOST)


def parse_name(value: object) -> str:
    """The name of a preset, without blanks around it. Raises ProtocolError."""
    name = value.strip() if isinstance(value, str) else ""
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ProtocolError(f"a preset's name must be 1 to {MAX_NAME} printable characters")
    return name


def parse_json(text: str, max_depth: int = MAX_DEPTH) -> Any:
    """What a JSON text says; without NaN and infinity, which JSON does not have.

    Raises ProtocolError where it is none, is nested deeper, or has a number of very many digits.
    """
    depth = 0
    for part in _PARTS.finditer(text):
        first = part[0][0]
        depth += (first in "[{") - (first in "]}")
        if depth > max_depth:
            raise ProtocolError(f"this JSON is nested more than {max_depth} deep")
    try:
        return json.loads(text, parse_int=_integer, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ProtocolError("this is not JSON") from None


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:  # the time it takes grows with the square
        raise ProtocolError(f"a number may have {_MAX_DIGITS} digits, not {len(digits)}")
    return int(digits)


def _no_number(name: str) -> float:
    raise ProtocolError(f"{name} is no number in JSON")


def _object(text: str) -> dict[str, Any]:
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ProtocolError("a message must be a JSON object")
    return value


def _change(message: dict[str, Any]) -> Change:
    _refuse_unknown(message, _SETTINGS)
    return Change(**{name: _SETTINGS[name](value) for name, value in message.items()})


def _save(message: dict[str, Any]) -> SavePreset:
    _refuse_unknown(message, ("name", "target", "intensity"))
    return SavePreset(
        parse_name(message.get("name")),
        parse_weights(message["target"]) if "target" in message else None,
        parse_intensity(message["intensity"]) if "intensity" in message else None,
    )


def _delete(message: dict[str, Any]) -> DeletePreset:
    _refuse_unknown(message, ("name",))
    return DeletePreset(parse_name(message.get("name")))


def _apply(message: dict[str, Any]) -> ApplyPreset:
    _refuse_unknown(message, ("name",))
    return ApplyPreset(parse_name(message.get("name")))


def _ping(message: dict[str, Any]) -> Ping:
    _refuse_unknown(message, ("t",))
    return Ping(_number("t", message.get("t", 0.0), 0.0, 1e15))


def _refuse_unknown(message: dict[str, Any], known: Iterable[str]) -> None:
    for name in message:
        if name not in known:
            raise ProtocolError(f"unknown field {name[:MAX_NAME]!r} (known: {', '.join(known)})")


def _emotion(name: str) -> str:
    try:
        return emotion_name(name[:MAX_NAME])
    except UsageError as error:
        raise ProtocolError(str(error)) from error


def _number(name: str, value: object, low: float, high: float) -> float:
    # bool is an int to Python, not to people. NaN fails the comparison; an int too large for a
    # float compares well.
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise ProtocolError(f"{name} must be a number in {low:g}..{high:g}")
    return float(value)


def _face(value: object) -> Face:
    if value == "all":
        return "all"
    if value == "largest":
        return "largest"
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1000:
        return value
    raise ProtocolError("face must be all, largest, or a number from 1 on")


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ProtocolError("paused and mark must be true or false")
    return value


def _word(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise ProtocolError("method, gan and the names of options must be names")
    return value


def _options(value: object) -> dict[str, OptionValue]:
    if not isinstance(value, dict) or len(value) > MAX_OPTIONS:
        raise ProtocolError(f"options must be an object of at most {MAX_OPTIONS} names")
    for name, told in value.items():
        if isinstance(told, bool) or not isinstance(told, str | int | float):
            raise ProtocolError(f"the option {name[:MAX_NAME]!r} must be a name or a number")
        _word(name)
        if isinstance(told, str):
            _text(f"the option {name}", told, MAX_OPTION)
    return value


def _text(name: str, value: object, most: int) -> str:
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise ProtocolError(f"{name} must be a text of at most {most} printable characters")
    return value


def _prompt(value: object) -> str:
    return _text("prompt", value, MAX_TEXT)


_SETTINGS: Final[Mapping[str, Callable[[object], Any]]] = {
    "target": parse_weights,
    "intensity": parse_intensity,
    "face": _face,
    "method": _word,
    "gan": _word,
    "paused": _flag,
    "mark": _flag,
    "own": _own,
    "options": _options,
    "prompt": _prompt,
}
_PARSERS: Final[Mapping[str, Callable[[dict[str, Any]], ClientMessage]]] = {
    "set": _change,
    "preset_save": _save,
    "preset_delete": _delete,
    "preset_apply": _apply,
    "ping": _ping,
}
