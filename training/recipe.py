"""What every recipe shares: options, the timed training loop, checkpoints, averaging, the card.

A recipe is given minutes, not steps: the learning rate follows the share of them that is spent, and
a run that is stopped goes on where its last checkpoint was.
"""

from __future__ import annotations

import argparse
import copy
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import nn

Batch = TypeVar("Batch")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line gave; every path is the user's.

    begin_with: a folder of models whose weights are the start, or whose network labels the data;
    for recipes that take it.
    """

    minutes: float
    data: Path
    media: Path
    out: Path
    facemesh_python: Path
    backgrounds: Path | None
    device: str
    seed: int
    fresh: bool
    begin_with: Path | None = None


def parse_options(recipe: str, argv: list[str], *, begins: bool = False) -> Options:
    """The options of `python -m mien.training <recipe>`; begins: whether it takes --begin-with."""
    parser = argparse.ArgumentParser(prog=f"python -m mien.training {recipe}")
    parser.add_argument("--minutes", type=float, required=True, help="time to train")
    parser.add_argument("--data", type=Path, required=True, help="folder of faces160 and fer2013")
    parser.add_argument("--media", type=Path, required=True, help="folder of clips and scenes")
    parser.add_argument("--out", type=Path, required=True, help="cache, checkpoint, model, card")
    parser.add_argument(
        "--facemesh-python", type=Path, default=Path("python"), help="a Python with mediapipe"
    )
    parser.add_argument("--backgrounds", type=Path, help="folder of pictures without any face")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="ignore an earlier checkpoint")
    if begins:
        parser.add_argument("--begin-with", type=Path, help="a folder of models to begin with")
    return Options(**vars(parser.parse_args(argv)))


@dataclass(frozen=True, slots=True)
class Schedule:
    """How to train: peak rate, shares of the time, how long weights are averaged."""

    rate: float = 2e-3
    final_rate: float = 0.01  # of the peak
    warmup_share: float = 0.02
    weight_decay: float = 1e-3
    average: float = 0.998
    clip_norm: float = 5.0
    checkpoint_s: float = 150.0
    log_s: float = 20.0
    half: bool = True  # bfloat16 autocast; on a processor it gains nothing for depthwise layers

    def rate_at(self, share: float) -> float:
        """The learning rate when `share` of the time is spent."""
        if share < self.warmup_share:
            return self.rate * (0.05 + 0.95 * share / self.warmup_share)
        through = min(1.0, (share - self.warmup_share) / (1 - self.warmup_share))
        low = self.final_rate
        return self.rate * (low + (1 - low) * 0.5 * (1 + float(np.cos(np.pi * through))))


class Prefetch(Generic[Batch]):
    """Batches made by a thread while the network works on the ones before."""

    def __init__(self, make: Callable[[], Batch], depth: int = 6) -> None:
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(depth)
        self._stop = threading.Event()
        self._make = make
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                item: Batch | BaseException = self._make()
            except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
                item = error
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=0.2)
                    break
                except queue.Full:
                    continue

    def __iter__(self) -> Iterator[Batch]:
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stop making batches."""
        self._stop.set()
        self._thread.join()


