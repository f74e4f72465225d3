"""Codecs: what of usual videos can be read and written here."""

from __future__ import annotations

from mien.apps.checks.finding import Finding, Machine, State
from mien.engines.system.install import packages_line
from mien.runtime.video.writing.encoders import encoder_formats, has_decoder

VITAL = "h264"
# A codec, its decoders and its encoders, one of each of which is enough.
CODECS = (
    ("h264", ("h264",), ("libx264", "libopenh264")),
    ("hevc", ("hevc",), ("libx265",)),
    ("vp9", ("vp9", "libvpx-vp9"), ("libvpx-vp9",)),
    ("av1", ("libdav1d", "av1"), ("libsvtav1", "libaom-av1")),
    ("mjpeg", ("mjpeg",), ("mjpeg",)),
)


def check_codecs(_machine: Machine) -> list[Finding]:
    """Which codecs can be read and written."""
    findings, whole = [], []
    for name, decoders, encoders in CODECS:
        lacks = []
        if not any(has_decoder(decoder) for decoder in decoders):
            lacks.append("read")
        if not any(encoder_formats(encoder) is not None for encoder in encoders):
            lacks.append("written")
        if not lacks:
            whole.append(name)
            continue
        is_vital = name == VITAL
        text = f"{name} cannot be {' or '.join(lacks)}"
        state: State = "bad" if is_vital else "warn"
        findings.append(
            Finding(
                "codecs",
                state,
                text,
                packages_line("av", options="--force-reinstall --no-deps"),
                stops_edit=is_vital,
            )
        )
    if whole:
        findings.insert(0, Finding("codecs", "ok", f"read and written: {', '.join(whole)}"))
    return findings
