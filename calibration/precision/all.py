"""Every model of a catalog in FP16 or INT8, into a folder that `--models` takes, and a table.

`python -m mien.calibration.precision.all --out DIR [--precision fp16|int8] [--rules cpu|tensorrt]
[--data DIR] [--models DIR] [--networks NAME,NAME]`
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mien.calibration.precision.calibrate import PRECISIONS, RULES
from mien.calibration.precision.card import ROW
from mien.calibration.precision.folder import check_folder, data_name, keep
from mien.calibration.precision.run import Calibration
from mien.calibration.representative import read_clips
from mien.calibration.tables.machine import machine_line
from mien.calibration.tables.table import markdown
from mien.engines.catalog import Catalog
from mien.engines.errors import MienError


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status, 2 where a network could not be measured; see the module."""
    parser = argparse.ArgumentParser(prog="mien.calibration.precision.all", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp16")
    parser.add_argument("--rules", choices=RULES, default="cpu")
    parser.add_argument("--data", type=Path, help="pictures or clips; by default the sample")
    parser.add_argument("--models", type=Path, help="a folder with models of your own")
    parser.add_argument("--networks", help="only these, by commas")
    options = parser.parse_args(argv)
    try:
        return _measure(options)
    except MienError as error:
        print(f"mien.calibration.precision.all: {error}", file=sys.stderr)  # noqa: T201
        return 2


def _measure(options: argparse.Namespace) -> int:
    """The exit status; prints the table. Raises MienError where there is nothing to measure."""
    catalog = Catalog.load(options.models) if options.models else Catalog.bundled()
    names = (options.networks or ",".join(e.network for e in catalog.entries)).split(",")
    clips, rows, status = read_clips(options.data), [], 0
    for name in names:
        try:
            check_folder(options.out, catalog.entry(name))
            made = Calibration(name, catalog, clips, data=data_name(options.data))
            variant = made.fp16() if options.precision == "fp16" else made.int8(options.rules)
            keep(variant, catalog.entry(name), options.out, overwrite=True)
        except MienError as error:
            rows.append((name, *["-"] * (len(ROW) - 2), f"no: {error}"))
            status = 2
            continue
        rows.append(variant.card.row())
        print(variant.card.row(), file=sys.stderr, flush=True)  # noqa: T201 - progress
    print(markdown(ROW, rows))  # noqa: T201 - printing is what it is for
    print(f"\nMeasured on {machine_line()}.")  # noqa: T201 - as above
    return status


if __name__ == "__main__":
    sys.exit(main())
