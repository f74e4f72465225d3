"""What part of a clip is edited."""

from __future__ import annotations

import pytest

from mien.engines.errors import UsageError
from mien.runtime.session import check_section


@pytest.mark.parametrize(("start_s", "end_s"), [(2.0, 1.0), (1.0, 1.0)])
def test_a_section_that_ends_before_it_begins_is_refused(start_s: float, end_s: float) -> None:
    with pytest.raises(UsageError, match="is empty; its end must come after its start"):
        check_section(start_s, end_s)


@pytest.mark.parametrize(("start_s", "end_s"), [(None, None), (None, 1.0), (2.0, None), (1.0, 2.0)])
def test_any_other_is_taken(start_s: float | None, end_s: float | None) -> None:
    check_section(start_s, end_s)
