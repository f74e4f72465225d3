"""Whether a classifier in another precision says the same: for the judge, which edits nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mien.calibration.representative import Feeds

JUDGED_INPUTS = 128  # that it is compared on, where the pictures and clips give as many
PROBABILITIES = "probabilities"
FP16_SAME_NAME_FLOOR = 0.99
INT8_SAME_NAME_FLOOR = 0.98


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a classifier says, against what it says in FP32.

    inputs: that both were shown. same_name: share of them that both name alike. largest: the
    largest difference of a probability.
    """

    inputs: int
    same_name: float
    largest: float

    def markdown(self) -> str:
        """A sentence for the card."""
        return (
            f"It edits nothing, so no edited frame is compared. Of {self.inputs} faces in edited "
            f"frames it names {100 * self.same_name:.1f} % as in FP32; no probability differs by "
            f"more than {self.largest:.2g}."
        )


def agreement_of(expected: Sequence[Feeds], received: Sequence[Feeds]) -> Agreement:
    """How far two precisions agree, by their outputs for the same inputs."""
    before, after = (
        np.concatenate([outputs[PROBABILITIES] for outputs in both])
        for both in (expected, received)
    )
    return Agreement(
        inputs=len(before),
        same_name=float(np.mean(before.argmax(1) == after.argmax(1))),
        largest=float(np.abs(before - after).max()),
    )


def agreement_refusal(agreement: Agreement, floor: float) -> str:
    """What is worse than it may be, in words; empty where nothing is."""
    if agreement.same_name >= floor:
        return ""
    return (
        f"it names {100 * agreement.same_name:.1f} % of the faces as in FP32 "
        f"(at least {100 * floor:g})"
    )
