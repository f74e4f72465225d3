"""NVIDIA's pickles, TorchScript archives and whole modules: read, and what in them is refused."""

from __future__ import annotations

import argparse
import io
import pickle
import re
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mien.engines.errors import ModelError
from mien.export.checkpoints.formats import recognise
from mien.export.checkpoints.reading import read_checkpoint
from mien.export.checkpoints.stylegan2 import generator_of, mapping_of, synthesis_of
from mien.export.options import Options
from tests.export.checkpoints.files import Malicious, saved
from tests.export.public_latents import clip_state, slow_clip_text
from tests.export.public_stylegan2 import public_state, slow_images, slow_mapping

CHANNELS, STYLE = [12, 10, 8], 24
State = dict[str, torch.Tensor]


class Persistent:
    """An object that pickles as NVIDIA's do: with source of its own, which a reader would run."""

    def __init__(self, source: str, state: dict[str, object]) -> None:
        self.meta = {
            "type": "class", "version": 6, "module_src": source, "class_name": "Generator",
            "state": state,
        }  # fmt: skip

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


@pytest.fixture
def nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the modules by whose names such objects pickle."""
    package, module = types.ModuleType("torch_utils"), types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta: object) -> object:
        raise AssertionError("a reader called it")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_utils", package)
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)


def module_of(tensors: State, modules: dict[str, object], source: str, **more: object) -> object:
    parameters = OrderedDict((key, nn.Parameter(tensor)) for key, tensor in tensors.items())
    state: dict[str, object] = {
        "training": False, "_parameters": parameters, "_buffers": OrderedDict(),
        "_modules": OrderedDict(modules), "_non_persistent_buffers_set": set(), **more,
    }  # fmt: skip
    return Persistent(source, state)


def ada_generator(state: State, average: torch.Tensor, source: str = "", **kwargs: float) -> object:
    """A generator as NVIDIA's code would pickle it, of weights by rosinality's names."""

    def affine(name: str) -> object:
        keys = ("weight", "bias")
        return module_of({k: state[f"{name}.modulation.{k}"] for k in keys}, {}, source)

    def layer(name: str, k: int) -> object:
        own = {"weight": state[f"{name}.conv.weight"][0], "bias": state[f"{name}.activate.bias"]}
        own |= {"noise_strength": state[f"{name}.noise.weight"][0]}
        own |= {"noise_const": state[f"noises.noise_{k}"][0, 0]}
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        own |= {"resample_filter": torch.outer(taps, taps)}
        return module_of(own, {"affine": affine(f"{name}.conv")}, source)

    def picture(name: str) -> object:
        own = {"weight": state[f"{name}.conv.weight"][0], "bias": state[f"{name}.bias"].flatten()}
        return module_of(own, {"affine": affine(f"{name}.conv")}, source)

    blocks: dict[str, object] = {
        "b4": module_of(
            {"const": state["input.input"][0]},
            {"conv1": layer("conv1", 0), "torgb": picture("to_rgb1")},
            source,
        )
    }
    for level in range(len(CHANNELS) - 1):
        inner = {
            "conv0": layer(f"convs.{2 * level}", 2 * level + 1),
            "conv1": layer(f"convs.{2 * level + 1}", 2 * level + 2),
            "torgb": picture(f"to_rgbs.{level}"),
        }
        blocks[f"b{8 << level}"] = module_of({}, inner, source)
    dense = {
        f"fc{i}": module_of(
            {k: state[f"style.{i + 1}.{k}"] for k in ("weight", "bias")}, {}, source
        )
        for i in range(2)
    }
    parts = {
        "synthesis": module_of({}, blocks, source),
        "mapping": module_of({"w_avg": average}, dense, source),
    }
    return module_of({}, parts, source, _init_kwargs={"synthesis_kwargs": kwargs})


def pickled(held: object, path: Path) -> Path:
    path.write_bytes(pickle.dumps(held))
    return path


@pytest.mark.usefixtures("nvidia")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_an_nvidia_pickle_is_read_and_its_source_is_not_run(protocol: int, tmp_path: Path) -> None:
    trace = tmp_path / "was_here"
    source = f"import os; os.mkdir({str(trace)!r})"
    state, average = public_state(CHANNELS, style=STYLE, layers=2), torch.randn(STYLE)
    generator = ada_generator(state, average, source, conv_clamp=256.0)
    path = tmp_path / "network-snapshot-000000.pkl"
    path.write_bytes(
        pickle.dumps({"G": None, "G_ema": generator, "augment_pipe": None}, protocol=protocol)
    )
    checkpoint = read_checkpoint(path)
    assert not trace.exists()
    assert checkpoint.facts == {"container": "nvidia-ada", "conv_clamp": "256.0"}
    read = generator_of(checkpoint, "it")
    synthesis, noise = synthesis_of(read)
    mapping, said = mapping_of(read)
    assert (noise, said, synthesis.spec.clamp) == ("stored", "stored", 256.0)
    codes, z = torch.randn(2, 6, STYLE), torch.randn(2, STYLE)
    with torch.inference_mode():
        torch.testing.assert_close(
            synthesis(codes), slow_images(state, codes), atol=2e-5, rtol=1e-5
        )
        w = slow_mapping(state, z)
        torch.testing.assert_close(mapping(z, torch.ones(1)), w, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mapping(z, torch.zeros(1))[0], average)


@pytest.mark.usefixtures("nvidia")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
def test_a_hostile_nvidia_pickle_is_refused_unread(tmp_path: Path) -> None:
    trace = tmp_path / "was_here"
    state = public_state(CHANNELS, style=STYLE, layers=2)
    generator = ada_generator(state, torch.randn(STYLE))
    for held in (
        {"G_ema": generator, "D": Malicious(trace)},
        {"G_ema": Malicious(trace)},
        (generator, Malicious(trace)),
        Malicious(trace),
    ):
        with pytest.raises(
            ModelError, match=r"can run any code when it is loaded, here \w+\.mkdir"
        ):
            read_checkpoint(pickled(held, tmp_path / "bad.pkl"))
    assert not trace.exists()


class Odd:
    """A tensor that reaches beyond its storage, or is of billions of values by few bytes."""

    def __init__(self, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.size, self.stride = size, stride

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        storage = torch.zeros(4).storage()
        rest = (0, self.size, self.stride, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, (storage, *rest)


@pytest.mark.usefixtures("nvidia")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
@pytest.mark.parametrize(
    ("size", "stride", "told"),
    [
        ((5,), (1,), "reaches beyond its values"),
        ((1 << 20, 1 << 20), (0, 0), "more than the limit of"),
        ((-1,), (1,), "of an odd shape"),
    ],
)
def test_a_tensor_that_states_too_much_is_refused(
    size: tuple[int, ...], stride: tuple[int, ...], told: str, tmp_path: Path
) -> None:
    held = {"G_ema": module_of({}, {}, "", odd=Odd(size, stride))}
    with pytest.raises(ModelError, match=told) as caught:
        read_checkpoint(pickled(held, tmp_path / "odd.pkl"))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("nvidia")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
def test_other_pickles_of_nvidia_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.pkl"
    with pytest.raises(ModelError, match=r"without the averaged generator 'G_ema'.*holds 'D'"):
        read_checkpoint(pickled({"D": 1}, path))
    other = module_of({}, {"synthesis": module_of({"input": torch.ones(2)}, {}, "")}, "")
    with pytest.raises(ModelError, match=r"of another design.*'synthesis\.input'"):
        read_checkpoint(pickled({"G_ema": other}, path))
    whole = pickled(
        {"G_ema": ada_generator(public_state(CHANNELS, style=STYLE, layers=2), torch.ones(STYLE))},
        path,
    ).read_bytes()
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ModelError) as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)


def scripted(path: Path, state: State) -> Path:
    """A TorchScript archive whose modules hold the tensors of a state dict by their names."""
    root = nn.Module()
    for key, tensor in state.items():
        *names, last = key.split(".")
        module = root
        for name in names:
            if name not in module._modules:
                module.add_module(name, nn.Module())
            module = module._modules[name]  # type: ignore[assignment]
        if tensor.dim() and tensor.is_floating_point():
            module.register_parameter(last, nn.Parameter(tensor.half()))
        else:
            module.register_buffer(last, tensor)
    torch.jit.save(torch.jit.script(root), str(path))
    return path


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_clip_is_read_without_its_program(tmp_path: Path) -> None:
    state = {key: tensor.half().float() for key, tensor in clip_state().items()}
    path = scripted(tmp_path / "ViT-B-32.pt", state | {"input_resolution": torch.tensor(32)})
    read = read_checkpoint(path)
    assert read.facts == {"container": "torchscript"}
    assert read.state.keys() == state.keys() | {"input_resolution"}
    text = recognise(read, options=Options(path, network="clip_text")).module
    tokens = torch.tensor([[97, 5, 8, 98] + [0] * 8])
    with torch.inference_mode():
        expected = slow_clip_text(state, tokens)
        torch.testing.assert_close(text(tokens), expected, atol=1e-4, rtol=1e-4)


def repacked(path: Path, name: str, content: bytes) -> Path:
    """An archive with other content in one of its files."""
    with zipfile.ZipFile(path) as archive:
        files = {one: archive.read(one) for one in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for one, old in files.items():
            archive.writestr(one, content if one.endswith(name) else old)
    return path


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_hostile_torchscript_archive_is_refused_unread(tmp_path: Path) -> None:
    trace = tmp_path / "was_here"
    path = scripted(tmp_path / "script.pt", {"a.weight": torch.ones(2, 2)})
    content = pickle.dumps({"a": Malicious(trace)}, protocol=2)
    with pytest.raises(ModelError, match=r"would call on \w+\.mkdir"):
        read_checkpoint(repacked(path, "/data.pkl", content))
    assert not trace.exists()
    scripted(path, {"a.weight": torch.ones(2, 2)})
    with pytest.raises(ModelError, match="cut off or damaged"):
        read_checkpoint(repacked(path, "/data.pkl", b"\x80\x02}"))
    scripted(path, {"a.weight": torch.ones(200, 2)})
    with pytest.raises(ModelError, match="beyond its values"):
        read_checkpoint(repacked(path, "/data/0", bytes(6)))


def walk_class() -> type[nn.Module]:
    """The class of a walk, in a module by Latent2im's name."""

    class WalkLinearMultiW(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(3, 6, 24))

    WalkLinearMultiW.__module__ = "graphs.stylegan_v2_real.transform_base"
    WalkLinearMultiW.__qualname__ = "WalkLinearMultiW"
    return WalkLinearMultiW


