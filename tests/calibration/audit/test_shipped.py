"""Every graph that comes with mien, against TensorRT 10.3 and 11."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from mien.calibration.audit.examine import OPSET, audit
from mien.engines.catalog import BUNDLED_FOLDER
from mien.engines.network import METADATA_KEY

SHIPPED = sorted(BUNDLED_FOLDER.glob("*.onnx"))


def test_there_are_shipped_graphs() -> None:
    assert len(SHIPPED) >= 6


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_graph_is_clean(path: Path) -> None:
    report = audit(path)
    assert [found for found in report.findings if found.severity == "error"] == []
    assert (report.network, report.opset) == (path.stem, OPSET)
    assert report.nodes > 0


def test_shipped_graph_is_not_clean_once_its_statement_is_gone(tmp_path: Path) -> None:
    model = onnx.load(str(SHIPPED[0]))
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    path = tmp_path / "bare.onnx"
    path.write_bytes(model.SerializeToString())
    (found,) = (found for found in audit(path).findings if found.severity == "error")
    assert found.rule == "metadata"
