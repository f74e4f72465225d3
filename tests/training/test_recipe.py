"""The loop that all recipes share."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from mien.training.__main__ import RECIPES, main
from mien.training.latent.everything import JOBS
from mien.training.recipe import (
    Options,
    Prefetch,
    Schedule,
    Trainer,
    data_text,
    parse_options,
    quality_table,
    write_card,
)


def options_for(out: Path, minutes: float) -> Options:
    words = ["--minutes", str(minutes), "--data", "d", "--media", "m", "--out", str(out)]
    return parse_options("landmarks", [*words, "--device", "cpu"])


def loss_of(network: nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"fit": (network(batch) - 3 * batch).float().square().mean()}


def trained(out: Path, minutes: float) -> Trainer[torch.Tensor]:
    torch.manual_seed(0)
    schedule = Schedule(rate=0.05, average=0.9, weight_decay=0.0)
    trainer: Trainer[torch.Tensor] = Trainer(
        "tiny", nn.Linear(1, 1), options_for(out, minutes), schedule
    )
    trainer.run(lambda: torch.rand(16, 1) + 0.5, loss_of)
    return trainer


def test_training_ends_with_the_minutes_and_learns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    at_first = float(nn.Linear(1, 1)(torch.ones(1)).detach())
    trainer = trained(tmp_path, 0.01)
    assert trainer.spent_s >= 0.6
    at_last = float(trainer.average(torch.ones(1)).detach())
    assert abs(at_last - 3) < abs(at_first - 3)


def test_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    first = trained(tmp_path, 0.005)
    again = trained(tmp_path, 0.005)
    assert again.step == first.step
    longer = trained(tmp_path, 0.01)
    assert longer.step > first.step
    assert longer.spent_s > first.spent_s


def test_the_rate_rises_and_then_falls() -> None:
    schedule = Schedule(rate=1.0, final_rate=0.01, warmup_share=0.1)
    rates = [schedule.rate_at(share) for share in (0.0, 0.05, 0.1, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] == pytest.approx(1.0)
    assert rates[2] > rates[3] > rates[4] == pytest.approx(0.01)


def test_an_error_while_making_batches_reaches_the_training() -> None:
    def broken() -> int:
        raise ValueError("no such picture")

    batches = Prefetch(broken)
    with pytest.raises(ValueError, match="no such picture"):
        next(iter(batches))
    batches.close()


def test_batches_come_in_the_order_they_were_made() -> None:
    numbers = iter(range(100))
    batches = Prefetch(lambda: next(numbers), depth=2)
    taken = [batch for batch, _ in zip(batches, range(20), strict=False)]
    batches.close()
    assert taken == list(range(20))


def test_a_card_has_its_sections_and_table(tmp_path: Path) -> None:
    table = quality_table({"people": {"mean": 0.02}, "clip": {"mean": 0.03, "p90": 0.05}, "n": 3})
    assert "| people | 0.02 |  |" in table
    write_card(tmp_path / "a.md", "A network", {"Data": data_text(("fer2013",)), "Quality": table})
    text = (tmp_path / "a.md").read_text()
    assert text.startswith("# A network\n")
    assert "FER-2013" in text
    assert "## Quality" in text


def test_an_unknown_recipe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faces"]) == 2
    assert "landmarks" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_can_be_started(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = importlib.import_module(f"mien.training.{RECIPES[name]}")
    with pytest.raises(SystemExit) as ended:
        recipe.main(["--help"])
    assert ended.value.code == 0
    assert f"usage: python -m mien.training {name} " in capsys.readouterr().out


def test_the_chain_of_the_latent_papers_runs_recipes_that_exist() -> None:
    assert {job.recipe for job in JOBS} <= set(RECIPES)


def test_every_recipe_that_a_text_names_exists() -> None:
    root = Path(__file__).parents[2]
    folders = ("training/**/*.py", "docs/**/*.md", "engines/models/*.md", "*.md")
    texts = [path for folder in folders for path in root.glob(folder)]
    named = {
        name
        for path in texts
        for name in re.findall(r"-m mien\.training ([a-z][a-z_-]*)", path.read_text())
    }
    assert {"latent-all", "diffusion"} <= named
    assert named <= set(RECIPES)
