from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

import mien.engines.catalog as catalog_module
from mien.engines import NETWORKS, WARP, Catalog, ModelEntry, ModelError, record_model
from mien.engines.catalog import CATALOG_NAME, TEXT_FIELDS, read_catalog, write_catalog
from mien.engines.errors import MienError
from mien.engines.face_space import (
    DIRECTIONS,
    EMM,
    ENCODER,
    FACE_SPACE,
    GENERATOR,
    LATENT_CLASSIFIER,
    TEXT_TOWER,
)
from mien.engines.networks import SHIPPED
from mien.engines.system.partial_file import PartialFile, remove_leftovers
from tests.engines.tiny import TINY, tiny_feeds, write_tiny
from tests.runtime.methods.latent.networks import write_emm, write_space


def _entry(folder: Path) -> ModelEntry:
    return ModelEntry(
        name="tiny",
        network="tiny",
        file="tiny.onnx",
        sha256=write_tiny(folder / "tiny.onnx"),
        trained_on='nothing: "written" by hand,\nin C:\\',
        minutes=0.5,
        quality={"error percent": 2.25, "jitter": 1},
        licence="Apache-2.0",
        card="tiny.md",
        folder=folder,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record_model(_entry(tmp_path))
    return tmp_path


def _edit(folder: Path, old: str, new: str) -> None:
    path = folder / CATALOG_NAME
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_recorded_model_reads_back_as_it_was(folder: Path) -> None:
    assert read_catalog(folder) == (_entry(folder),)


def test_texts_of_any_characters_read_back(folder: Path) -> None:
    odd = replace(_entry(folder), trained_on='one\r\n"two"\\ \x1b[1m\tthr\u00e9e\x7f')
    record_model(odd)
    assert Catalog.load(folder).entry(odd.network).trained_on == odd.trained_on


def test_recording_a_network_again_replaces_its_model(folder: Path) -> None:
    record_model(replace(_entry(folder), name="better", minutes=3.0))
    assert [(e.name, e.minutes) for e in read_catalog(folder)] == [("better", 3.0)]


def test_opened_engine_runs(folder: Path) -> None:
    with Catalog.load(folder).open(TINY) as engine:
        assert engine.infer(tiny_feeds())["total"] == 5


def test_own_folder_replaces_what_it_names_and_leaves_the_rest(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = tmp_path_factory.mktemp("bundled")
    record_model(replace(_entry(bundled), minutes=9.0))
    record_model(replace(_entry(bundled), network="other", name="other"))
    monkeypatch.setattr(catalog_module, "BUNDLED_FOLDER", bundled)
    catalog = Catalog.load(folder)
    assert catalog.entry("tiny").folder == folder
    assert catalog.entry("other").folder == bundled
    assert len(catalog.entries) == 2


def test_damaged_model_is_refused_and_named(folder: Path) -> None:
    path = folder / "tiny.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match=r"tiny\.onnx is damaged: its sha256 is "):
        Catalog.load(folder).open(TINY)
    with pytest.raises(ModelError, match="is damaged"):
        Catalog.load(folder).entry("tiny").check_file()


def test_missing_model_file_is_refused_and_named(folder: Path) -> None:
    (folder / "tiny.onnx").unlink()
    with pytest.raises(ModelError, match=r"cannot read the model .*tiny\.onnx"):
        Catalog.load(folder).open(TINY)


def test_model_that_is_another_network_is_refused(folder: Path) -> None:
    record_model(replace(_entry(folder), network="warp"))
    with pytest.raises(ModelError, match="but the network 'warp' has face float32"):
        Catalog.load(folder).open(WARP)


def test_unknown_network_names_those_there_are(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no model for the network 'none' \(it has: tiny\)"):
        Catalog(read_catalog(folder)).entry("none")


def test_folder_without_a_catalog_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*catalog\.toml: No such file"):
        Catalog.load(tmp_path)


BROKEN = {
    "not toml": ("[[model]]", "[[model]", "is not valid TOML"),
    "one table": ("[[model]]\n", "[model]\n", "expected .*model.* for each model"),
    "missing key": ('card = "tiny.md"\n', "", "model 1: missing keys: card; unknown keys: nothing"),
    "unknown key": ("card =", "cart =", "missing keys: card; unknown keys: cart"),
    "not a text": ('name = "tiny"', "name = 3", "name must be a text, not 3"),
    "not a number": ("minutes = 0.5", "minutes = true", "minutes must be a number"),
    "quality": ("2.25", '"good"', "error percent must be a number, not 'good'"),
    "path": ('"tiny.onnx"', '"../tiny.onnx"', "must be a file beside the catalog"),
    "400 digits": ("minutes = 0.5", f"minutes = {'9' * 400}", "minutes must be a finite number"),
    "5,000 digits": ("minutes = 0.5", f"minutes = {'9' * 5_000}", "is not valid TOML"),
    "5,000 digits of 16": ("minutes = 0.5", f"minutes = 0x{'f' * 5_000}", "be a finite number"),
    "infinite": ("2.25", "inf", "error percent must be a finite number"),
    "no number": ("2.25", "nan", "error percent must be a finite number"),
    "a date": ("2.25", "2026-01-01", "error percent must be a number, not a date"),
    "a number too long to show": ('name = "tiny"', f"name = 0x{'f' * 5_000}", "not a int"),
    "nested": ("2.25", "[" * 100_000, "is not valid TOML"),
    "a key that takes minutes": ("2.25", f"2.25\n{'a.' * 100_000}a = 1", "more than 200 dots"),
    "a folder": ('"tiny.onnx"', '"tiny.onnx/"', "must be a file beside the catalog"),
    "hash": ('sha256 = "', 'sha256 = "Z', "64 lower-case hex digits"),
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN)
def test_broken_catalog_says_where_and_what(folder: Path, case: tuple[str, str, str]) -> None:
    old, new, message = case
    _edit(folder, old, new)
    with pytest.raises(ModelError, match=message) as error:
        Catalog.load(folder)
    assert str(folder / CATALOG_NAME) in str(error.value)


def test_catalog_that_is_not_text_is_a_model_error(folder: Path) -> None:
    (folder / CATALOG_NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="is not valid TOML"):
        Catalog.load(folder)


def test_two_models_for_one_network_are_refused(folder: Path) -> None:
    path = folder / CATALOG_NAME
    path.write_text(path.read_text(encoding="utf-8") * 2, encoding="utf-8")
    with pytest.raises(ModelError, match="'tiny' has more than one model"):
        Catalog.load(folder)


def test_bundled_models_are_whole_declared_and_have_their_cards() -> None:
    declared = {network.name: network for network in SHIPPED}
    of_space = {network.name for network in FACE_SPACE}
    for entry in Catalog.bundled().entries:
        assert entry.network in declared
        assert (entry.folder / entry.card).is_file()
        # those of a face space are opened by name: their vocabularies and sizes are their graphs'
        is_read = entry.network in of_space
        asked = entry.network if is_read else declared[entry.network]
        with Catalog.bundled().open(asked) as engine:
            assert engine.provider == "cpu"


def test_no_network_of_the_bundled_face_space_is_mixed_with_another(tmp_path: Path) -> None:
    own = write_emm(write_space(tmp_path / "own"))
    assert {entry.network for entry in Catalog.bundled().entries} >= {TEXT_TOWER, DIRECTIONS}
    names = {network.name for network in FACE_SPACE}
    found = {e.network: e.folder for e in Catalog.load(own).entries if e.network in names}
    assert set(found) == {GENERATOR, ENCODER, EMM, LATENT_CLASSIFIER}
    assert set(found.values()) == {own}
    (tmp_path / "mapper").mkdir()
    mapper = write_emm(tmp_path / "mapper")  # without a space of its own it edits mien's
    assert Catalog.load(mapper).entry(EMM).folder == mapper
    assert Catalog.load(mapper).entry(GENERATOR).folder != mapper


def with_one(folder: Path, name: str) -> Catalog:
    """The catalog of a folder that holds the bundled model of that name alone."""
    entry = Catalog.bundled().entry(name)
    folder.mkdir()
    for file in (entry.file, entry.card):
        shutil.copy(entry.folder / file, folder / file)
    write_catalog(folder, (replace(entry, folder=folder),))
    return Catalog.load(folder)


def test_no_bundled_network_of_a_condition_is_mixed_with_its_unet(tmp_path: Path) -> None:
    vae = {"diffusion_vae", "diffusion_vae_4", "diffusion_vae_encoder"}
    bundled = {entry.network for entry in Catalog.bundled().entries}
    assert bundled >= vae
    for name in ("diffusion_vae", "diffusion_vae_encoder"):
        own = with_one(tmp_path / name, name)
        assert {entry.network for entry in own.entries} == bundled - vae | {name}
        with pytest.raises(ModelError, match="no model for"):
            own.entry("diffusion_vae_4")
    student = with_one(tmp_path / "student", "diffusion_vae_4")
    assert {entry.network for entry in student.entries} == bundled
    assert student.entry("diffusion_vae_4").folder == tmp_path / "student"


def test_bundled_model_files_are_all_in_the_catalog() -> None:
    files = {path.name for path in catalog_module.BUNDLED_FOLDER.glob("*.onnx")}
    assert files == {entry.file for entry in Catalog.bundled().entries}


def test_entry_fields_are_the_documented_keys() -> None:
    assert {*TEXT_FIELDS, "minutes", "quality", "folder"} == set(ModelEntry.__slots__)


def test_every_network_of_the_filter_is_bundled() -> None:
    bundled = {entry.network for entry in Catalog.bundled().entries}
    assert bundled >= {network.name for network in NETWORKS}


def test_folder_of_no_possible_name_is_a_model_error(tmp_path: Path) -> None:
    for name in ("a\0b", "a" * 5_000, "\udcff"):
        with pytest.raises(ModelError, match=r"is no name of a file|cannot read"):
            Catalog.load(tmp_path / name)


def test_what_cannot_be_a_catalog_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(
        ModelError, match=r"catalog\.toml is too large; a catalog has up to 262,144 bytes"
    ):
        Catalog.load(tmp_path)
    path.write_text("model = " + "[" * 100_000)
    with pytest.raises(ModelError, match=r"catalog\.toml is not valid TOML"):
        Catalog.load(tmp_path)
    path.unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        with pytest.raises(ModelError, match=r"catalog\.toml: it is not a file"):
            Catalog.load(tmp_path)


def _recorder(folder: Path, body: str) -> subprocess.Popen[str]:
    """A process that has `entry`, a model in `folder`, and runs `body`; it says when it begins."""
    script = """
        import hashlib, sys
        from dataclasses import replace
        from pathlib import Path
        from mien.engines import record_model
        from mien.engines.system.partial_file import PartialFile
        from tests.engines.test_catalog import _entry
        folder, made = Path(sys.argv[1]), Path(sys.argv[2])
        entry = replace(_entry(made), folder=folder)
        print("begins", flush=True)
    """
    made = folder.parent / f"made-{len(list(folder.parent.iterdir()))}"
    made.mkdir()
    program = textwrap.dedent(script) + textwrap.dedent(body)
    command = [sys.executable, "-c", program, str(folder), str(made)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "begins\n"
    return run


def test_of_models_that_are_recorded_at_once_none_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    runs = [
        _recorder(
            folder,
            f"""
            for index in range(15):
                record_model(replace(entry, name=f"{name}{{index}}", network=f"{name}{{index}}"))
            """,
        )
        for name in "ab"
    ]
    for run in runs:
        run.communicate(timeout=120)
        assert run.returncode == 0
    assert len(read_catalog(folder)) == 30
    assert [path.name for path in folder.iterdir()] == [CATALOG_NAME]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a process is killed")
def test_a_kill_at_any_moment_leaves_a_catalog_that_fits_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    body = """
        for turn in range(10_000):
            data = (made / "tiny.onnx").read_bytes() + bytes([turn % 256])
            sha256 = hashlib.sha256(data).hexdigest()
            texts = {folder / entry.file: data, folder / entry.card: b"a card"}
            parts = [PartialFile(path, overwrite=True) for path in texts]
            for part, data in zip(parts, texts.values()):
                part.write(data)
            record_model(replace(entry, sha256=sha256), parts)
    """
    for turn in range(12):
        run = _recorder(folder, body)
        time.sleep(0.005 * turn)
        run.kill()
        run.communicate(timeout=60)
        if (folder / CATALOG_NAME).exists():
            for entry in read_catalog(folder):
                assert hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.sha256
                assert (folder / entry.card).read_bytes() == b"a card"
    remove_leftovers(folder)
    record_model(replace(_entry(tmp_path), folder=folder))
    left = {path.name for path in folder.iterdir()}
    assert left == {CATALOG_NAME, "tiny.onnx", "tiny.md"}


def test_a_model_that_cannot_have_its_name_leaves_the_catalog_as_it_was(folder: Path) -> None:
    before = (folder / CATALOG_NAME).read_bytes()
    entry = replace(_entry(folder), name="better")
    (folder / "tiny.md").write_text("a note of somebody's")
    with PartialFile(folder / "tiny.md", overwrite=True) as card:
        card.write(b"a card")
        (folder / "tiny.md").unlink()
        (folder / "tiny.md").mkdir()
        with pytest.raises(MienError, match="appeared meanwhile"):
            record_model(entry, [card])
    assert (folder / CATALOG_NAME).read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_catalog_is_replaced_and_no_link_is_followed(folder: Path, tmp_path: Path) -> None:
    text = (folder / CATALOG_NAME).read_text(encoding="utf-8")
    elsewhere = tmp_path / "elsewhere"
    (folder / CATALOG_NAME).rename(elsewhere)
    (folder / CATALOG_NAME).symlink_to(elsewhere)
    record_model(replace(_entry(folder), name="better"))
    assert elsewhere.read_text(encoding="utf-8") == text
    assert [entry.name for entry in read_catalog(folder)] == ["better"]
    (folder / catalog_module.LOCK_NAME).symlink_to(elsewhere)
    with pytest.raises(MienError, match="cannot lock"):
        record_model(_entry(folder))
    assert elsewhere.read_text(encoding="utf-8") == text
