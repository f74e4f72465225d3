"""The parts paper's methods: a GAN restyles the whole picture of a face, the face, or its parts.

Source: Upenieks and Urtans, "Let's put a smile on your face", AIxHMI 2022.
"""

from __future__ import annotations

from typing import Final

from mien.engines.networks import FACE_PARSER_NAME, GANS
from mien.runtime.spec import MethodOption, MethodSpec

BLENDS: Final = ("field", "paste")
OPTIONS: Final = (
    MethodOption("gan", "Which GAN restyles; by default stargan.", GANS),
    MethodOption(
        "blend",
        "How a GAN's picture is put back: its change added to the frame, or the picture pasted; "
        "by default field.",
        BLENDS,
    ),
)
PARSED: Final = ((FACE_PARSER_NAME, "mien.runtime.methods.gan.segmentation:show_parser"),)

METHODS = (
    MethodSpec(
        "image",
        "(experimental) restyles the whole picture of a face with a GAN",
        "mien.runtime.methods.gan.method:open_image",
        networks=("{gan}_image",),
        options=OPTIONS,
    ),
    MethodSpec(
        "face",
        "(experimental) restyles one square over all parts of a face with a GAN",
        "mien.runtime.methods.gan.method:open_face",
        networks=(FACE_PARSER_NAME, "{gan}_face"),
        options=OPTIONS,
        shown_alone=PARSED,
    ),
    MethodSpec(
        "parts",
        "(experimental) restyles each part of a face by itself with a GAN",
        "mien.runtime.methods.gan.method:open_parts",
        networks=(FACE_PARSER_NAME, "{gan}_parts"),
        options=OPTIONS,
        shown_alone=PARSED,
    ),
)
