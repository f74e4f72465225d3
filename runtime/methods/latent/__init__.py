"""The latent papers' methods: a face's code is edited, and what the generator changes is shown.

Sources: "A StyleCLIP-based Facial Emotion Manipulation Method for Discrepant Emotion Transitions"
(`emm`); He and McGough, "My Emotion on your face", FG 2024 (`directions`).
"""

from __future__ import annotations

from typing import Final

from mien.engines.face_space import DIRECTIONS, EMM, ENCODER, GENERATOR, LATENT_CLASSIFIER
from mien.runtime.spec import MethodOption, MethodSpec

SPACE: Final = (GENERATOR, ENCODER)
MOST_SEED: Final = float(2**31 - 1)

METHODS = (
    MethodSpec(
        "emm",
        "(experimental) edits the face's latent code with a mapper",
        "mien.runtime.methods.latent.editor:open_emm",
        networks=(*SPACE, LATENT_CLASSIFIER, EMM),
        options=(
            MethodOption(
                "seed",
                "Draws the mapper's condition; without one its median is taken.",
                kind=int,
                bounds=(0.0, MOST_SEED),
            ),
        ),
        takes_prompt=True,
    ),
    MethodSpec(
        "directions",
        "(experimental) moves the face's latent code along the directions of attributes",
        "mien.runtime.methods.latent.editor:open_directions",
        networks=(*SPACE, DIRECTIONS),
        options=(
            MethodOption(
                "attribute",
                "Attributes and how far to move them, as smiling:+1,brows_raised:-0.5.",
                default="",
            ),
            MethodOption(
                "layers",
                "Which of the code's layers move: all, coarse, middle, fine, or as 0-7; several "
                "with commas.",
                default="all",
            ),
        ),
        edits_by=("attribute",),
    ),
)
