"""The sheets of held-out faces that show how far a UNet of the diffusion recipe is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import nn

from mien.engines.catalog import Catalog
from mien.engines.diffusion import FER2013_LABELS
from mien.engines.networks import EMOTION_CLASSIFIER, FER_CLASSES
from mien.export.models.small_unet import SmallUNet
from mien.runtime.methods.diffusion.sampler import EDIT_SIGMA, FROM_NOISE, Sampler, SamplerOptions
from mien.training.diffusion.codes import Batch
from mien.training.diffusion.unet import ModuleEngine
from mien.training.recipe import Trainer

SHEET_STEPS = 8
SHEETS = 5  # of each part, beside the one at its end
MOST_BETWEEN = 5.0  # minutes between two sheets, unless drawing takes too much of them
DRAWING_SHARE = 0.05  # of the time, at most


class Sheets:
    """Pictures of how far a UNet is: held-out faces, and each of them under each label.

    From noise where the UNet knows the label alone, by inversion otherwise.
    """

    def __init__(
        self,
        pictures: torch.Tensor,
        condition: str,
        trainer: Trainer[Batch],
        encoder: nn.Module | None,
        guidance: float,
    ) -> None:
        """pictures: float32 (n, 1, 48, 48) in [-1, 1]. guidance: of what is no student."""
        self._condition, self._trainer, self._guidance = condition, trainer, guidance
        self._out = trainer.options.out
        self._faces = pictures.numpy()
        self._codes = None
        if encoder is not None:
            with torch.no_grad():
                self._codes = encoder(pictures).numpy()
        self._next_s = 0.0

    def around(
        self, loss: Callable[[nn.Module, Batch], dict[str, torch.Tensor]], minutes: float
    ) -> Callable[[nn.Module, Batch], dict[str, torch.Tensor]]:
        """The same loss, which draws a sheet whenever so many minutes have passed.

        Seldomer where drawing would take more than a part of the time.
        """
        self._next_s = time.monotonic() + minutes * 60

        def lossy(network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
            began_s = time.monotonic()
            if began_s > self._next_s:
                self.draw()
                took_s = time.monotonic() - began_s
                self._next_s = began_s + max(minutes * 60, took_s / DRAWING_SHARE)
            return loss(network, batch)

        return lossy

    def draw(self) -> float:
        """Keep a sheet; how often the shipped classifier names its faces as asked."""
        module = self._trainer.average
        assert isinstance(module, SmallUNet)
        by_noise = self._condition == "label"
        options = SamplerOptions(
            steps=None if module.spec.steps else SHEET_STEPS * (2 if by_noise else 1),
            guidance=None if module.spec.steps else self._guidance,
            start=FROM_NOISE if by_noise else EDIT_SIGMA,
        )
        sampler = Sampler(ModuleEngine(module, self._condition), options)
        count = len(self._faces)
        if by_noise:
            latent = np.concatenate([sampler.noise(track) for track in range(count)])
        else:
            latent = sampler.invert(self._faces, self._codes)
        rows = [self._faces]
        if not by_noise:
            rows.append(sampler.reconstruct(latent, self._codes))
        labels = np.eye(len(FER2013_LABELS), dtype=np.float32)
        made = [sampler.generate(latent, label[None], self._codes) for label in labels]
        self._write(np.stack([*rows, *made]))
        named = _named(np.stack(made))
        path = self._out / f"{self._trainer.name}.log"
        told = {"sheet_minutes": round(self._trainer.spent_s / 60, 2), "named": round(named, 3)}
        with path.open("a") as file:
            file.write(json.dumps(told) + "\n")
        return named

    def _write(self, rows: np.ndarray) -> None:
        """Write a picture of (r, n, 1, s, s), enlarged to be looked at."""
        count, across, _, size, _ = rows.shape
        sheet = rows[:, :, 0].transpose(0, 2, 1, 3).reshape(count * size, across * size)
        pixels = np.round((sheet + 1) * 127.5).clip(0, 255).astype(np.uint8)
        minutes = round(self._trainer.spent_s / 60, 1)
        path = self._out / f"{self._trainer.name}-{minutes:05.1f}min.png"
        cv2.imwrite(str(path), cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))


def _named(made: np.ndarray) -> float:
    """The share of faces (7, n, 1, 48, 48), a row a label, that the classifier names as asked."""
    right = 0
    with Catalog.bundled().open(EMOTION_CLASSIFIER) as engine:
        for name, faces in zip(FER2013_LABELS, made, strict=True):
            for face in faces:
                crop = ((face + 1) / 2).astype(np.float32)[None]
                said = engine.infer({"face": crop})["probabilities"][0].argmax()
                right += FER_CLASSES[said] == name
    return right / (made.shape[0] * made.shape[1])
