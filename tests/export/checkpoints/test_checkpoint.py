"""Files that hold weights, and files that hold something else."""

from __future__ import annotations

import io
import os
import pickle
import random
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mien.engines.errors import ModelError
from mien.export.checkpoints.formats import recognise
from mien.export.checkpoints.reading import read_checkpoint
from tests.export.checkpoints.files import Malicious, saved

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3)}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize(
    "held",
    [
        STATE,
        {f"module.{key}": tensor for key, tensor in STATE.items()},
        {f"_orig_mod.{key}": tensor for key, tensor in STATE.items()},
        {"state_dict": STATE, "epoch": 3, "best": 0.5},
        {"network": {"b": torch.zeros(1)}, "average": STATE, "step": 9},
        {"networks": {"generator.there": {}, "average.there": STATE}, "step": 9},
        {key: tensor.half() for key, tensor in STATE.items()},
    ],
    ids=["flat", "DataParallel", "compiled", "with state_dict", "recipe", "GAN recipe", "half"],
)
def test_weights_are_found_whatever_they_are_wrapped_in(
    held: object, old: bool, tmp_path: Path
) -> None:
    read = read_checkpoint(saved(held, tmp_path / "any.pth", old=old))
    assert read.state.keys() == STATE.keys()
    for key, tensor in STATE.items():
        torch.testing.assert_close(read.state[key], tensor)
    assert len(read.sha256) == 64


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before torch 1.6"])
def test_a_pickle_with_code_is_refused_and_not_run(old: bool, tmp_path: Path) -> None:
    trace = tmp_path / "was_here"
    path = saved({**STATE, "x": Malicious(trace)}, tmp_path / "bad.pth", old=old)
    with pytest.raises(ModelError, match=r"call on posix\.mkdir.*save model\.state_dict\(\)"):
        read_checkpoint(path)
    assert not trace.exists()


def test_a_plain_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trace, path = tmp_path / "was_here", tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(ModelError, match="can run any code"):
        read_checkpoint(path)
    assert not trace.exists()


def test_the_trap_of_these_tests_closes_on_an_unwary_reader(tmp_path: Path) -> None:
    trace = tmp_path / "was_here"
    pickle.loads(pickle.dumps(Malicious(trace)))
    assert trace.exists()


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (torch.nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear"),
        ([1, 2], "holds a list, expected the state dict"),
        ({"epoch": 3}, "holds no weights mien can find .it has 'epoch'"),
        ({"a": torch.tensor([float("nan")])}, "a holds NaN or infinity"),
        ({"a": torch.eye(3).to_sparse()}, "sparse or quantised"),
    ],
    ids=["whole module", "list", "no weights", "NaN", "sparse"],
)
def test_what_is_no_state_dict_is_refused(held: object, told: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=told):
        read_checkpoint(saved(held, tmp_path / "odd.pth"))


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, old: bool, tmp_path: Path) -> None:
    path = saved(STATE, tmp_path / "cut.pth", old=old)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match="cut off or damaged"):
        read_checkpoint(path)


