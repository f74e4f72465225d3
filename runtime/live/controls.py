"""What a person can change while video runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from mien.engines.errors import UsageError
from mien.runtime.faces.choice import FaceChoice
from mien.runtime.faces.own_expression import LEAST, MOST
from mien.runtime.methods import method_spec
from mien.runtime.spec import OptionValue
from mien.runtime.target import EMOTIONS, Target, finite_number, parse_goal, shortened


@dataclass(frozen=True, slots=True)
class ControlState:
    """All settings, as of one moment.

    target: what the faces are to reach; None leaves them alone, but where the method is given an
        option that is an edit by itself (`MethodSpec.edits_by`), they become neutral beside it.
        face: as of `Filter`.
    method: of `mien.runtime.methods`; options: what it is told beside its own choices, pairs of
        name and value, in the order of the names.
    paused: show the original, to compare with. mark: draw the watermark `AI-edited` into a corner.
    own: how much of a person's own expression is shown, as of `Filter`; 1 leaves it.
    version: grows with every change.
    emotions: those that the method in use can make; all eight while another one is being opened.
    """

    target: Target | None = None
    face: str = "all"
    method: str = "warp"
    options: tuple[tuple[str, OptionValue], ...] = ()
    paused: bool = False
    mark: bool = False
    own: float = 1.0
    version: int = 0
    emotions: tuple[str, ...] = EMOTIONS

    @property
    def scales_own(self) -> bool:
        """Whether the method can show another `own` than 1."""
        return method_spec(self.method).scales_own

    @property
    def takes_prompt(self) -> bool:
        """Whether the method reads the prompt of a target."""
        return method_spec(self.method).takes_prompt

    @property
    def prompt(self) -> str:
        """The prompt of the target, empty where there is none."""
        return "" if self.target is None else self.target.prompt


class Controls:
    """The settings of a live loop; every method may be called from any thread.

    Raises UsageError for settings that make no sense.
    """

    def __init__(self, **settings: object) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[ControlState], object]] = []
        self._state = _changed(ControlState(), settings)

    def snapshot(self) -> ControlState:
        """The settings now."""
        with self._lock:
            return self._state

    def update(self, **changes: object) -> ControlState:
        """The settings after the changes, all of them or none.

        changes: fields of `ControlState` up to `own`; `target` may be text such as
        `happy:0.7+surprised:0.3`, `face` a number.
        Raises: UsageError, also for what the method in use cannot make.
        """

        def changed(before: ControlState) -> ControlState:
            state = _changed(before, changes)
            if (state.method, state.options) != (before.method, before.options):
                state = replace(state, emotions=EMOTIONS)
            if "target" in changes:
                check_possible(state.target, state.method, state.emotions)
            check_own(state.own, state.method)
            return state

        return self._exchange(changed)

    def limit(
        self,
        emotions: tuple[str, ...],
        method: str,
        options: tuple[tuple[str, OptionValue], ...],
    ) -> None:
        """Refuse what that method cannot make from now on, where it is still chosen."""
        self._exchange(
            lambda state: (
                replace(state, emotions=emotions)
                if (state.method, state.options) == (method, options)
                else state
            )
        )

    def _exchange(self, change: Callable[[ControlState], ControlState]) -> ControlState:
        """The settings after `change`; whoever listens is told where they are not the same."""
        with self._lock:
            state = change(self._state)
            if state == self._state:
                return state
            self._state = state = replace(state, version=self._state.version + 1)
            listeners = list(self._listeners)
        for listener in listeners:
            listener(state)
        return state

    def listen(self, listener: Callable[[ControlState], object]) -> Callable[[], None]:
        """A function that ends the listening; until then `listener` gets the state of each change.

        It is called in the thread of the change, and must return at once.
        """
        with self._lock:
            self._listeners.append(listener)

        def end() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return end


def missing_emotions(target: Target | None, emotions: tuple[str, ...]) -> list[str]:
    """The emotions of a target that are not among `emotions`."""
    weights = () if target is None else zip(EMOTIONS, target.weights, strict=True)
    return [emotion for emotion, weight in weights if weight > 0 and emotion not in emotions]


def check_possible(target: Target | None, method: str, emotions: tuple[str, ...]) -> None:
    """Raise UsageError where a method that makes `emotions` cannot make the target."""
    if missing := missing_emotions(target, emotions):
        raise UsageError(
            f"the method {method} cannot make a face {' or '.join(missing)} "
            f"(it can: {', '.join(emotions)})"
        )


def check_own(own: float, method: str) -> None:
    """Raise UsageError where a method cannot show that much of a person's own expression."""
    if own != 1 and not method_spec(method).scales_own:
        raise UsageError(
            f"the method {method} cannot soften or amplify a person's own expression "
            "(it shows it as it is: 1)"
        )


def _changed(state: ControlState, changes: dict[str, object]) -> ControlState:
    known = {field.name for field in fields(ControlState)} - {"version", "emotions"}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise UsageError(f"there is no setting {unknown[0]!r} (known: {', '.join(sorted(known))})")
    checked = {name: _CHECKS[name](value) for name, value in changes.items()}
    if checked.get("method", state.method) != state.method:
        checked.setdefault("options", ())  # another method's mean nothing to it
    changed = replace(state, **checked)  # type: ignore[arg-type]
    if "options" in checked:
        told = method_spec(changed.method).checked(dict(changed.options))
        given = sorted(name for name, _ in changed.options)
        changed = replace(changed, options=tuple((name, told[name]) for name in given))
    return _with_target(changed, is_asked="target" in checked)


def _with_target(state: ControlState, *, is_asked: bool) -> ControlState:
    """The settings with a target that suits the method, where no other was asked for."""
    spec = method_spec(state.method)
    if state.prompt and not spec.takes_prompt:
        if is_asked:
            raise UsageError(f"the method {spec.name} takes no prompt; choose one that does")
        assert state.target is not None
        return replace(state, target=replace(state.target, prompt=""))
    is_edit = any(value for name, value in state.options if name in spec.edits_by)
    if is_edit and not is_asked and state.target is None:
        return replace(state, target=parse_goal("neutral"))
    return state


def _target(value: object) -> Target | None:
    if value is None or isinstance(value, Target):
        return value
    if isinstance(value, str):
        return parse_goal(value)
    raise UsageError(f"a target is an emotion, a mix or nothing, not {value!r}")


def _face(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise UsageError(f"cannot choose the face {value!r}: give all, largest, or 1, 2, 3 ...")
    FaceChoice(str(value))
    return str(value).strip().lower()


def _method(value: object) -> str:
    return method_spec(value).name


def _options(value: object) -> tuple[tuple[str, object], ...]:
    """Pairs of name and value; those that are None are left to the method."""
    try:
        pairs = dict(value).items()  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise UsageError(f"options are names with values, not {shortened(value)}") from None
    return tuple((str(name), told) for name, told in pairs if told is not None)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"a switch is on or off, not {value!r}")
    return value


def _own(value: object) -> float:
    own = finite_number(value)
    if own is None or not LEAST <= own <= MOST:
        raise UsageError(
            f"how much of the own expression is shown lies in {LEAST:g}..{MOST:g}, "
            f"not {shortened(value)}"
        )
    return own


_CHECKS: dict[str, Callable[[object], object]] = {
    "target": _target,
    "face": _face,
    "method": _method,
    "options": _options,
    "paused": _switch,
    "mark": _switch,
    "own": _own,
}
