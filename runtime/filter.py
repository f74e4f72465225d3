"""The filter: frames in, frames with another expression out. One call per frame.

    from mien import Filter

    with Filter("happy") as change:
        for rgb, time_s in frames:
            show(change(rgb, time_s))

`rgb` is uint8 (H, W, 3), `time_s` seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from mien.engines import DETECTOR, LANDMARKS, Catalog
from mien.engines.catalog import joined_folders
from mien.engines.errors import ModelError, UsageError
from mien.engines.ort.providers import Provider, multiplies_bytes
from mien.engines.system.limits import MAX_MEMORY, memory_text
from mien.runtime.blending.blending import FaceEdit, blend_faces, crop_units_matrix
from mien.runtime.faces.choice import FaceChoice
from mien.runtime.faces.detection import FaceDetector
from mien.runtime.faces.landmarks import LandmarkDetector
from mien.runtime.faces.own_expression import LEAST as LEAST_OWN
from mien.runtime.faces.own_expression import MOST as MOST_OWN
from mien.runtime.faces.smoothing import Easing
from mien.runtime.faces.tracking import Face, SearchEffort, Tracker
from mien.runtime.frame import MAX_SIDE_PX, Frame, PixelLayout, Plane, check_frame
from mien.runtime.luma import align_in_frame
from mien.runtime.methods import method_spec, method_specs
from mien.runtime.methods.base import FaceEditor, Goal, Method
from mien.runtime.one_thread import one_thread
from mien.runtime.spec import PRECISIONS, FilterSpec, OptionValue
from mien.runtime.target import EMOTIONS, Target, finite_number, parse_goal, shortened
from mien.runtime.watermark.watermark import EditedFace, Watermark

STAGES = ("track", "align", "edit", "blend")
UNSEEN_STEP_S = 1 / 30  # between frames without a time
LEAST_STRENGTH = 1e-3
SETTLE_S = 0.45  # how long a change of expression takes
MOST_TIME_S = 1e20  # either way from 0; every timestamp of a file lies within


class Timings:
    """How long each stage takes.

    last_ms: milliseconds of the last frame by stage. last_cpu_ms: of the processor, over all
    threads of the process.
    """

    def __init__(self) -> None:
        self.start_frame()

    def start_frame(self) -> None:
        """Begin another frame."""
        self.last_ms = dict.fromkeys(STAGES, 0.0)
        self.last_cpu_ms = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A context whose time counts towards a stage."""
        began, cpu_began = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.last_ms[name] += (time.perf_counter() - began) * 1e3
            self.last_cpu_ms[name] += (time.process_time() - cpu_began) * 1e3


def catalog_of(
    models: object = None, *, precision: object = "auto", provider: str = "cpu"
) -> Catalog:
    """The models of a filter: the bundled ones, or those of folders before them.

    models: a folder, several, None, or a Catalog, which is taken as it is. precision: of
    PRECISIONS; `auto` takes INT8 variants, where there are any, on a processor that has
    instructions for them. Raises UsageError, ModelError.
    """
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise UsageError(f"unknown precision {shortened(precision)} (known: {known})")
    if precision == "int8" and provider != Provider.CPU.short:
        raise UsageError(
            f"the precision int8 is for the provider cpu, not {provider}; leave it out, or give "
            "models of that precision"
        )
    if isinstance(models, Catalog):
        return models
    catalog = _loaded(models)
    if precision == "fp32" or (precision == "auto" and not multiplies_bytes()):
        return catalog
    in_int8 = catalog.in_int8()
    if precision == "int8" and not in_int8.int8:
        raise ModelError(
            "none of these models has a variant in int8; make one with mien calibrate, and name "
            "its folder with --models"
        )
    return in_int8


def _loaded(models: object) -> Catalog:
    if models is None:
        return Catalog.bundled()
    if isinstance(models, (list, tuple)) and models and all(_is_path(part) for part in models):
        models = joined_folders(models)
    if not _is_path(models):
        raise UsageError(f"models is a folder or a Catalog, not {shortened(models)}")
    return Catalog.load(Path(models))


