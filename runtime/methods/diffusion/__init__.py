"""The diffusion paper's method: a face is inverted to noise and denoised under another emotion.

Source: "Facial Expression Manipulation with Conditional Diffusion Model".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from mien.engines.diffusion import (
    CONDITIONS,
    ENCODED,
    STUDENT_STEPS,
    TIMESTEPS,
    encoder_name,
    unet_name,
)
from mien.runtime.spec import MethodOption, MethodSpec, OptionValue

Solver = Literal["ddim", "ddpm", "heun"]
SOLVERS: Final[tuple[Solver, ...]] = get_args(Solver)
DEFAULT_CONDITION: Final = "vae"  # its networks are the ones that come with mien
# Of an edit, chosen with its noise level; and of faces from noise alone, where 8 was not measured.
DEFAULT_STEPS, DEFAULT_GUIDANCE, NOISE_GUIDANCE = 10, 8.0, 5.0
MOST_STEPS: Final = TIMESTEPS - 1
MOST_GUIDANCE, MOST_SEED = 50.0, float(2**31 - 1)
# Of the level that an edit starts from; 160 is above the highest of the paper's schedule.
LEAST_NOISE, MOST_NOISE = 0.1, 160.0


def networks_of(told: Mapping[str, OptionValue]) -> tuple[str, ...]:
    """The networks for what the method is told: a student where the steps are one's."""
    condition, steps = str(told["condition"]), told.get("steps")
    student = int(steps) if steps in STUDENT_STEPS and takes_student(told) else None
    encoder = (encoder_name(condition),) if condition in ENCODED else ()
    return (unet_name(condition, student), *encoder)


def takes_student(told: Mapping[str, OptionValue]) -> bool:
    """Whether nothing is asked for that a student of few steps has settled for itself."""
    return told["solver"] == "ddim" and "guidance" not in told and "noise" not in told


METHODS = (
    MethodSpec(
        "diffusion",
        "(experimental) inverts the face to noise and denoises it under the emotion",
        "mien.runtime.methods.diffusion.editor:open_diffusion",
        networks=networks_of,
        options=(
            MethodOption(
                "condition",
                "What the diffusion model knows of a face beside the emotion: nothing (label), or "
                "the code of a classifier, a VAE or the face encoder; by default vae.",
                (DEFAULT_CONDITION, *(word for word in CONDITIONS if word != DEFAULT_CONDITION)),
            ),
            MethodOption(
                "steps",
                "How many noise levels a face passes each way; by default those of the distilled "
                "network with the most, or 10.",
                kind=int,
                bounds=(1.0, float(MOST_STEPS)),
                chooses=(DEFAULT_STEPS, *STUDENT_STEPS),
            ),
            MethodOption(
                "guidance",
                "How far to go beyond what the emotion changes, 1 for no further; by default 8, or "
                "what a distilled network has learned.",
                kind=float,
                bounds=(0.0, MOST_GUIDANCE),
            ),
            MethodOption(
                "noise",
                "The noise level up to which a face is inverted: with more, more changes and less "
                "of the person stays; by default 1.5.",
                kind=float,
                bounds=(LEAST_NOISE, MOST_NOISE),
            ),
            MethodOption(
                "solver",
                "How to denoise: ddim, the paper's own ddpm, from fresh noise, or heun, with twice "
                "the work a step; by default ddim.",
                SOLVERS,
            ),
            MethodOption(
                "seed",
                "Of all that is drawn at random: the same number gives the same result.",
                kind=int,
                bounds=(0.0, MOST_SEED),
            ),
        ),
    ),
)
