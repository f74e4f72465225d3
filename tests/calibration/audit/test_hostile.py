"""Files that want memory, time or other files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mien.calibration.audit import guard
from mien.calibration.audit.examine import audit, audit_model
from mien.calibration.audit.finding import Report
from mien.calibration.audit.guard import audit_guarded, onnx_files
from mien.engines.errors import UsageError
from tests.calibration.audit.graphs import PICTURE, make_model

node = helper.make_node


def refusal(path: Path, auditor: Callable[[Path], Report] = audit) -> str:
    """Why a file is refused."""
    report = auditor(path)
    (found,) = report.findings
    assert (report.is_clean, found.rule, report.sha256) == (False, "file", "")
    return found.text


def write(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def with_external(path: Path, location: str) -> Path:
    model = make_model([node("Conv", ["x", "w"], ["y"])])
    weights = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[3, 3, 1, 1])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    return write(path, model)


def test_modules_beside_a_model_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "m.onnx", make_model([node("Relu", ["x"], ["y"])]))
    for name in ("onnx", "json", "mien"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('ran what lay beside the model')")
    monkeypatch.chdir(tmp_path)
    assert audit_guarded(Path("m.onnx")).nodes == 1


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "x\0y", ""])
def test_weights_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    text = refusal(with_external(tmp_path / "m.onnx", location))
    assert ("point outside its folder" in text) == (location != "")


def test_weights_behind_a_link_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(bytes(36))
    (tmp_path / "in" / "w.data").symlink_to(tmp_path / "secret")
    text = refusal(with_external(tmp_path / "in" / "m.onnx", "w.data"))
    assert "point outside its folder, at 'w.data'" in text


def test_weights_in_a_file_beside_it_are_refused_as_a_second_file(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(36))
    text = refusal(with_external(tmp_path / "m.onnx", "w.data"))
    assert "lie in another file, 'w.data'" in text


def test_two_gigabytes_of_zeros_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "zeros.onnx"
    with path.open("wb") as file:
        file.truncate(2 << 30)
    assert "2048 MiB" in refusal(path, audit_guarded)


def test_some_zeros_are_no_graph(tmp_path: Path) -> None:
    path = tmp_path / "zeros.onnx"
    path.write_bytes(bytes(1 << 20))
    assert "not an ONNX file, or truncated" in refusal(path)


def test_million_nodes_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "many.onnx", make_model([node("Relu", ["x"], ["y"])]))
    one = node("Relu", ["x"], ["y"]).SerializeToString()
    nodes = (b"\x0a" + bytes([len(one)]) + one) * 10_000  # field 1 of a graph
    length = bytearray()
    size = len(nodes)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    graph = b"\x3a" + bytes([*length, size]) + nodes  # field 7 of a model
    path.write_bytes(path.read_bytes() + graph * 100)
    assert "more than 10000 nodes" in refusal(path, audit_guarded)


def test_message_that_unfolds_to_gigabytes_ends_in_a_refusal(tmp_path: Path) -> None:
    size = 16 << 20  # of empty nodes, two bytes each, some hundred bytes each once read
    length = bytearray()
    left = size
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    path = tmp_path / "bomb.onnx"
    path.write_bytes(b"\x3a" + bytes([*length, left]) + b"\x0a\x00" * (size // 2))
    text = refusal(path, audit_guarded)
    assert any(words in text for words in ("more memory", "more than 10000", "truncated", "ends"))


def test_tensor_that_says_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    model = make_model([node("Add", ["x", "w"], ["y"])], constants={"w": np.ones(1, np.float32)})
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]
    assert "holds 1 values, expected" in refusal(write(tmp_path / "m.onnx", model))


def test_graphs_within_graphs_are_counted(tmp_path: Path) -> None:
    inner = helper.make_graph([node("Relu", ["x"], ["b"])] * 15_000, "b", [], [
        helper.make_tensor_value_info("b", *PICTURE)
    ])  # fmt: skip
    branch = node("If", ["go"], ["y"], then_branch=inner, else_branch=inner)
    model = make_model([branch], constants={"go": np.array(True)})
    assert "more than 10000 nodes" in refusal(write(tmp_path / "m.onnx", model))


def test_functions_that_call_each_other_are_refused(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    calls = [
        helper.make_function(
            "own", name, ["a"], ["b"], [node(other, ["a"], ["b"], domain="own")], opsets
        )
        for name, other in (("f", "g"), ("g", "f"))
    ]
    model = make_model([node("f", ["x"], ["y"], domain="own")])
    model.functions.extend(calls)
    assert "functions of its own" in refusal(write(tmp_path / "m.onnx", model))


@pytest.mark.parametrize("kept", [0, 1, 40, -7])
def test_truncated_file_is_refused(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = make_model(
        [node("Conv", ["x", "w"], ["y"])], constants={"w": np.ones((3, 3, 1, 1), "f4")}
    )
    path.write_bytes(model.SerializeToString()[:kept])
    assert "truncated" in refusal(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "is not a file" in refusal(tmp_path / "pipe.onnx")


def test_what_takes_too_long_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", make_model([node("Relu", ["x"], ["y"])]))
    (found,) = audit_guarded(path, seconds=0.001).findings
    assert "takes more than 0.001 s" in found.text


def test_reader_that_is_killed_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -6 $$\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    assert "ends its reader: signal 6" in refusal(tmp_path / "m.onnx", audit_guarded)


def test_names_that_are_not_text_are_refused(tmp_path: Path) -> None:
    model = make_model([node("Relu", ["x"], ["y"], name="plain")])
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString().replace(b"plain", b"\xff\xfe\xff\xfe\xff"))
    assert "not text" in refusal(path)


def test_report_comes_back_whole_from_the_other_process(tmp_path: Path) -> None:
    model = make_model([node("RandomNormalLike", ["x"], ["y"])])
    report = audit_guarded(write(tmp_path / "m.onnx", model))
    assert Report.from_json(report.to_json()) == report
    assert {found.rule for found in report.findings} == {"metadata", "random"}
    assert (report.nodes, report.opset, len(report.sha256)) == (1, 18, 64)


def test_missing_package_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(guard, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'onnx>=1.16,<2'"):
        audit_guarded(tmp_path / "m.onnx")


def test_folder_stands_for_its_models(tmp_path: Path) -> None:
    for name in ("b.onnx", "a.onnx", "card.md"):
        (tmp_path / name).touch()
    other = tmp_path / "other.bin"
    assert list(onnx_files([tmp_path, other])) == [tmp_path / "a.onnx", tmp_path / "b.onnx", other]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \.onnx file"):
        list(onnx_files([tmp_path / "empty"]))


def test_what_mien_would_not_load_is_an_error() -> None:
    """On whatever device: it may never end, or take more memory than there is."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["goes"]), node("Identity", ["was"], ["is"])],
        "body",
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, kind, shape in (("i", 7, []), ("go", 9, []), ("was", *PICTURE))
        ],
        [
            helper.make_tensor_value_info("goes", 9, []),
            helper.make_tensor_value_info("is", *PICTURE),
        ],
    )
    loop = make_model(
        [node("Loop", ["", "go", "x"], ["y"], body=body)], constants={"go": np.array(True)}
    )
    texts = [found.text for found in audit_model(loop) if found.severity == "error"]
    assert "mien does not run Loop: it is of no feed-forward network" in texts
    large = make_model(
        [
            node("ConstantOfShape", ["s"], ["c"]),
            node("ReduceMax", ["c"], ["m"], keepdims=0),
            node("Add", ["x", "m"], ["y"]),
        ],
        constants={"s": np.array([5_000_000_000])},
    )
    texts = [found.text for found in audit_model(large) if found.severity == "error"]
    assert "'c' takes 4.7 GB or more" in texts
