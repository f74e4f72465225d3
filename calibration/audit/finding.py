"""What the audit of a graph found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

VERSIONS = ("10.3", "11")  # of TensorRT: JetPack 6, and the newest major
MAX_FINDINGS = 100  # a hostile graph could have as many as it has nodes
MAX_TEXT = 300
MAX_NODE_NAMES = 1000

Severity = Literal["error", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    rule: a short name of the check. severity: an `error` fails the audit, a `note` does not.
    text: what is wrong. fix: what to do. nodes: the nodes it was found at, none for the file.
    versions: the versions of TensorRT it stops or harms; empty where it is not about TensorRT.
    """

    rule: str
    severity: Severity
    text: str
    fix: str
    nodes: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in one file.

    network: the name of the network it states to be, empty where it states none.
    sha256: of the file, empty where it was not read. opset: of ONNX's own operators.
    """

    path: str
    findings: tuple[Finding, ...]
    network: str = ""
    sha256: str = ""
    opset: int = 0
    nodes: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether there is no error; notes are allowed."""
        return not any(found.severity == "error" for found in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON's types."""
        return {"clean": self.is_clean} | asdict(self)

    @classmethod
    def from_json(cls, stated: Mapping[str, Any]) -> Report:
        """The report that `to_json` gave."""
        fields = {key: value for key, value in stated.items() if key != "clean"}
        findings = tuple(_finding(found) for found in stated["findings"])
        return cls(**(fields | {"findings": findings}))


def refused(path: str, text: str, fix: str) -> Report:
    """The report of a file that was not looked into."""
    return Report(path, (Finding("file", "error", printable(text), fix),))


def gathered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings with what differs only in the node put into one; errors first."""
    nodes: dict[Finding, list[str]] = {}
    for found in findings:
        nodes.setdefault(replace(found, nodes=()), []).extend(found.nodes)
    whole = [replace(found, nodes=tuple(names[:MAX_NODE_NAMES])) for found, names in nodes.items()]
    whole.sort(key=lambda found: found.severity != "error")
    if len(whole) > MAX_FINDINGS:
        more = len(whole) - MAX_FINDINGS
        last = Finding("more", whole[0].severity, f"{more} findings more", "fix those shown first")
        whole = [*whole[:MAX_FINDINGS], last]
    return tuple(whole)


def printable(text: object) -> str:
    """`text` in one short line, fit for any terminal: names in a file can be anything."""
    line = " ".join(str(text).split())
    line = "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in line)
    line = line.encode(errors="backslashreplace").decode()
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 3] + "..."


def _finding(stated: Mapping[str, Any]) -> Finding:
    lists = {key: tuple(stated[key]) for key in ("nodes", "versions")}
    return Finding(**(dict(stated) | lists))
