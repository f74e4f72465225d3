"""Files that hold weights, and files that hold something else."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch

from mien.engines.errors import ModelError
from mien.export.checkpoint import read_checkpoint
from tests.export.checkpoints import Malicious, saved

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
        ({"state_dict": STATE, "args": argparse.Namespace(lr=1)}, r"argparse\.Namespace"),
        ([1, 2], "holds a list, expected the state dict"),
        ({"epoch": 3}, "holds no weights mien can find .it has 'epoch'"),
        ({"a": torch.tensor([float("nan")])}, "a holds NaN or infinity"),
        ({"a": torch.eye(3).to_sparse()}, "sparse or quantised"),
    ],
    ids=["whole module", "Namespace", "list", "no weights", "NaN", "sparse"],
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


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    with pytest.raises(ModelError, match="a TorchScript archive, that is a program"):
        read_checkpoint(path)
