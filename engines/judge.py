"""The emotion classifier that edits are measured with, no part of the filter."""

from __future__ import annotations

from mien.engines.network import Network, TensorSpec

FER_CLASSES = ("neutral", "happy", "sad", "surprised", "fearful", "disgusted", "angry")
FER_SIZE = 48

# A face cropped as FER-2013 crops it to one probability per emotion of FER_CLASSES.
JUDGE = Network(
    "judge",
    inputs=(TensorSpec("face", (1, 1, FER_SIZE, FER_SIZE), range=(0.0, 1.0), colour="luma"),),
    outputs=(TensorSpec("probabilities", (1, len(FER_CLASSES)), range=(0.0, 1.0)),),
)
