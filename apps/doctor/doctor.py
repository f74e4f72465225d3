"""`mien doctor`: what of this machine is ready, and the line that fixes what is not."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.markup import escape

from mien.apps.boundary import EXIT_ERROR
from mien.apps.doctor.devices import (
    check_cameras,
    check_codecs,
    check_driver,
    check_exclusive_caps,
    check_lock,
    check_package,
    check_panel_packages,
    check_permissions,
    check_pipewire,
    check_port,
    check_virtual_way,
)
from mien.apps.doctor.finding import Check, Finding, Machine
from mien.apps.doctor.networks import (
    check_board,
    check_filter,
    check_model_tools,
    check_models,
    check_plans,
    check_providers,
    check_tensorrt,
)
from mien.apps.doctor.networks import check_driver as check_nvidia_driver
from mien.engines.errors import one_line

CHECKS: tuple[Check, ...] = (
    check_models,
    check_filter,
    check_providers,
    check_nvidia_driver,
    check_tensorrt,
    check_plans,
    check_board,
    check_codecs,
    check_cameras,
    check_permissions,
    check_virtual_way,
    check_pipewire,
    check_package,
    check_driver,
    check_exclusive_caps,
    check_lock,
    check_panel_packages,
    check_port,
    check_model_tools,
)
COLOURS = {"ok": "green", "missing": "cyan", "warn": "yellow", "bad": "red"}
MISSING = "missing (optional): "


def examine(machine: Machine) -> list[Finding]:
    """All that was found, check by check."""
    return [finding for check in CHECKS for finding in check(machine)]


def print_doctor(machine: Machine, *, as_json: bool) -> int:
    """The exit status, 2 where `mien edit` would not run; prints what was found."""
    findings = examine(machine)
    would_run = not any(finding.stops_edit for finding in findings)
    if as_json:
        report = {"edit_would_run": would_run, "findings": [asdict(found) for found in findings]}
        typer.echo(json.dumps(report, indent=2))
    else:
        _print_lines(findings)
    return 0 if would_run else EXIT_ERROR


def _print_lines(findings: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for found in findings:
        colour, text = COLOURS[found.state], escape(one_line(found.text))
        is_missing = found.state == "missing"
        label, said = ("-", MISSING + text) if is_missing else (found.state, text)
        console.print(f"[{colour}]{label:4}[/{colour}]  {found.subject}: {said}")
        if found.fix:
            console.print(f"      -> {escape(one_line(found.fix))}")
