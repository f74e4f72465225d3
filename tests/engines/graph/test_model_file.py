"""Models from anywhere: what is refused before ONNX Runtime or TensorRT sees a byte."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mien.engines import WARP, Catalog, ModelError, OnnxRuntimeEngine
from mien.engines.graph.file import read_model
from mien.engines.graph.guard import MAX_BYTES, MAX_FIELDS, MAX_NODES, check_graph
from mien.engines.graph.wire import bytes_field
from mien.engines.tensorrt.engine import PlanModel
from tests.engines.tiny import TINY, write_tiny

NAME = Path("tiny.onnx")


def tiny(folder: Path) -> ModelProto:
    write_tiny(folder / NAME)
    return onnx.load(str(folder / NAME))


def complaint(model: bytes) -> str:
    try:
        check_graph(model, NAME)
    except ModelError as error:
        return str(error)
    return ""


def outside() -> TensorProto:
    """Weights that lie in a file which nobody has hashed."""
    weights = numpy_helper.from_array(np.zeros(400, np.float32), "w")
    weights.data_location = TensorProto.EXTERNAL
    weights.ClearField("raw_data")
    weights.external_data.add(key="location", value="/etc/passwd")
    return weights


def as_initializer(model: ModelProto) -> None:
    model.graph.initializer.append(outside())


def as_constant(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["w"], value=outside()))


def as_one_of_several(model: ModelProto) -> None:
    node = model.graph.node.add(op_type="Constant", output=["w"])
    node.attribute.add(name="values", type=onnx.AttributeProto.TENSORS).tensors.append(outside())


def as_sparse_initializer(model: ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(outside())


def within_a_branch(model: ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [outside()])
    middle = helper.make_graph([helper.make_node("If", ["c"], [], then_branch=inner)], "m", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["w"], then_branch=middle))


def within_a_function(model: ModelProto) -> None:
    constant = helper.make_node("Constant", [], ["w"], value=outside())
    opset = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "F", [], ["w"], [constant], opset))


def within_a_function_s_default(model: ModelProto) -> None:
    function = model.functions.add(domain="own", name="F")
    function.attribute_proto.add(name="w", type=onnx.AttributeProto.TENSOR).t.CopyFrom(outside())


def within_training(model: ModelProto) -> None:
    model.training_info.add().initialization.initializer.append(outside())


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (as_initializer, "keeps weights in other files"),
        (as_constant, "keeps weights in other files"),
        (as_one_of_several, "keeps weights in other files"),
        (within_training, "keeps weights in other files"),
        (as_sparse_initializer, "has sparse weights"),
        (within_a_branch, "has the operator 'If'"),
        (within_a_function, "has functions of its own"),
        (within_a_function_s_default, "has functions of its own"),
    ],
)
def test_weights_in_other_files_are_refused_wherever_they_hang(
    put: Callable[[ModelProto], None], reason: str, tmp_path: Path
) -> None:
    model = tiny(tmp_path)
    assert complaint(model.SerializeToString()) == ""
    put(model)
    assert f"tiny.onnx {reason}" in complaint(model.SerializeToString())


def branches() -> NodeProto:
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "branch", [], [])
    return helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch)


def renamed() -> NodeProto:
    node = branches()
    node.op_type = "Identity"
    return node


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (helper.make_node("Loop", ["", "", "x"], ["w"]), "has the operator 'Loop'"),
        (helper.make_node("Scan", ["x"], ["w"]), "has the operator 'Scan'"),
        (helper.make_node("SequenceConstruct", ["x"], ["w"]), "the operator 'SequenceConstruct'"),
        (helper.make_node("Lo\x1b[2Jop", ["x"], ["w"]), r"has the operator 'Lo\\x1b"),
        (helper.make_node("Relu", ["x"], ["w"], domain="com.microsoft"), "'com.microsoft', not of"),
        (branches(), "has the operator 'If'"),
        (renamed(), "runs other graphs within a node"),
    ],
)
def test_graph_with_an_operator_of_no_feed_forward_network_is_refused(
    node: NodeProto, reason: str, tmp_path: Path
) -> None:
    model = tiny(tmp_path)
    model.graph.node.append(node)
    assert re.search(reason, complaint(model.SerializeToString()))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dims": [1 << 40], "raw_data": b"\0" * 4}, "holds 1 values"),
        ({"dims": [1 << 32, 1 << 32], "raw_data": b""}, "holds 0 values"),
        ({"dims": [3], "raw_data": b"\0" * 11}, "holds 2 values"),
        ({"dims": [2], "float_data": [1.0]}, "holds 1 values"),
        ({"dims": [1], "float_data": [1.0, 1.0]}, "holds 2 values"),
        ({"dims": [2], "data_type": 7, "int64_data": [1 << 60]}, "holds 1 values"),
        ({"dims": [2], "data_type": 10, "int32_data": [70_000]}, "holds 1 values"),
        ({"dims": [-1], "raw_data": b""}, "a side below 0"),
        ({"dims": [1] * 1000, "raw_data": b"\0" * 4}, "a tensor with"),
        ({"dims": [1], "data_type": 8, "string_data": [b"a"]}, "elements of type 8"),
        ({"dims": [1], "data_type": 0, "raw_data": b"\0"}, "elements of type 0"),
    ],
)
def test_tensor_that_states_more_than_it_holds_is_refused(
    fields: dict[str, object], reason: str, tmp_path: Path
) -> None:
    model = tiny(tmp_path)
    model.graph.initializer.append(TensorProto(**{"name": "w", "data_type": 1, **fields}))
    assert reason in complaint(model.SerializeToString())


def test_tensor_of_any_type_that_holds_what_it_states_is_taken(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    for kind in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13):
        values = np.arange(6).reshape(2, 3)
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        plain = helper.make_tensor(f"plain{kind}", kind, (2, 3), values.astype(dtype).ravel())
        raw = numpy_helper.from_array(values.astype(dtype), f"raw{kind}")
        model.graph.initializer.extend([plain, raw])
    assert complaint(model.SerializeToString()) == ""


def test_sides_that_only_one_reader_would_see_hide_nothing(tmp_path: Path) -> None:
    """protobuf takes no number of fixed size for a side: here it would be one of length 0."""
    tensor = TensorProto(name="w", data_type=1, dims=[1 << 40]).SerializeToString()
    fixed = b"\x0d\0\0\0\0"  # field 1, four bytes
    hidden = tiny(tmp_path).SerializeToString() + bytes_field(7, bytes_field(5, tensor + fixed))
    assert "is no ONNX file" in complaint(hidden)


def test_graph_in_two_parts_that_protobuf_would_merge_is_refused(tmp_path: Path) -> None:
    whole = tiny(tmp_path)
    assert "stands twice" in complaint(whole.SerializeToString() + bytes_field(7, b""))


def wide_shape(model: ModelProto) -> None:
    sides = bytes_field(2, b"\x0a\x00" * 5_000_000)  # two bytes each, and some sixty once read
    model.graph.value_info.add().MergeFromString(bytes_field(2, bytes_field(1, sides)))


def long_text(model: ModelProto) -> None:
    model.metadata_props.add(key="mien.labels", value="a," * 50_000)


@pytest.mark.parametrize("put", [wide_shape, long_text])
def test_what_unfolds_to_many_times_its_size_is_refused(
    put: Callable[[ModelProto], None], tmp_path: Path
) -> None:
    model = tiny(tmp_path)
    put(model)
    assert "states more than" in complaint(model.SerializeToString())


def test_numbers_that_unfold_to_many_times_their_size_are_refused(tmp_path: Path) -> None:
    numbers = bytes_field(8, bytes(9_000_000))  # packed: one byte each, and eight once read
    node = bytes_field(1, bytes_field(5, numbers))
    graph = tiny(tmp_path).graph.SerializeToString() + node
    assert "states more than 8 MiB" in complaint(bytes_field(7, graph))


def test_weights_in_other_files_reach_no_backend(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    as_constant(model)
    (tmp_path / NAME).write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="keeps weights in other files"):
        OnnxRuntimeEngine(tmp_path / NAME, TINY)
    with pytest.raises(ModelError, match="keeps weights in other files"):
        PlanModel.read(tmp_path / NAME, TINY)


def test_field_that_only_protobuf_would_read_hides_nothing(tmp_path: Path) -> None:
    """protobuf takes the lower 32 bits of a tag: this one would be the graph, field 7."""
    graph = tiny(tmp_path).graph.SerializeToString()
    tag = bytes([0x3A | 0x80, 0x80, 0x80, 0x80, 0x10])
    assert len(graph) < 1 << 14
    hidden = tag + bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7]) + graph
    assert "is no ONNX file: a field has the number" in complaint(hidden)


def test_million_nodes_are_refused_while_they_are_counted(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    one = helper.make_node("Identity", ["x"], ["y"])
    model.graph.node.extend([one] * (MAX_NODES - len(model.graph.node)))
    assert complaint(model.SerializeToString()) == ""
    model.graph.node.append(one)
    assert f"more than {MAX_NODES:,} nodes" in complaint(model.SerializeToString())


def test_million_parts_are_refused_while_they_are_counted() -> None:
    assert "no network of mien has" in complaint(b"\x08\x01" * (MAX_FIELDS + 1))


def test_messages_in_messages_a_thousandfold_are_walked_without_recursion() -> None:
    message = b""
    for _ in range(10_000):
        message = bytes_field(20, bytes_field(1, message))  # a graph of what trains a model
    assert "is no ONNX file" not in complaint(message)
    for _ in range(1_000):
        for number in (6, 5, 1):  # the graph of an attribute of a node of a graph
            message = bytes_field(number, message)
    assert "runs other graphs within a node" in complaint(bytes_field(7, message))


def test_two_gigabytes_that_are_only_announced_are_refused_at_once() -> None:
    assert "it ends within a field" in complaint(b"\x3a\xff\xff\xff\xff\x07")


def test_two_gigabytes_of_zeros_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "zeros.onnx"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(ModelError, match=r"zeros\.onnx has 1907 MiB; mien reads up to 512"):
        read_model(path)
    assert MAX_BYTES == 512 << 20


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of POSIX")
def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match=r"pipe\.onnx: it is not a file"):
        read_model(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match="it is not a file"):
        read_model(tmp_path)


def test_name_that_no_system_has_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="is no name of a file"):
        read_model(Path("a\0b"))


def test_damaged_models_are_model_errors_and_nothing_else(tmp_path: Path) -> None:
    whole = tiny(tmp_path).SerializeToString()
    chance = random.Random(0)
    damaged = [whole[:size] for size in range(len(whole))]
    for _ in range(500):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(changed))
    damaged += [chance.randbytes(size) for size in range(200)]
    messages = [message for model in damaged if (message := complaint(model))]
    assert len(messages) > len(damaged) // 2
    assert not [message for message in messages if "\n" in message]


def test_what_onnx_runtime_refuses_is_said_in_one_line(tmp_path: Path) -> None:
    """A loop, and an opset and a file format of the future."""
    path = Catalog.bundled().entry(WARP).path
    loop, opset, form = (onnx.load(str(path)) for _ in range(3))
    convolutions = [node for node in loop.graph.node if node.op_type == "Conv"]
    convolutions[0].input[0] = convolutions[-1].output[0]
    opset.opset_import[0].version = 99
    form.ir_version = 99
    for model, reason in ((loop, "acyclic"), (opset, "[Oo]pset"), (form, "IR version: 99")):
        (tmp_path / "warp.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match=rf"cannot load the model .*{reason}") as error:
            OnnxRuntimeEngine(tmp_path / "warp.onnx", WARP)
        assert "\n" not in str(error.value)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="such files are of Linux")
def test_file_that_holds_more_than_it_says_is_refused() -> None:
    with pytest.raises(ModelError, match="changed while it was read"):
        read_model(Path("/proc/self/stat"))
