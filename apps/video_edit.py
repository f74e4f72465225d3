"""`python apps/video_edit.py in.mp4 --emotion happy`: the same as `mien edit`, from a clone."""

from __future__ import annotations

import sys

from mien.apps.main import run
from mien.apps.signals import status_of

if __name__ == "__main__":
    sys.exit(status_of(lambda: run(["edit", *sys.argv[1:]])))
