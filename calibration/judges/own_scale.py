"""Whether `own` scales a person's own smile by what is asked for.

`python -m mien.calibration.judges.own_scale --data DIR --facemesh-python P --out report.json` takes
held-out people of faces160 of whom there is a calm picture and a smiling one. The lift of a smile
is the height of the mouth's corners over that of the same person's calm pictures; the measured
scale is the lift that is left, summed over people, by the lift that there was. At the least scale
the classifier must call them neutral.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mien.calibration.clips.edits import Editor, add_models_option
from mien.calibration.clips.measure import FollowedFace, plain
from mien.calibration.clips.series import expression
from mien.calibration.judges.classifier import EmotionClassifier, fer_crop, still
from mien.calibration.judges.facemesh import FaceMesh, LandmarkReference
from mien.calibration.judges.held_out import HeldOutFace, SmilingPerson, smiling_people
from mien.calibration.tables.sheet import rgb_picture
from mien.runtime.filter import Filter
from mien.runtime.whole_file import write_whole

SCALES = (0.25, 0.5, 0.75, 1.5)
LEAST_LIFT = 0.02  # outer-eye distances: less is no smile whose scale could be measured


@dataclass(frozen=True, slots=True)
class PersonSmile:
    """One person's smile: lifts of the corners in outer-eye distances, means over their pictures.

    before: of the source. after: by scale. named: what the classifier called each smiling picture,
    by scale; 1 is the source.
    """

    before: float
    after: Mapping[float, float]
    named: Mapping[float, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class OwnScale:
    """What one scale did. measured: the scale of the lift. neutral: share called neutral."""

    measured: float
    neutral: float


def measure_person(
    person: SmilingPerson,
    reference: LandmarkReference,
    classifier: EmotionClassifier,
    editors: Mapping[float, Editor],
) -> PersonSmile | None:
    """One person's smile and its edits; None where FaceMesh or the filter finds no face."""
    calm = [_corners(face, reference) for face in person.neutral]
    looks = [_look(face, reference, classifier, editors) for face in person.smiling]
    seen = [look for look in looks if look is not None]
    known = [height for height in calm if height is not None]
    if not seen or not known:
        return None
    rest = float(np.mean(known))
    scales = (1.0, *editors)
    lifts = {scale: float(np.mean([look[scale][0] for look in seen])) - rest for scale in scales}
    named = {scale: tuple(look[scale][1] for look in seen) for scale in scales}
    return PersonSmile(lifts.pop(1.0), lifts, named)


def summed(people: Sequence[PersonSmile]) -> dict[float, OwnScale]:
    """What each scale did to all people; 1 is the source."""
    smiling = [person for person in people if person.before > LEAST_LIFT]
    total = sum(person.before for person in smiling)
    scales = dict.fromkeys(scale for person in people for scale in person.named)
    found = {}
    for scale in scales:
        left = total if scale == 1 else sum(person.after[scale] for person in smiling)
        names = [name for person in people for name in person.named[scale]]
        neutral = sum(name == "neutral" for name in names) / max(1, len(names))
        found[scale] = OwnScale(left / total if total else float("nan"), neutral)
    return found


_Look = dict[float, tuple[float, str]]  # by scale: height of the corners, what it is called


def _look(
    face: HeldOutFace,
    reference: LandmarkReference,
    classifier: EmotionClassifier,
    editors: Mapping[float, Editor],
) -> _Look | None:
    frame = still(face.luma)
    followed = FollowedFace(reference)
    mesh = followed.find(rgb_picture(frame))
    if mesh is None:
        return None
    found: _Look = {}
    for scale, editor in editors.items():
        editor.reset()
        edited = editor.apply(frame)
        after = followed.again(rgb_picture(edited))
        if after is None or not editor.faces:
            return None
        # Rigid points stay where they are, so one place serves the face and its edits.
        place = editor.faces[0].landmarks
        name = classifier.name(fer_crop(edited, place))
        found[scale] = (expression(after).corners_up, name)
        found[1.0] = (expression(mesh).corners_up, classifier.name(fer_crop(frame, place)))
    return found


def _corners(face: HeldOutFace, reference: LandmarkReference) -> float | None:
    mesh = FollowedFace(reference).find(rgb_picture(still(face.luma)))
    return None if mesh is None else expression(mesh).corners_up


def main(argv: Sequence[str] | None = None) -> None:
    """Measure whether `own` scales a smile by what is asked for; see the module."""
    parser = argparse.ArgumentParser(prog="mien.calibration.judges.own_scale", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of faces160")
    parser.add_argument("--facemesh-python", type=Path, required=True)
    parser.add_argument("--judge", type=Path, help="another classifier (ONNX) than the bundled one")
    parser.add_argument("--count", type=int, default=60, help="people")
    parser.add_argument("--out", type=Path, required=True)
    add_models_option(parser)
    options = parser.parse_args(argv)
    classifier = (
        EmotionClassifier.load(options.judge) if options.judge else EmotionClassifier.bundled()
    )
    editors = {scale: Filter(None, own=scale, models=options.models) for scale in SCALES}
    with FaceMesh(options.facemesh_python) as reference:
        people = [
            measure_person(person, reference, classifier, editors)
            for person in smiling_people(options.data, options.count)
        ]
    seen = [person for person in people if person is not None]
    told = {
        "people": len(seen),
        "lift": float(np.mean([person.before for person in seen])) if seen else None,
        "scales": {f"{scale:g}": asdict(found) for scale, found in summed(seen).items()},
    }
    text = json.dumps(plain(told), indent=1) + "\n"
    write_whole(options.out, text.encode(), overwrite=True)


if __name__ == "__main__":
    main()
