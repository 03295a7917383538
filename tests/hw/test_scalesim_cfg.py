"""Configurations of SCALE-Sim as chips: what is carried over, cycles beside SCALE-Sim's own, complaints with lines."""

from __future__ import annotations

from pathlib import Path

import pytest

import sim
from sim.errors import InputError
from sim.hw.chip import check_chip, load_chip
from sim.hw.systolic import gemm_cycles

# configs/edgeTPU.cfg of github.com/scalesim-project/SCALE-Sim.
EDGE = """[general]
run_name = edgeTPU_ws

[architecture_presets]
ArrayHeight:    4
ArrayWidth:     4
IfmapSramSzkB:    1536
FilterSramSzkB:   256
OfmapSramSzkB:    1536
Dataflow : ws
Bandwidth : 32
MemoryBanks: 1

[run_presets]
InterfaceBandwidth: CALC
"""

# "Total Cycles" without stalls of edgeTPU_experiment_results/edgeTPU_ws/COMPUTE_REPORT.csv there, of layers of
# MLPerf Tiny's visual wake words: (M, N, K), cycles.
REPORTED = [
    ((48 * 48, 8, 27), 32395),
    ((48 * 48, 16, 8), 18511),
    ((6 * 6, 128, 128), 47103),
    ((3 * 3, 256, 256), 77823),
    ((1, 2, 256), 703),
]
WHOLE = REPORTED[2:4]
"""Layers that the mapper keeps in one piece: it cuts the rows of the first two, so that transfers go on beside them,
and puts the last on the vector unit."""


def write(folder: Path, text: str) -> Path:
    path = folder / "edge.cfg"
    path.write_text(text)
    return path


