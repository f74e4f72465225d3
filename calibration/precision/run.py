"""From an FP32 graph to its variant in FP16 or INT8, checked, with its card."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnx import ModelProto

from mien.calibration.precision.card import PrecisionCard
from mien.calibration.precision.fp16 import fake_quantised_model, half_model, reasons_to_keep
from mien.calibration.precision.graph import (
    Graph,
    read_graph,
    with_free_batch,
    with_metadata,
    without_unshuffles,
)
from mien.calibration.precision.int8 import alone_model, count_int8, int8_model
from mien.calibration.precision.places import Rules, ends_of, layers_of, places_of, reasons_for_rest
from mien.calibration.precision.quality import (
    COMPARED_INPUTS,
    FP16_SAME_NAME_THRESHOLD,
    INT8_SAME_NAME_THRESHOLD,
    Agreement,
    EditQuality,
    agreement_of,
    agreement_refusal,
    compare_edits,
    int8_refusal,
    largest_values,
    output_errors,
    run_model,
    worst,
)
from mien.calibration.precision.search import Search
from mien.calibration.representative import (
    Clip,
    Feeds,
    filter_of,
    representative_inputs,
    ways_of,
)
from mien.calibration.tables.machine import machine_line
from mien.calibration.tables.thresholds import FP16_PSNR_THRESHOLD_DB
from mien.engines.catalog import Catalog, ModelEntry
from mien.engines.errors import EngineError, ModelError
from mien.engines.network import Network
from mien.engines.networks import EMOTION_CLASSIFIER
from mien.engines.ort.backend import open_session
from mien.engines.system.folders import private_folder
from mien.engines.text_faces import TEXT_FACE_NAMES
from mien.runtime.spec import FilterSpec

TOLERANCE = 5e-3  # of an output's rms error, by how much the output varies
TIGHTER = 0.5  # where the picture is not near enough, outputs must come nearer by this
RUNS, WARM_UP = 60, 4
UNDISTURBED = 10  # per cent of the runs; what else a machine does makes the others slower
SAME_DATA = (
    "The frames it is measured on are those it was calibrated with; with more people in --data "
    "both say more."
)
END = "the first and the last layer stay as they are"
SENSITIVE = "found by trying: alone in INT8 it costs {:.1e}"
INT8_AT_LEAST = 0.5  # of the layers; a graph with fewer in INT8 is not worth its error


@dataclass(frozen=True, slots=True)
class Variant:
    """A graph in another precision and its card. model: None where it was refused."""

    model: ModelProto | None
    card: PrecisionCard


class Calibration:
    """One network of a catalog, with what it is shown.

    data: what `clips` are, for people. Raises ModelError, UsageError.
    """

    def __init__(
        self, network: str, catalog: Catalog, clips: Sequence[Clip], *, data: str, inputs: int = 32
    ) -> None:
        self._entry = catalog.entry(network)
        self._catalog = catalog
        self._clips = clips
        self._data = data
        self._graph: Graph = read_graph(self._entry.path)
        self._network = Network.from_metadata(self._graph.metadata)
        self._is_classifier = network == EMOTION_CLASSIFIER.name
        count = max(inputs, COMPARED_INPUTS) if self._is_classifier else inputs
        self._feeds = representative_inputs(network, clips, catalog, count)
        self._largest = largest_values(self._graph, self._feeds)
        self._kept = reasons_to_keep(self._graph, self._network, self._largest)
        self._way = _way_to_pictures(network, catalog)

    def fp16(
        self, tolerance: float = TOLERANCE, threshold_db: float = FP16_PSNR_THRESHOLD_DB
    ) -> Variant:
        """The FP16 variant. Raises EngineError where the picture is not near enough at any cost."""
        search = Search(self._graph, self._network, self._feeds)
        kept: Mapping[str, str] = self._kept
        while True:
            plan = search.settle(kept, tolerance)
            fake_quantised = fake_quantised_model(self._graph, plan.kept.keys())
            quality, agreement = self._quality(fake_quantised), self._agreement(fake_quantised)
            far = _too_far(quality, agreement, threshold_db)
            if not far:
                break
            if len(plan.kept) == len(self._graph.float_nodes()):
                raise EngineError(f"{self._network.name}: {far}, with every node in FP32")
            kept, tolerance = plan.kept, min(tolerance, plan.worst) * TIGHTER
        blank = replace(self._card("fp16"), kept=plan.kept, errors=plan.errors)
        card = replace(blank, quality=quality, agreement=agreement)
        return self._variant(half_model(self._graph, plan.kept.keys()), card)

    def int8(self, rules: Rules) -> Variant:
        """The INT8 variant that keeps the edit's quality, or a card that says why there is none."""
        layers = [node.name for node in layers_of(self._graph, rules)]
        kept = self._kept | dict.fromkeys(ends_of(self._graph), END)
        costs = self._costs([name for name in layers if name not in kept])
        count = 2
        while True:
            model, card = self._int8_try(kept, rules)
            if not card.refusal:
                freed = with_free_batch(model) if rules == "cpu" else None
                return self._variant(freed or model, card)
            is_measured = self._way is not None or self._is_classifier
            if not is_measured or len(costs) - count < INT8_AT_LEAST * len(layers):
                return Variant(None, card)
            for name in sorted(costs, key=lambda name: -costs[name])[:count]:
                kept[name] = SENSITIVE.format(costs.pop(name))
            count *= 2

    def _int8_try(self, kept: dict[str, str], rules: Rules) -> tuple[ModelProto, PrecisionCard]:
        # Strides are measured to be faster on a processor only.
        graph = without_unshuffles(self._graph) if rules == "cpu" else self._graph
        model = int8_model(graph, self._feeds, kept.keys(), rules)
        rest = reasons_for_rest(graph, places_of(graph, kept.keys(), rules), rules)
        expected, received = (run_model(m, self._feeds) for m in (self._graph.model, model))
        errors = output_errors(expected, received, self._network)
        quality = self._quality(model)
        agreement = agreement_of(expected, received) if self._is_classifier else None
        fp32_ms, ms = speeds(self._graph.model, model, self._feeds)
        blank = replace(self._card("int8"), rules=rules, kept=rest | kept, errors=errors)
        count = count_int8(model, graph, rules)
        card = replace(blank, quality=quality, fp32_ms=fp32_ms, ms=ms, int8=count)
        card = replace(card, agreement=agreement)
        if not np.isfinite(worst(errors)):
            return model, replace(card, refusal="its outputs are not finite")
        if agreement is not None:
            refusal = agreement_refusal(agreement, INT8_SAME_NAME_THRESHOLD)
            return model, replace(card, refusal=refusal)
        return model, replace(card, refusal=int8_refusal(quality))

    def _costs(self, layers: Sequence[str]) -> dict[str, float]:
        """The relative error that each layer brings alone."""
        feeds = self._feeds[:4]
        expected = run_model(self._graph.model, feeds)
        inputs = {node.name: node.input[0] for node in self._graph.nodes}
        costs = {}
        for name in layers:
            alone = alone_model(self._graph, name, self._largest.get(inputs[name], 1.0))
            costs[name] = worst(output_errors(expected, run_model(alone, feeds), self._network))
        return costs

    def _quality(self, model: ModelProto) -> EditQuality | None:
        """What the filter's frames become with `model` in the place of the network."""
        if self._way is None:
            return None
        with private_folder() as folder:
            entry = save_model(with_metadata(model, self._graph.metadata), self._entry, folder)
            others = tuple(e for e in self._catalog.entries if e.network != entry.network)
            return compare_edits(self._clips, self._way, self._catalog, Catalog((entry, *others)))

    def _agreement(self, model: ModelProto) -> Agreement | None:
        """What the classifier says with `model`; None for other networks."""
        if not self._is_classifier:
            return None
        expected, received = (run_model(m, self._feeds) for m in (self._graph.model, model))
        return agreement_of(expected, received)

    def _card(self, precision: str) -> PrecisionCard:
        return PrecisionCard(
            network=self._network.name,
            precision=precision,
            rules="",
            source_sha256=self._entry.sha256,
            data=self._data,
            inputs=len(self._feeds),
            nodes=len(self._graph.float_nodes()),
            kept={},
            errors=(),
            quality=None,
            fp32_ms=None,
            ms=None,
            machine=machine_line(),
            notes=(SAME_DATA,),
        )

    def _variant(self, model: ModelProto, card: PrecisionCard) -> Variant:
        return Variant(with_metadata(model, self._graph.metadata | card.metadata()), card)


