"""Prefill of layers that attend to a window or a chunk of tokens: only scores that the window reaches are computed.

The new tokens are cut into blocks, and each block meets its own keys and those of the blocks before it that the
window reaches; with chunks (Llama 4) a block is a chunk and meets its own keys alone. So a prompt of S tokens and a
window of W takes 1.25 to 2 S W scores, or S W, instead of S^2; what is ahead or out of reach inside these is masked.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim.graph.transformer_step import Step

_BEFORE = 4
"""Blocks to a window at most: 1 in 4 of the keys that a block meets is beyond the window of half of its queries."""
_ROWS = 128
"""Queries to a block at least: fewer leave rows of an array without work."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """`count` blocks of `size` queries, the first `lead` of them and the last few padding, that each meet their own
    keys and those of `before` blocks: `width` of those that the cache has from `first` on."""

    count: int
    size: int
    lead: int
    first: int
    width: int
    before: int = 0

    @property
    def mask(self) -> tuple[int, ...]:
        """Shape of what is added to the scores of every head."""
        return (self.size, self.width) if self.count == 1 else (self.count, self.size, self.width)


def blocks_of(step: Step, window: int | None) -> Blocks | None:
    """How a layer with a window of so many tokens goes through this pass; None where all tokens lie in it. One block of
    all queries where several would take no fewer scores."""
    length = step.kv + step.tokens
    if window is None or step.tokens == 1 or length <= window:
        return None
    if step.config.chunked:
        lead = step.kv % window
        first = step.kv - lead
        many = Blocks(-(-(lead + step.tokens) // window), window, lead, first, window)
    else:
        first = max(0, step.kv - window + 1)
        before = max(1, min(_BEFORE, window // _ROWS))
        size = -(-window // before)
        many = Blocks(-(-step.tokens // size), size, 0, max(0, step.kv - before * size), (before + 1) * size, before)
    one = Blocks(1, step.tokens, 0, first, length - first)
    return many if many.count > 1 and many.count * many.size * many.width < one.size * one.width else one


def cut_queries(step: Step, q: str, blocks: Blocks, name: str) -> str:
    """q [batch, heads, tokens, D] as [batch, heads, count, size, D]; of one block as it is."""
    if blocks.count == 1:
        return q
    builder = step.builder
    batch, heads, tokens, width = builder.shape(q)
    q = _padded(step, q, blocks.lead, blocks.count * blocks.size - blocks.lead - tokens, f"{name}.padded")
    return builder.reshape(q, (batch, heads, blocks.count, blocks.size, width), f"{name}.blocks")


def cut_keys(step: Step, k: str, blocks: Blocks, name: str) -> str:
    """Keys or values [batch, heads, kv + tokens, D] of the whole cache as [batch, heads, count, width, D]; of one block
    without the count."""
    builder = step.builder
    batch, heads, length, width = builder.shape(k)
    if blocks.first:
        k = builder.slice(k, 2, blocks.first, length - blocks.first, name=f"{name}.near")
    if blocks.count == 1:
        return k
    rows = blocks.count * blocks.size
    shape = (batch, heads, blocks.count, blocks.size, width)
    # What lies before the first block is what the cache held; as much of it as there was.
    missing = blocks.before * blocks.size - (step.kv - blocks.first) if blocks.before else 0
    held = missing + length - blocks.first
    k = _padded(step, k, missing, (blocks.count + blocks.before) * blocks.size - held, f"{name}.padded")
    if not blocks.before:
        return builder.reshape(k, shape, f"{name}.blocks")
    parts = []
    for part in range(blocks.before + 1):
        shifted = builder.slice(k, 2, part * blocks.size, rows, name=f"{name}.part{part}")
        parts.append(builder.reshape(shifted, shape, f"{name}.part{part}.blocks"))
    return builder.concat(parts, 3, f"{name}.reach")


def join_queries(step: Step, x: str, blocks: Blocks, name: str) -> str:
    """[batch, heads, count * size, D] without the padding: [batch, heads, tokens, D]."""
    if step.builder.shape(x)[2] == step.tokens:
        return x
    return step.builder.slice(x, 2, blocks.lead, step.tokens, name=f"{name}.tokens")


def _padded(step: Step, x: str, before: int, after: int, name: str) -> str:
    """Rows of zeros in front of and behind those of x [batch, heads, rows, D]."""
    if not before and not after:
        return x
    attributes = {"pad_begin": (0, 0, before, 0), "pad_end": (0, 0, after, 0), "value": 0.0}
    return step.builder.add_op("pad", [x], attributes, name)
