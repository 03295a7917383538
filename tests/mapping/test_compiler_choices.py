"""What a chip file says of its compiler: one slot per buffer, operators that stay on one core, element types that are
converted on the way, adders of several inputs."""

import numpy as np
import pytest

import sim
from sim.cost.element_passes import body_passes, drain_passes
from sim.cost.work import GemmShape, array_cycles
from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.graph.nest import nests
from sim.hw.chip import load_chip
from sim.hw.systolic import gemm_cycles, gemm_hold_cycles


def tiny(**changes: object):
    return load_chip("tiny", {f"core.{path.replace('__', '.')}": value for path, value in changes.items()})


def row_softmax(rows: int, columns: int):
    builder = GraphBuilder("softmax", "int8")
    return builder.build([builder.softmax(builder.input("x", (rows, columns)))], kernel=True)


# ---- slots -----------------------------------------------------------------------------------------------------


def test_with_one_slot_loads_and_work_of_one_operand_add_up():
    graph = row_softmax(2048, 512)
    one, two = (sim.simulate(graph, tiny(sram__tile_slots=slots)) for slots in (1, 2))

    def together(report):
        row = report.ops.iloc[0]
        return row["compute_s"] + row["exposed_transfer_s"], row["compute_s"] + row["transfer_s"]

    shown, everything = together(one)
    assert shown == pytest.approx(everything, rel=0.02)
    shown, everything = together(two)
    assert shown < 0.95 * everything
    assert one["latency_s"] > two["latency_s"]


@pytest.mark.parametrize("spec", ["gemm:96x80x112", "gemm:200x40x300"])
def test_one_slot_changes_no_value_and_no_engine(spec):
    chip = tiny(sram__tile_slots=1)
    assert sim.verify_values(spec, chip, dtype="int8").passed
    times = {
        sim.simulate(spec, chip, dtype="int8", engine=engine)["latency_s"]
        for engine in ("compiled", "reference")
    }
    assert len(times) == 1


def test_one_slot_takes_less_scratchpad_for_the_same_tile():
    graph = row_softmax(2048, 512)
    one, two = (
        sim.plan(graph, tiny(sram__tile_slots=slots))[2].facts["scratchpad"]["peak_bytes"] for slots in (1, 2)
    )
    assert one <= two


# ---- size of tiles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2])
def test_tiles_take_no_more_of_the_scratchpad_than_they_may(slots):
    # With a law in the compiled search (two slots) and without.
    def peak(tiles: str) -> int:
        chip = load_chip("lepton_m", {"core.sram.tiles": tiles, "core.sram.tile_slots": slots})
        return sim.plan("gemm:4096x4096x4096", chip, dtype="int8")[2].facts["scratchpad"]["peak_bytes"]

    free, least, some = peak("0 B"), peak("256 KiB"), peak("1 MiB")
    assert least <= 256 << 10 < some <= 1 << 20 < free <= 2 << 20


def test_where_no_tile_is_so_small_it_is_as_large_as_it_must():
    # A softmax is not cut along its row: 64 KiB of it in bytes, and as much for the result.
    graph, limited = row_softmax(64, 1 << 16), load_chip("lepton_m", {"core.sram.tiles": "128 KiB"})
    assert sim.plan(graph, limited)[2].facts["scratchpad"]["peak_bytes"] >= 2 << 16


def test_the_bound_of_many_designs_refuses_a_limit_on_tiles():
    with pytest.raises(InputError, match=r"no law for sram\.tiles"):
        sim.bound("gemm:256x256x256", [load_chip("lepton_m", {"core.sram.tiles": "1 MiB"})], dtype="int8")


# ---- one core or all -------------------------------------------------------------------------------------------


