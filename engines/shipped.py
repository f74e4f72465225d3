"""Every network that may come with mien: what a catalog can hold, and `training ship` put there."""

from __future__ import annotations

from mien.engines.generators import FACE_PARSER, GENERATORS
from mien.engines.judge import JUDGE
from mien.engines.networks import NETWORKS

SHIPPED = (*NETWORKS, FACE_PARSER, *GENERATORS, JUDGE)
