"""The diffusion method: a face's own noise is found and denoised again under another emotion.

What is shown is what differs between the face denoised with the emotion and without: its landmarks
move the frame's own pixels, and what no movement explains is added, as the latent methods do it.

Source: "Facial Expression Manipulation with Conditional Diffusion Model"; Song et al. 2021 (DDIM),
for the inversion.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

import cv2
import numpy as np

from mien.engines import LANDMARKS, OCCLUSION, Catalog, Engine
from mien.engines.diffusion import ENCODED, encoder_name, unet_name
from mien.engines.errors import ModelError
from mien.runtime.faces.alignment import AlignedFace, Crop, fer_matrix, invert_similarity
from mien.runtime.frame import Frame
from mien.runtime.luma import sample_luma
from mien.runtime.methods.base import FaceEditor, Goal, Method
from mien.runtime.methods.diffusion import takes_student
from mien.runtime.methods.diffusion.sampler import (
    EDIT_SIGMA,
    Sampler,
    SamplerOptions,
    label_of,
    label_weights,
)
from mien.runtime.methods.latent.editor import PictureEditor, points_in_frame
from mien.runtime.methods.latent.field import Comparison
from mien.runtime.methods.latent.space import check_there, resized, shapes_of
from mien.runtime.methods.warp.occlusion import Occlusion
from mien.runtime.spec import OptionValue
from mien.runtime.target import Target

THREADS: Final = 2  # the UNet is large enough to gain from a second one
# The side of the crop that is edited. It shows the whole chin, which FER-2013's crops may cut off:
# the UNet sees those, and its pictures are put back into the wider one.
CROP_SIZE, COMPARED = 128, 64
REDUCED: Final = 2  # a crop is sampled at this many times its size, then reduced by area
TRACK: Final = 0  # one noise for all faces: one that is lost and found again is edited alike
WALKS: Final = 3  # to the noise, back without the emotion, back with it


class Redrawing:
    """Draws a face again, as the UNet reproduces it and under another emotion.

    size: pixels a side of what it draws. share_done: how much of a face under way is done, 0..1.
    Raises ModelError where the encoder's code is not the UNet's; UsageError as `Sampler` does.
    """

    def __init__(
        self, unet: Engine, encoder: Engine | None, options: SamplerOptions | None = None
    ) -> None:
        options = options or SamplerOptions()
        self._sampler = Sampler(unet, options, self._step)
        self._is_fresh = options.solver == "ddpm"
        self._encoder = encoder
        self.facts = self._sampler.facts
        self.size = self.facts.size
        self.engines = (unet,) if encoder is None else (unet, encoder)
        self._done = 0
        if encoder is not None:
            _check_encoder(encoder, unet, self._sampler)
        elif self.facts.semantic:
            raise ModelError(
                f"{unet.network.name} takes a semantic code of {self.facts.semantic} numbers, but "
                f"the condition {self.facts.condition} has no encoder; export it again"
            )

    @property
    def share_done(self) -> float:
        """How much of a face under way is done, 0..1; 0 between two faces."""
        walks = WALKS - self._is_fresh
        return min(1.0, self._done / (walks * self._sampler.levels.steps))

    def __call__(self, crop: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The face without the emotion and with it: float32 (2, size, size) in [0, 1].

        crop: float32 (size, size), luma in [0, 1], as FER-2013 crops faces. weights: (8,), of
        EMOTIONS.
        """
        self._done = 0
        image = (2 * crop - 1)[None, None].astype(np.float32)
        code = None if self._encoder is None else self._encoder.infer({"image": image})["code"]
        sampler = self._sampler
        latent = sampler.disturb(image, TRACK) if self._is_fresh else sampler.invert(image, code)
        before = sampler.reconstruct(latent, code)
        after = sampler.generate(latent, label_of(self.facts, weights), code, tracks=[TRACK])
        self._done = 0
        return (np.concatenate([before, after])[:, 0] + 1) / 2

    def _step(self, done: int, total: int) -> None:
        del done, total  # of one walk
        self._done += 1


def _check_encoder(encoder: Engine, unet: Engine, sampler: Sampler) -> None:
    """Raise ModelError where an encoder does not give what a UNet takes."""
    facts, shapes = sampler.facts, shapes_of(encoder)
    name = encoder.network.name
    image, code = shapes.get("in image", ()), shapes.get("out code", ())
    if image != (1, 1, facts.size, facts.size) or len(code) != 2:
        raise ModelError(
            f"{name} takes {image or 'no image'} and gives {code or 'no code'}, expected (1, 1, "
            f"{facts.size}, {facts.size}) and (1, {facts.semantic}); export it again"
        )
    if code[1] != facts.semantic:
        raise ModelError(
            f"{name} gives a semantic code of {code[1]} numbers, but {unet.network.name} takes "
            f"{facts.semantic}; use the encoder that it was trained with"
        )