def _too_far(quality: EditQuality | None, agreement: Agreement | None, threshold_db: float) -> str:
    """What FP16 changes too much, in words; empty where nothing is."""
    if agreement is not None:
        return agreement_refusal(agreement, FP16_SAME_NAME_THRESHOLD)
    if quality is None or quality.psnr_db >= threshold_db:
        return ""
    return f"edited frames are {quality.psnr_db:.1f} dB from those in FP32, below {threshold_db:g}"


def _way_to_pictures(network: str, catalog: Catalog) -> FilterSpec | None:
    """How a network comes to change pictures; None for one that does not, with these models."""
    if network == EMOTION_CLASSIFIER.name or network in TEXT_FACE_NAMES:
        return None
    for way in ways_of(network):
        try:
            filter_of(way, catalog).close()
        except ModelError:  # a parser while there is no generator for the parts it finds
            continue
        return way
    return None


def save_model(model: ModelProto, source: ModelEntry, folder: Path) -> ModelEntry:
    """The entry of `model`, written into a private folder, as a model like `source`."""
    data = model.SerializeToString()
    entry = entry_like(source, data, folder)
    entry.path.write_bytes(data)
    return entry


def entry_like(source: ModelEntry, data: bytes, folder: Path) -> ModelEntry:
    """The entry of the model file `data` in a folder, otherwise that of `source`."""
    return replace(
        source,
        file=f"{source.network}.onnx",
        sha256=hashlib.sha256(data).hexdigest(),
        card=f"{source.network}.md",
        folder=folder,
    )


def speeds(a: ModelProto, b: ModelProto, feeds: Sequence[Feeds]) -> tuple[float, float]:
    """Milliseconds of a run of each graph on one thread of the processor, in turns, undisturbed."""
    sessions = [
        open_session(model.SerializeToString(), Path("(in memory)"), provider="cpu")
        for model in (a, b)
    ]
    times_ms: list[list[float]] = [[], []]
    for run in range(RUNS):
        for session, spent in zip(sessions, times_ms, strict=True):
            started = time.perf_counter()
            session.run(None, feeds[run % len(feeds)])
            spent.append(1e3 * (time.perf_counter() - started))
    first, second = (float(np.percentile(spent[WARM_UP:], UNDISTURBED)) for spent in times_ms)
    return first, second
