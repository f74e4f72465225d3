"""Each rule of the audit finds the graph that breaks it, and lets the one pass that does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mien.calibration.audit.finding import VERSIONS
from tests.calibration.audit.graphs import PICTURE, found_in, make_model

node = helper.make_node
SCALES = np.array([1, 1, 2, 2], np.float32)
LARGE = (TensorProto.FLOAT, (1, 3, 16, 16))
HALVES = (TensorProto.FLOAT16, (1, 3, 8, 8))
GRID = {"x": PICTURE, "grid": (TensorProto.FLOAT, (1, 8, 8, 2))}
PER_CHANNEL = {"scale": np.ones(3, np.float32), "bias": np.zeros(3, np.float32)}
PER_CHANNEL_HALF = {name: value.astype(np.float16) for name, value in PER_CHANNEL.items()}
KERNEL = np.ones((3, 3, 1, 1), np.float32)


def resize(**settings: object) -> onnx.ModelProto:
    nodes = [node("Resize", ["x", "", "scales"], ["y"], **settings)]
    return make_model(nodes, outputs={"y": LARGE}, constants={"scales": SCALES})


def grid_sample(mode: str, opset: int = 18) -> onnx.ModelProto:
    return make_model(
        [node("GridSample", ["x", "grid"], ["y"], mode=mode)], inputs=GRID, opset=opset
    )


def norm(kind: tuple[int, tuple[int, ...]], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    nodes = [node("InstanceNormalization", ["x", "scale", "bias"], ["y"])]
    return make_model(nodes, inputs={"x": kind}, outputs={"y": kind}, constants=weights)


def quantized(zero_point: np.ndarray) -> onnx.ModelProto:
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    return make_model(nodes, constants={"scale": np.float32(0.1), "zero": zero_point})


def convolved(maker: onnx.NodeProto, **more: object) -> onnx.ModelProto:
    return make_model([maker, node("Conv", ["x", "w"], ["y"])], **more)


def squares_averaged(half: bool) -> onnx.ModelProto:
    kind = HALVES if half else PICTURE
    nodes = [node("Mul", ["x", "x"], ["xx"]), node("ReduceMean", ["xx", "axes"], ["y"])]
    ends = {"inputs": {"x": kind}, "outputs": {"y": (kind[0], (1, 1, 1, 1))}}
    return make_model(nodes, constants={"axes": np.array([1, 2, 3])}, **ends)


def integers(add: bool) -> onnx.ModelProto:
    nodes = [node("ArgMax", ["x"], ["best"], axis=1)]
    nodes.append(node("Add", ["best", "best"], ["y"]) if add else node("Identity", ["best"], ["y"]))
    return make_model(nodes, outputs={"y": (TensorProto.INT64, (1, 1, 8, 8))})


def reshaped(shape: list[int]) -> onnx.ModelProto:
    kind = (TensorProto.FLOAT, shape)
    constants = {"shape": np.array(shape)}
    return make_model(
        [node("Reshape", ["x", "shape"], ["y"])], outputs={"y": kind}, constants=constants
    )


CLEAN = {
    "resize": resize(mode="linear"),
    "grid sample of opset 18": grid_sample("bilinear"),
    "norm in single precision": norm(PICTURE, PER_CHANNEL),
    "symmetric quantization": quantized(np.int8(0)),
    "mean of squares in single precision": squares_averaged(half=False),
    "class of each pixel": integers(add=False),
    "eight sides": reshaped([1, 3, 2, 2, 2, 2, 2, 2]),
    "weights of int8": convolved(
        node("DequantizeLinear", ["q", "scale"], ["w"]),
        constants={"q": KERNEL.astype(np.int8), "scale": np.float32(0.1)},
    ),
    "shape arithmetic of a fixed size": make_model(
        [
            node("Shape", ["x"], ["shape"]),
            node("Mul", ["shape", "one"], ["same"]),
            node("Reshape", ["x", "same"], ["y"]),
        ],
        constants={"one": np.array([1, 1, 1, 1])},
    ),
}

# name: rule, versions, words of the text, the model.
BROKEN = {
    "opset 17": ("opset", (), "opset 17", make_model([node("Relu", ["x"], ["y"])], opset=17)),
    "opset too new for 10.3": (
        "opset",
        ("10.3",),
        "opset 21",
        make_model([node("Relu", ["x"], ["y"])], opset=21),
    ),
    "opset of the future": (
        "form",
        (),
        "opset 999",
        make_model([node("Relu", ["x"], ["y"])], opset=999),
    ),
    "operator not imported": ("operator", VERSIONS, "Det is not", make_model(
        [node("Det", ["x"], ["y"])], outputs={"y": (TensorProto.FLOAT, (1, 3))}
    )),
    "operator imported by 11 only": ("operator", ("10.3",), "HannWindow", make_model(
        [node("HannWindow", ["n"], ["y"])],
        outputs={"y": (TensorProto.FLOAT, (8,))}, constants={"n": np.int64(8)},
    )),
    "operator of another domain": ("form", (), "Mystery", make_model(
        [node("Mystery", ["x"], ["y"], domain="com.example")]
    )),
    "operator of a later opset": ("form", (), "Gelu is no operator of opset 18", make_model(
        [node("Gelu", ["x"], ["y"])]
    )),
    "type not imported": ("type", VERSIONS, "Exp on DOUBLE", make_model(
        [node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE), node("Exp", ["d"], ["e"]),
         node("Cast", ["e"], ["y"], to=TensorProto.FLOAT)],
    )),
    "integer power on 10.3": ("type", ("10.3",), "Pow on INT64", make_model(
        [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Pow", ["i", "i"], ["p"]),
         node("Cast", ["p"], ["y"], to=TensorProto.FLOAT)],
    )),
    "resize cubic": ("restriction", VERSIONS, "'cubic'", resize(mode="cubic")),
    "resize antialias": ("restriction", VERSIONS, "antialias", resize(mode="linear", antialias=1)),
    "resize of a crop": ("restriction", VERSIONS, "tf_crop_and_resize", make_model(
        [node("Resize", ["x", "roi", "scales"], ["y"], mode="linear",
              coordinate_transformation_mode="tf_crop_and_resize")],
        outputs={"y": LARGE}, constants={"scales": SCALES, "roi": np.zeros(8, np.float32)},
    )),
    "grid sample of opset 20": ("grid-sample", VERSIONS, "nearest", grid_sample("linear", 20)),
    "group normalization": ("group-norm", VERSIONS, "Group", make_model(
        [node("GroupNormalization", ["x", "scale", "bias"], ["y"], num_groups=3)],
        constants=PER_CHANNEL,
    )),
    "noise in the graph": ("random", VERSIONS, "seed", make_model(
        [node("RandomNormalLike", ["x"], ["n"]), node("Add", ["x", "n"], ["y"])]
    )),
    "indices of a pool": ("restriction", VERSIONS, "indices", make_model(
        [node("MaxPool", ["x"], ["y", "where"], kernel_shape=[1, 1])],
    )),
    "dilated pool": ("restriction", VERSIONS, "dilations", make_model(
        [node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1], dilations=[2, 2])],
    )),
    "computed axes": ("restriction", VERSIONS, "Unsqueeze: axes must be constant", make_model(
        [node("Unsqueeze", ["x", "axes"], ["wide"]), node("Squeeze", ["wide", "axes"], ["y"])],
        inputs={"x": PICTURE, "axes": (TensorProto.INT64, (1,))},
    )),
    "zero point": ("restriction", VERSIONS, "DequantizeLinear: its", quantized(np.int8(3))),
    "unsigned quantization": ("restriction", VERSIONS, "UINT8", quantized(np.uint8(0))),
    "einsum with an ellipsis": ("restriction", ("10.3",), "10.12", make_model(
        [node("Einsum", ["x", "x"], ["y"], equation="...ij,...jk->...ik")]
    )),
    "many best": ("restriction", VERSIONS, "3840", make_model(
        [node("TopK", ["x", "k"], ["y", "where"])],
        inputs={"x": (TensorProto.FLOAT, (1, 4000))},
        outputs={"y": (TensorProto.FLOAT, (1, 3900))}, constants={"k": np.array([3900])},
    )),
    "outputs of layer norm": ("restriction", VERSIONS, "only Y", make_model(
        [node("LayerNormalization", ["x", "scale"], ["y", "mean"])],
        constants={"scale": np.ones(8, np.float32)},
    )),
    "rows that the data choose": ("shape", VERSIONS, "NonZero", make_model(
        [node("NonZero", ["x"], ["y"])], outputs={"y": (TensorProto.INT64, (4, "n"))},
    )),
    "computed shape": ("shape", VERSIONS, "Reshape: input 1", make_model(
        [node("Reshape", ["x", "shape"], ["y"])],
        inputs={"x": PICTURE, "shape": (TensorProto.INT64, (4,))},
    )),
    "free batch": ("shape", VERSIONS, "'x' has a side", make_model(
        [node("Relu", ["x"], ["y"])],
        inputs={"x": (TensorProto.FLOAT, ("n", 3))}, outputs={"y": (TensorProto.FLOAT, ("n", 3))},
    )),
    "integers": ("integers", VERSIONS, "Add on INT64", integers(add=True)),
    "nine sides": ("rank", VERSIONS, "9 sides", reshaped([1, 1, 3, 2, 2, 2, 2, 2, 2])),
    "huge tensor": ("huge", VERSIONS, "2**31", make_model(
        [node("ConstantOfShape", ["shape"], ["big"]), node("ReduceMax", ["big"], ["top"]),
         node("Add", ["x", "top"], ["y"])],
        constants={"shape": np.array([1 << 20, 1 << 20])},
    )),
    "weights of each run": ("weights", VERSIONS, "every run", convolved(
        node("Mul", ["v", "v"], ["w"]),
        inputs={"x": PICTURE, "v": (TensorProto.FLOAT, KERNEL.shape)},
    )),
    "weights of half precision": ("weights", VERSIONS, "Cast", convolved(
        node("Cast", ["v"], ["w"], to=TensorProto.FLOAT), constants={"v": KERNEL.astype(np.float16)}
    )),
    "weights that are not numbers": ("weights", (), "NaN", make_model(
        [node("Conv", ["x", "w"], ["y"])], constants={"w": KERNEL * np.nan}
    )),
    "norm in half precision": ("precision", VERSIONS, "overflow", norm(HALVES, PER_CHANNEL_HALF)),
    "squares in half precision": ("precision", VERSIONS, "squares", squares_averaged(half=True)),
    "warp in half precision": ("precision", VERSIONS, "GridSample", make_model(
        [node("GridSample", ["x", "grid"], ["y"], mode="bilinear")],
        inputs={"x": HALVES, "grid": (TensorProto.FLOAT16, (1, 8, 8, 2))}, outputs={"y": HALVES},
    )),
    "warp behind a cast": ("precision", VERSIONS, "10.14.1", make_model(
        [node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
         node("GridSample", ["f", "grid"], ["y"], mode="bilinear")],
        inputs=GRID | {"x": HALVES},
    )),
    "loop": ("branch", VERSIONS, "Loop", make_model(
        [node("Loop", ["", "yes", "x"], ["y"], body=helper.make_graph(
            [node("Identity", ["go"], ["on"]), node("Relu", ["a"], ["b"])], "body",
            [helper.make_tensor_value_info("i", TensorProto.INT64, []),
             helper.make_tensor_value_info("go", TensorProto.BOOL, []),
             helper.make_tensor_value_info("a", *PICTURE)],
            [helper.make_tensor_value_info("on", TensorProto.BOOL, []),
             helper.make_tensor_value_info("b", *PICTURE)],
        ))], constants={"yes": np.array(True)},
    )),
    "ring": ("form", (), "not valid ONNX", make_model(
        [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])]
    )),
    "shapes that do not fit": ("types", (), "no types follow", make_model(
        [node("MatMul", ["x", "w"], ["y"])], constants={"w": np.ones((5, 5), np.float32)}
    )),
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_sound_graph_is_let_pass(name: str, tmp_path: Path) -> None:
    assert found_in(CLEAN[name], tmp_path) == ()


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rule_is_found(name: str, tmp_path: Path) -> None:
    rule, versions, words, model = BROKEN[name]
    matching = [
        found
        for found in found_in(model, tmp_path)
        if found.rule == rule and words in found.text and found.versions == versions
    ]
    assert len(matching) == 1, found_in(model, tmp_path)


def test_equal_findings_are_told_once_with_all_nodes(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["d"]), *(
        node("RandomNormalLike", ["d"], [f"n{index}"], name=f"noise {index}") for index in range(9)
    ), node("Sum", [f"n{index}" for index in range(9)], ["y"])]  # fmt: skip
    (found,) = found_in(make_model(nodes), tmp_path)
    assert len(found.nodes) == 9
    assert found.nodes[3] == "noise 3 (RandomNormalLike)"


def test_names_in_a_file_do_not_reach_the_terminal_as_they_are(tmp_path: Path) -> None:
    name = "\x1b[2J\u202e" + "long" * 500
    model = make_model([node("RandomNormalLike", ["x"], ["y"], name=name)])
    (found,) = found_in(model, tmp_path)
    assert found.nodes[0].startswith("\\x1b[2J\\x202e")
    assert len(found.nodes[0]) <= 300
