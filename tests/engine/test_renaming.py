"""A cache that is what it was but for names: what another repeat leaves there, against looking everything up."""

from __future__ import annotations

import numpy as np
import pytest

from sim.engine import compiled
from sim.engine.renaming import Asked, Passage, asked_by
from sim.graph.transformer import transformer_graph
from sim.graph.transformer_config import TransformerConfig
from sim.hw.chip import load_chip
from sim.hw.tags import EMPTY, PINNED, empty_tags, probe_all
from sim.mapping.mapper import map_graph
from sim.passes import default_passes
from sim.program import Probes

SETS, WAYS, LINE = 8, 4, 64
TAG = SETS * LINE
OWN, SHARED, OTHERS = 0, 40 * TAG, 60 * TAG
"""Where each repeat's own memory begins (three tags of it, ten further on for every repeat), what all share, what a
repeat does not ask for."""


def random_probes(rng: np.random.Generator, repeats: int) -> Probes:
    """Half of them of each repeat's own tensor, half of one that all share; some runs at a pitch."""
    many = 40
    tensor = rng.integers(0, 2, many).astype(np.int32)
    begin = np.where(tensor == 0, OWN, SHARED) + rng.integers(0, 2 * SETS, many) * LINE + rng.integers(0, 3, many) * 16
    none = np.zeros(many, np.int32)
    return Probes(
        np.arange(many, dtype=np.int32), rng.random(many) < 0.3, rng.choice([0, 0, 1], many).astype(np.int8), tensor,
        begin.astype(np.int64), rng.integers(1, 3 * LINE, many), rng.integers(1, 4, (many, 1)),
        np.full((many, 1), LINE), none, none.astype(np.int64), none, ("own", "shared"),
        np.array([[10 * TAG * repeat, 0] for repeat in range(repeats)], np.int64),
    )  # fmt: skip


def looked_up(tags: np.ndarray, probes: Probes, repeat: int) -> tuple[np.ndarray, np.ndarray]:
    """Tags afterwards, and what every probe yields."""
    after, found = tags.copy(), np.zeros((len(probes.task), 4), np.int64)
    order = np.arange(len(probes.task))
    probe_all(
        after, LINE, 0, order, probes.addresses(repeat), probes.run_bytes, probes.count, probes.pitch, probes.write,
        probes.policy, found, np.zeros((0, 4), np.int64),
    )  # fmt: skip
    return after, found


def filled(rng: np.random.Generator, repeat: int) -> np.ndarray:
    """A cache with lines of the repeat's own memory, of the shared and of others, some dirty, not full."""
    tags = empty_tags(SETS, WAYS)
    for number in range(SETS):
        first = [OWN // TAG + 10 * repeat, SHARED // TAG, OTHERS // TAG]
        lines = [first[kind] + tag for kind in range(3) for tag in range(3)]
        chosen = rng.permutation(lines)[: rng.integers(0, WAYS + 1)]
        tags[number, : len(chosen)] = chosen * 4 + rng.integers(0, 2, len(chosen))
    return tags


def renamed(tags: np.ndarray, by: int, rng: np.random.Generator) -> np.ndarray:
    """The same for a repeat whose own memory lies so many tags further on; others are others."""
    own = (tags != EMPTY) & (tags >> 2 < SHARED // TAG)
    other = (tags != EMPTY) & (tags >> 2 >= OTHERS // TAG)
    fresh = np.argsort(rng.random(tags.shape), axis=1) + 100
    return np.where(own, tags + 4 * by, np.where(other, fresh * 4 + (tags & 3), tags)).astype(np.int32)


@pytest.mark.parametrize("seed", range(40))
def test_a_known_state_leaves_what_looking_up_leaves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probes = random_probes(rng, 3)
    before = filled(rng, 1)
    after, found = looked_up(before, probes, 1)
    passage = Passage(asked_by(probes).moved(probes.shift[1]), before, after)
    now = renamed(before, 10, rng)
    wanted, same = looked_up(now, probes, 2)
    assert (found == same).all()
    got = passage.again(now, asked_by(probes).moved(probes.shift[2]), LINE)
    assert got is not None
    assert (got == wanted).all()
    # Anything else than a name that differs: another place in its set, written to, gone.
    places = np.argwhere(now != EMPTY)
    row, way = places[rng.integers(len(places))]
    for change in ("dirty", "gone", "pinned", "older"):
        other = now.copy()
        if change == "older":
            other[row] = np.roll(other[row], 1)
            if (other == now).all():
                continue
        else:
            other[row, way] = {"dirty": now[row, way] ^ 1, "gone": EMPTY, "pinned": now[row, way] | PINNED}[change]
        assert passage.again(other, asked_by(probes).moved(probes.shift[2]), LINE) is None, change


def test_memory_in_other_sets_or_shared_otherwise_is_not_known() -> None:
    tags = empty_tags(SETS, WAYS)
    both = np.array([0, 1])
    two = Asked(both, np.array([0, TAG]), np.array([TAG, 2 * TAG]))
    passage = Passage(two, tags, tags)
    assert passage.again(tags, Asked(both, two.low + TAG, two.high + TAG), LINE) is not None
    for by in (16, LINE, TAG // 2):
        assert passage.again(tags, two.moved(np.array([by, by])), LINE) is None
    # Both come to lie in the same place.
    assert passage.again(tags, Asked(both, two.low[[1, 1]], two.high[[1, 1]]), LINE) is None


def test_repeats_of_a_model_take_the_course_that_looking_up_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight layers with weights of their own and a cache of 256 KiB: most repeats are known, and nothing changes."""
    config = TransformerConfig.from_hf(
        {
            "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 4,
            "num_key_value_heads": 4, "intermediate_size": 512, "vocab_size": 500, "max_position_embeddings": 256,
        },
        "eight layers",
    )  # fmt: skip
    graph = default_passes(transformer_graph(config, dtype="bf16", phase="prefill", batch=1, seq=128))
    program = map_graph(graph, load_chip("lepton_m", {"cache.size": "256 KiB"}))
    known, answer = [], Passage.again

    def counted(self: Passage, *given: object) -> object:
        found = answer(self, *given)  # type: ignore[arg-type]
        known.append(found is not None)
        return found

    monkeypatch.setattr(Passage, "again", counted)
    quick = compiled.run(program)
    assert sum(known) >= 4
    monkeypatch.setattr(Passage, "again", lambda *_: None)
    slow = compiled.run(program)
    assert quick.repeats == slow.repeats
    for one, other in zip(quick.segments, slow.segments, strict=True):
        assert (one.start == other.start).all()
        assert (one.finish == other.finish).all()