class DiffusionMethod(Method):
    """A UNet, the encoder of its condition, and what compares and places what they draw."""

    def __init__(self, redraw: Redrawing, *, landmarks: Engine, occlusion: Engine) -> None:
        self._redraw = redraw
        self._compare = Comparison(landmarks)
        self._occlusion = occlusion
        self._engines = (*redraw.engines, landmarks, occlusion)

    @property
    def crop(self) -> Crop:
        """The canonical crop in luma."""
        return Crop(CROP_SIZE)

    @property
    def providers(self) -> dict[str, str]:
        """Which provider runs each network."""
        return {engine.network.name: engine.provider for engine in self._engines}

    @property
    def share_done(self) -> float:
        """How much of the edit under way is done, 0..1."""
        return self._redraw.share_done

    def check_target(self, target: Target) -> None:
        """Raise UsageError where the UNet does not know one of the emotions."""
        label_weights(self._redraw.facts, target)

    def new_face(self) -> FaceEditor:
        """An editor for a face that has just appeared."""
        return DiffusionEditor(self._redraw, self._compare, Occlusion(self._occlusion))

    def close(self) -> None:
        """Close the networks."""
        for engine in self._engines:
            engine.close()


class DiffusionEditor(PictureEditor):
    """Edits one face through a video."""

    def __init__(self, redraw: Redrawing, compare: Comparison, occlusion: Occlusion) -> None:
        super().__init__(compare, occlusion)
        self._redraw = redraw

    def pictures(self, frame: Frame, face: AlignedFace, goal: Goal, time_s: float) -> np.ndarray:
        """What the UNet draws without the emotion and with it, in the crop of `face`."""
        del time_s
        size = self._redraw.size
        fer_from_frame = fer_matrix(points_in_frame(face), REDUCED * size)
        seen = sample_luma(frame, fer_from_frame, REDUCED * size).astype(np.float32)
        drawn = self._redraw(resized(seen[None] / 255, size)[0], goal.weights)
        crop_from_drawn = _between(fer_from_frame, face, REDUCED)
        placed = [
            cv2.warpAffine(
                picture,
                crop_from_drawn,
                (COMPARED, COMPARED),
                flags=cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for picture in drawn
        ]
        return np.stack(placed)[:, None].clip(0, 1)


def _between(fer_from_frame: np.ndarray, face: AlignedFace, reduced: int) -> np.ndarray:
    """Pixels of the COMPARED crop from those of a drawn picture: float32 (2, 3).

    fer_from_frame: of the FER crop at `reduced` times the picture's size.
    """
    frame_from_fer = np.vstack([invert_similarity(fer_from_frame), [0, 0, 1]])
    # Pixel centres at integers: u of n pixels lies at u * n - 0.5.
    fer_from_drawn = _scaled(reduced)
    compared_from_crop = _scaled(COMPARED / face.size)
    crop_from_frame = np.vstack([face.crop_from_frame, [0, 0, 1]])
    whole = compared_from_crop @ crop_from_frame @ frame_from_fer @ fer_from_drawn
    matrix: np.ndarray = whole[:2].astype(np.float32)
    return matrix


def _scaled(factor: float) -> np.ndarray:
    """Pixels of a picture of `factor` times the size, from the picture's own: (3, 3)."""
    offset = (factor - 1) / 2
    return np.array([[factor, 0, offset], [0, factor, offset], [0, 0, 1]])


def chosen_unet(catalog: Catalog, options: Mapping[str, OptionValue]) -> str:
    """The name of the UNet to open: a distilled one where nothing speaks against it.

    With steps, that of so many steps; without, that of the most steps there are in the catalog.
    """
    condition, steps = str(options["condition"]), options.get("steps")
    teacher = unet_name(condition)
    if not takes_student(options):
        return teacher
    known = {entry.network for entry in catalog.entries}
    if steps is not None:
        student = unet_name(condition, int(steps))
        return student if student in known else teacher
    ends = (name.removeprefix(f"{teacher}_") for name in known if name.startswith(f"{teacher}_"))
    there = [int(end) for end in ends if end.isdecimal()]
    return unet_name(condition, max(there)) if there else teacher


def sampler_options(options: Mapping[str, OptionValue], *, is_student: bool) -> SamplerOptions:
    """How to sample for what the method is told; a student brings its own steps."""
    steps, guidance = options.get("steps"), options.get("guidance")
    return SamplerOptions(
        steps=None if is_student or steps is None else int(steps),
        guidance=None if guidance is None else float(guidance),
        seed=int(options.get("seed", 0)),
        start=float(options.get("noise", EDIT_SIGMA)),
        solver=options["solver"],  # type: ignore[arg-type]  # checked by the declaration
    )


def open_diffusion(catalog: Catalog, provider: str, options: Mapping[str, OptionValue]) -> Method:
    """Emotions by diffusion. Raises ModelError, DeviceError, UsageError."""
    condition = str(options["condition"])
    unet = chosen_unet(catalog, options)
    encoders = (encoder_name(condition),) if condition in ENCODED else ()
    check_there("diffusion", (unet, *encoders), catalog, "diffusion")
    told = sampler_options(options, is_student=unet != unet_name(condition))
    with ExitStack() as opening:  # what is open is closed where the next does not open

        def opened(network: str) -> Engine:
            return opening.enter_context(catalog.open(network, provider=provider, threads=THREADS))

        found = [opened(name) for name in (unet, *encoders)]
        redraw = Redrawing(found[0], found[1] if encoders else None, told)
        if redraw.facts.condition != condition:
            raise ModelError(
                f"{unet} states the condition {redraw.facts.condition}; export it again with "
                f"--network {unet_name(redraw.facts.condition)}"
            )
        landmarks, occlusion = opened(LANDMARKS.name), opened(OCCLUSION.name)
        method = DiffusionMethod(redraw, landmarks=landmarks, occlusion=occlusion)
        opening.pop_all()
    return method
