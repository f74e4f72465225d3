from __future__ import annotations

import os
import subprocess
import sys

import pytest

PRINT = "import mien.apps.main, os; print(os.environ['OPENBLAS_NUM_THREADS'])"


@pytest.mark.parametrize("wish", [None, "3"])
def test_linear_algebra_stays_in_one_thread_unless_the_user_wishes(wish: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    if wish is not None:
        environment["OPENBLAS_NUM_THREADS"] = wish
    done = subprocess.run(
        [sys.executable, "-c", PRINT], env=environment, text=True, capture_output=True, check=True
    )
    assert done.stdout.strip() == (wish or "1")
