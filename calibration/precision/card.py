"""What was decided about one graph's precision, and what it costs: for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from mien.calibration.precision.int8 import Int8Count
from mien.calibration.precision.quality import Agreement, EditQuality, OutputError


@dataclass(frozen=True, slots=True)
class PrecisionCard:
    """How a graph came to its precision.

    network: its name. precision: `fp16` or `int8`. rules: for INT8, whose: `cpu` or `tensorrt`.
    source_sha256: of the FP32 file. data: what it was shown. inputs: how many inputs that made.
    nodes: that compute with floating values. kept: those that stay in FP32, and why.
    int8: what of it really computes in INT8, None for FP16.
    errors: per output, against FP32. quality: of the edited frames, None where none depends on it.
    agreement: of the classifier with itself in FP32, None for other networks.
    fp32_ms, ms: of a run of either on `machine`, in turns; a tenth of the runs was faster, so that
        what else a machine does counts little. For FP16 they are None.
    refusal: why it was not accepted, empty where it was. notes: what a reader must know besides.
    """

    network: str
    precision: str
    rules: str
    source_sha256: str
    data: str
    inputs: int
    nodes: int
    kept: Mapping[str, str]
    errors: tuple[OutputError, ...]
    quality: EditQuality | None
    fp32_ms: float | None
    ms: float | None
    machine: str
    int8: Int8Count | None = None
    agreement: Agreement | None = None
    refusal: str = ""
    notes: tuple[str, ...] = ()

    def json(self) -> str:
        """The card for programs."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def metadata(self) -> dict[str, str]:
        """What a graph of this card states of itself."""
        stated = {
            "mien.precision": self.precision,
            "mien.precision_source_sha256": self.source_sha256,
            "mien.precision_kept": str(len(self.kept)),
            "mien.precision_error": f"{max(error.relative for error in self.errors):.3g}",
        }
        return stated | ({"mien.precision_rules": self.rules} if self.rules else {})

    def markdown(self) -> str:
        """The card for people."""
        what = "FP16" if self.precision == "fp16" else f"INT8, as {self.rules} wants it"
        made = (
            f"Made from the FP32 graph {self.source_sha256[:12]}..., shown {self.data} "
            f"({self.inputs} inputs). {self._computed()} Inputs and outputs are FP32."
        )
        lines = [
            f"# {self.network} in {what}",
            "",
            made,
            "",
            "| output | largest error | rms error | rms by its own variation |",
            "| --- | --- | --- | --- |",
            *(
                f"| {e.output} | {e.largest:.2g} | {e.rms:.2g} | {e.relative:.2g} |"
                for e in self.errors
            ),
            "",
            *self._quality_lines(),
            *self._speed_lines(),
            *(f"{note}\n" for note in self.notes),
            *([f"Not accepted: {self.refusal}.", ""] if self.refusal else []),
            "| stays in FP32 | why |",
            "| --- | --- |",
            *(f"| {name} | {reason} |" for name, reason in self.kept.items()),
        ]
        return "\n".join(lines) + "\n"

    def row(self) -> tuple[str, ...]:
        """A line of a table over networks, under `ROW`."""
        quality = self.quality
        return (
            self.network,
            self._computed_briefly(),
            f"{max(e.relative for e in self.errors):.1e}",
            "-" if quality is None else f"{quality.psnr_db:.1f}",
            "-" if quality is None else f"{100 * quality.edited_shift:.2f} %",
            "-" if quality is None else f"{quality.calm:.2f}",
            self._named(),
            "-" if self.ms is None else f"{self.fp32_ms:.2f} > {self.ms:.2f}",
            f"no: {self.refusal}" if self.refusal else "yes",
        )

    def _computed(self) -> str:
        count = self.int8
        if count is None:
            return f"{self._computed_briefly()} compute in FP16, {len(self.kept)} stay in FP32."
        return (
            f"{self._computed_briefly()} compute in INT8, {100 * count.share:.1f} % of the "
            f"multiplications in them, and {count.others} other nodes ({count.how})."
        )

    def _computed_briefly(self) -> str:
        if self.int8 is not None:
            return f"{self.int8.layers} of {self.int8.of_layers} layers"
        return f"{self.nodes - len(self.kept)} of {self.nodes} nodes"

    def _named(self) -> str:
        if self.agreement is not None:
            return f"{100 * self.agreement.same_name:.1f} % alike"
        if self.quality is None:
            return "-"
        return f"{self.quality.named_before:.2f} > {self.quality.named:.2f}"

    def _quality_lines(self) -> list[str]:
        quality = self.quality
        if self.agreement is not None:
            return [self.agreement.markdown(), ""]
        if quality is None:
            return ["No edited frame was compared.", ""]
        told = (
            f"Over {quality.frames} edited frames: PSNR at least {quality.psnr_db:.1f} dB, "
            f"{quality.typical_psnr_db:.1f} dB in the middle; landmarks that are tracked move by "
            f"{100 * quality.landmark_shift:.2f} % of the distance of the eyes, those of the "
            f"edited face by {100 * quality.edited_shift:.2f} %; it shakes {quality.calm:.2f} "
            f"times as much; the emotion classifier names {quality.named:.2f} of the edits as "
            f"asked, before {quality.named_before:.2f}, and {quality.same_name:.2f} alike; a face "
            f"was lost or gained in {quality.lost} frames."
        )
        return [told, ""]

    def _speed_lines(self) -> list[str]:
        if self.ms is None or self.fp32_ms is None:
            return []
        told = (
            f"One run takes {self.ms:.2f} ms, in FP32 {self.fp32_ms:.2f} ms (in turns; a tenth of "
            f"the runs was faster; one thread of {self.machine})."
        )
        return [told, ""]


ROW = (
    "network",
    "computes in it",
    "error",
    "PSNR dB",
    "shift",
    "calm",
    "named",
    "ms, one thread",
    "accepted",
)