def _is_path(value: object) -> TypeGuard[str | Path]:
    return isinstance(value, (str, os.PathLike)) and "\0" not in str(value)


def _check_words(**words: object) -> None:
    """Raise UsageError where a setting is neither a word nor left out."""
    for name, word in words.items():
        if word is not None and not isinstance(word, str):
            raise UsageError(f"{name} is a word, not {shortened(word)}")


def _checked_time(time_s: object) -> float:
    seconds = finite_number(time_s)
    if seconds is None or abs(seconds) > MOST_TIME_S:
        raise UsageError(
            f"the time of a picture is a finite number of seconds, not {shortened(time_s)}"
        )
    return seconds


def _checked_picture(pixels: object) -> np.ndarray:
    """A picture as an array that OpenCV looks at without a copy of its own for each look."""
    if not isinstance(pixels, np.ndarray):
        raise UsageError(
            f"a picture must be a NumPy array, uint8 (H, W, 3), not {type(pixels).__name__}"
        )
    array = pixels.view(np.ndarray)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UsageError(f"a picture must be uint8 (H, W, 3), not {array.dtype} {array.shape}")
    height, width = array.shape[:2]
    if max(height, width) > MAX_SIDE_PX:
        raise UsageError(f"a picture of {width}x{height} pixels is too long to be edited")
    row_step, *steps = array.strides
    if steps == [3, 1] and row_step >= 3 * width:
        return array
    if array.nbytes > MAX_MEMORY:
        raise UsageError(
            f"a picture of {width}x{height} pixels that is not contiguous would be copied, "
            f"{memory_text(array.nbytes)}; give a contiguous array"
        )
    return np.ascontiguousarray(array)


class _Subject:
    """What is remembered of one face that is being edited."""

    def __init__(self, editor: FaceEditor) -> None:
        self.editor = editor
        self.strength = Easing(SETTLE_S)
        self.own = Easing(SETTLE_S)
        self.prompt = ""
        self._weights = Easing(SETTLE_S)
        self._wanted: np.ndarray | None = None

    def eased_weights(self, target: Target | None, time_s: float) -> np.ndarray | None:
        """The weights to show now: float32 (8,); without a target the last ones fade out.

        `prompt` is then that of the target, or the last one's.
        """
        if target is not None:
            self._wanted, self.prompt = target.vector(), target.prompt
        if self._wanted is None:
            return None
        return self._weights(self._wanted, time_s).astype(np.float32)


