"""The filter in use, and the next one while it is being made."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from mien.engines.errors import MienError, UsageError
from mien.runtime.faces.tracking import Face
from mien.runtime.frame import Frame
from mien.runtime.live.controls import (
    Controls,
    ControlState,
    check_possible,
    missing_emotions,
)
from mien.runtime.live.outputs.output import told
from mien.runtime.live.values import Applied
from mien.runtime.methods import method_spec
from mien.runtime.methods.base import Goal
from mien.runtime.spec import OptionValue
from mien.runtime.target import EMOTIONS, Target

# How long the old filter fades its edit out before the new one fades its own in: the settling
# time of the filter's easing, and a little.
FADE_S: Final = 0.6
TROUBLE_S: Final = 20.0  # for how long is told that a method could not be had


class StageTimes(Protocol):
    """How long the stages of a filter took."""

    @property
    def last_ms(self) -> Mapping[str, float]:
        """Milliseconds of each stage for the last frame."""
        ...


class LiveFilter(Protocol):
    """What live video needs of `mien.runtime.Filter`; its docstrings hold here."""

    target: Target | None
    own: float

    @property
    def face(self) -> str: ...
    @face.setter
    def face(self, face: str | int) -> None: ...

    @property
    def detection_spacing(self) -> float: ...
    @detection_spacing.setter
    def detection_spacing(self, spacing: float) -> None: ...

    @property
    def faces(self) -> tuple[Face, ...]: ...
    @property
    def edited(self) -> tuple[int, ...]: ...
    @property
    def numbers(self) -> dict[int, int]: ...
    @property
    def goals(self) -> Mapping[int, Goal]: ...
    @property
    def providers(self) -> dict[str, str]: ...
    @property
    def timings(self) -> StageTimes: ...

    def apply(self, frame: Frame) -> Frame: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


FilterMaker = Callable[[ControlState], LiveFilter]
_Key = tuple[str, "tuple[tuple[str, OptionValue], ...]"]


class FilterSwap:
    """Keeps a filter in step with the controls; another method takes over when it is ready.

    It is made in a thread of its own while the old one goes on. Then the old one fades its edit
    out, and the new one fades its own in. Where making it fails, or it cannot make the target, that
    is the message for a while, the controls go back to the old method, and the old filter goes on.
    What the filter in use cannot make leaves the last that it could.

    make: makes the filter of `method` and `options` of a state; the rest is set here.
    warm_up_on: a frame to run the first one on, so that the frames to come need not wait for it.
    Raises what `make` raises for the first one, and UsageError where that cannot make the target.
    """

    def __init__(
        self, make: FilterMaker, controls: Controls, *, warm_up_on: Frame | None = None
    ) -> None:
        self._make, self._controls = make, controls
        self._lock = threading.Lock()
        state = controls.snapshot()
        self._key = _key(state)
        self.current = make(state)
        try:
            self.current.target = self._goal = state.target
            self.current.own = self._own = state.own
        except UsageError:
            self.current.close()
            raise
        self._emotions = emotions_of(self.current)
        self._limit()
        if warm_up_on is not None:
            with contextlib.suppress(MienError):  # if it fails on the next one as well, it is told
                _warm_up(self.current, warm_up_on, state)
        self._building: threading.Thread | None = None
        self._built: tuple[_Key, LiveFilter | Exception] | None = None
        self._fading_since_s: float | None = None
        self._is_fresh = False
        self._is_closed = False
        self._trouble: str | None = None  # with another method
        self._trouble_ends_s = 0.0
        self._frame_trouble: str | None = None  # with the last frame
        self._given: tuple[Target | None, float] = (None, 1.0)

    @property
    def method(self) -> str:
        """The method in use."""
        return self._key[0]

    @property
    def applied(self) -> Applied:
        """What was done to the last frame, as far as it is known here."""
        target, own = self._given
        method, options = self._key
        goals = {} if self.is_bypassed else self.current.goals
        pairs = tuple((track_id, goals[track_id]) for track_id in sorted(goals))
        return Applied(method, options, target, own, pairs, bypassed=self.is_bypassed)

    @property
    def message(self) -> str | None:
        """One line where a method could not be had or a frame not be edited, else None."""
        is_over = time.monotonic() > self._trouble_ends_s
        return self._frame_trouble or (None if is_over else self._trouble)

    @property
    def is_bypassed(self) -> bool:
        """Whether the last frame is shown as it came because the filter failed on it."""
        return self._frame_trouble is not None

    def apply(self, frame: Frame, state: ControlState, *, spacing: float = 1.0) -> Frame:
        """The frame, edited; itself where the filter fails on it."""
        self._follow(frame, state)
        current = self.current
        if current.face != state.face:
            current.face = state.face
        current.detection_spacing = spacing
        self._heed(state)
        if state.own == 1 or method_spec(self.method).scales_own:
            self._own = state.own
        # The first frame of a new filter only takes the faces up, so that the edit eases in.
        is_at_rest = self._is_fresh or self._fading_since_s is not None
        self._is_fresh = False
        try:
            self._given = (None, 1.0) if is_at_rest else (self._goal, self._own)
            current.target, current.own = self._given
            edited = current.apply(frame)
        except MienError as error:
            self._frame_trouble = f"this frame is shown as it came: {told(error)}"
            return frame
        self._frame_trouble = None
        return edited

    def _heed(self, state: ControlState) -> None:
        """Take up the target, or say why it stays as it was: a network reads what prompts mean."""
        if missing_emotions(state.target, self._emotions):
            return
        if state.prompt and state.method != self.method:
            return  # it is for the one that is being made
        if state.prompt and state.target != self._goal:
            try:
                self.current.target = state.target
            except UsageError as error:
                self._trouble = f"the expression stays as it was: {told(error)}"
                self._trouble_ends_s = time.monotonic() + TROUBLE_S
                if self._controls.snapshot().target == state.target:
                    self._controls.update(target=self._goal)
                return
        self._goal = state.target

    def close(self) -> None:
        """Close the networks. A filter that is still being made is closed once it is made."""
        with self._lock:
            self._is_closed = True
            built, self._built = self._built, None
        self.current.close()
        if built is not None and not isinstance(built[1], Exception):
            built[1].close()

    def _follow(self, frame: Frame, state: ControlState) -> None:
        with self._lock:
            built = self._built
        if built is not None:
            self._take_over(built, frame, state)
        elif self._building is None and _key(state) != self._key:
            self._trouble = None
            self._building = threading.Thread(
                target=self._build, args=(state, frame), name="mien-method", daemon=True
            )
            self._building.start()
        elif self._building is None and state.emotions != self._emotions:
            self._limit()

    def _take_over(
        self, built: tuple[_Key, LiveFilter | Exception], frame: Frame, state: ControlState
    ) -> None:
        key, made = built
        if isinstance(made, Exception):
            self._put_away()
            self._stay(made, key, state)
            return
        if key != _key(state):  # yet another one is wanted by now
            self._put_away()
            made.close()
            return
        emotions = emotions_of(made)
        try:  # once more: the target may be another one than when it was made
            check_possible(state.target, key[0], emotions)
        except UsageError as error:
            self._put_away()
            made.close()
            self._stay(error, key, state)
            return
        time_s = frame.time_s or 0.0
        if self._fading_since_s is None:
            self._fading_since_s = time_s
        if self.current.edited and 0 <= time_s - self._fading_since_s < FADE_S:
            return
        self._put_away()
        self.current.close()
        self.current, self._key, self._is_fresh = made, key, True
        # A prompt may have come since the filter was made: it is read with the next frame.
        self._emotions, self._goal = emotions, None if state.prompt else state.target
        self._own = state.own
        self._limit()

    def _stay(self, error: Exception, key: _Key, state: ControlState) -> None:
        """Go back to the method in use, and to a target that it can make."""
        self._trouble = f"still using {self.method}: {told(error)}"
        self._trouble_ends_s = time.monotonic() + TROUBLE_S
        if _key(state) != key:
            return
        back: dict[str, object] = {"method": self._key[0], "options": self._key[1]}
        if state.prompt or missing_emotions(state.target, self._emotions):
            back["target"] = self._goal
        if state.own != 1 and not method_spec(self.method).scales_own:
            back["own"] = self._own
        self._controls.update(**back)
        self._limit()

    def _limit(self) -> None:
        self._controls.limit(self._emotions, *self._key)

    def _put_away(self) -> None:
        self._fading_since_s = None
        with self._lock:
            self._built = self._building = None

    def _build(self, state: ControlState, frame: Frame) -> None:
        made: LiveFilter | Exception
        try:
            made = self._made(state, frame)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the old one goes on
            made = error
        with self._lock:
            if not self._is_closed:
                self._built = (_key(state), made)
                return
        if not isinstance(made, Exception):
            made.close()

    def _made(self, state: ControlState, frame: Frame) -> LiveFilter:
        made = self._make(state)
        try:
            check_possible(state.target, state.method, emotions_of(made))
            _warm_up(made, frame, state)
        except BaseException:
            made.close()
            raise
        return made


def emotions_of(made: LiveFilter) -> tuple[str, ...]:
    """The emotions that a filter can make: those of which it takes the target."""
    target, found = made.target, []
    for place, emotion in enumerate(EMOTIONS):
        with contextlib.suppress(UsageError):
            made.target = Target(tuple(float(place == other) for other in range(len(EMOTIONS))))
            found.append(emotion)
    made.target = target
    return tuple(found)


def _key(state: ControlState) -> _Key:
    return state.method, state.options


def _warm_up(made: LiveFilter, frame: Frame, state: ControlState) -> None:
    """Run a new filter once where nobody waits for it: a network's first run is slow."""
    made.target, made.own = state.target, state.own
    made.apply(frame)
    made.reset()
