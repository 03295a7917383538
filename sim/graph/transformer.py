"""Transformer graphs for inference: prefill and decode of decoders, encoders, encoder-decoders, vision.

Sequences of a batch have equal length, so nothing is padded. Layers: sim/graph/transformer_layers.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import MappingProxyType

from sim.errors import Diagnostic, InputError
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.transformer_config import TransformerConfig
from sim.graph.transformer_layers import Source, capped, layer, norm, scalar
from sim.graph.transformer_positions import relative_indices, sinusoids
from sim.graph.transformer_state import state_layer
from sim.graph.transformer_step import Step
from sim.graph.transformer_vision import image_state, vision
from sim.graph.transformer_windows import blocks_of

PHASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "decoder": ("prefill", "decode", "generate"),
        "encoder_decoder": ("prefill", "decode", "generate"),
        "encoder": ("encode",),
        "vision": ("encode",),
        "towers": ("encode",),
        "state_space": ("decode",),
    }
)
"""What each architecture can do; the first is assumed where none is named."""


def transformer_graph(
    config: TransformerConfig,
    *,
    phase: str | None = None,
    batch: int = 1,
    seq: int | None = None,
    kv: int | None = None,
    dtype: str,
) -> Graph:
    """One pass of the model over `batch` sequences.

    prefill: `seq` new tokens each, after `kv` (0 unless given) that are in the cache already; logits of the
    last. decode: one new token after `kv` tokens in the cache. encode: `seq` tokens, or the image.
    An encoder-decoder prefills by encoding `seq` source tokens and decoding its start token; its decode step
    needs `seq` source tokens as well as `kv`.

    The unit of a prefill and of an encoder pass is the token (`items` = batch * seq), of decode the new token
    (`items` = batch), of vision the inference. Key-value caches are states [batch, key-value heads, kv + new,
    head_dim], of which a decode step of a layer with an attention window has the window alone. The causal mask
    [seq, kv + seq] is an input, and so is that of layers whose window is shorter, which go block by block
    (sim/graph/transformer_windows.py). Raises InputError for a phase or
    length that does not apply to the model, and for `generate`, which is several passes (see generate_plan).

    Of a model that several chips share (`TransformerConfig.shared_by`) this is what one of them does: its heads, its
    part of the FFN and of the vocabulary, with an all-reduce after the embedding, attention and FFN. Logits stay where
    they are made: to choose a token takes the largest of each chip, which is nothing.
    """
    phase = phase or PHASES[config.architecture][0]
    check_lengths(config, phase, {"seq": seq, "kv": kv})
    if batch < 1:
        raise InputError(f"batch must be positive, found {batch}")
    builder = GraphBuilder(config.name, dtype)
    seq = seq or usual_length(config)
    if config.architecture == "vision":
        return vision(builder, config, batch)
    if config.architecture == "towers":
        return towers(builder, config, batch, seq)
    if config.architecture == "encoder":
        return _encoder(builder, config, batch, seq)
    if config.architecture == "encoder_decoder":
        return _encoder_decoder(builder, config, phase, batch, seq, kv or 0)
    step = Step(builder, config, batch, 1 if phase == "decode" else seq, kv or 0, "")
    logits = _decoder(step, None)
    return builder.build([logits], "tokens", batch * step.tokens, f"{config.model_type} {phase}")


def generate_plan(
    config: TransformerConfig, *, seq: int | None, new_tokens: int, batch: int = 1, dtype: str, samples: int = 4
) -> list[tuple[Graph, int]]:
    """The passes that generate `new_tokens` tokens, as (graph, repetitions): a prefill, which gives the first of
    them, then a decode step for each of the others.

    A step is close to linear in its context, so the steps are cut into `samples` runs, each stood for by its middle
    step: the repetitions of the decode graphs add up to `new_tokens - 1`, and their mean context is exact to half
    a token.
    """
    check_lengths(config, "generate", {"seq": seq, "new_tokens": new_tokens})
    # A decoder goes on after the prompt; an encoder-decoder starts a sequence of its own beside the source.
    source, first = (seq, 1) if config.architecture == "encoder_decoder" else (None, seq or 0)
    plan = [(transformer_graph(config, phase="prefill", batch=batch, seq=seq, dtype=dtype), 1)]
    bounds = [(new_tokens - 1) * index // samples for index in range(samples + 1)]
    for start, stop in itertools.pairwise(bounds):
        if stop > start:
            kv = first + (start + stop - 1) // 2
            step = transformer_graph(config, phase="decode", batch=batch, seq=source, kv=kv, dtype=dtype)
            plan.append((step, stop - start))
    return plan


def required_lengths(config: TransformerConfig, phase: str) -> frozenset[str]:
    """Which of seq, kv and new_tokens a phase needs. Raises InputError for a phase the model lacks."""
    if phase not in PHASES[config.architecture]:
        hint = f"it has: {', '.join(PHASES[config.architecture])}"
        if config.architecture == "state_space":
            hint += ", one token after any number of others; the scan over a prompt is not modelled"
        raise InputError(
            Diagnostic(f"{config.model_type} has no phase '{phase}'", path=config.name, hint=hint)
        )
    if config.architecture in ("vision", "state_space"):
        return frozenset()
    needed = {"kv"} if phase == "decode" else {"seq"}
    if config.architecture == "encoder_decoder" or phase == "generate":
        needed |= {"seq"}
    if phase == "generate":
        needed |= {"new_tokens"}
    return frozenset(needed - {"seq"} if usual_length(config) else needed)


def usual_length(config: TransformerConfig) -> int:
    """Source tokens where nothing is said: all that models of sound and of pairs of text and image are made for; 0 for
    the others."""
    if config.mels:
        return config.source_positions
    return config.max_positions if config.architecture == "towers" else 0


def check_lengths(config: TransformerConfig, phase: str, lengths: Mapping[str, int | None]) -> None:
    """Raise InputError with every length that is missing, out of range, or not for this phase."""
    needed = required_lengths(config, phase)
    free = {"kv"} if phase == "prefill" and config.architecture == "decoder" else set()
    free |= {"seq"} if usual_length(config) else set()
    complaints = [f"{phase} needs {_option(key)}" for key in sorted(needed) if lengths.get(key) is None]
    for key, value in lengths.items():
        if value is not None and key not in needed and key not in free:
            taken = f"; it takes {', '.join(map(_option, sorted(needed)))}" if needed else ""
            complaints.append(f"{phase} of {config.model_type} takes no {_option(key)}{taken}")
        elif value is not None and value < (0 if key == "kv" else 1):
            complaints.append(f"{_option(key)} is too small: {value}")
    if not complaints:
        complaints += _limits(config, phase, {key: value or 0 for key, value in lengths.items()})
    if complaints:
        raise InputError([Diagnostic(text, path=config.name) for text in complaints])


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _limits(config: TransformerConfig, phase: str, lengths: Mapping[str, int]) -> list[str]:
    """A learned table ends somewhere."""
    if config.mels and lengths.get("seq", 0) > config.source_positions:
        return [f"{lengths['seq']} positions of sound exceed the {config.source_positions} of the model"]
    seq, kv = lengths.get("seq", 0), lengths.get("kv", 0) + lengths.get("new_tokens", 0)
    own = kv + 1 if phase == "decode" else kv + seq
    longest = max(0 if config.mels else seq, kv + 1) if config.architecture == "encoder_decoder" else own
    if config.positions == "learned" and config.architecture != "vision" and longest > config.max_positions:
        return [f"{longest} positions exceed the {config.max_positions} of the model"]
    return []


def _decoder(step: Step, source: Source | None) -> str:
    """Embedding, decoder layers, logits of the last token: [batch, vocabulary]."""
    builder, config = step.builder, step.config
    x, table = _embed(step)
    bias = _score_bias(step)
    for index in range(config.layers):
        with builder.block(config.encoder_layers + index):
            if config.state is not None:
                y = norm(step, x, f"{index}.norm")
                x = builder.add(state_layer(step, y, config.state, f"{index}.state_space"), x, f"{index}.add")
            else:
                x = layer(step, x, index, _in_window(step, bias, index), cached=True, source=source)
    x = _last_token(step, x)
    if config.norm_first or config.norm_after:
        x = norm(step, x, f"{step.prefix}norm")
    if config.tied and config.positions == "relative":
        # T5 rescales where it shares the table (modeling_t5.py).
        x = builder.mul(x, scalar(builder, config.hidden**-0.5), f"{step.prefix}norm.scaled")
    plain = config.logit_scale == 1.0 and not config.logit_cap
    name = "logits" if plain else "logits.raw"
    if config.tied:
        logits = builder.matmul(x, table, transpose_b=True, name=name)
    else:
        logits = builder.linear(x, config.vocabulary, config.head_bias, name)
    if config.logit_cap:
        return capped(builder, logits, config.logit_cap, "logits")
    return logits if plain else builder.mul(logits, scalar(builder, config.logit_scale), "logits")


def _encoder(builder: GraphBuilder, config: TransformerConfig, batch: int, seq: int) -> Graph:
    step = Step(builder, config, batch, seq, 0, "")
    outputs = [_encode(step)]
    if config.pooler:
        first = builder.reshape(outputs[0], (batch, seq, config.hidden), "pooler.tokens")
        first = builder.reshape(builder.slice(first, 1, 0, 1, name="pooler.first"), (batch, config.hidden))
        outputs.append(builder.tanh(builder.linear(first, config.hidden, name="pooler"), "pooler.tanh"))
    return builder.build(outputs, "tokens", batch * seq, f"{config.model_type} encode")


def _encoder_decoder(
    builder: GraphBuilder, config: TransformerConfig, phase: str, batch: int, seq: int, kv: int
) -> Graph:
    """Prefill encodes the source, stores what the decoder looks at, and decodes the start token."""
    decoder = Step(builder, config, batch, 1, kv, "decoder.")
    if phase == "prefill":
        encoder = Step(builder, config, batch, seq, 0, "encoder.", config.encoder_heads, config.encoder_ffn)
        logits = _decoder(decoder, Source(seq, _encode(encoder)))
    else:
        logits = _decoder(decoder, Source(seq))
    items = batch * (seq if phase == "prefill" else 1)
    return builder.build([logits], "tokens", items, f"{config.model_type} {phase}")


def _encode(step: Step) -> str:
    """Embedding and encoder layers: [batch * tokens, hidden]."""
    config = step.config
    layers = config.encoder_layers or config.layers
    x = _hear(step) if config.mels else _embed(step)[0]
    bias = _score_bias(step)
    for index in range(layers):
        with step.builder.block(index):
            x = layer(step, x, index, bias)
    return norm(step, x, f"{step.prefix}norm") if config.norm_first else x


def towers(builder: GraphBuilder, config: TransformerConfig, batch: int, seq: int) -> Graph:
    """CLIP (Radford et al., 2021): texts of `seq` tokens and images, as many, each to a vector of length 1, and how
    alike every text and image are: [batch, batch]. A text is what its end token has become, at the places `ends`
    [batch] of all tokens."""
    assert config.tower is not None
    step = Step(builder, config, batch, seq, 0, "text.")
    words = _encode(step)
    words = builder.gather(words, builder.input("ends", (batch,), "int32"), 0, "text.ends")
    sides = []
    for part, x in (("text", words), ("image", image_state(builder, config.tower, batch, "image.", config.layers))):
        x = builder.linear(x, config.projection, False, f"{part}.projection")
        square = builder.reduce(builder.elementwise("square", x), "sum", (1,), True, f"{part}.square")
        length = builder.elementwise("sqrt", square, name=f"{part}.length")
        sides.append(builder.elementwise("div", x, length, name=f"{part}.vector"))
    alike = builder.matmul(sides[0], sides[1], transpose_b=True, name="alike")
    scale = builder.elementwise("exp", builder.weight((1,), "logit_scale"), name="scale")
    return builder.build([builder.mul(alike, scale, "logits"), *sides], items=batch, source=config.model_type)


def _hear(step: Step) -> str:
    """Whisper (Radford et al., 2022, section 2.2): two convolutions over the spectrogram of a sound, of which the
    second halves its length, and a table of positions: [batch * tokens, hidden]."""
    builder, config = step.builder, step.config
    x = builder.input("sound", (step.batch, config.mels, 2 * step.tokens))
    for index, stride in ((1, 1), (2, 2)):
        x = builder.conv(x, config.hidden, 3, stride, 1, name=f"{step.prefix}hear{index}")
        x = builder.gelu(x, f"{step.prefix}hear{index}.gelu")
    x = builder.transpose(x, (0, 2, 1), f"{step.prefix}heard")
    places = builder.weight((config.source_positions, config.hidden), f"{step.prefix}positions.weight")
    if step.tokens < config.source_positions:
        places = builder.slice(places, 0, 0, step.tokens, name=f"{step.prefix}positions.rows")
    x = builder.add(x, places, f"{step.prefix}positions")
    return builder.reshape(x, (step.batch * step.tokens, config.hidden), f"{step.prefix}embedding.flat")


def _embed(step: Step) -> tuple[str, str]:
    """Token (and position) embeddings [batch * tokens, hidden], and the name of the token table."""
    builder, config = step.builder, step.config
    table = "embedding.weight"
    if table not in builder.tensors:  # encoder and decoder share it
        builder.weight((config.vocabulary, config.hidden), table)
    ids = builder.input(f"{step.prefix}tokens", (step.batch, step.tokens), "int32")
    x = builder.gather(table, ids, 0, f"{step.prefix}embedding")
    if config.chips > 1:
        # Each chip has some rows of the table, and zeros for tokens whose rows are elsewhere.
        x = builder.all_reduce(x, config.chips, f"{step.prefix}embedding.sum")
    if config.scaled_embedding:
        factor = config.embedding_scale or config.hidden**0.5
        x = builder.mul(x, scalar(builder, factor), f"{step.prefix}embedding.scaled")
    name = f"{step.prefix}positions"
    if config.positions == "learned":
        rows = config.max_positions + config.position_offset
        learned = builder.weight((rows, config.hidden), f"{name}.weight")
        first = config.position_offset + step.kv
        x = builder.add(x, builder.slice(learned, 0, first, step.tokens, name=f"{name}.rows"), name)
    if config.positions == "sinusoidal":
        value = sinusoids(step.kv, step.tokens, config.hidden)
        x = builder.add(x, builder.weight(value.shape, f"{name}.rows", value=value), name)
    if config.token_types:
        kinds = builder.weight((config.token_types, config.hidden), "token_types.weight")
        x = builder.add(x, builder.slice(kinds, 0, 0, 1, name="token_types.row"), "token_types")
    x = builder.reshape(x, (step.batch * step.tokens, config.hidden), f"{step.prefix}embedding.flat")
    return (norm(step, x, f"{step.prefix}embedding.norm") if config.embedding_norm else x), table


def _score_bias(step: Step) -> str | None:
    """What is added to all scores: the causal mask [S, T] (an input), or T5's relative bias [heads, S, T]."""
    builder, config = step.builder, step.config
    length = step.kv + step.tokens
    if config.positions == "relative":
        causal = step.prefix == "decoder."
        value = relative_indices(
            step.kv, step.tokens, config.relative_buckets, config.relative_distance, bidirectional=not causal
        )
        indices = builder.weight(value.shape, f"{step.prefix}buckets", "int32", value)
        table = builder.embedding(indices, config.relative_buckets, step.heads, f"{step.prefix}relative")
        return builder.transpose(table, (2, 0, 1), f"{step.prefix}relative_bias")
    if (config.architecture == "decoder" or config.causal) and step.tokens > 1:
        if "causal_mask" not in builder.causal:
            builder.causal.append("causal_mask")
        return builder.input("causal_mask", (step.tokens, length))
    return None


def _in_window(step: Step, bias: str | None, index: int) -> str | None:
    """The mask of a layer: of one that attends to fewer tokens than there are, a second input, of its blocks."""
    blocks = blocks_of(step, step.config.window_of(index))
    if bias is None or blocks is None:
        return bias
    name = "window_mask"
    return name if name in step.builder.tensors else step.builder.input(name, blocks.mask)


def _last_token(step: Step, x: str) -> str:
    """[batch * tokens, hidden] to [batch, hidden]: only the last token's logits are wanted."""
    if step.tokens == 1:
        return x
    width = step.config.hidden
    x = step.builder.reshape(x, (step.batch, step.tokens, width), f"{step.prefix}states")
    x = step.builder.slice(x, 1, step.tokens - 1, 1, name=f"{step.prefix}last")
    return step.builder.reshape(x, (step.batch, width), f"{step.prefix}last_state")
