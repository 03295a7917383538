"""What a transformer looks like, read from the `config.json` of a Hugging Face model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from sim.errors import Diagnostic, InputError, did_you_mean
from sim.graph.packing import FORMATS, Packing
from sim.graph.transformer_families import (
    ACTIVATIONS,
    COMMON_KEYS,
    DTYPES,
    FAMILIES,
    Family,
)
from sim.graph.transformer_families_later import LATER, settle
from sim.graph.transformer_families_newer import NEWER, opened, settle_newer
from sim.graph.transformer_families_recent import RECENT, settle_recent

ALL_FAMILIES: Mapping[str, Family] = {**FAMILIES, **LATER, **NEWER, **RECENT}
SUPPORTED_TYPES: tuple[str, ...] = tuple(sorted(ALL_FAMILIES))

Architecture = Literal["decoder", "encoder", "encoder_decoder", "vision", "towers", "state_space"]


_MOST = {
    "layers": 4096, "encoder_layers": 4096, "experts": 8192, "heads": 1 << 14, "encoder_heads": 1 << 14,
    "head_dim": 1 << 16, "hidden": 1 << 24, "ffn": 1 << 24, "expert_ffn": 1 << 24, "shared_ffn": 1 << 24,
    "mels": 1 << 16, "source_positions": 1 << 28, "projection": 1 << 24,
    "vocabulary": 1 << 28, "max_positions": 1 << 28, "image": 1 << 16, "classes": 1 << 24, "relative_buckets": 1 << 20,
}  # fmt: skip
"""Far above any model, and what a graph can be built of."""
_SHARED = {
    "heads": "query heads", "kv_heads": "key-value heads", "ffn": "columns of the FFN",
    "encoder_heads": "heads of the encoder", "encoder_ffn": "columns of the encoder's FFN",
    "expert_ffn": "columns of an expert", "shared_ffn": "columns of the network beside the experts",
}  # fmt: skip
"""What chips divide among them."""
_SAID = {"head_dim": "dimensions of a head", "hidden": "hidden dimensions", "ffn": "dimensions of the FFN"}


@dataclass(frozen=True, slots=True)
class Latent:
    """Attention whose keys and values are made from a vector of `rank` numbers per token, which alone is kept, and one
    rotated key of `rope` numbers for all heads (DeepSeek-V2, 2024, section 2.1). Queries of a head have `nope` numbers
    besides; they come from a vector of `query_rank` (0: straight from the token). Values have `value` per head."""

    rank: int
    rope: int
    nope: int
    value: int
    query_rank: int = 0


@dataclass(frozen=True, slots=True)
class StateSpace:
    """A layer that keeps a state of `size` numbers for each of `width` channels, and the last `taps` inputs of its
    convolution, instead of what was said before (Gu and Dao, Mamba, 2023). Time steps come from vectors of `rank`."""

    width: int
    size: int
    taps: int
    rank: int
    bias: bool = False  # of the projections
    taps_bias: bool = True  # of the convolution


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Sizes count elements. `layers` are those of the decoder where there is one."""

    name: str
    model_type: str
    architecture: Architecture
    hidden: int
    layers: int
    heads: int
    ffn: int
    vocabulary: int = 0
    max_positions: int = 0
    kv_heads: int = 0  # 0: one per head
    head_dim: int = 0  # 0: hidden / heads
    encoder_layers: int = 0
    encoder_heads: int = 0
    encoder_ffn: int = 0
    positions: Literal["rope", "learned", "sinusoidal", "relative", "alibi", "none"] = "rope"
    position_offset: int = 0  # rows of the learned table before that of position 0
    rotary_fraction: float = 1.0
    rope_theta: float = 10000.0
    relative_buckets: int = 32
    relative_distance: int = 128
    window: int | None = None  # attention span in tokens
    window_pattern: int = 1  # every so many layers one attends to all tokens; 1: none does, all have the window
    chunked: bool = False  # tokens attend within chunks of the window's size; it does not slide
    windows_rotate: bool = False  # layers that attend to all tokens have no positions
    unrotated_step: int = 0  # every so many layers one has no positions
    temperature: float = 0.0  # by how much queries without positions grow, per logarithm
    temperature_floor: int = 8192  # tokens
    sinks: bool = False  # learned per head, a score that no value goes with
    causal: bool = False  # of an encoder: tokens attend to those before them
    norm: Literal["layer_norm", "rms_norm"] = "rms_norm"
    norm_first: bool = True  # before each sublayer, and once at the end; else after each residual add
    norm_after: bool = False  # of what a sublayer makes, before it is added
    parallel_norms: int = 0  # 1 or 2: attention and FFN side by side, from one or two norms
    embedding_norm: bool = False
    layer_scale: bool = False  # learned, by channel: what a sublayer makes is multiplied with before it is added
    residual_scale: float = 1.0  # the same, one number
    qk_norm: bool = False  # per head
    bare_qk_norm: bool = False  # per head, nothing learned, where there are rotary positions
    qkv_clip: float = 0.0  # queries, keys and values are cut off at +- so much; 0: as they are
    wide_qk_norm: bool = False  # of all heads together
    score_cap: float = 0.0  # scores are squashed to within +- so much; 0: as they are
    logit_cap: float = 0.0
    logit_scale: float = 1.0
    epsilon: float = 1e-5
    activation: str = "silu"
    gated: bool = False
    gate_cap: float = 0.0  # what is gated is cut off at +- so much, and 1 is added to it
    experts: int = 0  # feed-forward networks of a layer, of which each token goes to some; 0: one for all
    experts_per_token: int = 0
    scaled_gates: bool = True  # the shares of the chosen experts are scaled to add up to 1
    gate_scale: float = 1.0  # what they are multiplied with then
    router: Literal["softmax", "sigmoid"] = "softmax"
    router_bias: bool = False  # learned, added to the scores where experts are chosen
    router_offset: bool = False  # learned, added to the logits
    gates_first: bool = False  # shares weigh what experts are given, not what they make
    expert_step: int = 1  # every so many layers one has experts, the others one network
    expert_ffn: int = 0  # width of an expert; 0: that of all
    expert_groups: int = 1  # the experts stand in groups, of which each token goes to some
    groups_per_token: int = 1
    shared_ffn: int = 0  # width of a network beside the experts that all tokens go to
    shared_gate: bool = False  # its share is computed
    dense_layers: int = 0  # first layers that have one network instead
    latent: Latent | None = None  # keys and values from one small vector per token
    state: StateSpace | None = None  # in the place of attention and FFN
    qkv_bias: bool = False
    key_bias: bool = True  # where queries and values have one
    output_bias: bool = False
    ffn_bias: bool = False
    norm_bias: bool = True  # of layer_norm
    head_bias: bool = False
    scaled_scores: bool = True
    score_scale: float = 0.0  # what with; 0: 1 / sqrt(head_dim)
    scaled_embedding: bool = False
    embedding_scale: float = 0.0  # what with; 0: sqrt(hidden)
    tied: bool = False
    token_types: int = 0
    pooler: bool = False
    mels: int = 0  # channels of the sound that an encoder hears instead of tokens
    source_positions: int = 0  # positions of the encoder's learned table
    image: int = 0
    patch: int = 0
    channels: int = 0
    classes: int = 0
    projection: int = 0  # width in which text and image meet
    tower: TransformerConfig | None = None  # of the image, beside that of the text
    dtype: str | None = None
    packing: Packing | None = None  # how the weights of the layers are kept
    chips: int = 1  # that share the model: heads, ffn and vocabulary are those of one of them

    def __post_init__(self) -> None:
        defaults = {
            "kv_heads": self.heads,
            "head_dim": self.hidden // self.heads,
            "encoder_heads": self.heads,
            "encoder_ffn": self.ffn,
        }
        for key, value in defaults.items():
            object.__setattr__(self, key, getattr(self, key) or value)
        complaints = list(self._complaints())
        if complaints:
            raise InputError([Diagnostic(text, path=self.name) for text in complaints])

    def _complaints(self) -> Iterator[str]:
        for key, limit in _MOST.items():
            if getattr(self, key) > limit:
                yield f"{getattr(self, key):,} {_SAID.get(key, key)} exceed the {limit:,} that are supported"
        for heads in (self.heads, self.encoder_heads):
            if self.architecture != "decoder" and self.hidden % heads and self.positions != "relative":
                yield f"hidden size {self.hidden} does not divide into {heads} heads"
        if self.head_dim < 1:
            yield f"hidden size {self.hidden} leaves {self.heads} heads nothing each; head_dim, or fewer heads"
        if self.heads % self.kv_heads:
            yield f"{self.heads} query heads do not divide among {self.kv_heads} key-value heads"
        if self.positions == "rope" and self.latent is None and not 0 < self.rotary_dim <= max(self.head_dim, 1):
            yield f"rotary embedding of {self.rotary_dim} of the {self.head_dim} dimensions of a head; expected a part"
        elif self.positions == "rope" and self.latent is None and self.rotary_dim % 2:
            yield f"rotary embedding needs an even number of dimensions, found {self.rotary_dim}"
        if self.positions == "alibi" and self.heads != self.kv_heads:
            yield f"slopes of {self.heads} heads with {self.kv_heads} key-value heads are not supported"
        if self.window_pattern < 1:
            yield f"found {self.window_pattern} layers from one that attends to all tokens to the next"
        if self.experts % self.expert_groups or self.groups_per_token > self.expert_groups:
            yield f"{self.experts} experts do not divide into {self.expert_groups} groups"
        if self.experts_per_token > self.experts:
            yield f"{self.experts_per_token} experts per token exceed the {self.experts} of a layer"
        if self.patch and self.image % self.patch:
            yield f"an image of {self.image} does not divide into patches of {self.patch}"

    def window_of(self, layer: int) -> int | None:
        """Tokens that a layer attends to; None for all."""
        if self.window is None or (self.window_pattern > 1 and (layer + 1) % self.window_pattern == 0):
            return None
        return self.window

    def rotates(self, layer: int) -> bool:
        """Whether a layer has rotary positions."""
        if self.unrotated_step and (layer + 1) % self.unrotated_step == 0:
            return False
        return self.positions == "rope" and not (self.windows_rotate and self.window_of(layer) is None)

    def has_experts(self, layer: int) -> bool:
        """Whether a layer has a mixture of experts."""
        return self.experts > 0 and layer >= self.dense_layers and (layer + 1) % self.expert_step == 0

    @property
    def rotary_dim(self) -> int:
        """Dimensions of a head that are rotated; the rest pass unchanged."""
        return int(self.head_dim * self.rotary_fraction)

    def shared_by(self, chips: int) -> TransformerConfig:
        """What one of so many chips has of the model: its part of the heads, of the columns and rows of the FFN (of
        every expert) and of the rows of the vocabulary, rounded up (Shoeybi et al., Megatron-LM, 2019). Norms, routers,
        position tables, poolers and the vectors of latent attention are whole on every chip. Raises InputError where
        that does not come out even, or for other models."""
        if chips == 1:
            return self
        used = {name: what for name, what in _SHARED.items() if getattr(self, name)}
        if not self.encoder_layers:
            used = {name: what for name, what in used.items() if not name.startswith("encoder")}
        complaints = [
            f"chips: {getattr(self, name):,} {what} do not divide among {chips}"
            for name, what in used.items()
            if getattr(self, name) % chips
        ]
        others = {
            "two models": self.tower is not None,
            "one that norms all heads together": self.wide_qk_norm,
            "a state space": self.state is not None,
        }
        if what := next((name for name, is_so in others.items() if is_so), ""):
            complaints = [f"chips: {self.model_type} is {what}, which is not shared"]
        if complaints:
            raise InputError([Diagnostic(text, path=self.name) for text in complaints])
        parts = {name: getattr(self, name) // chips for name in used}
        return replace(self, **parts, vocabulary=-(-self.vocabulary // chips), chips=chips)

    @classmethod
    def from_hf(cls, data: Mapping[str, Any], name: str = "", file: Path | None = None) -> TransformerConfig:
        """The content of a config.json. Raises InputError with everything that is missing or unsupported."""
        whole, data = data, opened(_text_part(data))
        family = _family(data, file)
        inside = whole.get("model_type") != data.get("model_type") and "text_config" in whole
        where, why = ("text_config.", "; write there what the library assumes") if inside else ("", "")
        complaints = [
            f"required key '{where}{key}' is missing{why}" for key in family.required.values() if data.get(key) is None
        ]
        values: dict[str, Any] = dict(family.traits)
        for key, (source, default) in {
            **{k: (v, None) for k, v in family.required.items()},
            **family.optional,
        }.items():
            found = data.get(source)
            values[key] = default if found is None else found
            complaints += [] if found is None else _type_complaint(key, source, found)
        for key, accepted in family.only.items():
            if key in data and data[key] not in accepted:
                complaints.append(f"{key}: found {data[key]!r}; only {accepted[0]!r} is supported")
        if not complaints:
            complaints += _translate(values, data)
        if complaints:
            raise InputError([Diagnostic(text, file) for text in complaints])
        title = name or str(data.get("_name_or_path") or data["model_type"])
        return cls(name=title, model_type=str(data["model_type"]), **values)


def _text_part(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a model for text and images, the language model: what `text_config` says, in the format of the whole."""
    inner, kind = data.get("text_config"), data.get("model_type")
    if not isinstance(kind, str):
        return data
    if kind not in ALL_FAMILIES and inner is None and f"{kind}_text" in ALL_FAMILIES:
        # As older releases write it, all in one.
        return {**data, "model_type": f"{kind}_text"}
    if kind in ALL_FAMILIES or not isinstance(inner, Mapping):
        return data
    whole = {key: data[key] for key in ("torch_dtype", "dtype", "quantization_config") if key in data}
    return {**whole, **inner}


def known_keys(model_type: str) -> frozenset[str]:
    """The keys of a config.json that are read for a model type; none for one that is not supported."""
    family = ALL_FAMILIES.get(model_type)
    if family is None:
        return frozenset()
    optional = {source for source, _ in family.optional.values()}
    return frozenset(family.required.values()) | optional | family.only.keys() | COMMON_KEYS | set(family.more)


def load_hf_config(path: Path) -> TransformerConfig:
    """Read a config.json. Raises InputError if it is unreadable, not JSON, or of an unknown model."""
    return TransformerConfig.from_hf(read_hf_config(path), name=path.resolve().parent.name, file=path)


def read_hf_config(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(Diagnostic(f"cannot read the file: {error.strerror}", path)) from error
    except UnicodeDecodeError as error:
        raise InputError(Diagnostic("the file is not UTF-8 text", path)) from error
    except json.JSONDecodeError as error:
        message = f"not valid JSON: {error.msg}"
        raise InputError(Diagnostic(message, path, error.lineno, error.colno)) from error
    except RecursionError as error:
        raise InputError(Diagnostic("not valid JSON: nested too deeply", path)) from error
    if not isinstance(data, dict):
        raise InputError(Diagnostic(f"found {type(data).__name__}; expected a JSON object", path))
    return data


def _family(data: Mapping[str, Any], file: Path | None) -> Family:
    found = data.get("model_type")
    if isinstance(found, str) and found in ALL_FAMILIES:
        return ALL_FAMILIES[found]
    known = f"supported: {', '.join(SUPPORTED_TYPES)}"
    if found is None:
        raise InputError(Diagnostic("required key 'model_type' is missing", file, hint=known))
    suggestion = did_you_mean(str(found), SUPPORTED_TYPES)
    way = "name a supported type that it is built like, or export the model as ONNX"
    hint = "; ".join(filter(None, (suggestion, way, known)))
    raise InputError(Diagnostic(f"unknown model_type '{found}'", file, hint=hint))


_TYPES = {item.name: item.type for item in fields(TransformerConfig)}


def _type_complaint(key: str, source: str, found: Any) -> list[str]:
    """One complaint if a value of config.json does not have the type of its field."""
    declared = str(_TYPES[key])
    number = not isinstance(found, bool) and isinstance(found, int | float) and found > 0
    if declared == "bool":
        fits, wanted = isinstance(found, bool), "true or false"
    elif declared.startswith("int"):
        fits, wanted = number and isinstance(found, int), "a positive integer"
    elif declared == "float":
        fits, wanted = number, "a positive number"
    else:
        fits, wanted = isinstance(found, str), "a string"
    return [] if fits else [f"{source}: found {found!r}; expected {wanted}"]


def _translate(values: dict[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Settle, in place, what one key alone does not tell; returns complaints."""
    complaints = []
    activation = str(values["activation"])
    if data["model_type"] in ("t5", "mt5"):
        values["encoder_layers"] = values["layers"]
        values["layers"] = data.get("num_decoder_layers") or values["layers"]
        values["gated"] = activation.startswith("gated-")
        activation = {"gated-gelu": "gelu_new"}.get(activation, activation.removeprefix("gated-"))
    if activation not in ACTIVATIONS:
        complaints.append(f"activation '{activation}' is not supported; one of {', '.join(ACTIVATIONS)}")
    values["activation"] = ACTIVATIONS.get(activation, activation)
    if data["model_type"] == "gpt2":
        values["ffn"] = values["ffn"] or 4 * values["hidden"]
    if data["model_type"] == "roberta":
        # The learned table counts the rows before position 0.
        values["max_positions"] -= values["position_offset"]
    if data["model_type"] == "opt" and data.get("word_embed_proj_dim", values["hidden"]) != values["hidden"]:
        complaints.append("word_embed_proj_dim other than hidden_size is not supported")
    complaints += _packing(values, data.get("quantization_config"))
    complaints += settle(values, data, Latent)
    complaints += settle_newer(values, data, TransformerConfig.from_hf, StateSpace)
    complaints += settle_recent(values, data)
    torch_dtype = data.get("torch_dtype", data.get("dtype"))
    if torch_dtype is not None:
        values["dtype"] = DTYPES.get(str(torch_dtype))
        if values["dtype"] is None:
            complaints.append(f"torch_dtype '{torch_dtype}' is not supported; one of {', '.join(DTYPES)}")
    return complaints


def _packing(values: dict[str, Any], found: Any) -> list[str]:
    """Settle how weights are packed by a `quantization_config`, as GPTQ, AWQ and FP8 checkpoints have one."""
    if found is None:
        return []
    if not isinstance(found, Mapping):
        return [f"quantization_config: found {found!r}; expected an object"]
    method = found.get("quant_method")
    if method == "mxfp4":
        # Numbers of 4 bits, an exponent of 8 for every 32 of them (OCP Microscaling Formats 1.0, 2023, section 5.4),
        # which gpt-oss has for its experts alone.
        values["packing"] = Packing("int4", 32, "fp8", experts=True)
        return []
    bits, group = found.get("bits", 8), found.get("group_size", -1)
    name = "fp8" if method == "fp8" else f"int{bits}"
    if method == "fp8":
        block = found.get("weight_block_size") or [-1, -1]
        group = block[-1] if isinstance(block, list) and block else -1
    if method not in ("gptq", "awq", "fp8"):
        hint = "delete the block and say --weights int4 (or int8, fp8)"
        return [f"quantization_config: quant_method {method!r} is not supported, only gptq, awq, fp8 and mxfp4; {hint}"]
    if name not in FORMATS or isinstance(group, bool) or not isinstance(group, int):
        return [f"quantization_config: {bits!r} bits in groups of {group!r} are not supported"]
    values["packing"] = Packing(name, max(group, 0))
    return []
