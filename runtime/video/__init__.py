"""Video files in and out: everything but the frames is copied, the frames reach a process."""

from mien.runtime.video.edit import edit_video, identity
from mien.runtime.video.reading.source import probe, read_frames
from mien.runtime.video.values import (
    Progress,
    StageSeconds,
    VideoInfo,
    VideoOptions,
    VideoReport,
)

__all__ = [
    "Progress",
    "StageSeconds",
    "VideoInfo",
    "VideoOptions",
    "VideoReport",
    "edit_video",
    "identity",
    "probe",
    "read_frames",
]