def test_an_operator_is_divided_only_where_it_outgrows_one_scratchpad():
    chip = load_chip("lepton_m", {"core.divide": "to_fit"})
    # 4 MiB a core: three int8 matrices of 1024 take 3 MiB, of 1280 take 4.7 MiB.
    small, large = (
        sim.simulate(f"gemm:{n}x{n}x{n}", chip, dtype="int8").ops.iloc[0]["cores"] for n in (1024, 1280)
    )
    assert (small, large) == (1, 8)
    assert sim.simulate("gemm:1024x1024x1024", "lepton_m", dtype="int8").ops.iloc[0]["cores"] == 8


def test_unpacked_copies_count_towards_the_scratchpad():
    # 1 MiB in and out in fp32 fits 4 MiB; with 4 bytes more per element of each it does not.
    builder = GraphBuilder("relu", "fp32")
    graph = builder.build([builder.relu(builder.input("x", (512, 512)))], kernel=True)
    cores = [
        sim.simulate(graph, load_chip("lepton_m", changes)).ops.iloc[0]["cores"]
        for changes in (
            {"core.divide": "to_fit"},
            {
                "core.divide": "to_fit",
                "core.sram.size": "3 MiB",
                "core.vector.conversions": {"fp32": {"unpack": 1, "pack": 1}},
            },
        )
    ]
    assert cores[0] == 1 < cores[1]


# ---- conversions -----------------------------------------------------------------------------------------------

CONVERTED = {"fp32": {"unpack": 3, "pack": 5}}


def test_a_vector_operator_unpacks_what_it_reads_and_packs_what_it_writes():
    kind = tiny(vector__conversions=CONVERTED).cores[0]
    builder = GraphBuilder("ops", "fp32")
    x, y = builder.input("x", (64, 64)), builder.input("y", (64, 64))
    builder.add(x, y, name="add")
    builder.add(x, builder.weight((64,), "bias"), name="bias_add")
    builder.layer_norm(x, bias=False, name="norm")
    graph = builder.build(["add", "bias_add", "norm"], kernel=True)
    convert = {}
    for op in graph.ops:
        (nest,) = nests(op, graph.tensors)
        convert[op.name] = body_passes(nest, kind).get("convert", 0.0)
    assert convert["add"] == 2 * 3 + 5
    assert convert["bias_add"] == pytest.approx(3 + 3 / 64 + 5)
    # Two reductions and the result: three times over the operand.
    assert convert["norm"] == pytest.approx(3 * (3 + 3 / 64) + 5)


@pytest.mark.parametrize(
    ("kind", "width", "extra"),
    # log2(4) steps per reduction on one register of those a row fills: 32 columns are 8 of them, 6 are two. Then what
    # is done with a row's one number, by whole registers: mean, variance, epsilon, root; one over the sum.
    [
        ("layer_norm", 32, (2 * 2 + 4) / 8),
        ("rms_norm", 32, (2 + 3) / 8),
        ("softmax", 6, (2 * 2 + 1) / 2),
        ("relu", 32, 0),
    ],
)
def test_sums_along_a_row_end_across_the_lanes(kind: str, width: int, extra: float) -> None:
    builder = GraphBuilder("norm", "int8")
    x = builder.input("x", (64, width))
    build = getattr(builder, kind)
    graph = builder.build([build(x)], kernel=True)
    (nest,) = nests(graph.ops[0], graph.tensors)
    plain, registers = tiny().cores[0], tiny(vector__register=[2, 4]).cores[0]
    found = sum(body_passes(nest, registers).values()) - sum(body_passes(nest, plain).values())
    assert found == pytest.approx(extra)


def test_the_root_of_every_row_takes_a_register() -> None:
    """8 rows share one: a root of four passes is half a cycle a row, whatever its width (TPU v4's registers)."""
    chip = load_chip("tpu_v4")
    kind = chip.cores[0]
    builder = GraphBuilder("norm", "bf16")
    for width in (128, 4096):
        builder.layer_norm(builder.input(f"x{width}", (512, width)), bias=False, name=f"n{width}")
    graph = builder.build(["n128", "n4096"], kernel=True)
    for op, width in zip(graph.ops, (128, 4096), strict=True):
        (nest,) = nests(op, graph.tensors)
        passes = body_passes(nest, kind)
        registers_a_row = width / 128 / 8
        assert passes["rsqrt"] * registers_a_row == pytest.approx(1 / 8)
        own = {"add": 4.0, "mul": 3.0}
        assert (passes["mul"] - own["mul"]) * registers_a_row == pytest.approx(2 / 8)
        assert (passes["add"] - own["add"]) * registers_a_row == pytest.approx((2 * 7 + 1) / 8)


