"""Encoder: the one frozen backbone, run only as far as somebody reads it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lets import products
from lets.errors import LetsError
from lets.frozen import ActivationCache, FrozenNeeds
from lets.int8 import Int8Weight, quantize
from lets.layers import (
    FrozenLayer,
    cached_cls_layer,
    cls_layer,
    full_layer,
    project_key_value,
    project_qkv,
    project_query,
)
from lets.quiet import quiet_transformers
from lets.shape import EncoderShape
from lets.tokens import Texts, TokenBatch, tokenize, tokenizer_fingerprint
from lets.weights import (
    LayerWeights,
    check_finite,
    check_supported,
    fingerprint,
    named_weights,
    read_layers,
    read_position_bias,
)

__all__ = ["ActivationCache", "Encoder", "FrozenNeeds"]


class Encoder:
    """A frozen BERT-shaped encoder in evaluation mode; nothing here has gradients.

    Attributes:
        model_type: The architecture, as transformers calls it.
        layers: Frozen tensors of every layer, bottom to top.
        position_bias: What all layers add to their attention scores, if anything. [A, S, S]
        fingerprint: sha256 over names, dtypes, shapes and bytes of the weights as they were loaded.
        max_length: The longest input in tokens.
        type_vocab_size: 0 where token types are ignored.
        pooler: Weight and bias of the checkpoint's pooler, where it has one; the frozen encoder
            does not use it, an ordinary classifier starts from it.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        source: str = "model",
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        config: Any = model.config
        self.model_type = check_supported(config, source)
        weights = named_weights(model)
        check_finite(weights, source)
        self.fingerprint = fingerprint(weights)
        self.source, self.revision, self.tokenizer = source, revision, tokenizer
        self.shape = EncoderShape.from_config(config.to_dict(), source)
        self.eps = float(getattr(config, "layer_norm_eps", 1e-12))  # DistilBERT has no choice
        self.dtype, self.device = dtype, torch.device(device)
        parts: Any = model.eval().requires_grad_(False)
        self.max_length = longest_input(parts, tokenizer)
        self.vocab_size = int(config.vocab_size)
        types = getattr(parts.embeddings, "token_type_embeddings", None)
        self.type_vocab_size = 0 if types is None else types.num_embeddings
        self.layers: list[LayerWeights] = [
            layer.to(self.device, dtype) for layer in read_layers(model, self.model_type)
        ]
        bias = read_position_bias(model, self.max_length)
        self.position_bias = None if bias is None else bias.to(self.device, dtype)
        self._frozen = [
            FrozenLayer(weights, self.shape.num_heads, self.eps, self.position_bias)
            for weights in self.layers
        ]
        pooler = getattr(getattr(parts, "pooler", None), "dense", None)
        self.pooler: dict[str, Tensor] | None = None if pooler is None else pooler.state_dict()
        self._embeddings = parts.embeddings.to(self.device, dtype)
        projection = getattr(parts, "embeddings_project", None)
        self._project = None if projection is None else projection.to(self.device, dtype)
        _check_tokenizer(tokenizer, source)

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Encoder:
        """Load a local folder or a hub id through transformers; safetensors only."""
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        source = str(path_or_id)
        check_device(device)
        try:
            with quiet_transformers():  # it reports the pooler, which is not used, as missing
                config = AutoConfig.from_pretrained(
                    source, revision=revision, trust_remote_code=False
                )
                check_supported(config, source)
                model, loaded = AutoModel.from_pretrained(
                    source,
                    revision=revision,
                    use_safetensors=True,
                    trust_remote_code=False,
                    dtype=torch.float32,
                    output_loading_info=True,
                )
                _check_complete(loaded, source)
                if any(str(name).startswith("pooler.") for name in loaded["missing_keys"]):
                    model.pooler = None  # a random one
                tokenizer = AutoTokenizer.from_pretrained(
                    source, revision=revision, trust_remote_code=False
                )
        except LetsError:
            raise
        except Exception as error:  # transformers raises many kinds for a path that is no model
            first_line = str(error).strip().split("\n")[0]
            missing = "" if Path(source).exists() else "no such folder here; as a hub id: "
            raise LetsError(f"encoder: cannot load {source}: {missing}{first_line}") from error
        return cls(model, tokenizer, source, revision, dtype, device)

    @classmethod
    def from_model(cls, model: nn.Module, tokenizer: Any, source: str = "model") -> Encoder:
        """A frozen copy of a loaded transformers model, which may go on training."""
        return cls(copy.deepcopy(getattr(model, "base_model", model)), tokenizer, source)

    def packed(self, quantization: str | None = None) -> Encoder:
        """The same encoder for answering, with matrices packed for the fastest product.

        It shares all else; where this encoder is not used any more, its matrices are released.

        Args:
            quantization: "int8" rounds the matrices; see `lets.int8`.
        """
        if quantization not in (None, "int8"):
            raise LetsError(f"encoder: quantization must be int8 or None, got {quantization!r}")
        pack = products.pack if quantization is None else _rounded
        return self._with_layers([
            replace(layer, weights=layer.weights.packed(pack)) for layer in self._frozen
        ])  # fmt: skip

    def with_projections(self, whole: Collection[int], parts: Collection[int]) -> Encoder:
        """A packed encoder with the stacked W_Q, W_K, W_V of each layer as they are read.

        Plain in layers of which something reads `parts`, packed in others; beside each other where
        the products of all three with all rows are read as `whole` too.
        """
        return self._with_layers([
            layer.with_projections(j in whole, j in parts) for j, layer in enumerate(self._frozen)
        ])  # fmt: skip

    def plain(self) -> Encoder:
        """The same encoder for training, which changes plain matrices; copies of packed ones."""
        self.check_exact("encoder")
        return self._with_layers([
            replace(layer, weights=layer.weights.plain(), plain_qkv_weight=None)
            for layer in self._frozen
        ])  # fmt: skip

    def check_exact(self, what: str) -> None:
        """Raise where matrices were rounded: what is made from them would not fit the encoder."""
        if any(isinstance(layer.out_weight, Int8Weight) for layer in self.layers):
            raise LetsError(
                f"{what}: the matrices of {self.source} must be those of its file, got int8; load "
                "it without quantization"
            )

    def _with_layers(self, layers: list[FrozenLayer]) -> Encoder:
        twin = copy.copy(self)
        twin._frozen, twin.layers = layers, [layer.weights for layer in layers]
        return twin

    def num_bytes(self) -> int:
        """What its tensors take."""
        held: list[Tensor | None] = [self.position_bias]
        held += [value for layer in self.layers for value in vars(layer).values()]
        held += [layer.plain_qkv_weight for layer in self._frozen]
        for module in (self._embeddings, self._project):
            held += [] if module is None else [*module.parameters(), *module.buffers()]
        return sum(products.num_bytes(tensor) for tensor in held if tensor is not None)

    @functools.cached_property
    def tokenizer_fingerprint(self) -> str:
        """sha256 over the tokenizer's vocabulary and rules."""
        return tokenizer_fingerprint(self.tokenizer)

    def layer(self, index: int) -> FrozenLayer:
        return self._frozen[index]

    def tokenize(self, texts: Texts, max_length: int, pad_to: int | None = None) -> TokenBatch:
        """Token ids on the encoder's device. Raises LetsError for empty texts or a wrong length."""
        for name, length in (("max_length", max_length), ("pad_to", pad_to)):
            if length is not None and not 3 <= length <= self.max_length:
                raise LetsError(
                    f"encoder: {name} must be between 3 and {self.max_length} tokens "
                    f"for {self.source}, got {length}"
                )
        return tokenize(self.tokenizer, texts, max_length, pad_to).to(self.device)

    @torch.no_grad()
    def embed(self, batch: TokenBatch) -> Tensor:
        """Embedding output x^p_{-1}. [B, S, H]"""
        self.check_batch(batch)
        return self.look_up(batch)

    def look_up(self, batch: TokenBatch) -> Tensor:
        """`embed` of a batch that was checked. [B, S, H]"""
        return self.embed_ids(batch.input_ids, batch.token_type_ids)

    def embed_ids(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """The same of ids alone; token types are ignored where there are none. [B, S, H]"""
        types = {"token_type_ids": token_type_ids} if self.type_vocab_size else {}
        x = self._embeddings(input_ids=input_ids, **types)
        return x if self._project is None else self._project(x)

    @torch.no_grad()
    def forward(self, batch: TokenBatch, needs: FrozenNeeds | None = None) -> ActivationCache:
        """Run the layers that `needs` asks for, and of the last one only what is read.

        Args:
            needs: Default: everything.
        """
        needs = FrozenNeeds.everything(self.shape.num_layers) if needs is None else needs
        top_hidden = max(needs.hidden | needs.pooled, default=-1)
        top = max(top_hidden, max(needs.products, default=0) - 1)
        cache = ActivationCache(batch.key_mask)
        x = self.embed(batch)
        if -1 in needs.hidden:
            cache.hidden[-1] = x
        for j in range(top + 1):
            cls_only = j == top and j not in needs.hidden and j + 1 not in needs.products
            qkv = None
            if j in needs.qkv or not cls_only:
                qkv = project_qkv(x, self.layer(j))
                if j in needs.products:
                    cache.qkv[j] = qkv
            elif j in needs.products:
                self.project_cls(cache, j, x)
            if cls_only:
                cache.cls_rows[j] = self._cls_row(cache, j, x)
                return cache
            assert qkv is not None
            layer = self.layer(j)
            x = full_layer(qkv[None], x[None], cache.key_mask, layer, layer.own())[0]
            if j in needs.hidden or j in needs.pooled:
                cache.hidden[j] = x
        if top + 1 in needs.qkv:
            cache.qkv[top + 1] = project_qkv(x, self.layer(top + 1))
        elif top + 1 in needs.products:
            self.project_cls(cache, top + 1, x, query=top + 1 in needs.cls_qkv)
        return cache

    def project_cls(
        self, cache: ActivationCache, index: int, x: Tensor, query: bool = True
    ) -> None:
        """Put K and V of all rows, and Q of the [CLS] row, into the cache. x: x^p_{index-1}"""
        if query:
            cache.cls_query[index] = project_query(x[:, 0], self.layer(index))
        cache.key_value[index] = project_key_value(x, self.layer(index))

    def _cls_row(self, cache: ActivationCache, index: int, x: Tensor) -> Tensor:
        layer = self.layer(index)
        if index in cache.qkv or index in cache.key_value:
            query, key, value = (t[None] for t in cache.cls_products(index))
            row = cached_cls_layer(query, key, value, x[None], cache.key_mask, layer, layer.own())
        else:
            row = cls_layer(x[None], cache.key_mask, layer, layer.own())
        return row[0]

    def check_batch(self, batch: TokenBatch) -> None:
        """Raise LetsError for ids that are not the encoder's, or too many of them."""
        length = batch.input_ids.shape[1]
        if not 0 < length <= self.max_length:
            raise LetsError(
                f"encoder: inputs must have 1 to {self.max_length} tokens, got {length}; truncate "
                "them with max_length"
            )
        for name, size in (
            ("input_ids", self.vocab_size), ("token_type_ids", self.type_vocab_size)
        ):  # fmt: skip
            ids = getattr(batch, name)
            if size and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < size:
                raise LetsError(
                    f"encoder: {name} must be in [0, {size}), got {int(ids.min())} to "
                    f"{int(ids.max())}; was another tokenizer used?"
                )


def _rounded(weight: products.Weight) -> Int8Weight:
    return weight if isinstance(weight, Int8Weight) else quantize(products.plain(weight))


def _check_complete(loaded: Any, source: str) -> None:
    """Raise where transformers would go on with random weights."""
    found = {key for name in ("missing_keys", "mismatched_keys") for key in loaded.get(name, ())}
    names = sorted(str(key) for key in found if not str(key).startswith("pooler."))
    if names:
        raise LetsError(
            f"encoder: {source}: {names[0]} is missing or has another shape "
            f"({len(names)} tensors in all); the folder's config.json and weights do not fit"
        )


def _check_tokenizer(tokenizer: Any, source: str) -> None:
    """It must know words and, because the pooling reads row 0, put its [CLS] there."""
    if tokenizer is None:
        return
    ids = tokenizer("a")["input_ids"]
    if tokenizer.cls_token_id is None or ids[:1] != [tokenizer.cls_token_id]:
        raise LetsError(
            f"encoder: {source}: the tokenizer must put its [CLS] token first, got tokens {ids}"
        )
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        # What transformers makes of a folder without a tokenizer's files.
        raise LetsError(
            f"encoder: {source}: the tokenizer's vocabulary must hold words, got special tokens "
            "alone; are the tokenizer's files missing?"
        )


def check_device(device: torch.device | str) -> None:
    """Raise unless torch can use the device; there is no silent way back to the CPU."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise LetsError(f"device: must be cpu or cuda, got {device!r}") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise LetsError("device: cuda is asked for, but torch sees no CUDA device here")


def longest_input(model: Any, tokenizer: Any) -> int:
    """Most tokens that a model of transformers (without a head) and its tokenizer take."""
    positions = int(model.config.max_position_embeddings)
    padding = getattr(model.embeddings, "padding_idx", None)
    if padding is not None:  # RoBERTa's and MPNet's positions start behind the padding's
        positions -= padding + 1
    return min(positions, getattr(tokenizer, "model_max_length", positions))
