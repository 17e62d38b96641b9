"""Token batches: padding on the right, truncation, and texts that are none."""

import pytest
import torch
from lets.errors import LetsError
from lets.tokens import TokenBatch, check_texts, collate, encode, tokenize

from tests.models import make_texts, make_tokenizer

TOKENIZER = make_tokenizer()


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_equals_the_tokenizer_padded_on_the_right(pairs, side):
    tokenizer = make_tokenizer()
    tokenizer.padding_side = side  # as some checkpoints say; [CLS] stays at row 0
    texts = make_texts(5)
    inputs = list(zip(texts, reversed(texts))) if pairs else texts
    batch = tokenize(tokenizer, inputs, 9)
    columns = zip(*inputs) if pairs else [inputs]
    expected = TOKENIZER(
        *map(list, columns), truncation=True, max_length=9, padding=True, return_tensors="pt"
    )
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(getattr(batch, name), expected[name])


def test_padded_to_a_length():
    batch = tokenize(TOKENIZER, ["a house", "one"], 20, pad_to=12)
    assert batch.input_ids.shape == (2, 12)
    assert batch.attention_mask.sum(1).tolist() == [4, 3]
    assert batch.key_mask is not None
    assert tokenize(TOKENIZER, ["a house", "a tree"], 20).key_mask is None
    with pytest.raises(LetsError, match=r"pad_to must be at least the longest input \(4\), got 3"):
        tokenize(TOKENIZER, ["a house"], 20, pad_to=3)


def test_tokenizer_without_token_types():
    def without(*args, **kwargs):
        return {"input_ids": TOKENIZER(*args, **kwargs)["input_ids"]}

    rows = encode(without, [("a", "house")], 9)
    assert collate(rows, 0).token_type_ids.tolist() == [[0] * 5]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("text", "texts must be a list of texts or of pairs, got str"),
        ([b"x"], r"texts\[0\] must be a text or a pair of texts, got bytes"),
        ([("a", "b", "c")], r"texts\[0\] must be a text or a pair"),
        ([("a",)], r"all texts or all pairs"),
        ([("a", "b"), "c"], r"all texts or all pairs, but \[1\] differs"),
        ([("a", "\n")], r"texts\[0\] must not be empty"),
        (["ok", "\udfff"], r"texts\[1\] must be valid Unicode"),
    ],
)
def test_what_is_no_text(texts, message):
    with pytest.raises(LetsError, match=message):
        check_texts(texts)


def test_batches_are_checked():
    ones = torch.ones(2, 3, dtype=torch.long)
    with pytest.raises(LetsError, match="attention_mask must be right-padded"):
        TokenBatch(ones, torch.tensor([[0, 1, 1], [1, 1, 1]]), ones)
    with pytest.raises(LetsError, match="attention_mask must be right-padded"):
        TokenBatch(ones, torch.tensor([[1, 0, 1], [1, 1, 1]]), ones)
    with pytest.raises(LetsError, match=r"token_type_ids must be integers \[B, S\]"):
        TokenBatch(ones, ones, ones.float())
