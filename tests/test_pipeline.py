"""The library's front door: every option matters or is refused, and fidelities, passes and partitions agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sim
from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.graph.load import load_model
from sim.graph.onnx import light_model_path
from sim.hw.chip import chip_from_dict
from sim.pipeline import plan
from sim.report.report import Report

GEMM = ("gemm:64x96x128", "tiny")
LENET = ("lenet5", "tiny")


def run(model: Any, chip: Any, **options: Any) -> Report:
    return sim.simulate(model, chip, **{"dtype": "int8", **options})


def without_time(report: Report) -> str:
    return json.dumps({key: value for key, value in report.to_json().items() if key != "wall_s"})


@pytest.fixture
def onnx_file(tmp_path: Path) -> str:
    """x [N, 16] times a 16 x 8 weight."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    value, weight = helper.make_tensor_value_info, numpy_helper.from_array(np.ones((16, 8), np.float32), "w")
    ends = [value("x", TensorProto.FLOAT, ["N", 16])], [value("y", TensorProto.FLOAT, ["N", 8])]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "mm", *ends, [weight])
    path = tmp_path / "mm.onnx"
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())
    return str(path)


@pytest.mark.parametrize("fidelity", ["event", "bound"])
def test_indices_and_masks_are_computed_with(fidelity: Any, tmp_path: Path) -> None:
    """Token numbers (int64) looked up and compared, as every exported language model does: nothing of that is an
    array's format, and all of it takes energy."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    table = numpy_helper.from_array(np.ones((32, 16), np.float32), "table")
    constants = [table, numpy_helper.from_array(np.array(3), "pad"), numpy_helper.from_array(np.float32(0), "zero")]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Sub", ["ids", "pad"], ["shifted"], name="shifted"),
        helper.make_node("Cast", ["shifted"], ["kept"], to=TensorProto.BOOL),
        helper.make_node("Unsqueeze", ["kept", "pad_axis"], ["column"]),
        helper.make_node("IsNaN", ["rows"], ["strange"]),
        helper.make_node("Where", ["strange", "zero", "rows"], ["clean"]),
        helper.make_node("Where", ["column", "clean", "zero"], ["y"]),
    ]
    constants.append(numpy_helper.from_array(np.array([2]), "pad_axis"))
    ends = [helper.make_tensor_value_info("ids", TensorProto.INT64, [2, 5])], [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5, 16])
    ]
    path = tmp_path / "ids.onnx"
    opset = [helper.make_opsetid("", 17)]
    graph = helper.make_graph(nodes, "ids", *ends, constants)
    path.write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())
    report = sim.simulate(str(path), "lepton_m", fidelity=fidelity)
    of_integers = report.ops[report.ops.dtype == "int64"]
    assert (of_integers.energy_j > 0).all()
    assert "sub" in set(of_integers.kind)
    assert report.ops.energy_j.sum() == pytest.approx(report.summary.energy_j[0])


@pytest.mark.parametrize(
    ("model", "chip", "base", "option"),
    [
        (*GEMM, {}, {"batch": 2}),
        (*GEMM, {}, {"dtype": "fp32"}),
        (*GEMM, {}, {"inputs": 3}),
        (*GEMM, {}, {"dataflow": "output_stationary"}),
        (*GEMM, {}, {"overrides": ["core.dma.channels=1"]}),
        (*GEMM, {}, {"overrides": {"core.array.rows": 16}}),
        (*GEMM, {}, {"fidelity": "bound"}),
        (*GEMM, {}, {"engine": "reference"}),
        ("gemm:128x256x64", "lepton_m", {"partition": "data"}, {"partition": "channel"}),
        ("gemm:128x256x64", "lepton_m", {"partition": "data"}, {"partition": "reduction"}),
        ("lenet5", "lepton_m", {}, {"partition": "pipeline"}),
        ("gpt2", "lepton_s", {"phase": "prefill", "seq": 8}, {"seq": 16}),
        ("gpt2", "lepton_s", {"phase": "decode", "kv": 8}, {"kv": 512}),
        ("gpt2", "lepton_s", {"phase": "generate", "seq": 8, "new_tokens": 2}, {"new_tokens": 3}),
    ],
)
def test_every_option_changes_the_result(
    model: str, chip: str, base: dict[str, Any], option: dict[str, Any]
) -> None:
    assert without_time(run(model, chip, **base)) != without_time(run(model, chip, **base | option))


def test_phase_and_dimensions_change_the_result(onnx_file: str) -> None:
    prefill = run("gpt2", "lepton_s", phase="prefill", seq=9)
    decode = run("gpt2", "lepton_s", phase="decode", kv=8)
    assert (prefill["throughput_unit"], decode["throughput_unit"]) == ("tokens", "tokens")
    assert prefill["macs"] > decode["macs"]  # type: ignore[operator]
    for n in (2, 5):
        assert sim.simulate(onnx_file, "tiny", dims={"N": n})["macs"] == n * 16 * 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inputs": 0}, "inputs: found 0"),
        ({"batch": 0}, "batch must be positive"),
        ({"dtype": "int9"}, "int9"),
        ({"dtype": "bf16"}, "bf16"),
        ({"phase": "decode"}, "phase: does not apply"),
        ({"seq": 8, "kv": 8}, "seq, kv: do not apply"),
        ({"new_tokens": 8}, "new_tokens: does not apply"),
        ({"dims": {"N": 8}}, "dims: does not apply"),
        ({"partition": "dat"}, "did you mean 'data'"),
        ({"dataflow": "weight_stationery"}, "did you mean 'weight_stationary'"),
        ({"overrides": ["core.array.row=8"]}, "did you mean 'rows'"),
        ({"fidelity": "events"}, "did you mean 'event'"),
        ({"fidelity": "cycle"}, "one of event, bound"),
        ({"engine": "compild"}, "did you mean 'compiled'"),
        ({"fidelity": "bound", "engine": "reference"}, "fidelity bound simulates none"),
    ],
)
def test_what_means_nothing_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(*LENET, **options)


def test_text_generation_has_no_inputs_that_overlap() -> None:
    with pytest.raises(InputError, match="2 passes that follow each other"):
        run("gpt2", "lepton_s", phase="generate", seq=4, new_tokens=2, inputs=2)


@pytest.mark.parametrize("fidelity", ["event", "bound"])
def test_a_model_that_leaves_nothing_to_do(fidelity: Any) -> None:
    """A view of the input, on a chip that no host gives anything."""
    builder = GraphBuilder("seen", "int8")
    graph = builder.build([builder.reshape(builder.input("x", (4, 6)), (24,), "y")])
    with pytest.raises(InputError, match=r"seen leaves chip 'tiny' nothing to do.*a block host"):
        run(graph, "tiny", fidelity=fidelity)
    assert run(graph, "lepton_s", fidelity=fidelity)["dram_write_bytes"] == 24


def test_a_dataflow_needs_an_array() -> None:
    data = sim.load_chip("tiny").expanded()
    del data["cores"][0]["array"], data["cores"][0]["accumulator"]
    bare = chip_from_dict(data)
    assert run("lenet5", bare)["macs"] == 416_520
    with pytest.raises(InputError, match="dataflow: chip 'tiny' has no arrays"):
        run("lenet5", bare, dataflow="output_stationary")


def test_a_graph_and_a_chip_are_taken_as_they_are() -> None:
    graph, chip = load_model("lenet5", dtype="int8"), sim.load_chip("tiny")
    assert without_time(sim.simulate(graph, chip)) == without_time(run(*LENET))
    wide = sim.simulate(graph, chip, dtype="fp32", overrides=["core.dma.channels=1"])
    assert without_time(wide) == without_time(run(*LENET, dtype="fp32", overrides=["core.dma.channels=1"]))
    for name, value in {"batch": 2, "phase": "decode", "seq": 1, "kv": 0, "new_tokens": 1}.items():
        with pytest.raises(InputError, match=f"{name}: chosen when a model is loaded"):
            sim.simulate(graph, chip, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "chip", "options"),
    [
        (*LENET, {}),
        (*GEMM, {}),
        ("resnet18", "lepton_m", {}),
        ("gpt2", "lepton_s", {"phase": "prefill", "seq": 32}),
        ("gpt2", "lepton_s", {"phase": "decode", "kv": 64}),
        ("gemm:64x64x4096", "lepton_m", {"partition": "reduction"}),
        (*LENET, {"inputs": 8}),
        ("lenet5", "lepton_m", {"partition": "pipeline", "inputs": 8}),
    ],
)
def test_the_closed_form_is_near_the_events_and_breaks_no_bound(
    model: str, chip: str, options: dict[str, Any]
) -> None:
    bound, event = (run(model, chip, fidelity=fidelity, **options) for fidelity in ("bound", "event"))
    assert event.facts["closed_form_latency_s"] == bound["latency_s"]
    for key in ("latency_s", "throughput_per_s", "energy_j"):
        assert bound[key] == pytest.approx(event[key], rel=0.35), key
    assert bound["latency_s"] >= bound["bound_latency_s"]  # type: ignore[operator]
    assert bound.resources["utilization"].max() <= 1
    for key in ("macs", "tasks", "sram_read_bytes", "noc_bytes"):
        assert bound[key] == event[key], key
    # What is found in a cache depends on the order in which transfers come, which the closed form takes from the
    # program: without one all is equal.
    cached = event["cache_hit_rate"] is not None
    assert (bound["cache_hit_rate"] is not None) == cached
    for key in ("bound_latency_s", "dram_read_bytes", "dram_write_bytes"):
        assert bound[key] == (pytest.approx(event[key], rel=0.1) if cached else event[key]), key


def test_the_closed_form_runs_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an engine ran")

    monkeypatch.setattr("sim.engine.run", refuse)
    stages: list[str] = []
    assert run(*LENET, fidelity="bound", progress=stages.append)["engine"] is None
    assert not any(stage.startswith("simulating") for stage in stages)
    with pytest.raises(AssertionError, match="an engine ran"):
        run(*LENET)


@pytest.mark.parametrize("fidelity", ["event", "bound"])
def test_tokens_come_after_a_prefill_one_step_after_the_other(fidelity: str) -> None:
    options = {"phase": "generate", "seq": 8, "new_tokens": 4, "batch": 2, "fidelity": fidelity}
    report = run("gpt2", "lepton_s", **options)
    first, each = report["time_to_first_token_s"], report["time_per_output_token_s"]
    prefill = run("gpt2", "lepton_s", phase="prefill", seq=8, batch=2, fidelity=fidelity)
    assert first == pytest.approx(prefill["latency_s"])
    assert report["latency_s"] == pytest.approx(first + 3 * each)  # type: ignore[operator]
    assert report["throughput_per_s"] == pytest.approx(2 * 4 / report["latency_s"])  # type: ignore[operator]
    assert "wall_s" in report.values


def test_back_to_back_inputs_overlap() -> None:
    one, many = run(*LENET), run(*LENET, inputs=8)
    rate = many["throughput_per_s"] / one["throughput_per_s"]  # type: ignore[operator]
    # Better than one after the other, no better than the bound of one allows.
    assert 1 < rate <= one["latency_s"] / one["bound_latency_s"]  # type: ignore[operator]
    assert many["macs"] == one["macs"]
    assert many["tasks"] == 8 * one["tasks"]  # type: ignore[operator]
    assert many["dram_read_bytes"] == 8 * one["dram_read_bytes"]  # type: ignore[operator]


@pytest.mark.parametrize("fidelity", ["event", "bound"])
def test_the_same_run_gives_the_same_bytes(fidelity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(*LENET, fidelity=fidelity)
    # Once with the tile searches of the first run, once without.
    second = run(*LENET, fidelity=fidelity)
    monkeypatch.setattr("sim.pipeline._SEARCHES", {})
    third = run(*LENET, fidelity=fidelity)
    assert without_time(first) == without_time(second) == without_time(third)
    assert first.to_csv() == second.to_csv() == third.to_csv()


def baseline(model: str, chip: str, **options: Any) -> dict[str, Any]:
    _, _, program = plan(model, chip, **{"dtype": "int8", "baseline": True, **options})
    facts: dict[str, Any] = program.facts["partition"]
    return facts


def test_one_core_is_as_fast_as_one_core() -> None:
    assert baseline(*LENET)["speedup"] == 1
    # Repeated blocks and passes count as often as they run; results are kept within blocks only.
    options = {"phase": "generate", "seq": 8, "new_tokens": 8}
    assert baseline("gpt2", "tiny", **options)["speedup"] == pytest.approx(1, rel=1e-3)


def test_a_partition_is_compared_with_one_core() -> None:
    network = {"topology": "crossbar", "shape": [4], "link_bandwidth": "64 GB/s", "hop_latency": "1 ns"}
    many = {"core.count": 4, "interconnect": network}
    model = "gemm:512x512x512"
    facts = baseline(model, "tiny", overrides=many)
    alone = run(model, "tiny", fidelity="bound")
    # A single core of four is the whole chip of one, but for the way through the crossbar.
    assert facts["one_core_s"] == pytest.approx(alone["latency_s"], rel=0.01)
    partition = run(model, "tiny", fidelity="bound", overrides=many)
    assert facts["speedup"] == pytest.approx(facts["one_core_s"] / partition["latency_s"])
    # Four scratchpads keep more of the operands than one: a little more than four times as fast.
    assert 2 < facts["speedup"] <= 4.1
    assert "speedup" not in baseline(model, "tiny", overrides=many, baseline=False)


def test_a_pipeline_always_knows_its_baseline() -> None:
    facts = baseline("lenet5", "lepton_m", partition="pipeline", baseline=False)
    assert facts["mode"] == "pipeline"
    assert facts["one_core_s"] == pytest.approx(baseline("lenet5", "lepton_m")["one_core_s"])
    # As fast as its slowest stage, whose share of one core's work the parts tell.
    assert facts["speedup"] == pytest.approx(1 / max(row["of_one_core"] for row in facts["parts"]), rel=0.1)


@pytest.mark.parametrize("chip", ["lepton_m", "tpu_v1"])
@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("bvlc_alexnet", 654_560_384),
        ("densenet121", 2_834_161_664),
        ("inception_v1", 1_431_556_352),
        ("inception_v2", 2_018_851_840),
        ("resnet50", 4_089_184_256),
        ("shufflenet", 124_664_528),
        ("squeezenet", 349_151_936),
        ("vgg19", 19_632_062_464),
        ("zfnet512", 1_481_727_008),
    ],
)
def test_the_nine_networks_inside_the_onnx_package_simulate(name: str, macs: int, chip: str) -> None:
    report = run(str(light_model_path(name)), chip)
    assert report["macs"] == macs
    latency_s, bound_s = report.values["latency_s"], report.values["bound_latency_s"]
    assert isinstance(latency_s, float)
    assert isinstance(bound_s, float)
    assert bound_s <= latency_s <= 12 * bound_s
    assert without_time(report) == without_time(run(str(light_model_path(name)), chip))


def test_inputs_that_only_fill_the_chip_are_not_sold_as_its_rate() -> None:
    """Two inputs through eight stages end closer together than the DRAM could keep up with."""
    few = run(
        "resnet18", "lepton_m", partition="pipeline", inputs=2, overrides={"dram.bandwidth": "51.2 GB/s"}
    )
    bound_s, rate = few.values["bound_latency_s"], few.values["throughput_per_s"]
    assert isinstance(bound_s, float)
    assert not few.facts["steady"]
    assert rate == pytest.approx(1 / bound_s)


@pytest.mark.parametrize("model", ["resnet18", "depthwise3x3", "gpt2", "unet"])
def test_macs_are_those_of_the_tiles(model: str) -> None:
    """Operators, cores and graph agree on the work, each counted in its own way."""
    graph, _, program = plan(model, "lepton_m", dtype="int8", **({"seq": 16} if model == "gpt2" else {}))
    rows = [(op, n) for s, n in zip(program.segments, program.repeats, strict=True) for op in s.ops]
    assert sum(op.macs * n for op, n in rows) == graph.macs
    assert sum(sum(op.mapping.get("core_macs", {}).values()) * n for op, n in rows) == graph.macs


def test_attention_is_fused_where_that_is_faster_unless_said_otherwise() -> None:
    """Of one design and of many alike: 12 attentions of GPT-2 whose scores of 1,024 tokens no scratchpad holds."""
    asked: dict[str, Any] = {"dtype": "bf16", "phase": "prefill", "seq": 1024}
    one = sim.simulate("gpt2", "lepton_m", fidelity="bound", **asked)
    many = sim.bound("gpt2", "lepton_m", **asked)["latency_s"][0]
    assert (one.ops["kind"] == "attention").sum() > 0
    assert one.facts["fused_attention"] == 12
    assert many == sim.bound("gpt2", "lepton_m", attention="auto", **asked)["latency_s"][0]
    assert many < 0.95 * sim.bound("gpt2", "lepton_m", attention="stored", **asked)["latency_s"][0]
