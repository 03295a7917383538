"""What every layer of one pass of a transformer needs to know."""

from __future__ import annotations

from dataclasses import dataclass

from sim.graph.builder import GraphBuilder
from sim.graph.transformer_config import TransformerConfig


@dataclass(frozen=True, slots=True)
class Step:
    """One pass of one stack of layers: `tokens` new ones per sequence after `kv` in the cache."""

    builder: GraphBuilder
    config: TransformerConfig
    batch: int
    tokens: int
    kv: int
    prefix: str
    heads: int = 0
    ffn: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", self.heads or self.config.heads)
        object.__setattr__(self, "ffn", self.ffn or self.config.ffn)

    @property
    def kv_heads(self) -> int:
        return self.config.kv_heads if self.heads == self.config.heads else self.heads

    @property
    def head_dim(self) -> int:
        return self.config.head_dim if self.heads == self.config.heads else self.config.hidden // self.heads
