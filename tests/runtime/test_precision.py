"""The INT8 variants that come with mien, and which networks of a filter run in them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mien.calibration.tables.thresholds import INT8_SHIFT_CEILING
from mien.engines import Catalog, ModelError, UsageError
from mien.engines.catalog import BUNDLED_FOLDER, INT8
from mien.engines.networks import NETWORKS
from mien.engines.ort.providers import multiplies_bytes
from mien.runtime import Filter
from mien.runtime.faces.topology import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from mien.runtime.filter import catalog_of
from mien.runtime.video import read_frames
from tests.apps.stand_in import write_models

SAMPLE = Path(__file__).parents[2] / "apps" / "sample" / "sample.mp4"
FAST = "processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n"
FASTER = "processor : 1\nflags\t\t: fpu avx2 avx_vnni\n"
SLOW = "processor : 2\nflags\t\t: fpu avx2 avx512f\nvmx flags : avx_vnni\n"
ARM = "processor : 0\nFeatures : fp asimd asimddp\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FAST, True),
        (FASTER, True),
        (FAST + FASTER, True),
        (FAST + SLOW, False),
        (SLOW, False),
        (ARM, False),
        ("", False),
    ],
)
def test_every_processor_must_multiply_bytes(tmp_path: Path, text: str, expected: bool) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text(text)
    assert multiplies_bytes(told) is expected


def test_where_nothing_tells_networks_stay_in_fp32(tmp_path: Path) -> None:
    assert not multiplies_bytes(tmp_path / "missing")


def test_each_variant_is_one_of_the_network_that_is_shipped() -> None:
    catalog = Catalog.bundled().in_int8()
    assert catalog.int8
    for variant in catalog.int8:
        source = catalog.entry(variant.network)
        with catalog.open(variant.network) as engine, Catalog.bundled().open(source.network) as own:
            assert engine.metadata["mien.precision"] == "int8"
            assert engine.metadata["mien.precision_source_sha256"] == source.sha256
            assert engine.network == own.network
        assert (
            (variant.folder / variant.card).read_text().startswith(f"# {variant.network} in INT8")
        )
        assert variant.path.stat().st_size < source.path.stat().st_size / 2
    files = {path.name for path in (BUNDLED_FOLDER / INT8).glob("*.onnx")}
    assert files == {variant.file for variant in catalog.int8}


def test_variants_run_on_the_processor_and_nowhere_else() -> None:
    catalog = Catalog.bundled().in_int8()
    for network in NETWORKS:
        names = {variant.network for variant in catalog.int8}
        assert (catalog.opened_entry(network, "cpu") in catalog.int8) == (network.name in names)
        for provider in ("cuda", "tensorrt", "auto"):
            assert catalog.opened_entry(network, provider) == catalog.entry(network)


def test_a_model_of_ones_own_is_not_replaced_by_a_variant(tmp_path: Path) -> None:
    write_models(tmp_path)
    own = {entry.network for entry in Catalog.load(tmp_path).entries if entry.folder == tmp_path}
    catalog = Catalog.load(tmp_path).in_int8()
    assert own
    assert own.isdisjoint(variant.network for variant in catalog.int8)


def test_a_filter_says_what_runs_in_int8() -> None:
    names = tuple(sorted(variant.network for variant in Catalog.bundled().in_int8().int8))
    with Filter(None, precision="int8") as asked, Filter(None, precision="fp32") as plain:
        assert (asked.in_int8, plain.in_int8) == (names, ())
        assert asked.providers == plain.providers
    with Filter(None) as usual, Filter(None, models=Catalog.bundled()) as given:
        assert usual.in_int8 == (names if multiplies_bytes() else ())
        assert given.in_int8 == ()


@pytest.mark.skipif(not multiplies_bytes(), reason="INT8 variants overflow without VNNI")
def test_int8_edits_the_same_faces_at_the_same_place() -> None:
    frames = list(islice(read_frames(SAMPLE), 12))
    with Filter("happy", precision="int8") as fast, Filter("happy", precision="fp32") as plain:
        for frame in frames:
            edited = fast.apply(frame)
            assert (edited is frame) == (plain.apply(frame) is frame)
            (found,), (expected,) = fast.faces, plain.faces
            eyes = expected.landmarks[RIGHT_EYE_OUTER] - expected.landmarks[LEFT_EYE_OUTER]
            moved = np.linalg.norm(found.landmarks - expected.landmarks, axis=1).mean()
            assert moved <= INT8_SHIFT_CEILING * np.linalg.norm(eyes)


def test_what_cannot_be_is_refused_with_what_can() -> None:
    with pytest.raises(UsageError, match=r"unknown precision 'fp16' \(known: auto, fp32, int8\)"):
        Filter(None, precision="fp16")
    with pytest.raises(UsageError, match="int8 is for the provider cpu, not cuda"):
        catalog_of(precision="int8", provider="cuda")
    assert not catalog_of(precision="fp32", provider="cuda").int8


def test_int8_of_models_without_variants_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / INT8).mkdir()
    (tmp_path / INT8 / "catalog.toml").write_text("")
    (tmp_path / "catalog.toml").write_text("")
    monkeypatch.setattr("mien.engines.catalog.BUNDLED_FOLDER", tmp_path)
    with pytest.raises(ModelError, match="none of these models has a variant in int8"):
        catalog_of(precision="int8")
