"""A checkpoint file read without running anything in it."""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mien.engines.errors import ModelError
from mien.export.resnet import Shapes

State = dict[str, torch.Tensor]

ZIP_MAGIC = b"PK"
PICKLE_MAGIC = b"\x80"
# How torch.save began its files before 1.6: a pickle of one long number.
OLD_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
REFUSED = re.compile(r"(?:GLOBAL|class|type) (\w+(?:\.\w+)+)")
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel, and of torch.compile
# Where the weights lie in a file that holds more than weights, best first: mien's own recipes
# keep an average of the weights beside those that they train.
INSIDE = ("average", "averaged", "state_dict", "model_state_dict", "model", "net", "params_ema")
OWN_GENERATORS = ("average.generator", "average.there")
WHAT_TO_DO = (
    "if you trust where it comes from, open it with the code that wrote it and save "
    "model.state_dict() instead"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights in a file.

    state: the tensors by name, float32, without the prefixes that wrappers put before names.
    sha256: of the file.
    """

    path: Path
    sha256: str
    state: State

    @property
    def shapes(self) -> Shapes:
        """The shape of each tensor."""
        return shapes_of(self.state)


def shapes_of(state: Mapping[str, torch.Tensor]) -> Shapes:
    """The shape of each tensor."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights in a file. Raises ModelError, also for files that could run code."""
    content = _read(path)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(_refusal(path, str(error))) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ModelError(_damage(path, str(error))) from error
    except (AttributeError, AssertionError, OverflowError, UnicodeDecodeError) as error:
        raise ModelError(_damage(path, str(error))) from error
    state = _without_prefixes(_weights(path, held))
    return Checkpoint(path, hashlib.sha256(content).hexdigest(), _as_float(path, state))


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(
            f"{path} is a folder, expected a checkpoint file; give a file in it, "
            "such as 200000-G.ckpt or latest_net_G_A.pth"
        )
    if path.exists() and not path.is_file():  # a pipe or a device may never end
        raise ModelError(f"{path} is no regular file, expected a checkpoint; copy it to one")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    if not content:
        raise ModelError(f"{path} is empty (0 bytes); download or copy it again")
    if content.startswith(ZIP_MAGIC) and not zipfile.is_zipfile(path):
        raise ModelError(
            f"{path} is cut off or damaged: it begins as a checkpoint and has no end "
            f"({len(content)} bytes); download or copy it again"
        )
    if content.startswith(ZIP_MAGIC) and _is_torchscript(path):
        raise ModelError(
            f"{path} is a TorchScript archive, that is a program; if you trust where it comes "
            "from, save torch.jit.load(FILE).state_dict() with torch.save and export that"
        )
    if not content.startswith((ZIP_MAGIC, PICKLE_MAGIC)):
        raise ModelError(
            f"{path} is no PyTorch checkpoint: expected a file that torch.save wrote; "
            "give the .ckpt, .pth or .pt file"
        )
    head = content[: len(OLD_MAGIC)]
    if content.startswith(PICKLE_MAGIC) and not OLD_MAGIC.startswith(head):
        raise ModelError(
            f"{path} is a pickle that torch.save did not write, and a pickle can run any code "
            f"when it is loaded; {WHAT_TO_DO}"
        )
    return content


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _refusal(path: Path, reason: str) -> str:
    """What to say when torch's reader of plain data will not go on."""
    refused = REFUSED.search(reason)
    if refused is None:
        return _damage(path, reason)
    return (
        f"{path} holds more than weights: loading it would call on {refused.group(1)}, "
        f"and mien runs nothing from a checkpoint; {WHAT_TO_DO}"
    )


def _damage(path: Path, reason: str) -> str:
    words = " ".join(reason.split())[:100] or "it ends too early"
    return f"{path} is cut off or damaged ({words}); download or copy it again"


def _weights(path: Path, held: object) -> State:
    """The state dict in what a file holds."""
    if not isinstance(held, Mapping):
        raise ModelError(
            f"{path} holds a {type(held).__name__}, expected the state dict of a network; "
            "save model.state_dict()"
        )
    networks = held.get("networks")
    if isinstance(networks, Mapping):  # of mien's GAN recipes
        inner = (networks.get(key) for key in OWN_GENERATORS)
    else:
        inner = (held.get(key) for key in INSIDE)
    for inside in inner:
        if isinstance(inside, Mapping) and _tensors(inside):
            return _tensors(inside)
    tensors, nested = _tensors(held), _nested(held)
    if len(tensors) < len(nested):  # such as a StyleGAN2's latent_avg beside its networks
        tensors = nested | tensors
    if not tensors:
        found = ", ".join(map(repr, list(held)[:5])) or "nothing"
        raise ModelError(
            f"{path} holds no weights mien can find (it has {found}); save model.state_dict()"
        )
    return tensors


def _tensors(held: Mapping[Any, object]) -> State:
    return {str(key): value for key, value in held.items() if isinstance(value, torch.Tensor)}


def _nested(held: Mapping[Any, object]) -> State:
    """The tensors of several networks in one file, by the network's name and theirs."""
    return {
        f"{name}.{key}": tensor
        for name, inside in held.items()
        if isinstance(inside, Mapping)
        for key, tensor in _tensors(inside).items()
    }


def _without_prefixes(state: State) -> State:
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _as_float(path: Path, state: State) -> State:
    result = {}
    for key, tensor in state.items():
        dense = tensor.detach()
        if dense.layout != torch.strided or dense.is_quantized:
            raise ModelError(
                f"{path}: {key} is sparse or quantised, expected plain weights; save the network "
                "before it is converted"
            )
        if dense.is_complex():
            raise ModelError(f"{path}: {key} holds complex numbers, expected real ones")
        if dense.is_floating_point():
            dense = dense.float()
            if not torch.isfinite(dense).all():
                raise ModelError(
                    f"{path}: {key} holds NaN or infinity: the training diverged; "
                    "take an earlier checkpoint"
                )
        result[key] = dense
    return result