class Trainer(Generic[Batch]):
    """Trains one network for the minutes given; afterwards `average` holds the weights to ship."""

    def __init__(
        self, name: str, network: nn.Module, options: Options, schedule: Schedule | None = None
    ) -> None:
        self.name = name
        self.options = options
        self.schedule = schedule or Schedule()
        self.device = torch.device(options.device)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), self.schedule.rate, weight_decay=self.schedule.weight_decay
        )
        self.spent_s = 0.0
        self.step = 0
        options.out.mkdir(parents=True, exist_ok=True)
        self.checkpoint = options.out / f"{name}.pt"
        if self.checkpoint.exists() and not options.fresh:
            self._resume()

    def run(
        self,
        make_batch: Callable[[], Batch],
        loss_of: Callable[[nn.Module, Batch], Mapping],
        draw: Callable[[nn.Module, str], None] | None = None,
    ) -> None:
        """Train until the minutes are spent.

        loss_of: the network and a batch to named loss terms; their sum is minimised. draw: is given
        the averaged network and a name with the minutes at every checkpoint, and keeps a picture.
        """
        limit_s = self.options.minutes * 60
        if self.spent_s >= limit_s:
            return
        batches = Prefetch(make_batch)
        self.network.train()
        sums: dict[str, float] = {}
        count, last, logged, saved = 0, time.monotonic(), self.spent_s, self.spent_s
        try:
            for batch in batches:
                for key, value in self._one_step(batch, loss_of, limit_s).items():
                    sums[key] = sums.get(key, 0.0) + value
                count += 1
                now = time.monotonic()
                self.spent_s += now - last
                last = now
                if self.spent_s - logged > self.schedule.log_s:
                    self._log({key: value / count for key, value in sums.items()})
                    sums, count, logged = {}, 0, self.spent_s
                if self.spent_s - saved > self.schedule.checkpoint_s:
                    self._save()
                    saved = self.spent_s
                    self._draw(draw)
                if self.spent_s >= limit_s:
                    break
        finally:
            batches.close()
        self._save()
        self._draw(draw)

    def _draw(self, draw: Callable[[nn.Module, str], None] | None) -> None:
        if draw is not None:
            draw(self.average, f"{self.name}-{self.spent_s / 60:05.1f}min")

    def _one_step(
        self, batch: Batch, loss_of: Callable[[nn.Module, Batch], Mapping], limit_s: float
    ) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate_at(self.spent_s / limit_s)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.schedule.half):
            terms = loss_of(self.network, batch)
        total = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.clip_norm)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return {key: float(value.detach()) for key, value in terms.items()}

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.schedule.average, (1 + self.step) / (10 + self.step))
        mine, theirs = self.average.state_dict(), self.network.state_dict()
        for key, value in mine.items():
            if value.dtype.is_floating_point:
                value.lerp_(theirs[key], 1 - keep)
            else:
                value.copy_(theirs[key])

    def _log(self, terms: Mapping[str, float]) -> None:
        told = {key: round(value, 5) for key, value in terms.items()}
        line = {"step": self.step, "minutes": round(self.spent_s / 60, 2)}
        line = line | told | line  # a term of the same name may not hide a counter
        print(json.dumps(line), flush=True)
        with (self.options.out / f"{self.name}.log").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        part = self.checkpoint.with_suffix(".part")
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "spent_s": self.spent_s,
            "step": self.step,
        }
        torch.save(state, part)
        part.replace(self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.spent_s, self.step = float(state["spent_s"]), int(state["step"])


def write_metrics(path: Path, metrics: Mapping[str, object]) -> None:
    """Keep `metrics` as JSON and show them."""
    text = json.dumps(metrics, indent=2)
    path.write_text(text + "\n")
    print(text, flush=True)


DATA_FACTS = {
    "faces160": "11,832 press pictures and film stills with FaceMesh landmarks, from the public "
    "repository muxspace/facial_expressions (Apache-2.0), split by person: nobody whose hash is a "
    "multiple of ten is trained on",
    "fer2013": "the training split of FER-2013, 48x48 pixels, with FaceMesh landmarks",
    "clips": "every second frame of five short clips of five people, labelled by FaceMesh",
    "scenes": "22 photographs of groups, crowds and people with masks, labelled by FaceMesh and "
    "its detector in overlapping enlarged tiles; finds below a score of 0.72 count neither way",
}


def data_text(names: tuple[str, ...], more: str = "") -> str:
    """The paragraph of a card on its data."""
    lines = [f"- {name}: {DATA_FACTS[name]}." for name in names]
    return "\n".join([*lines, more] if more else lines)


def quality_table(metrics: Mapping[str, object]) -> str:
    """The dict-valued entries of `metrics` as a table, one row each."""
    rows = [(name, values) for name, values in metrics.items() if isinstance(values, dict)]
    columns = list(dict.fromkeys(key for _, values in rows for key in values))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, values in rows:
        lines.append("| " + " | ".join([name, *(str(values.get(c, "")) for c in columns)]) + " |")
    return "\n".join(lines)


def write_card(path: Path, title: str, sections: Mapping[str, str]) -> None:
    """Write a model card: a title and named paragraphs."""
    parts = [f"# {title}\n"] + [f"## {name}\n\n{text.strip()}\n" for name, text in sections.items()]
    path.write_text("\n".join(parts))


def training_in(card: Path) -> str:
    """The paragraph of a card on the training; empty where there is no card."""
    _, _, after = (card.read_text() if card.exists() else "").partition("\n## Training\n\n")
    return after.partition("\n\n## ")[0].strip()
