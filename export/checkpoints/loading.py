"""Weights put into a module, all of them and no others."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import nn

from mien.engines.errors import ModelError

Module = TypeVar("Module", bound=nn.Module)
State = Mapping[str, torch.Tensor]

SHOWN = 3  # names of a kind that a message lists
COUNTER = "num_batches_tracked"  # of batch normalisation: old files lack it, and nothing reads it


def without(pattern: re.Pattern[str], state: State) -> dict[str, torch.Tensor]:
    """A state dict without the tensors whose names match."""
    return {key: tensor for key, tensor in state.items() if not pattern.search(key)}


def load_strictly(make: Callable[[], Module], state: State, where: str) -> Module:
    """The module that `make` gives, with the weights of `state`, ready to be exported.

    It takes no memory until the weights are known to fit, whatever sizes a file pretends to have.

    Raises ModelError that lists what is missing, what is too much and what has another shape.
    """
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors", UserWarning)
        module = make()
    wanted = module.state_dict()
    given = {key: tensor for key, tensor in state.items() if not key.endswith(COUNTER)}
    needed = {key: tensor for key, tensor in wanted.items() if not key.endswith(COUNTER)}
    check_names(given, needed, where)
    counters = {key: torch.tensor(0) for key in wanted if key.endswith(COUNTER)}
    module.load_state_dict({**counters, **given}, assign=True)
    return module.eval()


def check_names(given: State, needed: State, where: str) -> None:
    """Check that tensors have the names, shapes and kinds that are needed.

    needed: any tensors of these, on whatever device. where: a beginning for the message.

    Raises ModelError that lists what is missing, what is too much and what has another shape.
    """
    missing = [key for key in needed if key not in given]
    extra = [key for key in given if key not in needed]
    unlike = [_unlike(key, given[key], needed[key]) for key in needed if key in given]
    faults = [
        f"{what} {listed(names)}"
        for what, names in (
            ("it lacks", missing),
            ("it also has", extra),
            ("its", [words for words in unlike if words]),
        )
        if names
    ]
    if faults:
        raise ModelError(
            f"{where}, but {'; '.join(faults)}; was it made by another version of that code?"
        )


def _unlike(key: str, given: torch.Tensor, wanted: torch.Tensor) -> str:
    """What a tensor has otherwise than its place, empty where it fits."""
    if given.shape != wanted.shape:
        return f"{key} is {tuple(given.shape)} and not {tuple(wanted.shape)}"
    if given.is_floating_point() != wanted.is_floating_point():
        return f"{key} holds {given.dtype} and not {wanted.dtype}"
    return ""


def listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
