"""A checkpoint file read without running anything in it."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import pickletools
import re
import stat
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch

from mien.engines.errors import ModelError, is_out_of_memory
from mien.engines.system.limits import MAX_MEMORY, check_memory, memory_text
from mien.export.checkpoints.archives import WALK, is_torchscript, read_torchscript, read_walk
from mien.export.checkpoints.inert import Inert, inert_class
from mien.export.checkpoints.nvidia import read_nvidia
from mien.export.models.trunks import Shapes

State = dict[str, torch.Tensor]

ZIP_MAGIC = b"PK"
PICKLE_MAGIC = b"\x80"
# How torch.save began its files before 1.6: a pickle of one long number.
OLD_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
OLD_PICKLES: Final = 5  # the magic number, a version, the machine, what is held, names of storages
# A tensor takes some 200 bytes of it; a byte may become an object of 200, and takes microseconds.
MAX_PICKLE_BYTES: Final = 2 << 20
BLOCK: Final = 1 << 20
SHOWN: Final = 60  # characters of a name in a message
MAX_SIDE: Final = 1 << 31  # of a tensor; one without elements may state any
OWN_MEMORY: Final = 512 << 20  # that torch itself reserves: threads, and arenas of the allocator
REFUSED = re.compile(r"(?:GLOBAL|class|type) (\w+(?:\.\w+)+)")
UNPICKLER = "WeightsUnpickler error: "
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel, and of torch.compile
# Where the weights lie in a file that holds more than weights, best first: mien's own recipes
# keep an average of the weights beside those that they train.
INSIDE = ("average", "averaged", "state_dict", "model_state_dict", "model", "net", "params_ema")
OWN_GENERATORS = ("average.generator", "average.there")
# Tensors that public files keep beside a state dict, and that belong to it.
BESIDE = ("latent_avg",)
# What files of public code also hold, beside weights: settings and losses. These are the names of
# classes and functions that stand for nothing here but themselves.
SETTINGS = (
    "argparse.Namespace",
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    "numpy.dtype",
)
# Where the settings of a training lie, and the longest text of one that is kept.
OPTIONS, MOST_TEXT = ("opts", "args"), 200
CONTAINER = "container"  # the fact that says what kind of file it was
WHAT_TO_DO = (
    "if you trust where it comes from, open it with the code that wrote it and save "
    "model.state_dict() instead"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights in a file.

    state: the tensors by name, float32, without the prefixes that wrappers put before names.
    sha256: of the file. facts: settings that the file holds beside them, as texts.
    """

    path: Path
    sha256: str
    state: State
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> Shapes:
        """The shape of each tensor."""
        return shapes_of(self.state)


def shapes_of(state: Mapping[str, torch.Tensor]) -> Shapes:
    """The shape of each tensor."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def read_checkpoint(path: Path, *, limit: int = MAX_MEMORY) -> Checkpoint:
    """The weights in a file. Raises ModelError, also for files that could run code.

    limit: the most memory that reading it may take, in bytes.
    """
    try:
        with _opened(path, limit) as file, bounded_memory(limit):
            return _read(file, path, limit)
    except ModelError:
        raise
    except pickle.UnpicklingError as error:
        raise ModelError(_refusal(path, str(error))) from error
    except Exception as error:  # of torch, pickle and zipfile, which name no common base
        if is_out_of_memory(error):
            raise ModelError(
                f"{path} takes more memory than the limit of {memory_text(limit)}; if you trust "
                "the file, raise it with --max-memory"
            ) from error
        raise ModelError(_damage(path, str(error))) from error


def _opened(path: Path, limit: int) -> BinaryIO:
    """A file of bounded size, opened once: what is hashed is what is read. Raises ModelError."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ModelError(
                f"{path} is a folder, expected a checkpoint file; give a file in it, "
                "such as 200000-G.ckpt or latest_net_G_A.pth"
            )
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
            raise ModelError(f"{path} is no regular file, expected a checkpoint; copy it to one")
        if found.st_size == 0:
            raise ModelError(f"{path} is empty (0 bytes); download or copy it again")
        check_memory(found.st_size, f"reading {path}", limit=limit, error=ModelError)
        return path.open("rb")
    except ValueError as error:  # a NUL in the name
        raise ModelError(f"{str(path)!r} is no name of a file; give a checkpoint") from error
    except OSError as error:
        raise ModelError(f"cannot read the checkpoint {path}: {error.strerror}") from error


