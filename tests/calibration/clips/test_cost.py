from pathlib import Path

import pytest

from mien.calibration.clips.cost import TimedFilter, compare, link_tree
from mien.engines import EngineError, UsageError

ROOT = Path(__file__).parent.parent.parent.parent
SAMPLE = ROOT / "apps" / "sample" / "sample.mp4"


def test_the_ratio_is_that_of_neighbouring_rounds():
    """A machine that slows down halfway slows both."""
    found = compare([1.1, 1.1, 2.2, 2.2], [1.0, 1.0, 2.0, 2.0], frames=10)
    assert found.ratio == pytest.approx(1.1)
    assert found.spread == pytest.approx(0)
    assert found.own_ms == pytest.approx(165)
    assert found.rounds == 4


def test_a_folder_that_is_no_checkout_is_told(tmp_path):
    with pytest.raises(UsageError, match="no checkout"):
        link_tree(tmp_path / "nowhere", tmp_path / "tree")


def test_a_filter_of_a_checkout_is_timed_in_its_own_process(tmp_path):
    tree = link_tree(ROOT, tmp_path / "tree")
    with TimedFilter(tree, [str(SAMPLE), "happy", "2", ""]) as timed:
        assert timed.frames == 2
        assert timed.round_s() > 0
        assert timed.round_s() > 0


def test_a_filter_that_does_not_open_is_told(tmp_path):
    tree = link_tree(ROOT, tmp_path / "tree")
    with pytest.raises(EngineError, match="ended"):
        TimedFilter(tree, [str(tmp_path / "missing.mp4"), "happy", "2", ""])
