"""Configurations of SCALE-Sim (github.com/scalesim-project, `.cfg` files of versions 2 and 3) as chips.

What such a file says is an array, three buffers and the words that each of three interfaces to memory moves per cycle.
Cycles become those of a clock of 1 GHz, words bytes (int8). What a chip needs beyond that is chosen so that it limits
nothing: `NOTES` says what, and it stands in the chip's `notes`.

Compute cycles follow the same closed form (sim/hw/systolic.py, folds not overlapping), folds x (2R + C + T - 2),
with two differences: version 3 reports the number of the last cycle, which is one less than their count, and its
output-stationary folds end before the R cycles in which results are shifted out (systolic_compute_os.py), at
T + R + C - 2. A layer that the mapper cuts into tiles, so that transfers go on beside them, fills the array per tile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.config.document import Document, Position
from sim.errors import Diagnostic, InputError, KeyPath, did_you_mean

SUFFIX = ".cfg"
CLOCK_HZ = 10**9
INTERFACES = 3
"""Inputs, filters and results each have an interface of their own."""

SUM_BYTES = 4
MOST = 1 << 40
"""Largest number that is read: beyond any size, and safe to multiply."""

DATAFLOWS = {"ws": "weight_stationary", "os": "output_stationary", "is": "input_stationary"}

NOTES = (
    "Imported from SCALE-Sim. Carried over: the array, its dataflow (folds one after another, not overlapping), "
    "IfmapSramSzkB and FilterSramSzkB as one scratchpad, OfmapSramSzkB as accumulator, Bandwidth in bytes per cycle "
    "for each of loads of inputs, loads of filters and stores. Assumed: 1 GHz, int8, scratchpad and accumulator as "
    "fast as the array, one lane per column, DRAM of the interfaces' bandwidth at one cycle of latency, node n16 "
    "for energy and area."
)

_SIZES = {
    # key in the file: (where the chip has it)
    "arrayheight": ("cores", 0, "array", "rows"),
    "arraywidth": ("cores", 0, "array", "cols"),
    "ifmapsramszkb": ("cores", 0, "sram", "size"),
    "filtersramszkb": ("cores", 0, "sram", "size"),
    "ofmapsramszkb": ("cores", 0, "accumulator", "size"),
}
_SPELLED = {
    "arrayheight": "ArrayHeight", "arraywidth": "ArrayWidth", "ifmapsramszkb": "IfmapSramSzkB",
    "filtersramszkb": "FilterSramSzkB", "ofmapsramszkb": "OfmapSramSzkB", "dataflow": "Dataflow",
    "bandwidth": "Bandwidth", "interfacebandwidth": "InterfaceBandwidth",
}  # fmt: skip
_SWITCHES = {
    "sparsitysupport": "structured sparsity",
    "ifmapcustomlayout": "the layout of inputs over banks",
    "filtercustomlayout": "the layout of filters over banks",
    "useramulatortrace": "DRAM latencies of a Ramulator trace",
    "timelinearmodel": "the linear model from cycles to time",
}
_OFF = {"false", "none", "no", "0", ""}


@dataclass(slots=True)
class _Entries:
    """Values by their key in lower case, as SCALE-Sim reads them, and the lines they stand in."""

    file: Path
    values: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    sections: set[str] = field(default_factory=set)
    complaints: list[Diagnostic] = field(default_factory=list)

    def complain(self, key: str, message: str, hint: str = "") -> None:
        name = _SPELLED.get(key, key)
        self.complaints.append(Diagnostic(message, self.file, self.lines.get(key), None, name, hint))

    def number(self, key: str) -> int:
        """A positive whole number; 1 after a complaint."""
        text = self.values.get(key)
        if text is None:
            near = did_you_mean(key, [found for found in self.values if found not in _SPELLED])
            self.complain(key, f"required key '{_SPELLED[key]}' is missing from [architecture_presets]", near)
            return 1
        if not re.fullmatch(r"[0-9]{1,15}", text) or not 0 < int(text) <= MOST:
            self.complain(key, f"found '{text}'; expected a positive whole number")
            return 1
        return int(text)


def load_scalesim_cfg(path: Path) -> Document:
    """The chip document of a SCALE-Sim configuration. Raises InputError with every complaint at its line."""
    found = _read(path)
    if "architecture_presets" not in found.sections:
        message = "no section [architecture_presets]; expected a configuration of SCALE-Sim"
        raise InputError([*found.complaints, Diagnostic(message, path)])
    rows, cols, ifmap, filters, ofmap = (found.number(key) for key in _SIZES)
    dataflow = found.values.get("dataflow", "")
    if dataflow.lower() not in DATAFLOWS:
        hint = "required key 'Dataflow' is missing" if not dataflow else f"found '{dataflow}'"
        found.complain("dataflow", f"{hint}; expected one of {', '.join(DATAFLOWS)}")
    words = _bandwidth(found, rows, cols)
    if found.complaints:
        raise InputError(found.complaints)
    data = _chip(path, rows, cols, (ifmap + filters, ofmap), DATAFLOWS[dataflow.lower()], words)
    data["notes"] = " ".join([NOTES, *_left_out(found)])
    positions: dict[KeyPath, Position] = {(): Position(path)}
    for key, where in _SIZES.items():
        positions[where] = Position(path, found.lines[key], 1)
    positions["cores", 0, "array", "dataflow"] = Position(path, found.lines["dataflow"], 1)
    return Document(path, data, positions)


def _bandwidth(found: _Entries, rows: int, cols: int) -> int:
    """Words per cycle of one interface. With `InterfaceBandwidth: CALC`, what never lets the array wait."""
    mode = found.values.get("interfacebandwidth", "USER").upper()
    if mode not in ("USER", "CALC"):
        found.complain("interfacebandwidth", f"found '{mode}'; expected USER or CALC")
    if mode == "CALC":
        return max(rows, cols)
    text = found.values.get("bandwidth")
    if text is None:
        found.complain("bandwidth", "required key 'Bandwidth' is missing (InterfaceBandwidth is USER)")
        return 1
    found.values["bandwidth"] = text.split(",")[0].strip()  # of the first memory bank, which is all that is used
    return found.number("bandwidth")


def _left_out(found: _Entries) -> Iterator[str]:
    """What the file asks for and the chip does not do."""
    asked = [what for key, what in _SWITCHES.items() if found.values.get(key, "").lower() not in _OFF]
    if asked:
        yield f"Not carried over, though the file asks for it: {', '.join(asked)}."


def _chip(
    path: Path, rows: int, cols: int, kib: tuple[int, int], dataflow: str, words: int
) -> dict[str, Any]:
    """`kib` are the KiB of the scratchpad and of the accumulator (SCALE-Sim's kB are 1024 bytes)."""

    def per_cycle(count: int) -> str:
        return f"{count * CLOCK_HZ // 10**6} MB/s"

    core = {
        "name": "core",
        "count": 1,
        "array": {
            "rows": rows, "cols": cols, "dataflow": dataflow, "double_buffered_weights": False, "rates": {"int8": 1},
        },
        "accumulator": {"size": f"{kib[1]} KiB", "bandwidth": per_cycle(4 * SUM_BYTES * cols)},
        "vector": {"lanes": cols},
        "sram": {"size": f"{kib[0]} KiB", "bandwidth": per_cycle(4 * (rows + cols) + INTERFACES * words)},
        "dma": {
            "channels": INTERFACES, "outstanding": 4, "setup_latency": "0 ps", "bandwidth": per_cycle(words),
        },
    }  # fmt: skip
    dram = {
        "device": "ddr4_2400", "channels": 1, "capacity": "64 GiB", "latency": "1 ns", "gathers": True,
        "bandwidth": per_cycle(INTERFACES * words),
    }  # fmt: skip
    name = re.sub(r"\W+", "_", path.stem) or "scalesim"
    return {"name": name, "technology": "n16", "clock": "1 GHz", "cores": [core], "dram": dram, "source": path.name}


def _read(path: Path) -> _Entries:
    """The keys of all sections. Raises InputError for a file that is no text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(Diagnostic(f"cannot read the file: {error.strerror}", path)) from error
    except UnicodeDecodeError as error:
        raise InputError(Diagnostic("the file is not UTF-8 text", path)) from error
    found = _Entries(path)
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.strip()
        if not content or content[0] in "#;":
            continue
        if content.startswith("[") and content.endswith("]"):
            found.sections.add(content[1:-1].strip().lower())
            continue
        match = re.match(r"([^:=]+?)\s*[:=]\s*(.*)", content)
        if match is None:
            shown = content if len(content) <= 40 else f"{content[:40]}..."
            message = f"found '{shown}'; expected 'Key : value' or '[section]'"
            found.complaints.append(Diagnostic(message, path, number, 1))
            continue
        key = match[1].lower()
        if key in found.values:
            found.complain(key, f"the key stands twice, in lines {found.lines[key]} and {number}")
        found.values[key], found.lines[key] = match[2].strip(), number
    return found
