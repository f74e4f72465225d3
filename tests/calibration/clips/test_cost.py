import shutil
import subprocess
from pathlib import Path

import pytest

from mien.calibration.clips.cost import TimedFilter, compare, link_tree
from mien.engines import EngineError, UsageError

ROOT = Path(__file__).parent.parent.parent.parent
SAMPLE = ROOT / "apps" / "sample" / "sample.mp4"


def test_the_ratio_is_that_of_the_least_time_of_each_frame():
    """What slows the machine down for a while slows some frames of some rounds."""
    own = [[1.1, 2.2], [9.0, 2.2], [1.1, 5.0], [1.1, 2.2]]
    baseline = [[1.0, 7.0], [1.0, 2.0], [1.0, 2.0], [3.0, 2.0]]
    found = compare(own, baseline)
    assert found.ratio == pytest.approx(1.1)
    assert found.own_ms == pytest.approx(1650)
    assert found.baseline_ms == pytest.approx(1500)
    assert found.rounds == 4


def test_the_spread_is_how_far_two_halves_of_the_rounds_disagree():
    found = compare([[1.0], [1.2], [1.0], [1.2]], [[1.0], [1.0], [1.0], [1.0]])
    assert found.spread == pytest.approx(0.1)
    assert compare([[1.5]], [[1.0]]).spread == 0


def test_a_folder_that_is_no_checkout_is_told(tmp_path):
    with pytest.raises(UsageError, match="no checkout"):
        link_tree(tmp_path / "nowhere", tmp_path / "tree")


def test_a_filter_of_a_checkout_is_timed_in_its_own_process(tmp_path):
    tree = link_tree(ROOT, tmp_path / "tree")
    with TimedFilter(tree, [str(SAMPLE), "happy", "2", ""]) as timed:
        assert timed.frames == 2
        for _ in range(2):
            spent = timed.round_s()
            assert len(spent) == 2
            assert min(spent) > 0


def test_a_filter_that_does_not_open_is_told(tmp_path):
    tree = link_tree(ROOT, tmp_path / "tree")
    with pytest.raises(EngineError, match="ended"):
        TimedFilter(tree, [str(tmp_path / "missing.mp4"), "happy", "2", ""])


def test_a_checkout_without_an_earlier_commit_has_nothing_to_compare_with(tmp_path):
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "cost", tmp_path / "scripts" / "cost")

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True)
        return done.stdout

    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    run("git", "init", "--quiet")
    assert "no history" in run("scripts/cost")
    run(*git, "commit", "--quiet", "--allow-empty", "-m", "First")
    assert "no earlier commit" in run("scripts/cost")
