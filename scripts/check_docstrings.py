"""Checks that the docstrings of procedures say what these do, in the imperative.

ruff's D401 wants the imperative of every function. Here the docstring of a function that returns
something says what it returns, so D401 is kept for those annotated `-> None` or `-> NoReturn`.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (
    *("package", "engines", "runtime", "apps", "export", "calibration", "training"),
    *("tests", "scripts"),
)
# First words that D401 does not know, and that say what comes back.
NO_VERBS = ("Nothing;", "Nothing,", "None")


def complaints(files: Sequence[Path]) -> Iterator[str]:
    """A line for each docstring of a procedure that does not begin with an imperative."""
    moody = _not_imperative(files)
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            text = ast.get_docstring(node)
            returns = "" if node.returns is None else ast.unparse(node.returns)
            if text is None or returns not in ("None", "NoReturn"):
                continue
            row = node.body[0].lineno
            if (file.resolve(), row) in moody or text.startswith(NO_VERBS):
                first = text.splitlines()[0]
                yield f"{file}:{row}: say what {node.name} does, in the imperative: {first!r}"


def _not_imperative(files: Sequence[Path]) -> set[tuple[Path, int]]:
    """File and row of every docstring that D401 finds fault with."""
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "D401"]
    ran = subprocess.run(
        [*ruff, "--output-format", "json", *map(str, files)],
        capture_output=True,
        text=True,
        check=False,  # 1 where there are findings
    )
    if ran.returncode > 1:
        raise SystemExit(ran.stderr)
    found = json.loads(ran.stdout)
    return {(Path(one["filename"]).resolve(), one["location"]["row"]) for one in found}


def main() -> None:
    """Print what is wrong in the files of the command line, or in all, and exit with 1 then."""
    given = [Path(name) for name in sys.argv[1:]]
    every = (file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py")))
    wrong = list(complaints(given or list(every)))
    for line in wrong:
        sys.stdout.write(line + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
