"""A model with every distinct attention as one operator or as several, for the closed form of many designs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sim.cost.bound import Model, compile_model
from sim.cost.nest_tables import signature
from sim.cost.variants import Variants, variants_of
from sim.graph.graph import Graph, Passes
from sim.passes.attention import fused_everywhere, with_attention

Parts = Sequence[tuple[Graph, int]]


def variants(parts: Parts, how: str, joined: Callable[[list[tuple[Graph, int]]], Graph | Passes]) -> Variants:
    """A model whose attentions are stored, fused, or (auto) either; `joined` makes one of its parts. Raises InputError
    where there is nothing to be fused though it was asked for."""
    pairs: dict[object, tuple[Model, Model]] = {}
    numbers: dict[object, int] = {}

    def note(fused: Graph, stored: Graph) -> bool:
        key = _key(fused, stored)
        if key not in numbers:
            numbers[key] = len(numbers)
            pairs[key] = compile_model(fused), compile_model(stored)
        return False

    if how == "auto":
        for part, _ in parts:
            with_attention(part, note)
    given = fused_everywhere(parts) if how == "fused" else list(parts)

    def of(chosen: frozenset[int]) -> Model:
        def fuses(fused: Graph, stored: Graph) -> bool:
            return numbers[_key(fused, stored)] in chosen

        ready = [(with_attention(part, fuses), count) for part, count in given] if chosen else given
        return compile_model(joined(ready))

    return variants_of(tuple(pairs.values()), of)


def _key(fused: Graph, stored: Graph) -> object:
    return tuple(signature(nest) for graph in (fused, stored) for nests in graph.nests for nest in nests)