@pytest.fixture
def walk(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    names = ("graphs", "graphs.stylegan_v2_real", "graphs.stylegan_v2_real.transform_base")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[names[-1]].WalkLinearMultiW = walk_class()  # type: ignore[attr-defined]
    made: nn.Module = sys.modules[names[-1]].WalkLinearMultiW()
    return made


def test_the_walk_of_a_whole_module_is_read(
    walk: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(walk, tmp_path / "model_w_20_final_walk_module.ckpt")
    for name in [name for name in sys.modules if name.startswith("graphs")]:
        monkeypatch.delitem(sys.modules, name)
    read = read_checkpoint(path)
    assert torch.equal(read.state["w"], walk.w)
    assert read.facts == {"container": "latent2im"}


def test_a_walk_that_holds_more_than_directions_is_refused(walk: nn.Module, tmp_path: Path) -> None:
    trace = tmp_path / "was_here"
    walk.more = Malicious(trace)
    with pytest.raises(ModelError, match=r"would call on \w+\.mkdir"):
        read_checkpoint(saved(walk, tmp_path / "walk.ckpt"))
    assert not trace.exists()


def test_settings_beside_weights_are_read_and_nothing_of_them_is_called(tmp_path: Path) -> None:
    state = public_state([8, 8], style=8, layers=1)
    held = {
        "g_ema": state,
        "args": argparse.Namespace(size=256, ckpt=None, path="lmdb"),
        "loss": np.float64(0.5),
    }
    checkpoint = read_checkpoint(saved(held, tmp_path / "550000.pt"))
    assert checkpoint.facts == {"size": "256", "path": "lmdb"}
    assert torch.equal(checkpoint.state["g_ema.conv1.activate.bias"], state["conv1.activate.bias"])
    trace = tmp_path / "was_here"
    held["args"] = argparse.Namespace(size=Malicious(trace))
    with pytest.raises(ModelError, match=r"would call on \w+\.mkdir"):
        read_checkpoint(saved(held, tmp_path / "bad.pt"))
    assert not trace.exists()


@pytest.mark.parametrize("cut", ["convs.1.conv.weight", "style.2.bias", "to_rgbs.0.bias"])
def test_a_generator_that_is_not_whole_is_refused_by_name(cut: str, tmp_path: Path) -> None:
    state = public_state(CHANNELS, style=STYLE, layers=2)
    del state[cut]
    with pytest.raises(ModelError, match=re.escape(f"lacks {cut}")):
        recognise(read_checkpoint(saved({"g_ema": state}, tmp_path / "cut.pt")))


def test_a_generator_with_another_blur_or_more_is_refused(tmp_path: Path) -> None:
    state = public_state(CHANNELS, style=STYLE, layers=2)
    path = tmp_path / "odd.pt"
    with pytest.raises(ModelError, match=r"it also has embed\.weight"):
        recognise(read_checkpoint(saved(state | {"embed.weight": torch.ones(2, 2)}, path)))
    kernel = {"convs.0.conv.blur.kernel": torch.ones(4, 4) / 4}
    with pytest.raises(ModelError, match="is not the blur of the published generators"):
        recognise(read_checkpoint(saved(state | kernel, path)))


@pytest.mark.parametrize(
    "change",
    [b"}X\x01\x00\x00\x00aK\x01sb", b"N}X\x0c\x00\x00\x00__defaults__Ns\x86b"],
    ids=["attribute", "slot"],
)
@pytest.mark.parametrize(
    "name", [b"_codecs\nencode", b"torch.storage\n_load_from_bytes", b"collections\nOrderedDict"]
)
def test_a_pickle_that_changes_what_it_names_is_refused(
    name: bytes, change: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "changes.pkl"
    path.write_bytes(b"\x80\x02c" + name + b"\n" + change + b".")
    with pytest.raises(ModelError) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_these_pickles_would_run_in_an_unwary_reader(tmp_path: Path) -> None:
    trace = tmp_path / "was_here"
    pickle.load(io.BytesIO(pickle.dumps({"G_ema": Malicious(trace)})))
    assert trace.is_dir()
