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
        """Of an encoder with other heads than the decoder's, which chips may share: its own part of the whole."""
        if self.heads == self.config.heads:
            return self.config.head_dim
        return self.config.hidden // (self.heads * self.config.chips)

    def heads_apart(self, x: str, heads: int, width: int, name: str) -> str:
        """[batch * tokens, heads * width], heads apart: [batch, heads, tokens, width]."""
        builder = self.builder
        if self.tokens == 1:
            return builder.reshape(x, (self.batch, heads, 1, width), f"{name}.heads")
        x = builder.reshape(x, (self.batch, self.tokens, heads, width), f"{name}.split")
        return builder.transpose(x, (0, 2, 1, 3), f"{name}.heads")

    def store(self, new: str, length: int, position: int, name: str) -> str:
        """Write keys or values [batch, heads, new, head_dim] into a cache of `length` tokens."""
        shape = self.builder.shape(new)
        cache = self.builder.state(f"{name}.cache", (*shape[:2], length, shape[3]))
        return self.builder.cache_update(cache, new, 2, position, f"{name}.store")

    def to_hidden(self, x: str, bias: bool, name: str) -> str:
        """A projection to the hidden size. Of chips that share the layer each has some of the columns of x, and the
        rows of the weight for them: they add up what comes of it, and the bias comes after."""
        builder, config = self.builder, self.config
        if config.chips == 1:
            return builder.linear(x, config.hidden, bias, name)
        x = builder.all_reduce(builder.linear(x, config.hidden, False, name), config.chips, f"{name}.sum")
        if not bias:
            return x
        return builder.add(x, builder.weight((config.hidden,), f"{name}.bias"), f"{name}.biased")