def test_a_type_the_lanes_compute_in_costs_nothing_extra():
    builder = GraphBuilder("add", "int8")
    builder.add(builder.input("x", (8, 8)), builder.input("y", (8, 8)), name="add")
    graph = builder.build(["add"], kernel=True)
    (nest,) = nests(graph.ops[0], graph.tensors)
    plain, other = tiny().cores[0], tiny(vector__conversions=CONVERTED).cores[0]
    assert body_passes(nest, plain) == body_passes(nest, other) == {"add": 1.0}


def test_the_array_waits_while_its_operands_are_unpacked():
    plain = tiny().cores[0]
    slow = tiny(array__converted=["fp32"], vector__conversions={"fp32": {"unpack": 50, "pack": 5}}).cores[0]
    shape = GemmShape(*(np.array([n]) for n in (1, 64, 32, 16)))
    lanes = plain.vector.lanes
    expected = -(-(16 * (64 + 32)) // lanes) * 50
    hold, _ = array_cycles(shape, slow, "fp32", "weight_stationary", (32, 32))
    assert hold.tolist() == [
        max(expected, array_cycles(shape, plain, "fp32", "weight_stationary", (32, 32))[0][0])
    ]
    assert expected > 8 * 64
    for kind in (plain, slow):
        assert array_cycles(shape, kind, "int8", "weight_stationary", (8, 8))[0].tolist() == [8 * 64]


def test_a_drain_packs_its_result_and_energy_counts_every_conversion():
    chip = tiny(array__converted=["fp32"], vector__conversions=CONVERTED)
    builder = GraphBuilder("gemm", "fp32")
    builder.matmul(builder.input("a", (64, 64)), builder.weight((64, 64), "b"), name="mm")
    graph = builder.build(["mm"], kernel=True)
    (nest,) = nests(graph.ops[0], graph.tensors)
    assert drain_passes(nest, chip.cores[0]) == {"convert": 1.0 + 5.0}
    program = sim.plan(graph, chip)[2]
    (row,) = [op for op in program.segments[0].ops if op.kind == "matmul"]
    if row.mapping["unit"] == "array":
        assert row.counts["vector_convert"] >= 64 * 64 * 6 + 3 * 2 * 64 * 64


# ---- adders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataflow", ["weight_stationary", "input_stationary"])
def test_rows_behind_one_adder_are_crossed_at_once(dataflow):
    kind = tiny(array__rows_per_adder=4).cores[0]
    shape = GemmShape(*(np.array([n]) for n in (1, 100, 24, 50)))
    hold, dur = array_cycles(shape, kind, "int8", dataflow, (8, 8))
    law = {
        "rows": 8 // 4,
        "cols": 8,
        "dataflow": dataflow,
        "overlap_folds": kind.array.double_buffered_weights,
    }
    sizes = (100, 24, -(-50 // 4))
    assert dur[0] - hold[0] == gemm_cycles(*sizes, **law) - gemm_hold_cycles(*sizes, **law)
    assert hold[0] >= gemm_hold_cycles(*sizes, **law)


def test_adders_divide_the_rows():
    with pytest.raises(InputError, match="8 rows are no multiple of 3"):
        tiny(array__rows_per_adder=3)
    with pytest.raises(InputError, match="the array has no rate for 'fp16'"):
        tiny(array__converted=["fp16"])
    with pytest.raises(InputError, match="does not say what unpacking 'fp32' takes"):
        tiny(array__converted=["fp32"])
