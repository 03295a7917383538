"""Brings the tables of docs/validation.md up to date with what `lepton validate` found.

    lepton validate a100 --timing kernel --events-to 3e10 --out FOLDER
    python docs/validation_tables.py FOLDER/errors.csv [FAMILY...]

The rows of a chip (those of the families named, else all) go to docs/validation/CHIP.csv, from which the tables are
made; without arguments they are made from what is there. tests/validate/test_validation_tables.py asserts that this
would change nothing.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "validation.md"
FOLDER = DOCS / "validation"

Row = Mapping[str, str]

HEADS = {
    ("tpu_v4",): "| family | limited by | rows | mean |",
    ("a100", "h100", "a40"): "| chip | family | limited by | rows | mean |",
}
"""Chips of a table, by how its head begins. A table of several has a column for them."""

FAMILIES = {
    "tpu_v4": {
        "matmul": "matmul", "binary": "add, mul", "unary": "activations", "norm": "layer norm", "copy": "copy from HBM"
    },
    "gpu": {"gated": "gated activations", "binary": "add", "unary": "gelu", "norm": "norms", "matmul": "matmul"},
}  # fmt: skip
"""What the families are called there, in the order of the rows."""

NUMBERS = (
    "mean_abs_pct", "median_abs_pct", "p90_abs_pct", "median_signed_pct", "unseen_mean_abs_pct",
    "uncalibrated_mean_abs_pct", "roofline_mean_abs_pct",
)  # fmt: skip
PARTED = {"matmul": ("all", "memory", "compute")}
"""Limits that a family is told for apart; of others only all rows."""


def chip_rows(chip: str) -> list[Row]:
    """What is kept of a chip."""
    with (FOLDER / f"{chip}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def table_lines(chips: Sequence[str]) -> list[str]:
    """The rows of a table below its head."""
    lines = []
    for chip in chips:
        words = FAMILIES.get(chip, FAMILIES["gpu"])
        rows = {(row["family"], row["regime"]): row for row in chip_rows(chip)}
        for family, name in words.items():
            for limit in PARTED.get(family, ("all",)):
                row = rows.get((family, limit))
                if row is not None:
                    lead = [chip.upper()] if len(chips) > 1 else []
                    numbers = (_number(column, row[column]) for column in NUMBERS)
                    lines.append(f"| {' | '.join((*lead, name, limit, row['rows'], *numbers))} |")
    return lines


def _number(column: str, text: str) -> str:
    return f"{float(text):+.1f}" if column == "median_signed_pct" else f"{float(text):.1f}"


def refreshed(page: str) -> str:
    """The page with the rows of its tables made anew. Raises ValueError where a table is missing."""
    lines = page.split("\n")
    for chips, head in HEADS.items():
        first = next((at for at, line in enumerate(lines) if line.startswith(head)), None)
        if first is None:
            raise ValueError(f"{PAGE.name} has no table that begins with '{head}'")
        last = first + 2
        while lines[last].startswith("|"):
            last += 1
        lines[first + 2 : last] = table_lines(chips)
    return "\n".join(lines)


def keep(found: Iterable[Row], families: Sequence[str]) -> None:
    """Put the rows of one chip, of these families or of all, in the place of what was kept of them."""
    taken = [row for row in found if not families or row["family"] in families]
    path = FOLDER / f"{taken[0]['chip']}.csv"
    replaced = {row["family"] for row in taken}
    rows = [row for row in chip_rows(path.stem) if row["family"] not in replaced] if path.exists() else []
    text = io.StringIO()
    writer = csv.DictWriter(text, list(taken[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, *taken])
    path.write_text(text.getvalue(), encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    if arguments:
        with Path(arguments[0]).open(encoding="utf-8", newline="") as stream:
            keep(list(csv.DictReader(stream)), arguments[1:])
    PAGE.write_text(refreshed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
