"""Topology files of SCALE-Sim (github.com/scalesim-project/scale-sim-v2): one convolution or GEMM per line.

Convolution: layer name, IFMAP height, width, filter height, width, channels, number of filters, stride.
GEMM: layer name, M, N, K. The layers do not feed one another: each has an input of its own. As SCALE-Sim reads them: a
convolution with DP in its name is depthwise, of so many filters per channel; a last column N:M is the sparsity of
weights, of which 1:1 (none) is understood.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sim.errors import Diagnostic, InputError
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph

_CONV = (
    "IFMAP height",
    "IFMAP width",
    "filter height",
    "filter width",
    "channels",
    "number of filters",
    "stride",
)
_GEMM = ("M", "N", "K")

_DEPTHWISE = "DP"
"""In the name of a layer: every channel is convolved by itself (topology_utils.py of SCALE-Sim)."""


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    sizes: tuple[int, ...]


def load_scalesim_csv(path: Path, *, batch: int = 1, dtype: str = "int8") -> Graph:
    """The layers in file order. `batch` multiplies images, or the rows M of a GEMM.

    A header line, blank lines and trailing commas are passed over. Raises InputError with every complaint, at
    its line and column.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(Diagnostic(f"cannot read the file: {error.strerror}", path)) from error
    except UnicodeDecodeError as error:
        raise InputError(Diagnostic("the file is not UTF-8 text", path)) from error
    complaints: list[Diagnostic] = []
    layers: list[_Layer] = []
    for number, line in enumerate(lines, start=1):
        cells = _cells(line)
        first = not layers and not complaints
        is_header = first and len(cells) > 1 and not any(_is_count(text) for _, text in cells[1:])
        if cells and not is_header:
            layer = _parse(cells, path, number, complaints)
            layers += [layer] if layer else []
    if not layers and not complaints:
        complaints.append(Diagnostic("found no layer; expected one or more", path))
    if complaints:
        raise InputError(complaints)
    builder = GraphBuilder(path.stem, dtype)
    outputs = []
    for index, layer in enumerate(layers):
        # A block of its own: as in SCALE-Sim, a layer starts when the one before has ended.
        with builder.block(index):
            outputs.append(_add(builder, layer, batch))
    return builder.build(outputs, items=batch, source=str(path.name), kernel=True)


def _cells(line: str) -> list[tuple[int, str]]:
    """(1-based column, text) of each cell, without the empty ones at the end."""
    cells, column = [], 1
    for cell in line.split(","):
        cells.append((column + len(cell) - len(cell.lstrip()), cell.strip()))
        column += len(cell) + 1
    while cells and not cells[-1][1]:
        cells.pop()
    return cells


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text[:18]) > 0


def _parse(
    cells: list[tuple[int, str]], path: Path, line: int, complaints: list[Diagnostic]
) -> _Layer | None:
    """One layer, or None after adding to `complaints`."""
    sizes = cells[1:]
    if sizes and ":" in sizes[-1][1]:
        column, ratio = sizes.pop()
        if len(set(ratio.replace(" ", "").split(":"))) > 1:
            message = f"sparsity: found '{ratio}'; structured sparsity is not supported, expected 1:1"
            complaints.append(Diagnostic(message, path, line, column))
            return None
    if len(sizes) not in (len(_GEMM), len(_CONV)):
        message = f"found {len(sizes)} numbers; expected {len(_CONV)} (convolution) or {len(_GEMM)} (GEMM)"
        complaints.append(Diagnostic(message, path, line, cells[0][0]))
        return None
    labels = _GEMM if len(sizes) == len(_GEMM) else _CONV
    wrong = [
        Diagnostic(f"{label}: found '{text}'; expected a positive integer", path, line, column)
        for label, (column, text) in zip(labels, sizes, strict=True)
        if not _is_count(text)
    ]
    values = () if wrong else tuple(int(text) for _, text in sizes)
    if len(values) == len(_CONV) and (values[2] > values[0] or values[3] > values[1]):
        message = f"a filter of {values[2]} x {values[3]} does not fit an IFMAP of {values[0]} x {values[1]}"
        wrong.append(Diagnostic(message, path, line, sizes[2][0]))
    complaints += wrong
    return None if wrong else _Layer(cells[0][1] or f"line{line}", values)


def _add(builder: GraphBuilder, layer: _Layer, batch: int) -> str:
    name = builder.unique(layer.name)
    if len(layer.sizes) == len(_GEMM):
        m, n, k = layer.sizes
        x = builder.input(builder.unique(f"{name}.a"), (batch * m, k))
        return builder.linear(x, n, bias=False, name=name)
    height, width, kernel_h, kernel_w, channels, filters, stride = layer.sizes
    x = builder.input(builder.unique(f"{name}.ifmap"), (batch, channels, height, width))
    # SCALE-Sim rounds the output extent up (topology_utils.py): a last partial stride still makes an output.
    padding = [(0, (kernel - extent) % stride) for extent, kernel in ((height, kernel_h), (width, kernel_w))]
    groups = channels if _DEPTHWISE in layer.name else 1
    window = (kernel_h, kernel_w)
    return builder.conv(x, filters * groups, window, stride, padding, groups=groups, bias=False, name=name)
