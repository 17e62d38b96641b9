"""The frozen encoder against transformers' own forward, and what it refuses."""

import json

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from lets.encoder import Encoder, FrozenNeeds
from lets.errors import LetsError
from lets.policy import Policy
from lets.tokens import TokenBatch
from safetensors.torch import load_file, save_file

from tests.models import make_bert, make_encoder, make_texts, make_tokenizer, save_bert
from tests.policies import policies

SIZES = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "initializer_range": 0.5,
}
MODELS = {
    "bert": (transformers.BertConfig(**SIZES), transformers.BertModel),
    "roberta": (transformers.RobertaConfig(**SIZES, pad_token_id=1), transformers.RobertaModel),
    "xlm-roberta": (
        transformers.XLMRobertaConfig(**SIZES, pad_token_id=1), transformers.XLMRobertaModel,
    ),
    "electra": (transformers.ElectraConfig(**SIZES, embedding_size=8), transformers.ElectraModel),
    "mpnet": (transformers.MPNetConfig(**SIZES), transformers.MPNetModel),
    "distilbert": (
        transformers.DistilBertConfig(
            vocab_size=30, dim=16, n_layers=3, n_heads=4, hidden_dim=24,
            max_position_embeddings=40, initializer_range=0.5,
        ),
        transformers.DistilBertModel,
    ),
}  # fmt: skip
PROJECTIONS = {
    "mpnet": [f"encoder.layer.{{}}.attention.attn.{part}" for part in "qkv"],
    "distilbert": [f"transformer.layer.{{}}.attention.{part}_lin" for part in "qkv"],
}
BERT_PROJECTIONS = [
    f"encoder.layer.{{}}.attention.self.{part}" for part in ("query", "key", "value")
]


