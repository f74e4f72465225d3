"""The default method: the face's own pixels move, as a network says how landmarks would."""

from __future__ import annotations

from mien.runtime.spec import MethodSpec

METHODS = (
    MethodSpec(
        "warp",
        "moves the face's own pixels",
        "mien.runtime.methods.warp.editor:open_method",
        networks=("warp", "occlusion"),
        scales_own=True,
    ),
)
