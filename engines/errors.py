"""The errors a user of mien can meet, as one tree.

MienError                 anything mien says itself
├── UsageError            an argument, an emotion name, a timeline: what was typed
├── VideoError            a video, picture or output file
├── ModelError            a model file: missing, damaged, not the declared one
├── EngineError           running a network: wrong name, dtype or shape, a failed run
└── DeviceError           a provider or device that is not there
"""

from __future__ import annotations


class MienError(Exception):
    """Anything mien reports by itself: one line, what was wrong and what to do."""


class UsageError(MienError):
    """What was asked for makes no sense: an unknown emotion, a bad timeline, a bad range."""


class VideoError(MienError):
    """A video, picture or output file cannot be read or written."""


class ModelError(MienError):
    """A model file is missing, damaged, or not the network it is declared to be."""


class EngineError(MienError):
    """A network was given the wrong tensors, or failed while running."""


class DeviceError(MienError):
    """A provider or device was asked for that this machine does not have."""
