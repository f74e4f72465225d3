"""Two networks of other origin behind a pipe, run by the Python of an environment with torch.

`PYTHON independent_worker.py CODE ROOT` loads the Python file CODE, with MIEN_JUDGES set to ROOT,
the folder of the weights that it reads. CODE has two classes, called with float32 (1, 3, s, s), RGB
in [0, 1]: `Expression` (s = 112) gives logits for its `names`, `Dlib` (s = 150) an identity.

The worker writes one line of JSON, the names; then it reads pictures from its standard input, each
as two little-endian uint32, which network (0 `Expression`, 1 `Dlib`) and the side, then
side * side * 3 bytes RGB, and answers each with a uint32, how many, and as many float32. It imports
nothing of mien.
"""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import sys
from typing import Any

import numpy as np


def load(code: str, root: str) -> Any:
    """The module in the file `code`, which reads weights below `root`."""
    os.environ["MIEN_JUDGES"] = root
    spec = importlib.util.spec_from_file_location("networks_of_other_origin", code)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{code} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Answer pictures until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the code prints must not get between the answers
    code = load(*sys.argv[1:3])
    framework = code.torch  # the code imports it; its threads are the caller's to bound
    networks = (code.Expression(), code.Dlib())
    answers.write((json.dumps(list(code.Expression.names)) + "\n").encode())
    answers.flush()
    while len(header := sys.stdin.buffer.read(8)) == 8:
        which, side = struct.unpack("<II", header)
        data = sys.stdin.buffer.read(side * side * 3)
        pixels = np.frombuffer(data, np.uint8).reshape(side, side, 3).transpose(2, 0, 1)
        scaled = np.ascontiguousarray(pixels[None], np.float32) / 255
        with framework.inference_mode():
            said = networks[which](framework.from_numpy(scaled))[0].numpy()
        answers.write(struct.pack("<I", said.size) + np.asarray(said, "<f4").tobytes())
        answers.flush()


if __name__ == "__main__":
    main()
