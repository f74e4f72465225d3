from __future__ import annotations

import os
import subprocess
import sys

import pytest

PRINT = "import mien.apps.main, os; print(os.environ['OPENBLAS_NUM_THREADS'])"


@pytest.mark.parametrize("threads", [None, "3"])
def test_linear_algebra_stays_in_one_thread_unless_the_user_asks(threads: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    if threads is not None:
        environment["OPENBLAS_NUM_THREADS"] = threads
    done = subprocess.run(
        [sys.executable, "-c", PRINT], env=environment, text=True, capture_output=True, check=True
    )
    assert done.stdout.strip() == (threads or "1")