class Filter:
    """Changes the expression of the faces in a video, frame by frame, in order.

    target: an emotion, a mix such as `happy:0.7+surprised:0.3`, a Target, or None for none yet.
        It may be changed at any time through the attribute; faces ease into it.
    intensity: 0..1.5, of a target that is a text.
    own: how much of the person's own expression is shown, 0.25 (soft) to 1.5 (amplified), under a
        target or without one; 1 leaves it.
    order: of the colours of pictures given to a call, `rgb` or, as OpenCV has them, `bgr`.
    method: of `mien.runtime.methods`; options: what that method can be told, by its declaration,
        None for its own choice. face: `all`, `largest`, or a number from the left as faces first
        appeared. provider: what runs the networks (`cpu`, `cuda`, ..., `auto`).
    models: a folder of models with a catalog that replaces the bundled ones by name, several of
        them, of which the first counts most, or a Catalog.
    precision: `auto` runs the networks that have an INT8 variant in it on the provider cpu, where
        the processor has instructions for it; `fp32` none of them, `int8` all. A Catalog is taken
        as it is.

    After a call `faces` holds the faces of that frame as they came, with named landmarks
    (`Face.parts`) and what they do (`Face.measures`); `edited` the track ids changed in it, `goals`
    what each of them was to show in that very frame, on its way to the target, and
    `unedited_parts` the parts of them that could not be seen and are as they were.

    `watermark` may be set to a `mien.runtime.watermark.watermark.Watermark`, which is then written
    into the edited parts of faces; `is_marked` says whether the last frame has it. None by default:
    the library marks nothing unasked.

    Threads: frames go in from one thread at a time; `target`, `own`, `face`, `effort`
    and `detection_spacing` may be set from any other meanwhile, and hold from the next frame on.
    Several filters may run side by side, a thread each. A call works in the thread that makes it:
    while it lasts OpenCV is held to one thread, and then has as many as the program gave it.
    Raises UsageError, ModelError, DeviceError.
    """

    def __init__(  # noqa: PLR0913 -- all but the first are settings, by keyword only
        self,
        target: str | Target | None = "happy",
        *,
        intensity: float = 1.0,
        own: float = 1.0,
        order: Literal["rgb", "bgr"] = "rgb",
        method: str = "warp",
        face: str | int = "all",
        provider: str = "cpu",
        models: str | Path | Sequence[str | Path] | Catalog | None = None,
        precision: str = "auto",
        **options: OptionValue | None,
    ) -> None:
        needed: tuple[object, ...] = (provider, method)
        if None in needed:
            raise UsageError("method and provider are words; leave them out for warp and cpu")
        _check_words(method=method, provider=provider)
        self._spec = method_spec(method)
        if self._spec.makes_faces:
            raise UsageError(f"the method {method} makes faces and edits none; mien avatar uses it")
        self._spec.checked(options)
        if order not in ("rgb", "bgr"):
            raise UsageError(f"order is rgb or bgr, not {shortened(order)}")
        self._rgb_order = (0, 1, 2) if order == "rgb" else (2, 1, 0)
        self._intensity = intensity
        catalog = catalog_of(models, precision=precision, provider=provider)
        self._choice = FaceChoice(shortened(face) if not isinstance(face, str) else face)
        with ExitStack() as opening:  # what is open is closed where the next does not open
            self._engines = [
                opening.enter_context(catalog.open(network, provider=provider))
                for network in (DETECTOR, LANDMARKS)
            ]
            self._method: Method = self._spec.open(catalog, provider, options)
            opening.callback(self._method.close)
            self.own = own
            self.target = target
            self._opened = opening.pop_all()
        variants = {entry.network for entry in catalog.int8 if provider == Provider.CPU.short}
        self._in_int8 = tuple(sorted(variants.intersection(self.providers)))
        detector, landmarks = self._engines
        self._tracker = Tracker(FaceDetector(detector), LandmarkDetector(landmarks))
        self.timings = Timings()
        self.watermark: Watermark | None = None
        self.reset()

    @classmethod
    def of(cls, spec: FilterSpec, target: str | Target | None = None) -> Filter:
        """The filter of a spec, opened. Raises as the constructor does."""
        return cls(
            target,
            method=spec.method,
            face=spec.face,
            provider=spec.provider,
            models=spec.models,
            precision=spec.precision,
            **spec.told,
        )

    @property
    def face(self) -> str:
        """Which faces are edited; setting it (a word or a number) eases from one to the other.

        Raises: UsageError.
        """
        return self._choice.text

    @face.setter
    def face(self, face: str | int) -> None:
        self._choice.text = shortened(face) if not isinstance(face, str) else face

    @property
    def numbers(self) -> dict[int, int]:
        """The number that `face` takes for each face that was seen, by its track id."""
        return self._choice.numbers

    @property
    def detection_spacing(self) -> float:
        """How much rarer than usual the whole picture is searched for faces; may be set."""
        return self._tracker.spacing

    @detection_spacing.setter
    def detection_spacing(self, spacing: float) -> None:
        factor = finite_number(spacing)
        if factor is None or factor <= 0:
            raise UsageError(f"detection_spacing is a number above 0, not {shortened(spacing)}")
        self._tracker.spacing = factor

    @property
    def effort(self) -> SearchEffort:
        """How hard faces are searched for, `tracking.LIVE` at first; may be set at any time.

        `tracking.FILE` finds small and lying faces from the first frame of a scene on, at the cost
        of a pause there; `tracking.PICTURE` is for a picture on its own.
        """
        return self._tracker.effort

    @effort.setter
    def effort(self, effort: SearchEffort) -> None:
        given: object = effort
        if not isinstance(given, SearchEffort):
            raise UsageError(f"effort is a SearchEffort, as tracking.FILE, not {shortened(given)}")
        self._tracker.effort = given

    @property
    def is_face_missing(self) -> bool:
        """Whether the last frame shows faces, but not the one of that number, or not for sure."""
        return self._choice.is_missing

    @property
    def unfollowed(self) -> int:
        """How many faces in view are left unchanged because `effort` follows no more of them."""
        return self._tracker.unfollowed

    @property
    def target(self) -> Target | None:
        """What the faces are to reach. A text may be set, which takes the filter's intensity.

        Raises UsageError at the assignment, for what is none or what the method cannot reach.
        """
        return self._target

    @target.setter
    def target(self, target: str | Target | None) -> None:
        if isinstance(target, str):
            target = parse_goal(target, self._intensity)
        given: object = target
        if not isinstance(given, Target | None):
            kind = type(given).__name__
            raise UsageError(f"a target is a Target, None or a text such as 'sad', not {kind}")
        if given is not None:
            if given.prompt and not self._spec.takes_prompt:
                raise UsageError(f"the method {self._spec.name} takes no prompt; leave it out")
            self._method.check_target(given)
        self._target = given

    @property
    def own(self) -> float:
        """How much of the person's own expression is shown; setting it eases over.

        Raises UsageError for a number outside 0.25..1.5, or a method that cannot do it.
        """
        return self._own

    @own.setter
    def own(self, own: float) -> None:
        scale = finite_number(own)
        if scale is None or not LEAST_OWN <= scale <= MOST_OWN:
            raise UsageError(
                f"a person's own expression is scaled by {LEAST_OWN:g} to {MOST_OWN:g}, not "
                f"{shortened(own)}"
            )
        if scale != 1 and not self._spec.scales_own:
            able = " or ".join(name for name, spec in method_specs().items() if spec.scales_own)
            raise UsageError(
                f"the method {self._spec.name} cannot scale a person's own expression; {able} can"
            )
        self._own = scale

    @property
    def share_done(self) -> float:
        """How much of the edit of a face under way is done, 0..1; from any thread."""
        return self._method.share_done

    @property
    def providers(self) -> dict[str, str]:
        """What really runs each network, read back from the engines."""
        own = {engine.network.name: engine.provider for engine in self._engines}
        return own | self._method.providers

    @property
    def in_int8(self) -> tuple[str, ...]:
        """The networks that run in the INT8 variant that comes with mien."""
        return self._in_int8

    def reset(self) -> None:
        """Forget the video; the next frame belongs to another one."""
        self._tracker.reset()
        self._choice.reset()
        self._subjects: dict[int, _Subject] = {}
        self.goals: dict[int, Goal] = {}
        self._time_s = 0.0
        self.faces: tuple[Face, ...] = ()
        self.edited: tuple[int, ...] = ()
        self.unedited_parts: tuple[str, ...] = ()
        self.is_marked = False

    def close(self) -> None:
        """Close the networks."""
        self._opened.close()

    def __enter__(self) -> Filter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, pixels: NDArray[np.uint8], time_s: float | None = None) -> NDArray[np.uint8]:
        """The picture with the expression changed: uint8 (H, W, 3), in the filter's `order`.

        pixels: uint8 (H, W, 3), only read; it is returned itself where nothing changes.
        time_s: when it is shown, in seconds; None counts 30 pictures a second.
        Raises UsageError for anything else; what the filter remembers stays as it was.
        """
        array = _checked_picture(pixels)
        height, width = array.shape[:2]
        layout = PixelLayout("rgb", full_range=True, rgb_order=self._rgb_order)
        frame = Frame((Plane(array, (1, 1)),), layout, width, height)
        edited = self._edited(frame, None if time_s is None else _checked_time(time_s))
        return pixels if edited is frame else edited.planes[0].samples

    def frames(
        self, pictures: Iterable[NDArray[np.uint8] | tuple[NDArray[np.uint8], float | None]]
    ) -> Iterator[NDArray[np.uint8]]:
        """Each picture with the expression changed, as a call gives it, as soon as it is asked for.

        pictures: in the order of a video, alone or with their times in seconds: `(rgb, 0.04)`.
        Settings may be changed between two of them.
        Raises UsageError as a call does.
        """
        for given in pictures:
            pair = given if isinstance(given, tuple) else (given, None)
            if len(pair) != 2:
                raise UsageError(f"a picture and its time are two values, not {len(pair)}")
            yield self(*pair)

    def apply(self, frame: Frame) -> Frame:
        """The frame with the expression changed; the same object where nothing changes.

        Raises UsageError for what is no frame; what the filter remembers stays as it was.
        """
        check_frame(frame)
        time_s = None if frame.pts is None else _checked_time(int(frame.pts) * frame.time_base)
        return self._edited(frame, time_s)

    def _edited(self, frame: Frame, time_s: float | None) -> Frame:
        with one_thread():
            return self._edited_alone(frame, time_s)

    def _edited_alone(self, frame: Frame, time_s: float | None) -> Frame:
        self._time_s = self._time_s + UNSEEN_STEP_S if time_s is None else time_s
        self.timings.start_frame()
        with self.timings.stage("track"):
            self.faces = tuple(self._tracker(frame, self._time_s))
            chosen = {face.track_id for face in self._choice(self.faces, frame)}
        self._forget_lost()
        self.unedited_parts, self.goals = (), {}
        target = self._target  # which another thread may set meanwhile
        found = [
            self._edit_face(frame, face, target, is_chosen=face.track_id in chosen)
            for face in self.faces
        ]
        edits = [edit for edit in found if edit is not None]
        self.edited = tuple(track_id for track_id, _ in edits)
        with self.timings.stage("blend"):
            blended = blend_faces(frame, [edit for _, edit in edits])
            watermark = self.watermark  # as the target
            self.is_marked = watermark is not None and blended is not frame
            if watermark is None or blended is frame:
                return blended
            marked = [
                EditedFace(face.landmarks, made[1])
                for face, made in zip(self.faces, found, strict=True)
                if made is not None
            ]
            return watermark(frame, blended, marked, time_s=self._time_s)

    def _forget_lost(self) -> None:
        present = {face.track_id for face in self.faces}
        self._subjects = {key: kept for key, kept in self._subjects.items() if key in present}

    def _edit_face(
        self, frame: Frame, face: Face, target: Target | None, *, is_chosen: bool
    ) -> tuple[int, FaceEdit] | None:
        # A face that is not chosen is eased to nothing: when another becomes the largest, the one
        # fades as the other comes.
        subject = self._subject(face)
        wanted = target.strength if is_chosen and target is not None else 0.0
        strength = float(subject.strength(wanted, self._time_s)) * face.presence
        weights = subject.eased_weights(target, self._time_s)
        own_wanted = self.own if is_chosen else 1.0
        own = 1 + (float(subject.own(own_wanted, self._time_s)) - 1) * face.presence
        is_asked = strength >= LEAST_STRENGTH and weights is not None
        if not is_asked and abs(own - 1) < LEAST_STRENGTH:
            return None
        if not is_asked or weights is None:
            strength, weights = 0.0, np.zeros(len(EMOTIONS), np.float32)
        goal = Goal(weights, strength, own, subject.prompt)
        self.goals[face.track_id] = goal
        with self.timings.stage("align"):
            aligned = align_in_frame(frame, face.landmarks, self._method.crop)
        with self.timings.stage("edit"):
            edit = subject.editor(frame, aligned, goal, self._time_s)
        self.unedited_parts += subject.editor.unedited_parts
        if edit.is_empty:
            return None
        return face.track_id, FaceEdit(
            crop_units_matrix(aligned.crop_from_frame, aligned.size), edit
        )

    def _subject(self, face: Face) -> _Subject:
        if face.track_id not in self._subjects:
            self._subjects[face.track_id] = _Subject(self._method.new_face())
        return self._subjects[face.track_id]
