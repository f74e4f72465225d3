from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from mien.calibration.judges.classifier import still
from mien.calibration.smile.measure import as_catalog
from mien.calibration.smile.rows import (
    FROWN,
    REPORTED,
    SMILE,
    TRANSFERS,
    Filters,
    SmileRow,
    rows_of,
)
from mien.engines import ModelError, Network, UsageError
from mien.engines.catalog import read_catalog
from mien.engines.networks import cyclegan_network, stargan_network
from mien.runtime.methods.gan import BLENDS
from tests.calibration.networks import write_network
from tests.calibration.smile.data import portrait


def write_generator(folder: Path, network: Network, labels: str) -> Path:
    """A generator that gives its picture back."""
    folder.mkdir(exist_ok=True)
    nodes = [onnx.helper.make_node("Identity", ["image"], ["edited"])]
    facts = {"mien.labels": labels, "mien.colour": "luma"}
    return write_network(folder / f"{network.name}.onnx", network, nodes, {}, facts)


def filters_with(folder: Path, network: Network, labels: str) -> Filters:
    write_generator(folder / "loose", network, labels)
    (folder / "catalog").mkdir()
    return Filters(as_catalog(folder / "loose", folder / "catalog"))


def test_every_row_of_both_tables_has_its_numbers_in_the_paper() -> None:
    rows = [row for transfer in TRANSFERS for row in rows_of(transfer, BLENDS)]
    assert len(rows) == 2 * 6 * len(BLENDS)
    keys = {(row.transfer.table, row.method, row.gan) for row in rows}
    assert keys == set(REPORTED)
    parts = SmileRow(SMILE, "parts", "stargan", "paste").reported
    assert (parts.fid, parts.accuracy) == (17.37, 0.97)


def test_a_network_that_is_not_in_the_catalog_is_missing(tmp_path: Path) -> None:
    filters = filters_with(tmp_path, stargan_network("stargan_else", labels=1), "happy")
    row = SmileRow(SMILE, "else", "stargan", "paste")
    assert filters.why_missing(row) is None
    row = SmileRow(SMILE, "other", "stargan", "paste")
    assert filters.why_missing(row) == "no stargan_other in the catalog"


def test_a_stargan_serves_the_emotions_that_it_has_labels_for(tmp_path: Path) -> None:
    network = stargan_network("stargan_face", labels=2)
    filters = filters_with(tmp_path, network, "neutral,happy")
    assert filters.why_missing(SmileRow(SMILE, "face", "stargan", "field")) is None
    missing = filters.why_missing(SmileRow(FROWN, "face", "stargan", "field"))
    assert missing == "stargan_face has neutral, happy, not sad"


def test_a_cyclegan_serves_its_own_direction_only(tmp_path: Path) -> None:
    filters = filters_with(tmp_path, cyclegan_network("cyclegan_face"), "happy->sad")
    assert filters.why_missing(SmileRow(FROWN, "face", "cyclegan", "paste")) is None
    missing = filters.why_missing(SmileRow(SMILE, "face", "cyclegan", "paste"))
    assert missing == "cyclegan_face has happy->sad, not neutral->happy"


def test_a_damaged_generator_is_an_error_and_no_missing_row(tmp_path: Path) -> None:
    filters = filters_with(tmp_path, cyclegan_network("cyclegan_face"), "neutral->happy")
    (tmp_path / "catalog" / "cyclegan_face.onnx").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="damaged"):
        filters.why_missing(SmileRow(SMILE, "face", "cyclegan", "paste"))


def test_a_folder_with_a_catalog_is_taken_as_it_is(tmp_path: Path) -> None:
    write_generator(tmp_path, cyclegan_network("cyclegan_face"), "neutral->happy")
    (tmp_path / "catalog.toml").write_text("")
    assert as_catalog(tmp_path, tmp_path / "other") == tmp_path


def test_loose_files_are_copied_and_the_folder_left_unchanged(tmp_path: Path) -> None:
    loose, into = tmp_path / "loose", tmp_path / "into"
    into.mkdir()
    file = write_generator(loose, cyclegan_network("cyclegan_face"), "neutral->happy")
    shutil.copy(file, loose / "cyclegan_parts.onnx")
    entries = read_catalog(as_catalog(loose, into))
    assert [entry.network for entry in entries] == ["cyclegan_face", "cyclegan_parts"]
    assert [path.name for path in sorted(loose.iterdir())] == [
        "cyclegan_face.onnx",
        "cyclegan_parts.onnx",
    ]
    for entry in entries:
        entry.check_file()


def test_a_folder_without_any_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds neither catalog\.toml nor a NETWORK\.onnx"):
        as_catalog(tmp_path, tmp_path)


def test_the_finder_leaves_a_picture_as_it_is() -> None:
    frame = still(portrait(160))
    with Filters().finder() as finder:
        assert finder.apply(frame) is frame
        assert len(finder.faces) == 1
        spread = np.ptp(finder.faces[0].landmarks, axis=0)
    assert (spread > 20).all()
