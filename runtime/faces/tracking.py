"""Faces followed through a video by their landmarks, looked for now and then, and cuts.

A cut is where a video goes on with another picture; tracks end there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.runtime.faces.alignment import roi_matrix
from mien.runtime.faces.detection import Detection, FaceDetector, FaceSearch, View, overlaps
from mien.runtime.faces.expression import FaceParts, Measures, face_parts, measure_face
from mien.runtime.faces.landmarks import LandmarkDetector, Landmarks
from mien.runtime.faces.track import Track, appearance_of, box_of
from mien.runtime.frame import Frame
from mien.runtime.luma import LumaSource, thinned_luma

SIZE_WH: Final = (32, 18)
FLAT: Final = 4.0  # standard deviation (of 255) below which a picture shows nothing to compare
# Correlation of two thumbnails below which they show two scenes. Neighbouring frames of nine real
# clips stay above 0.66 (a camera that swings), frames of two clips below 0.54.
DIFFERENT: Final = 0.55


class CutDetector:
    """Tells whether a frame begins another scene, from small copies of the frames.

    Only the pattern is compared, so a flash or a change of exposure is no cut; a picture without
    a pattern (black, white) is passed over and what follows compared with what came before.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the last frame."""
        self._pattern: np.ndarray | None = None

    def __call__(self, luma: LumaSource) -> bool:
        """Whether this frame shows another scene than the one before; False for the first."""
        small = thinned_luma(luma, SIZE_WH)
        mean, deviation = cv2.meanStdDev(small)
        spread = float(deviation[0, 0])
        if spread < FLAT:
            return False
        pattern = (small - np.float32(mean[0, 0])) * np.float32(1 / spread)
        before, self._pattern = self._pattern, pattern
        return before is not None and float((before * pattern).sum()) < DIFFERENT * pattern.size


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a frame.

    track_id: the same number for the same face from frame to frame, from 1 on.
    landmarks: float32 (106, 2) in pixels of the stored frame, smoothed over time.
    score: of the landmark network, 0..1.
    presence: how much of an edit this face should get now, 0..1: it falls while the face is turned
        away, covered, tiny, badly lit or lost.
    """

    track_id: int
    landmarks: NDArray[np.float32]
    score: float
    presence: float

    @property
    def parts(self) -> FaceParts:
        """The landmarks by name."""
        return face_parts(self.landmarks)

    @property
    def measures(self) -> Measures:
        """What the face does: smile, brows, lids and lips, the head's pose taken out."""
        return measure_face(self.landmarks)


REMEMBERED: Final = 64  # faces that have left a scene and are recognised when they come back


@dataclass(frozen=True, slots=True)
class SearchEffort:
    """How hard faces are searched for: what it costs, and what is found when.

    scene_looks: looks of the detector beside the one at the whole picture, when a scene begins.
    looks: the same at every later search; they go through the picture in turn.
    max_faces: faces followed at a time.
    lying: whether small faces are searched for in every way up, not only large ones.
    """

    scene_looks: int
    looks: int
    max_faces: int
    lying: bool = False


# A look takes 7 ms on one core. Live, one more is taken each time; a file may take its time where a
# scene begins, and a picture has one frame only.
LIVE: Final = SearchEffort(scene_looks=1, looks=1, max_faces=8)
FILE: Final = SearchEffort(scene_looks=48, looks=4, max_faces=32)
PICTURE: Final = SearchEffort(scene_looks=600, looks=0, max_faces=200, lying=True)


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """When to look for faces, and what counts as one.

    verify_every_s, search_every_s: time between looks at the whole picture while faces are known,
        and while none is or one was just lost.
    found_score, lost_score: landmark score from which a face is taken up, and below which it is
        lost.
    hold_s: how long a lost face glides on while its presence falls.
    remember_s: how long a lost face may come back nearby without being recognised.
    look_every_s: time between looks at what a face looks like, to recognise it by.
    same_likeness, likelier: how like a face that left one must be to be it, and by how much liker
        than any other. other_likeness: what is less like it is somebody else.
    apart_s: how long faces that touched must be apart before it is asked who is who.
    same_overlap: the intersection over union of two boxes above which they show one face.
    gap_s: a step in time above this, or back, breaks the smoothing.
    """

    verify_every_s: float = 0.75
    search_every_s: float = 0.15
    found_score: float = 0.9
    lost_score: float = 0.35
    hold_s: float = 0.2
    remember_s: float = 1.5
    look_every_s: float = 0.4
    same_likeness: float = 0.68
    other_likeness: float = 0.25
    likelier: float = 0.08
    apart_s: float = 0.25
    same_overlap: float = 0.45
    gap_s: float = 1.0


