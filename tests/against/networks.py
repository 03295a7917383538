"""Whole networks on GPUs: times that NVIDIA published (data/networks_gpu.csv), and the same networks on our chips.

    python tests/against/networks.py MS [SOURCE]      every row that took less than MS milliseconds

A100 of 40 GB and A30 are the preset `a100` with the numbers of their data sheets; its calibration, which was fitted to
single kernels in fp16 on a board of 80 GB, stays. Nothing was fitted to these rows.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import sim

# Of the thousands in a batch of MLPerf: with 64, ResNet-50 takes 15 % longer an image on A100, as last waves and starts
# of kernels count for more.
MOST_IMAGES = 512

# NVIDIA A100 and A30 data sheets: 40 GB at 1,555 GB/s; 56 SMs of up to 1,440 MHz, 24 GB at 933 GB/s, 24 MB of L2. What
# moves bytes inside the chip does so at its clock: 128 B a cycle from an SM's memory, 1,024 B to its accumulators, 32
# by its DMA, 64 from the L2, and of the 5,120 B of the L2's slices as many as there are slices.
_A30 = {
    "core.count": 56,
    "core.spare": 72,
    "interconnect.shape": [56],
    "clock": "1440 MHz",
    "core.sram.bandwidth": "184.3 GB/s",
    "core.accumulator.bandwidth": "1475 GB/s",
    "core.dma.bandwidth": "46.1 GB/s",
    "interconnect.link_bandwidth": "92.2 GB/s",
    "cache.size": "24 MiB",
    "cache.bandwidth": "4424 GB/s",
    "dram.bandwidth": "933 GB/s",
    "dram.capacity": "24 GiB",
}
CHIPS = MappingProxyType(
    {
        "a100": ("a100", {}),
        "a100_40gb": ("a100", {"dram.bandwidth": "1555 GB/s", "dram.capacity": "40 GiB"}),
        "a30": ("a100", _A30),
        "h100": ("h100", {}),
    }
)


def _llama(hidden: int, layers: int, heads: int, kv_heads: int, ffn: int) -> dict[str, object]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": ffn,
        "vocab_size": 32000,
        "max_position_embeddings": 4352,
    }


def _vit(hidden: int, layers: int, heads: int, image: int) -> dict[str, object]:
    return {
        "model_type": "vit",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "image_size": image,
        "patch_size": 16,
    }


# As config.json of Hugging Face has them; the other networks of the file are workloads.
CONFIGS = MappingProxyType(
    {
        "gptj_6b": {
            "model_type": "gptj",
            "n_embd": 4096,
            "n_layer": 28,
            "n_head": 16,
            "n_positions": 4352,
            "rotary_dim": 64,
            "vocab_size": 50400,
        },
        "llama2_7b": _llama(4096, 32, 32, 32, 11008),
        "llama2_70b": _llama(8192, 80, 64, 8, 28672),
        "vit_b_16": _vit(768, 12, 12, 224),
        "vit_b_16_384": _vit(768, 12, 12, 384),
        "vit_l_16": _vit(1024, 24, 16, 224),
        "vit_l_16_384": _vit(1024, 24, 16, 384),
    }
)
Attention = Literal["stored", "fused"]


@dataclass(frozen=True)
class Row:
    """A published figure. `batch` is 0 where it is not told; `prompt` and `new` are tokens, 0 where there are none."""

    source: str
    chip: str
    network: str
    precision: str
    batch: int
    prompt: int
    new: int
    unit: str
    measured: float

    @property
    def family(self) -> str:
        kind = self.network.split("_", maxsplit=1)[0]
        if kind in ("gptj", "llama2"):
            return "generation" if self.new else "first token"
        return kind if kind in ("bert", "vit") else "conv"

    @property
    def gpus(self) -> int:
        """Llama 70B is shared by four."""
        return 4 if self.network == "llama2_70b" else 1

    @property
    def simulated_batch(self) -> int:
        return min(self.batch or MOST_IMAGES, MOST_IMAGES) if self.unit == "images/s" else self.batch

    @property
    def measured_s(self) -> float:
        """Seconds of a batch as simulated."""
        if self.unit == "ms":
            return self.measured / 1e3
        return self.simulated_batch * (self.new or 1) / self.measured

    @property
    def title(self) -> str:
        tokens = f"+{self.new}" if self.new else ""
        seq = f" x {self.prompt}{tokens}" if self.prompt else ""
        return f"{self.chip} {self.network} {self.precision} {self.batch or '?'}{seq}"


@cache
def rows() -> tuple[Row, ...]:
    path = Path(__file__).parent / "data/networks_gpu.csv"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    found = []
    for row in csv.DictReader(lines):
        prompt, _, new = row["seq"].partition("+")
        texts = (row[name] for name in ("source", "chip", "network", "precision"))
        numbers = (int(text or 0) for text in (row["batch"], prompt, new))
        found.append(Row(*texts, *numbers, row["unit"], float(row["measured"])))
    return tuple(found)


def simulated_s(row: Row, attention: Attention = "fused") -> float:
    """Seconds of a batch here, all of it in the precision of the row. Raises DoesNotFit."""
    preset, overrides = CHIPS[row.chip]
    config = CONFIGS.get(row.network)
    options: dict[str, object] = {}
    if row.family == "bert":
        options["seq"] = row.prompt
    elif row.family in ("first token", "generation"):
        options |= {"seq": row.prompt, "phase": "prefill", "sample_layers": 3}
        if row.new:
            options |= {"phase": "generate", "new_tokens": row.new}
        if row.gpus > 1:
            options["chips"] = row.gpus
    with tempfile.TemporaryDirectory() as folder:
        model = row.network
        if config is not None:
            file = Path(folder) / f"{row.network}.json"
            file.write_text(json.dumps(config))
            model = str(file)
        report = sim.simulate(
            model,
            preset,
            overrides=overrides,
            batch=row.simulated_batch,
            dtype=row.precision,
            attention=attention,
            **options,
        )
    return float(str(report["latency_s"]))


def attentions(row: Row) -> tuple[Attention, ...]:
    return ("stored",) if row.family == "conv" else ("stored", "fused")


def main(most_ms: float, source: str = "") -> None:
    for row in rows():
        if row.measured_s * 1e3 >= most_ms or not row.source.startswith(source):
            continue
        line = f"{row.source:12} {row.title:42} {row.measured_s * 1e3:8.2f} ms"
        for attention in attentions(row):
            try:
                found_s = simulated_s(row, attention)
                line += f"  {attention} {found_s * 1e3:8.2f} {found_s / row.measured_s:5.2f}"
            except sim.DoesNotFit:
                line += f"  {attention} does not fit"
        print(line, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), *sys.argv[2:3])