def complaints(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_chip(path)
    return str(caught.value)


def test_the_chip(tmp_path: Path) -> None:
    text = EDGE.replace("ArrayWidth:     4", "ArrayWidth = 8").replace("CALC", "USER")
    chip = load_chip(write(tmp_path, text))
    (core,) = chip.cores
    assert core.array is not None
    assert core.accumulator is not None
    assert (chip.name, chip.clock_hz, chip.core_count) == ("edge", 10**9, 1)
    assert (core.array.rows, core.array.cols, core.array.dataflow) == (4, 8, "weight_stationary")
    assert not core.array.double_buffered_weights
    assert core.sram.size_bytes == (1536 + 256) * 1024
    assert core.accumulator.size_bytes == 1536 * 1024
    # 32 words of a byte per cycle on each of three interfaces.
    assert (core.dma.channels, core.dma.bandwidth_bytes_per_s) == (3, 32 * 10**9)
    assert (chip.dram.bandwidth_bytes_per_s, chip.dram.latency_ps) == (96 * 10**9, 1000)
    assert check_chip(chip) == []
    changed = load_chip(write(tmp_path, text), ["core.array.rows=16"]).cores[0].array
    assert changed is not None
    assert changed.rows == 16


def test_bandwidth_that_is_calculated_never_lets_the_array_wait(tmp_path: Path) -> None:
    chip = load_chip(write(tmp_path, EDGE.replace("Bandwidth : 32\n", "")))
    assert chip.cores[0].dma.bandwidth_bytes_per_s == 4 * 10**9


def test_what_is_not_carried_over_is_said(tmp_path: Path) -> None:
    plain = load_chip(write(tmp_path, EDGE)).notes
    assert "Not carried over" not in plain
    text = EDGE.replace("MemoryBanks: 1", "IfmapCustomLayout: True\nFilterCustomLayout: False\nSparsitySupport : true")
    notes = load_chip(write(tmp_path, text)).notes
    assert notes.endswith("the file asks for it: structured sparsity, the layout of inputs over banks.")


@pytest.mark.parametrize(("sizes", "cycles"), REPORTED)
def test_the_law_is_scale_sims(sizes: tuple[int, int, int], cycles: int) -> None:
    """It reports the number of the last cycle: one less."""
    assert gemm_cycles(*sizes, rows=4, cols=4, dataflow="weight_stationary", overlap_folds=False) - 1 == cycles


def test_a_simulation_takes_the_cycles_that_scale_sim_reports(tmp_path: Path) -> None:
    topology = tmp_path / "layers.csv"
    topology.write_text("".join(f"l{i}, {m}, {n}, {k}\n" for i, ((m, n, k), _) in enumerate(WHOLE)))
    report = sim.simulate(str(topology), chip=str(write(tmp_path, EDGE)))
    cycles = report.ops["macs"] / (16 * report.ops["utilization"])  # of all PEs, for as long as the array was held
    assert (cycles - 1).tolist() == pytest.approx([reported for _, reported in WHOLE], abs=1e-6)
    assert set(report.ops["dtype"]) == {"int8"}


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_folds_of_every_dataflow(tmp_path: Path, dataflow: str) -> None:
    """SCALE-Sim's demand matrices have a row per cycle: operands and the gaps that it puts around them, skewed."""
    (m, n, k), rows, cols = (20, 12, 36), 4, 8
    down, across, streamed = {"ws": (k, n, m), "os": (m, n, k), "is": (k, m, n)}[dataflow]
    shifted_in = 0 if dataflow == "os" else rows
    fold = shifted_in + streamed + (cols - 1) + (rows - 1)
    counted = -(-down // rows) * -(-across // cols)
    chip = load_chip(write(tmp_path, EDGE.replace("ws", dataflow).replace("ArrayWidth:     4", "ArrayWidth: 8")))
    array = chip.cores[0].array
    assert array is not None
    ours = gemm_cycles(
        m, n, k, rows=array.rows, cols=array.cols, dataflow=array.dataflow,
        overlap_folds=array.double_buffered_weights,
    )  # fmt: skip
    # Where results stay, ours also shifts them out of the array, fold by fold.
    assert ours == counted * (fold + (rows if dataflow == "os" else 0))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("ArrayHeight:    4", "ArrayHeight:    0", "edge.cfg:5: error: ArrayHeight: found '0'; expected a positive"),
        ("ArrayHeight:    4", "ArrayHeigth: 4", "ArrayHeight: required key 'ArrayHeight' is missing"),
        ("ArrayHeight:    4", "ArrayHeigth: 4", "did you mean 'arrayheigth'?"),
        ("Dataflow : ws", "Dataflow : rs", "edge.cfg:10: error: Dataflow: found 'rs'; expected one of ws, os, is"),
        ("Dataflow : ws", "Dataflow ws", "edge.cfg:10:1: error: found 'Dataflow ws'; expected 'Key : value'"),
        ("CALC", "AUTO", "InterfaceBandwidth: found 'AUTO'; expected USER or CALC"),
        ("Bandwidth : 32", "ArrayWidth : 5", "ArrayWidth: the key stands twice, in lines 6 and 11"),
        ("[architecture_presets]", "[architecture]", "no section [architecture_presets]"),
        ("IfmapSramSzkB:    1536", "IfmapSramSzkB: 1.5 MB", "found '1.5 MB'; expected a positive whole number"),
        ("ArrayHeight:    4", f"ArrayHeight: {10**14}", "expected a positive whole number"),
        ("ArrayHeight:    4", f"ArrayHeight: {10**7}", "edge.cfg:5:1: error: cores[0].array.rows: "),
    ],
)  # fmt: skip
def test_complaints(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in EDGE
    assert expected in complaints(write(tmp_path, EDGE.replace(old, new)))


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    assert "cannot read the file" in complaints(tmp_path / "none.cfg")
    folder = tmp_path / "folder.cfg"
    folder.mkdir()
    assert "cannot read the file: Is a directory" in complaints(folder)
    (tmp_path / "zip.cfg").write_bytes(b"PK\x03\x04\xff\xfe")
    assert "not UTF-8 text" in complaints(tmp_path / "zip.cfg")