class Tracker:
    """Follows the faces of one video, frame by frame, on the frames' own timestamps.

    spacing: may be set at any time; the settings' waits between looks at the whole picture are
        multiplied by it, which saves time on a slow machine. A cut, or a face that is just lost,
        is looked into at once all the same.
    effort: may be set at any time, LIVE at first.
    unfollowed: the faces of the last search for which `effort` has no room.

    A picture on its own wants a fresh tracker (or `reset`), which looks for faces at once.
    """

    def __init__(
        self,
        detector: FaceDetector,
        landmark_detector: LandmarkDetector,
        settings: TrackerSettings | None = None,
    ) -> None:
        self._search = FaceSearch(detector)
        self._landmark_detector = landmark_detector
        self._settings = settings or TrackerSettings()
        self.spacing = 1.0
        self.effort = LIVE
        self._cuts = CutDetector()
        self.reset()

    def reset(self) -> None:
        """Forget the faces: the next frame is the first of another video."""
        self._cuts.reset()
        self._next_id = 1
        self._time_s: float | None = None
        self._start_scene()

    def __call__(self, frame: Frame, time_s: float) -> list[Face]:
        """The faces of the next frame, in the order they were first seen.

        time_s: when the frame is shown. Steps may be uneven; a step back, or one above
        `TrackerSettings.gap_s`, breaks the smoothing and brings a new look for faces.
        """
        step_s = 0.0 if self._time_s is None else time_s - self._time_s
        if not 0 <= step_s <= self._settings.gap_s:
            self._break_time()
        self._time_s = time_s
        if self._cuts(frame):
            self._start_scene()
        self._follow(frame, time_s)
        if self._is_detection_due(time_s):
            self._look_around(frame, time_s)
        self._merge(time_s)
        self._forget(time_s)
        self._recognise(frame, time_s)
        size_wh = (frame.width, frame.height)
        faces = []
        for track in self._tracks:
            presence = track.update_presence(size_wh, time_s)
            faces.append(Face(track.track_id, track.smoothed, track.score, presence))
        return faces

    def _start_scene(self) -> None:
        self._tracks: list[Track] = []
        self._lost: list[Track] = []
        self._touching: set[tuple[int, int]] = set()  # pairs of track ids, until they are told
        self._detected_s: float | None = None  # when the whole picture was last looked at
        self._scene_begins = True
        self._search.reset()
        self.unfollowed = 0

    def _break_time(self) -> None:
        for track in self._tracks:
            track.break_time()
        self._lost = []
        self._detected_s = None

    def _follow(self, frame: Frame, time_s: float) -> None:
        if not self._tracks:
            return
        rois = [roi_matrix(track.predicted(time_s)) for track in self._tracks]
        looks = self._landmark_detector.each(frame, rois)
        for track, found in zip(self._tracks, looks, strict=True):
            if found.score >= self._settings.lost_score and is_face_shaped(found.points):
                track.see(found, time_s)
            else:
                track.miss(time_s)

    def _is_detection_due(self, time_s: float) -> bool:
        if self._detected_s is None:
            return True
        well = bool(self._tracks) and not any(track.is_missed for track in self._tracks)
        newly_missed = any(track.misses == 1 for track in self._tracks)
        wait_s = self._settings.verify_every_s if well else self._settings.search_every_s
        return newly_missed or time_s - self._detected_s >= wait_s * self.spacing - 1e-6

    def _look_around(self, frame: Frame, time_s: float) -> None:
        self._detected_s = time_s
        effort = self.effort
        further = effort.scene_looks if self._scene_begins else effort.looks
        if self._search.has_seen_all and not self._scene_begins:
            further = min(1, further)  # who comes in later may take a little longer to be found
        asked = self._close_looks(frame, max(1, effort.looks))
        detections, views = self._search(frame, further, asked=asked, lying=effort.lying)
        free = self._confirm(detections, views, time_s)
        for track in self._tracks:
            if track.is_missed and track.detection is not None:
                self._take_up(track, track.detection, frame, time_s)
        self.unfollowed = 0
        for detection in free:
            if len(self._tracks) >= effort.max_faces:
                self.unfollowed += self._is_face(detection, frame)
            else:
                self._take_up(None, detection, frame, time_s)
        self._scene_begins = False

    def _close_looks(self, frame: Frame, most: int) -> list[View]:
        """Views of followed faces that one look at the whole cannot confirm, by how long ago."""
        whole = View(0, 0, frame.width, frame.height, frame.rotation % 4)
        hidden = [track for track in self._tracks if not whole.shows(track.box, track.turns)]
        hidden.sort(key=lambda track: track.looked_s)
        return [_close_view(track.box, track.turns, frame) for track in hidden[:most]]

    def _confirm(
        self, detections: list[Detection], views: Sequence[View], time_s: float
    ) -> list[Detection]:
        """The detections that belong to no track; each track learns which one is its own."""
        free = list(detections)
        for track in self._tracks:
            shares = overlaps(track.box, np.array([d.box for d in free]).reshape(-1, 4))
            best = int(shares.argmax()) if len(shares) else -1
            if best >= 0 and shares[best] > 0.2:
                track.confirm(free.pop(best), time_s)
            elif any(view.shows(track.box, track.turns) for view in views):
                track.confirm(None, time_s)
            else:
                track.detection = None
        return free

    def _is_face(self, detection: Detection, frame: Frame) -> bool:
        found = self._landmark_detector.from_points(frame, detection.points)
        return found.score >= self._settings.found_score and is_face_shaped(found.points)

    def _take_up(
        self, track: Track | None, detection: Detection, frame: Frame, time_s: float
    ) -> None:
        found = self._landmark_detector.from_points(frame, detection.points)
        if found.score < self._settings.found_score or not is_face_shaped(found.points):
            return
        if track is None:
            track = self._known_or_new(found, frame, time_s)
            if track is None:
                return
            self._tracks.append(track)
            self._tracks.sort(key=lambda known: known.track_id)
        track.see(found, time_s)

    def _known_or_new(self, found: Landmarks, frame: Frame, time_s: float) -> Track | None:
        box = box_of(found.points)
        others = np.array([track.box for track in self._tracks]).reshape(-1, 4)
        if (overlaps(box, others) > self._settings.same_overlap).any():
            return None
        known = self._returned(found, frame, time_s)
        if known is not None:
            self._lost.remove(known)
            known.return_from_loss()
            return known
        track = Track(self._next_id, present=self._scene_begins)
        self._next_id += 1
        return track

    def _returned(self, found: Landmarks, frame: Frame, time_s: float) -> Track | None:
        """The lost face that has come back: by its looks, or lost just now and just here."""
        if not self._lost:
            return None
        settings = self._settings
        picture = appearance_of(frame, found.points)
        others = [track.appearance.likeness(picture) for track in self._tracks]
        ranked = sorted(self._lost, key=lambda track: -track.appearance.likeness(picture))
        best = ranked[0].appearance.likeness(picture)
        others += [track.appearance.likeness(picture) for track in ranked[1:]]
        if best >= settings.same_likeness and best - max(others, default=-1) >= settings.likelier:
            return ranked[0]
        near = [
            track
            for track in self._lost
            if time_s - track.seen_s <= settings.remember_s
            and track.could_be(found.points, time_s)
            and track.appearance.likeness(picture) >= best - settings.likelier
            and (track.appearance.is_empty or best >= settings.other_likeness)
        ]
        return min(near, key=lambda track: track.distance_to(found.points, time_s), default=None)

    def _recognise(self, frame: Frame, time_s: float) -> None:
        """Learn what faces look like, and put right who is who after two have touched."""
        self._note_touching(time_s)
        settings = self._settings
        untold = {track_id for pair in self._touching for track_id in pair}
        for track in self._tracks:
            is_due = not 0 <= time_s - track.learnt_s < settings.look_every_s
            if is_due and self._is_plain(track) and track.track_id not in untold:
                track.appearance.add(appearance_of(frame, track.smoothed))
                track.learnt_s = time_s
        for pair in list(self._touching):
            self._tell_apart(pair, frame, time_s)

    def _is_plain(self, track: Track) -> bool:
        return not track.is_missed and track.score >= self._settings.found_score

    def _note_touching(self, time_s: float) -> None:
        if len(self._tracks) < 2:
            return
        for index, track in enumerate(self._tracks):
            others = self._tracks[index + 1 :]
            boxes = np.array([other.box for other in others]).reshape(-1, 4)
            for other, share in zip(others, overlaps(track.box, boxes), strict=True):
                if share > 0:
                    self._touching.add((track.track_id, other.track_id))
                    track.entangled_s = other.entangled_s = time_s

    def _tell_apart(self, pair: tuple[int, int], frame: Frame, time_s: float) -> None:
        """Swap two faces that were taken for each other, once they can be seen apart."""
        known = {track.track_id: track for track in self._tracks}
        if not all(track_id in known for track_id in pair):
            self._touching.discard(pair)  # one is lost, and is recognised when it comes back
            return
        first, second = (known[track_id] for track_id in pair)
        apart = time_s - max(first.entangled_s, second.entangled_s) > self._settings.apart_s
        if not apart or not self._is_plain(first) or not self._is_plain(second):
            return
        self._touching.discard(pair)
        one, other = (appearance_of(frame, track.smoothed) for track in (first, second))
        as_they_are = first.appearance.likeness(one) + second.appearance.likeness(other)
        swapped = first.appearance.likeness(other) + second.appearance.likeness(one)
        if swapped - as_they_are > self._settings.likelier:
            first.track_id, second.track_id = second.track_id, first.track_id
            first.appearance, second.appearance = second.appearance, first.appearance
            self._tracks.sort(key=lambda track: track.track_id)

    def _merge(self, time_s: float) -> None:
        """Of two tracks on one face, keep the one that got there without a jump."""
        if len(self._tracks) < 2:
            return
        ranked = sorted(self._tracks, key=lambda track: (track.is_missed, track.surprise))
        kept: list[Track] = []
        for track in ranked:
            others = np.array([other.box for other in kept]).reshape(-1, 4)
            if (overlaps(track.box, others) > self._settings.same_overlap).any():
                self._lose(track, time_s)
            else:
                kept.append(track)
        self._tracks = sorted(kept, key=lambda track: track.track_id)

    def _forget(self, time_s: float) -> None:
        settings = self._settings
        for track in list(self._tracks):
            held = track.is_missed and time_s - track.seen_s > settings.hold_s
            if held or track.is_doubtful:
                self._tracks.remove(track)
                self._lose(track, time_s)
        self._lost = self._lost[-REMEMBERED:]

    def _lose(self, track: Track, time_s: float) -> None:
        track.miss(time_s)
        self._lost.append(track)


def _close_view(box: np.ndarray, turns: float, frame: Frame) -> View:
    """A look at one face, upright, with room around it: 1/5 of what is seen."""
    side = round(5 * float((box[2:] - box[:2]).max()))
    width, height = min(side, frame.width), min(side, frame.height)
    middle = (box[:2] + box[2:]) / 2
    x0 = round(min(max(0.0, float(middle[0]) - width / 2), frame.width - width))
    y0 = round(min(max(0.0, float(middle[1]) - height / 2), frame.height - height))
    return View(x0, y0, max(1, width), max(1, height), round(2 * turns) / 2 % 4)


def is_face_shaped(points: np.ndarray) -> bool:
    """Whether landmarks (106, 2) are finite and spread enough to lay a crop over them."""
    return bool(np.isfinite(points).all()) and math.hypot(*np.ptp(points, axis=0)) > 4.0
