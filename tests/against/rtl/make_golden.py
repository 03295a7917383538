"""Counts cycles of the systolic array in Icarus Verilog; run as a script, it rewrites golden.csv.

A build is the array with its compile-time parameters, a case a queue of one or more GEMMs given to it.
"""

import csv
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
GOLDEN = HERE / "golden.csv"
DATAFLOW_CODE = {"weight_stationary": 0, "output_stationary": 1, "input_stationary": 2}
SIZES = (  # (rows, cols) by dataflow and buffering: every combination meets small, oblong and large arrays
    ((2, 2), (8, 16), (13, 5), (32, 32)),
    ((2, 2), (16, 8), (5, 13), (32, 32)),
    ((2, 3), (16, 16), (7, 4), (32, 24)),
    ((3, 2), (8, 8), (4, 11), (32, 32)),
    ((1, 4), (8, 4), (11, 16), (24, 32)),
    ((4, 1), (4, 8), (16, 11), (32, 16)),
)
SINGLE_GEMMS, QUEUES = 24, 8  # cases per build


@dataclass(frozen=True, slots=True)
class Build:
    """Compile-time parameters of one simulated array."""

    dataflow: str
    overlap_folds: bool
    rows: int
    cols: int


@dataclass(frozen=True, slots=True)
class Gemm:
    """One M x K by K x N product, offered to the array no earlier than `release_cycle`."""

    m: int
    n: int
    k: int
    release_cycle: int = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """What the RTL did with one GEMM of a case; the cycles are defined in systolic_bench.sv."""

    build: Build
    case: int
    gemm: Gemm
    issue_cycle: int
    finish_cycle: int


Case = tuple[Gemm, ...]


def simulate(build: Build, cases: Sequence[Case]) -> list[Counted]:
    """Runs the cases; the bench checks every product. Raises CalledProcessError if one differs or hangs."""
    with tempfile.TemporaryDirectory() as folder:
        binary, listing = Path(folder, "bench.vvp"), Path(folder, "cases.txt")
        listing.write_text("".join(_case_line(case) for case in cases))
        parameters = {
            "ROWS": build.rows,
            "COLS": build.cols,
            "DATAFLOW": DATAFLOW_CODE[build.dataflow],
            "DOUBLE_BUFFERED": int(build.overlap_folds),
        }
        defines = [f"-Psystolic_bench.{name}={value}" for name, value in parameters.items()]
        sources = [str(HERE / "systolic_array.sv"), str(HERE / "systolic_bench.sv")]
        _output(["iverilog", "-g2012", "-s", "systolic_bench", *defines, "-o", str(binary), *sources])
        printed = _output(["vvp", "-n", str(binary), f"+cases={listing}"])
    counts = re.findall(r"^case (\d+) gemm (\d+) issue (\d+) finish (\d+)$", printed, re.MULTILINE)
    counted = [
        Counted(build, int(case), cases[int(case)][int(gemm)], int(issue), int(finish))
        for case, gemm, issue, finish in counts
    ]
    if [c.gemm for c in counted] != [gemm for case in cases for gemm in case]:
        raise RuntimeError(f"the bench did not report every GEMM of {build}:\n{printed}")
    return counted


def read_golden() -> list[Counted]:
    """The committed counts, in the order of the file."""
    with GOLDEN.open(newline="") as file:
        return [_from_row(row) for row in csv.DictReader(file)]


def builds() -> list[Build]:
    """The arrays of golden.csv."""
    kinds = [(dataflow, overlap) for dataflow in DATAFLOW_CODE for overlap in (False, True)]
    return [Build(*kind, *size) for kind, sizes in zip(kinds, SIZES, strict=True) for size in sizes]


def random_cases(build: Build, rng: random.Random) -> list[Case]:
    """Lone GEMMs, among them vectors and exact multiples of the array, then queues with and without gaps."""
    lone = [(_random_gemm(build, rng),) for _ in range(SINGLE_GEMMS)]
    return lone + [_random_queue(build, rng, gaps=number % 2 == 1) for number in range(QUEUES)]


def _random_gemm(build: Build, rng: random.Random, release_cycle: int = 0) -> Gemm:
    side = max(build.rows, build.cols)

    def extent() -> int:
        unit = rng.choice((build.rows, build.cols))
        ragged = rng.randint(1, side), rng.randint(1, max(24, 3 * side))
        return rng.choice((1, unit, unit * rng.randint(1, 3), *ragged))

    return Gemm(extent(), extent(), extent(), release_cycle)


def _random_queue(build: Build, rng: random.Random, *, gaps: bool) -> Case:
    release_cycle = 0
    queue = []
    for _ in range(rng.randint(3, 5)):
        queue.append(_random_gemm(build, rng, release_cycle))
        if gaps:
            release_cycle += rng.randint(0, 8 * (build.rows + build.cols))
    return tuple(queue)


def _case_line(case: Case) -> str:
    return f"{len(case)} " + "  ".join(f"{g.m} {g.n} {g.k} {g.release_cycle}" for g in case) + "\n"


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or "FATAL" in done.stdout:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


COLUMNS = ("dataflow", "overlap_folds", "rows", "cols", "case", "m", "n", "k",
           "release_cycle", "issue_cycle", "finish_cycle")  # fmt: skip


def _to_row(c: Counted) -> tuple[str | int, ...]:
    b, g = c.build, c.gemm
    array = (b.dataflow, int(b.overlap_folds), b.rows, b.cols)
    return (*array, c.case, g.m, g.n, g.k, g.release_cycle, c.issue_cycle, c.finish_cycle)


def _from_row(row: dict[str, str]) -> Counted:
    number = {name: int(value) for name, value in row.items() if name != "dataflow"}
    build = Build(row["dataflow"], bool(number["overlap_folds"]), number["rows"], number["cols"])
    gemm = Gemm(number["m"], number["n"], number["k"], number["release_cycle"])
    return Counted(build, number["case"], gemm, number["issue_cycle"], number["finish_cycle"])


def main() -> None:
    """Rewrites golden.csv from a fixed seed; the same bytes every time."""
    if shutil.which("iverilog") is None:
        sys.exit("iverilog is not installed (apt-get install iverilog)")
    rng = random.Random(2020)
    with GOLDEN.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for build in builds():
            writer.writerows(_to_row(counted) for counted in simulate(build, random_cases(build, rng)))
            print(build)


if __name__ == "__main__":
    main()