def test_a_file_with_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    path = saved(STATE, tmp_path / "flipped.pth")
    content = bytearray(path.read_bytes())
    start = content.index(b"collections")
    content[start : start + 11] = b"\xff" * 11
    path.write_bytes(content)
    with pytest.raises(ModelError, match="flipped"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "no PyTorch checkpoint"),
        (b"PK\x03\x04" + bytes(100), "cut off or damaged"),
        (b"\x80\x04N.", "a pickle that torch.save did not write"),
    ],
    ids=["empty", "page", "half a zip", "pickle"],
)
def test_what_is_no_checkpoint_is_refused(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=told) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder, expected a checkpoint file"):
        read_checkpoint(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_may_never_end_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(ModelError, match="is no regular file"):
        read_checkpoint(tmp_path / "pipe.pth")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read the checkpoint"):
        read_checkpoint(tmp_path / "none.pth")


def packed(content: bytes) -> list[tuple[str, bytes]]:
    """The files in an archive of torch.save."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def repacked(files: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return target.getvalue()


def with_pickle(pickled: bytes) -> bytes:
    """An archive of torch.save whose description of the weights is another."""
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    files = packed(buffer.getvalue())
    return repacked([(n, pickled if n.endswith("data.pkl") else data) for n, data in files])


def expanded() -> object:
    """Two billion numbers in two bytes."""
    return {"a.weight": torch.zeros(1, dtype=torch.float16).expand(40_000, 50_000)}


def compressed() -> bytes:
    files = [("a/data.pkl", b""), ("a/version", b"3"), ("a/data/0", bytes((1 << 30) + 1))]
    return repacked(files, zipfile.ZIP_DEFLATED)


def newer_zip() -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    content = bytearray(buffer.getvalue())
    content[content.rindex(b"PK\x01\x02") + 6] = 255
    return bytes(content)


def call_of(function: bytes, argument: bytes) -> bytes:
    return b"\x80\x02c" + function + b"\n" + argument + b"\x85R."


HOSTILE: dict[str, tuple[Callable[[], object], str]] = {
    "expanded": (expanded, r"takes about 7\.5 GB of memory.*--max-memory 8G"),
    "no values": (lambda: {"a": torch.ones(3, device="meta")}, "a shape and no values"),
    "compressed": (compressed, r"unpacking .* takes about 1\.0 GB.*--max-memory 2G"),
    "a zip of the future": (newer_zip, "cut off or damaged .zip file version"),
    "a million objects": (lambda: with_pickle(b"\x80\x02(" + b"}" * (3 << 20)), "more than 2 MiB"),
    "a million in the old form": (
        lambda: pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"\x80\x02(" + b"}" * (3 << 20),
        "more than 2 MiB",
    ),
    "ten gigabytes of zeros": (
        lambda: with_pickle(call_of(b"builtins\nbytearray", b"\x8a\x05\0\xe4\x0b\x54\x02")),
        "takes more memory than the limit|holds a bytearray",
    ),
    "a name of 2 GB in the old form": (
        lambda: pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"\x80\x02T\xff\xff\xff\x7f",
        "takes more memory than the limit|cut off or damaged",
    ),
    "tuples in tuples": (
        lambda: with_pickle(b"\x80\x02}" + b"N" + b"\x85" * 100_000 + b"Ns."),
        "holds no weights mien can find",
    ),
    "a key of 5,000 digits": (
        lambda: with_pickle(b"\x80\x02}" + b"\x8a\xff" + b"\x7f" * 255 + b"Ns."),
        "holds no weights mien can find .it has nothing",
    ),
    "a side of a billion billions": (
        lambda: {"a": torch.ones(0, 1).expand(0, 1 << 60)},
        "has the shape",
    ),
    "complex": (lambda: {"a": torch.ones(1, dtype=torch.complex64)}, "complex numbers"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_one_line_and_takes_no_memory(name: str, tmp_path: Path) -> None:
    make, told = HOSTILE[name]
    held, path = make(), tmp_path / "hostile.pt"
    if isinstance(held, bytes):
        path.write_bytes(held)
    else:
        torch.save(held, path)
    del held
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(ModelError, match=told) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert resource.getrlimit(resource.RLIMIT_AS) == limits
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_limit_can_be_lifted_and_lowered(tmp_path: Path) -> None:
    path = saved({"a": torch.zeros(1).expand(1000, 1000)}, tmp_path / "a.pt")
    assert read_checkpoint(path).state["a"].shape == (1000, 1000)
    with pytest.raises(ModelError, match="takes about 4 MB of memory, more than the limit of 2 MB"):
        read_checkpoint(path, limit=2 << 20)
    with pytest.raises(ModelError, match=r"reading .*a\.pt takes about"):
        read_checkpoint(path, limit=100)


def test_what_torch_says_to_everyone_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "odd.pt"
    path.write_bytes(with_pickle(b"\x80\x02l."))
    with pytest.raises(ModelError, match=r"damaged .Unsupported operand 108"):
        read_checkpoint(path)


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """A file with a few bytes changed, cut out, put in or cut off."""
    content = bytearray(whole)
    place, kind = chance.randrange(len(content)), chance.randrange(5)
    if kind == 0:
        return bytes(content[:place])
    if kind == 1:
        del content[place : place + chance.randrange(1, 100)]
    elif kind == 2:
        content[place:place] = chance.randbytes(8)
    elif kind == 3:  # a number of the directory at the end, or of the description
        content[-1 - place % 600] = chance.randrange(256)
    else:
        for _ in range(5):
            content[chance.randrange(min(len(content), 3000))] = chance.randrange(256)
    return bytes(content)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before torch 1.6"])
def test_damaged_files_are_model_errors_and_nothing_else(old: bool, tmp_path: Path) -> None:
    whole = saved(STATE, tmp_path / "whole.pt", old=old).read_bytes()
    path, chance, refused = tmp_path / "damaged.pt", random.Random(1), 0
    for _ in range(120):
        path.write_bytes(damaged(whole, chance))
        try:
            recognise(read_checkpoint(path))
        except ModelError as error:
            assert "\n" not in str(error)  # noqa: PT017 -- some are whole after all
            refused += 1
    assert refused == 120  # no network has these names


def test_name_that_no_system_has_is_a_model_error() -> None:
    for name in ("a\0b", "a" * 5_000):
        with pytest.raises(ModelError):
            read_checkpoint(Path(name))


def test_device_is_refused_unread() -> None:
    with pytest.raises(ModelError, match="is no regular file"):
        read_checkpoint(Path(os.devnull))