@contextmanager
def bounded_memory(limit: int) -> Iterator[None]:
    """More memory than a limit becomes an error meanwhile, on Linux.

    What a pickle of some megabytes can make of itself, nobody can tell beforehand.
    """
    if sys.platform != "linux":
        yield
        return
    import resource  # noqa: PLC0415 -- not on Windows

    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = held * resource.getpagesize() + limit + OWN_MEMORY
    least = min((bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY), default=most)
    resource.setrlimit(resource.RLIMIT_AS, (min(most, least), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _read(file: BinaryIO, path: Path, limit: int) -> Checkpoint:
    """The weights in an open file. Raises ModelError, and whatever torch, pickle and zipfile do."""
    _check_kind(file, path)
    file.seek(0)
    if file.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
        _check_archive(file, path, limit)
    elif _starts_as_torch(file):
        _check_pickles(file, path)
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(BLOCK):
        digest.update(block)
    file.seek(0)
    state, facts = _held(file, path, limit)
    state = _without_prefixes(state)
    _check_state(path, state, limit)
    return Checkpoint(path, digest.hexdigest(), _as_float(path, state), facts)


def _held(file: BinaryIO, path: Path, limit: int) -> tuple[State, dict[str, str]]:
    """The weights in an open file, and the settings beside them."""
    if not _starts_as_torch(file):
        return _read_pickle(file, path, limit)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            is_program = is_torchscript(archive)
        if is_program:
            return read_torchscript(file, path, limit), {CONTAINER: "torchscript"}
    file.seek(0)
    stands: list[Any] = [(inert_class(name), name) for name in SETTINGS]
    with warnings.catch_warnings(), torch.serialization.safe_globals(stands):
        warnings.simplefilter("ignore")  # of old files, for whoever wrote them
        try:
            held = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            refused = REFUSED.search(str(error))
            if refused is None or not WALK.fullmatch(refused.group(1)):
                raise
            return read_walk(file, path, limit), {CONTAINER: "latent2im"}
    return _weights(path, held), _settings(held)


def _read_pickle(file: BinaryIO, path: Path, limit: int) -> tuple[State, dict[str, str]]:
    """The weights in a pickle that torch.save did not write."""
    try:
        return read_nvidia(file, path, limit)
    except pickle.UnpicklingError as error:
        refused = REFUSED.search(str(error))
        if refused is None:
            raise
        raise ModelError(
            f"{path} is a pickle that torch.save did not write, and a pickle can run any code "
            f"when it is loaded, here {refused.group(1)}; {WHAT_TO_DO}"
        ) from error


def _starts_as_torch(file: BinaryIO) -> bool:
    file.seek(0)
    head = file.read(len(OLD_MAGIC))
    file.seek(0)
    return head.startswith(ZIP_MAGIC) or OLD_MAGIC.startswith(head)


def _settings(held: object) -> dict[str, str]:
    """The settings that a file holds beside its weights, numbers and texts only."""
    if not isinstance(held, Mapping):
        return {}
    facts: dict[str, str] = {}
    for where in OPTIONS:
        options = held.get(where)
        given = options.attributes if isinstance(options, Inert) else options
        for key, value in given.items() if isinstance(given, Mapping) else ():
            if isinstance(key, str) and isinstance(value, (str, int, float, bool)):
                facts[key[:SHOWN]] = str(value)[:MOST_TEXT]
    return facts


def _check_kind(file: BinaryIO, path: Path) -> None:
    """Check that a file begins as torch.save begins one."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(len(OLD_MAGIC))
    if head.startswith(ZIP_MAGIC) and not zipfile.is_zipfile(file):
        raise ModelError(
            f"{path} is cut off or damaged: it begins as a checkpoint and has no end "
            f"({size} bytes); download or copy it again"
        )
    if not head.startswith((ZIP_MAGIC, PICKLE_MAGIC)):
        raise ModelError(
            f"{path} is no PyTorch checkpoint: expected a file that torch.save wrote; "
            "give the .ckpt, .pth or .pt file"
        )


def _check_archive(file: BinaryIO, path: Path, limit: int) -> None:
    """Check what the files in an archive are, and how large they become."""
    with zipfile.ZipFile(file) as archive:
        files = archive.infolist()
    whole = sum(one.file_size for one in files)
    check_memory(whole, f"unpacking {path}", limit=limit, error=ModelError)
    pickles = [one.file_size for one in files if one.filename.endswith(".pkl")]
    if max(pickles, default=0) > MAX_PICKLE_BYTES:
        raise ModelError(_too_long(path))


def _check_pickles(file: BinaryIO, path: Path) -> None:
    """Check that the pickles at the beginning of an old file are of a sane length."""
    file.seek(0)
    for _ in range(OLD_PICKLES):
        for _operation, _argument, _position in pickletools.genops(file):
            if file.tell() > MAX_PICKLE_BYTES:
                raise ModelError(_too_long(path))


def _too_long(path: Path) -> str:
    return (
        f"{path} describes its weights in more than {MAX_PICKLE_BYTES >> 20} MiB; no network has "
        f"so many; {WHAT_TO_DO}"
    )


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
    own = reason.rpartition(UNPICKLER)[2]  # behind what torch says to everyone
    words = " ".join(own.split())[:100] or "it ends too early"
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
            beside = {key: held[key] for key in BESIDE if isinstance(held.get(key), torch.Tensor)}
            return beside | _tensors(inside)
    tensors, nested = _tensors(held), _nested(held)
    if len(tensors) < len(nested):  # such as a StyleGAN2's latent_avg beside its networks
        tensors = nested | tensors
    if not tensors:
        names = [repr(key[:SHOWN]) for key in held if isinstance(key, str)]
        found = ", ".join(names[:5]) or "nothing"
        raise ModelError(
            f"{path} holds no weights mien can find (it has {found}); save model.state_dict()"
        )
    return tensors


def _tensors(held: Mapping[Any, object]) -> State:
    return {
        key: value
        for key, value in held.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }


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


def _check_state(path: Path, state: State, limit: int) -> None:
    """Check that tensors hold plain values, and how much memory these take, before any is read."""
    for key, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
            raise ModelError(
                f"{path}: {key} is sparse or quantised, expected plain weights; save the network "
                "before it is converted"
            )
        if tensor.device.type != "cpu":
            raise ModelError(
                f"{path}: {key} has a shape and no values (device {tensor.device.type}); save the "
                "network where it was trained"
            )
        if any(side >= MAX_SIDE for side in tensor.shape):
            raise ModelError(
                f"{path}: {key} has the shape {tuple(tensor.shape)}, as no weights have"
            )
        if tensor.is_complex():
            raise ModelError(f"{path}: {key} holds complex numbers, expected real ones")
    # A tensor may repeat what its file holds once: a few bytes stand for any number of values.
    needed = sum(tensor.numel() * max(4, tensor.element_size()) for tensor in state.values())
    check_memory(needed, f"holding the weights of {path}", limit=limit, error=ModelError)


def _as_float(path: Path, state: State) -> State:
    result = {}
    for key, tensor in state.items():
        dense = tensor.detach()
        if dense.is_floating_point():
            dense = dense.float()
            if dense.numel() and not all(map(math.isfinite, torch.aminmax(dense))):
                raise ModelError(
                    f"{path}: {key} holds NaN or infinity: the training diverged; "
                    "take an earlier checkpoint"
                )
        result[key] = dense
    return result
