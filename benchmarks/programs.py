"""Are the programs of two checkouts the same? Digests of task tables, edges, routes and rows, one line per case.

    python benchmarks/programs.py > before.txt        (in one checkout)
    python benchmarks/programs.py | diff before.txt - (in the other)

For work on the mapper that must not change what it makes: every difference is a line, which says what differs (tasks,
edges, operators, probes, functional columns, routes, facts). 183 cases: workloads on presets, odd variants of small
chips, every partition and dataflow, several inputs, with functional columns. Takes 20 s.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from sim.errors import DoesNotFit, InputError
from sim.pipeline import plan
from sim.program import Program

Case = tuple[str, str, dict[str, Any]]
MODES = ("data", "channel", "reduction", "pipeline")
PAIRS = {
    ("lepton_m", "lepton_s", "tpu_v4", "tpu_v1"): (
        "lenet5", "resnet18", "mobilenet_v2", "dlrm", "gemm_batched", "conv3x3", "depthwise3x3", "transformer_mt",
        "lstm",
    ),
    ("lepton_m", "tpu_v4"): ("bert_base", "conformer", "gpt2"),
    ("a100", "mi210", "lepton_l", "tiny"): ("lenet5", "softmax_4096", "layer_norm_4096", "conv3x3", "gemv_4096"),
    ("eyeriss_v1", "gemmini_16"): ("lenet5", "conv3x3"),
}  # fmt: skip


def digest(*values: object) -> str:
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            found.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()[:12]


def parts(program: Program) -> Iterator[tuple[str, str]]:
    """(what, its digest) of everything that a program says."""
    for at, s in enumerate(program.segments):
        yield f"tasks {at}", digest(s.kind, s.queue, s.hold, s.dur, s.nbytes, s.route, s.release, s.op)
        yield f"edges {at}", digest(s.pptr, s.pidx)
        rows = [(*dataclasses.astuple(op)[:5], sorted(op.counts.items()), dict(op.mapping)) for op in s.ops]
        yield f"operators {at}", digest(*rows)
        for name, table in (("probes", s.probes), ("functional", s.functional)):
            if table is not None:
                columns = [f.name for f in dataclasses.fields(table) if f.name != "semantics"]
                yield f"{name} {at}", digest(*(getattr(table, column) for column in columns))
    yield "routes", digest(program.route_ptr, program.route_link, program.route_weight, program.route_hops)
    yield "chip", digest(program.queues, program.links, program.repeats, program.cache, program.passes)
    yield "facts", digest(sorted(program.facts.items()))


def cases() -> Iterator[Case]:
    rng = random.Random(7)
    for _ in range(16):
        changes = {
            "core.array.rows": 4 * rng.randint(12, 64),
            "core.array.cols": 4 * rng.randint(12, 64),
            "core.sram.size": f"{256 * rng.randint(4, 32)} KiB",
            "core.dma.bandwidth": f"{16 * rng.randint(4, 16)} GB/s",
        }
        yield "resnet50", "lepton_m", {"overrides": changes}
    for chips, models in PAIRS.items():
        yield from ((model, chip, {}) for chip in chips for model in models)
    for mode in MODES:
        for model in ("lenet5", "resnet18", "transformer_mt", "conv3x3"):
            yield model, "lepton_m", {"partition": mode}
        yield "lenet5", "lepton_s", {"partition": mode, "inputs": 3}
        yield "gemm:300x500x700", "lepton_l", {"partition": mode, "functional": True}
        yield "gemm:64x64x4000", "lepton_m", {"partition": mode, "functional": True}
    for model in ("lenet5", "mobilenet_v2", "conv3x3", "lstm", "transformer_mt"):
        yield model, "lepton_m", {"functional": True}
    for dataflow in ("weight_stationary", "input_stationary", "output_stationary"):
        yield "resnet18", "lepton_m", {"dataflow": dataflow}
        yield "conv3x3", "tpu_v4", {"dataflow": dataflow}
    for _ in range(60):
        changes = {
            "core.array.rows": rng.randint(2, 40),
            "core.array.cols": rng.randint(2, 40),
            "core.array.count": rng.choice([1, 2, 4]),
            "core.array.double_buffered_weights": rng.random() < 0.5,
            "core.sram.size": f"{rng.choice([16, 64, 100, 256, 1000])} KiB",
            "core.sram.padded_rows": rng.random() < 0.5,
            "core.sram.tile_slots": rng.choice([1, 2]),
            "core.vector.lanes": rng.choice([3, 4, 8, 30]),
            "core.dma.channels": rng.choice([1, 2, 3]),
            "core.dma.outstanding": rng.choice([1, 2, 4]),
        }
        model = rng.choice(["lenet5", "conv3x3", "transformer_mt", "gemm:100x77x900", "mnist_mlp"])
        options = {"overrides": changes, "partition": rng.choice(["auto", "reduction", "data"])}
        yield model, rng.choice(["lepton_s", "tiny", "lepton_m"]), options
    yield "resnet18", "lepton_m", {"batch": 4}
    yield "llama2_7b", "lepton_l", {"phase": "decode", "kv": 300}


def main() -> None:
    for model, chip, options in cases():
        name = f"{model} on {chip} {options}"
        try:
            program = plan(model, chip, **{"dtype": "fp16" if chip in ("a100", "mi210") else "int8", **options})[2]
        except (DoesNotFit, InputError) as error:
            print(f"{name}: {' '.join(str(error).split())}", flush=True)
            continue
        print(f"{name}: {'; '.join(f'{what} {found}' for what, found in parts(program))}", flush=True)


if __name__ == "__main__":
    main()
