"""NVIDIA's StyleGAN2-ADA pickles, read without running the source that they carry.

Such a file holds networks as objects that bring their own Python source, which is run when it is
loaded with pickle. Here the source is text like any other, and the tensors are taken from what the
objects hold. Source of the names: github.com/NVlabs/stylegan2-ada-pytorch, and the correspondence
to rosinality's names, by which `mien.export.checkpoints.stylegan2` goes on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from mien.engines.errors import ModelError
from mien.export.checkpoints.inert import (
    Inert,
    InertUnpickler,
    Tensors,
    inert_class,
    named_tensors,
    nested_storage,
    plain_names,
)
from mien.export.models.stylegan2 import BLUR

State = dict[str, torch.Tensor]

AVERAGED = "G_ema"
TENSORFLOW = "dnnlib.tflib.network.Network"
NUMBERS = re.compile(r"numpy(\._?core)?(\.\w+)?\.(scalar|_reconstruct|dtype|ndarray)|torch\.device")
BLOCK = re.compile(r"synthesis\.b(\d+)\.(conv0|conv1|torgb|const|resample_filter)(?:\.(.+))?")
MAPPED = re.compile(r"mapping\.fc(\d+)\.(weight|bias)")


class Persistent(Inert):
    """Stands for an object with its own source; `attributes` is its state."""

    def __init__(self, meta: object = None) -> None:
        super().__init__(meta)
        self.state = meta.get("state") if isinstance(meta, Mapping) else None
        self.name = str(meta.get("class_name", "")) if isinstance(meta, Mapping) else ""


def read_nvidia(file: IO[bytes], path: Path, limit: int) -> tuple[State, dict[str, str]]:
    """The averaged generator of a pickle, under `g_ema.` by rosinality's names, and facts.

    path: for messages. limit: the most memory that its tensors may take, in bytes.

    Raises ModelError, UnpicklingError where it names something else, and ValueError where it is
    damaged.
    """
    tensors = Tensors(limit, str(path))
    known: dict[str, Callable[..., Any]] = {
        **plain_names(),
        "torch_utils.persistence._reconstruct_persistent_obj": Persistent,
        "torch._utils._rebuild_tensor_v2": tensors.rebuilt,
        "torch._utils._rebuild_parameter": tensors.parameter,
        "torch.storage._load_from_bytes": nested_storage,
        "dnnlib.util.EasyDict": dict,
        TENSORFLOW: inert_class(TENSORFLOW),
    }
    held = InertUnpickler(file, known, NUMBERS).load()
    generator = held.get(AVERAGED) if isinstance(held, Mapping) else None
    if isinstance(held, tuple) and any(isinstance(one, Inert) for one in held):
        raise ModelError(
            f"{path} is a StyleGAN2 of TensorFlow; convert it with NVIDIA's legacy.py, or take "
            "the PyTorch file of the same network"
        )
    if not isinstance(generator, Persistent):
        raise ModelError(
            f"{path} is a pickle that torch.save did not write, without the averaged generator "
            f"{AVERAGED!r} of StyleGAN2-ADA (it holds {_names(held)}); give the "
            "network-snapshot-*.pkl of a training"
        )
    state = dict(named_tensors(generator))
    return _renamed(state, path), _facts(generator)


def _names(held: object) -> str:
    if isinstance(held, Mapping):
        return ", ".join(repr(str(key)[:30]) for key in list(held)[:5]) or "nothing"
    return f"a {type(held).__name__}"


def _renamed(state: State, path: Path) -> State:
    """Rosinality's names under `g_ema.`, and `latent_avg`. Raises ModelError for another design."""
    made: State = {}
    for key, tensor in state.items():
        mapped, block = MAPPED.fullmatch(key), BLOCK.fullmatch(key)
        if mapped:
            made[f"g_ema.style.{int(mapped[1]) + 1}.{mapped[2]}"] = tensor
        elif key == "mapping.w_avg":
            made["latent_avg"] = tensor
        elif block:
            made |= _of_block(int(block[1]), block[2], block[3] or "", tensor, path)
        else:
            raise ModelError(
                f"{path} holds a generator of another design than StyleGAN2's (it has "
                f"{key[:60]!r}); mien export takes StyleGAN2 without classes"
            )
    return made


def _of_block(size: int, part: str, name: str, tensor: torch.Tensor, path: Path) -> State:
    """The tensors of one resolution."""
    level = int(math.log2(size)) - 2 if size else 0
    if part == "resample_filter" or name == "resample_filter":
        taps = torch.tensor(BLUR)
        usual = torch.outer(taps, taps) / 64  # of sum 1
        if tensor.shape != usual.shape or not torch.allclose(tensor, usual, atol=1e-5):
            raise ModelError(f"{path}: its filter is not StyleGAN2's [1, 3, 3, 1]; it is another")
        return {}
    if part == "const":
        return {"g_ema.input.input": tensor[None]}
    index = 2 * level - (part == "conv0")  # of the layers in their order, 4 pixels first
    if part == "torgb":
        own = "g_ema.to_rgb1" if level == 0 else f"g_ema.to_rgbs.{level - 1}"
        bias = {"bias": (f"{own}.bias", tensor.reshape(1, -1, 1, 1))}
    else:
        own = "g_ema.conv1" if level == 0 else f"g_ema.convs.{index - 1}"
        bias = {
            "bias": (f"{own}.activate.bias", tensor),
            "noise_strength": (f"{own}.noise.weight", tensor.reshape(-1)),
            "noise_const": (f"g_ema.noises.noise_{index}", tensor[None, None]),
        }
    places = bias | {
        "weight": (f"{own}.conv.weight", tensor[None]),
        "affine.weight": (f"{own}.conv.modulation.weight", tensor),
        "affine.bias": (f"{own}.conv.modulation.bias", tensor),
    }
    if name not in places:
        raise ModelError(f"{path}: {part} of {size} pixels also has {name[:60]!r}")
    key, value = places[name]
    return {key: value}


def _facts(generator: Persistent) -> dict[str, str]:
    """What the generator was made with, as far as it changes what its layers do."""
    made = generator.attributes.get("_init_kwargs")
    synthesis = made.get("synthesis_kwargs") if isinstance(made, Mapping) else None
    clamp = synthesis.get("conv_clamp") if isinstance(synthesis, Mapping) else None
    facts = {"container": "nvidia-ada"}
    if isinstance(clamp, (int, float)) and not isinstance(clamp, bool) and clamp > 0:
        facts["conv_clamp"] = str(float(clamp))
    return facts
