from __future__ import annotations

import pytest

from mien.apps.main import open_filter
from mien.runtime.spec import FilterSpec


def test_auto_says_what_it_chose(capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_filter(FilterSpec(provider="auto"))
    where = ", ".join(sorted(set(opened.providers.values())))
    assert capsys.readouterr().err.startswith(f"mien: auto runs the networks on {where}: ")


def test_what_was_asked_for_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_filter(FilterSpec(provider="cpu"))
    assert set(opened.providers.values()) == {"cpu"}
    assert capsys.readouterr().err == ""