def token_batch(lengths=(9, 4, 1), pad=0, segments=2):
    width = max(lengths)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 20, (len(lengths), width), generator=generator)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    types = (torch.arange(width) >= width // 2).long() * mask if segments > 1 else mask * 0
    return TokenBatch(torch.where(mask.bool(), ids, pad), mask, types)


def reference(model, batch):
    """x^p_j of every layer, embeddings first, as transformers computes them."""
    with torch.no_grad():
        types = getattr(model.config, "type_vocab_size", 0)
        return model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            output_hidden_states=True,
            **({"token_type_ids": batch.token_type_ids} if types else {}),
        ).hidden_states


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("lengths", [(9, 4, 1), (7,), (5, 5), (37, 22, 30)], ids=str)
def test_equals_transformers(name, lengths):
    config, model_class = MODELS[name]
    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():  # biases and LayerNorms that are no identities
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    encoder = Encoder.from_model(model, None)
    batch = token_batch(lengths, config.pad_token_id, getattr(config, "type_vocab_size", 1))
    cache = encoder.forward(batch)
    expected = reference(model, batch)
    for j in range(-1, 3):
        found = cache.hidden[j]
        real = batch.attention_mask.bool()
        torch.testing.assert_close(found[real], expected[j + 1][real], rtol=1e-5, atol=1e-5)
        assert torch.isfinite(found).all()
    for j in range(3):
        names = PROJECTIONS.get(name, BERT_PROJECTIONS)
        parts = [model.get_submodule(part.format(j))(expected[j]) for part in names]
        torch.testing.assert_close(cache.qkv[j], torch.cat(parts, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["distilbert", "mpnet"])
def test_token_types_are_ignored_where_there_are_none(name):
    """BERT's tokenizer, which DistilBERT's folders get, makes them for pairs."""
    config, model_class = MODELS[name]
    encoder = Encoder.from_model(model_class(config), None)
    plain, pairs = (token_batch((9, 4), config.pad_token_id, segments) for segments in (1, 2))
    assert pairs.token_type_ids.any()
    assert torch.equal(encoder.forward(pairs).hidden[2], encoder.forward(plain).hidden[2])


@pytest.mark.parametrize(("name", "longest"), [("bert", 40), ("roberta", 38), ("mpnet", 38)])
def test_longest_input(name, longest):
    config, model_class = MODELS[name]
    encoder = Encoder.from_model(model_class(config), None)
    assert encoder.max_length == longest
    encoder.forward(token_batch((longest,), config.pad_token_id, 1))


@given(st.lists(policies(3), max_size=3), st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_what_is_needed_equals_the_full_pass(chosen, lengths):
    encoder = make_encoder()
    batch = token_batch(lengths)
    needs = FrozenNeeds.union(chosen)
    full, cache = encoder.forward(batch), encoder.forward(batch, needs)

    def close(actual, expected):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)

    for j in needs.hidden:
        close(cache.hidden[j], full.hidden[j])
    for j in needs.pooled:
        close(cache.pooled(j), full.hidden[j][:, 0])
    for j in needs.qkv:
        close(cache.qkv[j], full.qkv[j])
    for j in needs.cls_qkv:
        for actual, expected in zip(cache.cls_products(j), full.cls_products(j)):
            close(actual, expected)
    for j in needs.products:
        for actual, expected in zip(cache.keys_and_values(j), full.keys_and_values(j)):
            close(actual, expected)


def test_runs_only_as_far_as_needed(monkeypatch):
    encoder, ran = make_encoder(), []
    original = encoder.layer
    monkeypatch.setattr(encoder, "layer", lambda j: ran.append(j) or original(j))
    encoder.forward(token_batch((3,)), FrozenNeeds.of(Policy("pff", "fff")))
    assert set(ran) == {0}  # Q, K and V of layer 0 alone
    ran.clear()
    encoder.forward(token_batch((3,)), FrozenNeeds())
    assert not ran


def test_no_gradients_and_no_dropout():
    encoder = make_encoder()
    cache = encoder.forward(token_batch((5, 2)))
    assert not any(t.requires_grad for t in (*cache.hidden.values(), *cache.qkv.values()))
    again = encoder.forward(token_batch((5, 2)))
    assert torch.equal(cache.hidden[2], again.hidden[2])


def test_a_model_that_trains_on_does_not_change_its_encoder():
    model = make_bert()
    encoder = Encoder.from_model(model, None)
    before = encoder.forward(token_batch((4,))).hidden[2]
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert torch.equal(encoder.forward(token_batch((4,))).hidden[2], before)


def test_from_pretrained(tmp_path):
    folder = save_bert(tmp_path)
    encoder, same = Encoder.from_pretrained(folder), make_encoder()
    assert encoder.fingerprint == same.fingerprint
    assert encoder.fingerprint != make_encoder(seed=1).fingerprint
    assert Encoder.from_pretrained(folder, dtype=torch.float64).fingerprint == same.fingerprint
    assert encoder.source == str(folder)
    assert (encoder.shape.num_layers, encoder.shape.hidden_size) == (3, 16)
    numel = sum(p.numel() for n, p in make_bert().named_parameters() if "pooler" not in n)
    assert encoder.shape.num_parameters == numel
    batch = encoder.tokenize(make_texts(3), 10)
    assert torch.equal(encoder.forward(batch).hidden[2], same.forward(batch).hidden[2])


def change_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_that_are_not_finite_are_refused(tmp_path):
    folder = save_bert(tmp_path)
    change_weights(folder, lambda t: t["encoder.layer.1.output.dense.weight"].fill_(torch.nan))
    with pytest.raises(LetsError, match=r"encoder\.layer\.1\.output\.dense\.weight must be finite"):
        Encoder.from_pretrained(folder)


def test_incomplete_weights_are_refused(tmp_path):
    folder = save_bert(tmp_path)
    change_weights(folder, lambda t: t.pop("encoder.layer.1.output.dense.weight"))
    with pytest.raises(LetsError, match=r"layer\.1\.output\.dense\.weight is missing"):
        Encoder.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(LetsError, match="cannot load"):
        Encoder.from_pretrained(folder)


SUPPORTED = "model_type must be one of bert, distilbert, electra, mpnet, roberta, xlm-roberta"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, f"{SUPPORTED}, got 'gpt2'"),
        ({"model_type": "deberta-v2"}, f"{SUPPORTED}, got 'deberta-v2'"),
        ({"model_type": "mpnet", "relative_attention_num_buckets": 16}, "must be 32, got 16"),
        ({"hidden_act": "relu"}, "hidden_act must be 'gelu', got 'relu'"),
        ({"is_decoder": True}, "is_decoder must be False"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type must be 'absolute'"),
    ],
)
def test_other_architectures_are_refused(tmp_path, change, message):
    folder = save_bert(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(LetsError, match=message):
        Encoder.from_pretrained(folder)


def test_what_is_no_model(tmp_path):
    with pytest.raises(LetsError, match="encoder: cannot load"):
        Encoder.from_pretrained(tmp_path / "none")


class NoSpecialTokens:
    """A tokenizer as some checkpoints ship it."""

    def __init__(self, tokenizer):
        self.tokenizer, self.cls_token_id = tokenizer, tokenizer.cls_token_id
        self.model_max_length = 512

    def __call__(self, text):
        return self.tokenizer(text, add_special_tokens=False)


def test_code_that_a_model_brings_is_not_even_asked_about(tmp_path, monkeypatch):
    """transformers would ask on the terminal, and run it where somebody says yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: ...\n")
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(LetsError, match="cannot load"):
        Encoder.from_pretrained(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_without_cls_first_is_refused():
    tokenizer = make_tokenizer()
    with pytest.raises(LetsError, match=r"must put its \[CLS\] token first"):
        Encoder.from_model(make_bert(), NoSpecialTokens(tokenizer))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    """transformers makes a tokenizer of special tokens out of nothing: every word is unknown."""
    folder = save_bert(tmp_path / "encoder")
    for file in folder.iterdir():
        if "token" in file.name or "vocab" in file.name:
            file.unlink()
    with pytest.raises(LetsError, match="vocabulary must hold words, got special tokens alone"):
        Encoder.from_pretrained(folder)


def test_lengths_and_ids_out_of_range():
    encoder = make_encoder()
    for length in (2, 49):
        with pytest.raises(LetsError, match="max_length must be between 3 and 48"):
            encoder.tokenize(["a"], length)
    with pytest.raises(LetsError, match="must have 1 to 48 tokens, got 60; truncate"):
        encoder.forward(TokenBatch(*[torch.ones(1, 60, dtype=torch.long)] * 3))
    with pytest.raises(LetsError, match=r"input_ids must be in \[0, 22\), got 1 to 99"):
        encoder.forward(TokenBatch(torch.tensor([[1, 99]]), *[torch.ones(1, 2).long()] * 2))


def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(LetsError, match="device: must be cpu or cuda, got 'abacus'"):
        Encoder.from_pretrained(tmp_path, device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(LetsError, match="torch sees no CUDA device"):
            Encoder.from_pretrained(tmp_path, device="cuda")
