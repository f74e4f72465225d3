"""`mien export`, from the command line to the model that the filter opens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mien.apps.main import run
from mien.apps.models import command as export_run
from mien.engines import Catalog, ModelError, OnnxRuntimeEngine
from mien.engines.networks import cyclegan_network, stargan_network
from mien.engines.system.install import extras_line
from mien.export import command
from mien.export.__main__ import main
from mien.export.checkpoints.names import CLASS_ORDERS
from mien.export.models.gans import CycleGanSpec, StarGanSpec
from mien.export.models.parsers import DeepLabSpec
from mien.export.onnx_file import sha256_of
from mien.export.parity import Allowed
from tests.export.checkpoints.files import (
    SMALL_BISENET,
    Malicious,
    module_of,
    norms_of,
    saved,
    small_deeplab,
    state_of,
    with_running_statistics,
)

TINY_STARGAN = StarGanSpec(6, 4, 1)
TINY_CYCLEGAN = CycleGanSpec(4, 1)
ENDS = ("onnx", "md")


def facts_of(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}


def test_a_public_stargan_becomes_a_model(tmp_path: Path, capsys) -> None:
    module = module_of(StarGanSpec(5, 4, 1, "deconv"))
    state = with_running_statistics(dict(module.state_dict()), norms_of(module))
    state = {f"module.{key}": tensor for key, tensor in state.items()}
    source = saved(state, tmp_path / "200000-G.ckpt")
    path = tmp_path / "made.onnx"
    assert main([str(source), "-o", str(path), "--size", "32"]) == 0
    told = capsys.readouterr().out
    assert "a StarGAN generator" in told
    assert "as stargan_image: image (1, 3, 32, 32), label (1, 5), edited (1, 3, 32, 32)" in told
    facts = facts_of(path)
    network = stargan_network("stargan_image", labels=5, size=32)
    assert network.matches_metadata(facts)
    assert facts["mien.labels"] == "Black_Hair,Blond_Hair,Brown_Hair,Male,Young"
    assert facts["mien.source"] == "stargan"
    assert facts["mien.source_sha256"] == sha256_of(source)
    assert facts["mien.norm"] == "instance"
    assert facts["mien.colour"] == "rgb"
    assert 0 < float(facts["mien.parity_error"]) <= 1e-4
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    label = torch.eye(5)[:1]
    with OnnxRuntimeEngine(path, network) as engine, torch.inference_mode():
        found = engine.infer({"image": picture.numpy(), "label": label.numpy()})["edited"]
        np.testing.assert_allclose(found, module(picture, label).numpy(), atol=1e-4)


def test_a_model_joins_a_folder_that_the_filter_takes(tmp_path: Path) -> None:
    source = saved(state_of(TINY_STARGAN), tmp_path / "mine.pt")
    folder = tmp_path / "models"
    arguments = [str(source), "--into", str(folder), "--size", "16", "--colour", "luma"]
    labels = ["--labels", "neutral,happiness,sad,eye,nose,mouth", "--licence", "CC0-1.0"]
    assert main([*arguments, *labels]) == 0
    entry = Catalog.load(folder).entry("stargan_parts")
    assert (entry.name, entry.licence) == ("mine", "CC0-1.0")
    entry.check_file()
    facts = facts_of(entry.path)
    assert facts["mien.labels"] == "neutral,happy,sad,eye,nose,mouth"
    assert facts["mien.colour"] == "luma"
    assert stargan_network("stargan_parts", labels=6, batch=4, size=16).matches_metadata(facts)
    assert (folder / entry.card).read_text(encoding="utf-8").startswith("# mine as stargan_parts")
    assert main([*arguments, *labels]) == 2, "a model that exists needs --overwrite"
    assert main([*arguments, *labels, "--overwrite"]) == 0


def test_a_cyclegan_states_its_direction(tmp_path: Path) -> None:
    source = saved(state_of(TINY_CYCLEGAN), tmp_path / "latest_net_G_A.pth")
    path = tmp_path / "made.onnx"
    arguments = ["--network", "cyclegan_face", "--batch", "2", "--size", "20"]
    labels = ["--labels", "neutral -> Happiness"]
    assert main([str(source), "-o", str(path), *arguments, *labels]) == 0
    facts = facts_of(path)
    assert facts["mien.labels"] == "neutral->happy"
    assert cyclegan_network("cyclegan_face", batch=2, size=20).matches_metadata(facts)


@pytest.mark.parametrize(
    ("spec", "arguments", "classes"),
    [
        (SMALL_BISENET, [], CLASS_ORDERS["zllrunning"]),
        (small_deeplab(), ["--class-order", "celebamask"], CLASS_ORDERS["celebamask"]),
        (small_deeplab(3), ["--classes", "background,nose,mouth"], ("background", "nose", "mouth")),
    ],
    ids=["BiSeNet", "DeepLabV3", "own classes"],
)
def test_the_order_of_classes_travels_with_a_parser(
    spec: object, arguments: list[str], classes: tuple[str, ...], tmp_path: Path
) -> None:
    source = saved(state_of(spec), tmp_path / "parser.pth")
    path = tmp_path / "made.onnx"
    assert main([str(source), "-o", str(path), "--size", "64", *arguments]) == 0
    facts = facts_of(path)
    assert facts["mien.classes"] == ",".join(classes)
    assert facts["mien.mean"] == "0.485,0.456,0.406"
    assert facts["mien.std"] == "0.229,0.224,0.225"
    assert float(facts["mien.same_class"]) >= 0.9999


def refusal(arguments: list[str], capsys) -> str:
    """The one line that a command ends with."""
    assert main(arguments) == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert told.startswith("mien: ")
    assert told.count("\n") == 1
    return told


@pytest.mark.parametrize(
    ("spec", "arguments", "told"),
    [
        (TINY_STARGAN, [], "has 6 labels and no names for them"),
        (TINY_STARGAN, ["--labels", "a,b"], "--labels has 2 names"),
        (TINY_STARGAN, ["--labels", "a,a,b,c,d,e"], "expected different names"),
        (TINY_STARGAN, ["--labels", "happy,happiness,c,d,e,f"], "says happy more than once"),
        (TINY_STARGAN, ["--labels", "a,b,c,d,e,f", "--size", "30"], "multiples of 4"),
        (TINY_STARGAN, ["--labels", "a,b,c,d,e,f", "--size", "0"], "above 0"),
        (TINY_STARGAN, ["--labels", "a,b,c,d,e,f", "--batch", "999"], "must lie in 1..64"),
        (TINY_STARGAN, ["--classes", "nose"], "--classes says nothing"),
        (TINY_STARGAN, ["--network", "face_parser"], "looks like a StarGAN generator, which"),
        (TINY_STARGAN, ["--network", "dream"], "invalid choice: 'dream'"),
        (TINY_CYCLEGAN, [], "does not say what it turns into what"),
        (TINY_CYCLEGAN, ["--labels", "happy"], "one A->B"),
        (small_deeplab(), [], "add --class-order"),
        (small_deeplab(5), ["--class-order", "celebamask"], "19 classes are named"),
        (small_deeplab(2), ["--classes", "cat,dog"], "none of the classes is a part of a face"),
        (small_deeplab(), ["--labels", "happy"], "--labels says nothing"),
        (small_deeplab(), ["--batch", "2", "--class-order", "celebamask"], "one picture at once"),
        (SMALL_BISENET, ["--size", "100"], "multiples of 32"),
        (SMALL_BISENET, ["--classes", "nose", "--class-order", "celebamask"], "not both"),
    ],
)
def test_options_that_do_not_fit_are_told_in_one_line(
    spec: StarGanSpec | CycleGanSpec | DeepLabSpec,
    arguments: list[str],
    told: str,
    tmp_path: Path,
    capsys,
) -> None:
    source = saved(state_of(spec), tmp_path / "source.pth")
    message = refusal([str(source), "-o", str(tmp_path / "made.onnx"), *arguments], capsys)
    assert told in message
    assert list(tmp_path.iterdir()) == [source]


def test_what_is_missing_on_the_command_line_is_told_in_one_line(tmp_path: Path, capsys) -> None:
    source = saved(state_of(TINY_CYCLEGAN), tmp_path / "source.pth")
    assert "CHECKPOINT" in refusal([], capsys)
    assert "where to?" in refusal([str(source)], capsys)
    assert "ends in .onnx" in refusal([str(source), "-o", "made.pb"], capsys)
    where = str(tmp_path / "none" / "made.onnx")
    labels = ["--labels", "neutral->happy"]
    assert "there is no folder" in refusal([str(source), "-o", where, *labels], capsys)
    assert "is no" in refusal([__file__, "-o", str(tmp_path / "made.onnx")], capsys)
    assert "expected a folder" in refusal([str(source), "--into", str(source), *labels], capsys)
    assert "is a folder" in refusal([str(tmp_path), "-o", str(tmp_path / "a.onnx")], capsys)


def test_a_malicious_checkpoint_is_refused_and_not_run(tmp_path: Path, capsys) -> None:
    trace = tmp_path / "was_here"
    source = saved({"x": Malicious(trace)}, tmp_path / "bad.ckpt")
    assert "runs nothing from a checkpoint" in refusal(
        [str(source), "-o", str(tmp_path / "made.onnx")], capsys
    )
    assert list(tmp_path.iterdir()) == [source]


def test_a_failed_parity_leaves_no_file_and_no_catalog(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(state_of(TINY_CYCLEGAN), tmp_path / "source.pth")
    monkeypatch.setattr(command, "GENERATOR_ALLOWED", Allowed(-1.0))
    places = ["-o", str(tmp_path / "made.onnx"), "--into", str(tmp_path / "models")]
    told = refusal([str(source), *places, "--size", "16", "--labels", "neutral->happy"], capsys)
    assert told.count("difference of edited on") == 9, "four random inputs, five of the portrait"
    assert list(tmp_path.iterdir()) == [source]


def test_a_damaged_catalog_is_told_before_anything_is_written(tmp_path: Path, capsys) -> None:
    source = saved(state_of(TINY_CYCLEGAN), tmp_path / "source.pth")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "catalog.toml").write_text("[[model")
    told = refusal([str(source), "--into", str(folder), "--labels", "neutral->happy"], capsys)
    assert "not valid TOML" in told
    assert [path.name for path in folder.iterdir()] == ["catalog.toml"]


@pytest.mark.parametrize("package", ["torch", "onnx"])
def test_a_missing_extra_is_told_in_one_line(package: str, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from mien.export.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "a.ckpt", "-o", str(tmp_path / "a.onnx")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"mien: mien export needs {package}; {extras_line('export')}\n"


def test_help_answers_without_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from mien.export.__main__ import main; main(['--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "--class-order" in done.stdout


def test_mien_hands_its_arguments_on_and_its_status_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none.ckpt")
    assert run(["export", missing, "-o", str(tmp_path / "a.onnx"), "--size", "64"]) == 2
    told = capfd.readouterr().err
    assert told == f"mien: cannot read the checkpoint {missing}: No such file or directory\n"


def test_an_export_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = subprocess.CompletedProcess([], -9)
    monkeypatch.setattr(export_run.subprocess, "run", lambda *_, **__: killed)
    with pytest.raises(ModelError, match=r"ended from outside \(signal 9\)"):
        export_run.run_export(["a.ckpt"])


def tiny_export(folder: Path, *arguments: str) -> list[str]:
    """The arguments of an export of a tiny CycleGAN, which is made in `folder`."""
    source = folder / "source.pth"
    if not source.exists():
        saved(state_of(TINY_CYCLEGAN), source)
    return [str(source), "--size", "16", "--labels", "neutral->happy", *arguments]


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_an_export_writes_through_no_link(tmp_path: Path) -> None:
    models, victims = tmp_path / "models", tmp_path / "victims"
    models.mkdir()
    victims.mkdir()
    names = ["cyclegan_image.part", "cyclegan_image.part.onnx", ".catalog.toml.part"]
    for name in [*names, "cyclegan_image.onnx", "cyclegan_image.md", "catalog.toml"]:
        (victims / name).write_text("")
        (models / name).symlink_to(victims / name)
    assert main(tiny_export(tmp_path, "--into", str(models), "--overwrite")) == 0
    assert all(victim.read_bytes() == b"" for victim in victims.iterdir())
    Catalog.load(models).entry("cyclegan_image").check_file()
    assert not (models / "cyclegan_image.md").is_symlink()


def test_a_card_that_is_not_the_exports_is_not_replaced(tmp_path: Path, capsys) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "cyclegan_image.md").write_text("my notes")
    told = refusal(tiny_export(tmp_path, "--into", str(models)), capsys)
    assert "cyclegan_image.md exists; add --overwrite" in told
    assert [path.name for path in models.iterdir()] == ["cyclegan_image.md"]


@pytest.mark.parametrize("where", ["-o", "--into"])
def test_a_model_that_appears_during_the_export_is_not_replaced(
    where: str, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    place, written = models / "cyclegan_image.onnx", command.write_onnx

    def meanwhile(*arguments: object, **settings: object) -> object:
        place.write_bytes(b"precious")
        return written(*arguments, **settings)

    monkeypatch.setattr(command, "write_onnx", meanwhile)
    target = str(place if where == "-o" else models)
    told = refusal(tiny_export(tmp_path, where, target), capsys)
    kept = models / "cyclegan_image_2.onnx"
    assert f"the output {place} appeared meanwhile" in told
    assert told.endswith(f"kept as {kept}\n")
    assert place.read_bytes() == b"precious"
    onnx.checker.check_model(str(kept))
    assert {path.name for path in models.iterdir()} == {place.name, kept.name}


def test_two_exports_into_one_folder_are_both_listed(tmp_path: Path) -> None:
    models = tmp_path / "models"
    runs = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "mien.export"),
                *tiny_export(tmp_path, "--into", str(models), "--network", network),
            ],
            stdout=subprocess.DEVNULL,
        )
        for network in ("cyclegan_image", "cyclegan_face")
    ]
    assert [run.wait(timeout=300) for run in runs] == [0, 0]
    catalog = Catalog.load(models)
    for network in ("cyclegan_image", "cyclegan_face"):
        assert catalog.entry(network).folder == models
        catalog.entry(network).check_file()
    names = {f"{network}.{end}" for network in ("cyclegan_image", "cyclegan_face") for end in ENDS}
    assert {path.name for path in models.iterdir()} == {*names, "catalog.toml"}


def test_memory_that_a_checkpoint_may_take_is_said_by_name(tmp_path: Path, capsys) -> None:
    source = saved({"a": torch.zeros(1).expand(1 << 20)}, tmp_path / "a.pt")
    where = ["-o", str(tmp_path / "a.onnx")]
    assert main([str(source), *where, "--max-memory", "2M"]) == 2
    assert "more than the limit of 2 MB; if you trust" in capsys.readouterr().err
    assert main([str(source), *where, "--max-memory", "8M"]) == 2
    assert "is no network that mien export knows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--size", "9" * 5000], "argument --size: expected a whole number"),
        (["--size", "9" * 4000], "argument --size: expected a whole number"),
        (["--batch", "1" * 9], "1..64"),
        (["--max-memory", "9" * 5000], "is no amount of memory"),
        (["--colour", "\x1b[2J" * 2000], "argument --colour: invalid choice"),
        (["--\x1b[2J"], r"unrecognized arguments: --\x1b[2J"),
    ],
)
def test_numbers_and_names_of_any_length_are_one_line(
    words: list[str], told: str, tmp_path: Path, capsys
) -> None:
    source = saved(state_of(TINY_STARGAN), tmp_path / "a.ckpt")
    labels = ["--labels", "neutral,happy,sad,eye,nose,mouth"]
    assert main([str(source), "-o", str(tmp_path / "a.onnx"), *labels, *words]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert len(said) < 2100
    assert {sign for sign in said if not sign.isprintable()} == {"\n"}
    assert said.count("\n") == 1


def test_fault_of_its_own_is_one_line(tmp_path: Path, capsys, monkeypatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise OverflowError("of some\nlibrary")

    source = saved(state_of(TINY_STARGAN), tmp_path / "a.ckpt")
    monkeypatch.setattr(command, "read_checkpoint", fail)
    assert main([str(source), "-o", str(tmp_path / "a.onnx")]) == 2
    said = capsys.readouterr().err
    assert "this is a fault of mien itself (OverflowError: of some library)" in said
    assert said.count("\n") == 1
