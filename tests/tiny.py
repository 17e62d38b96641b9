"""A tiny random BERT with a tokenizer, and tiny tasks that it can learn."""

import csv
import random
from pathlib import Path

import torch

LABELS = ("cold", "warm")
_WORDS = {
    "warm": ["sun", "fire", "summer", "desert", "oven"],
    "cold": ["ice", "snow", "winter", "frost", "glacier"],
    "filler": ["the", "a", "of", "and", "near", "one", "day", "place", "old", "new", "see", "is"],
}


def save_tiny_bert(folder: Path, layers: int = 3, seed: int = 0) -> str:
    """Write a random post-LN BERT (H = 32) and its WordPiece tokenizer; returns the folder."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    words = [w for group in _WORDS.values() for w in group]
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.2,  # the default leaves so small a model next to constant
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


def make_rows(count: int, seed: int, pairs: bool = False, regression: bool = False) -> list[dict]:
    """Texts whose words tell the label; a share of warm words for regression."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        label = draw.choice(LABELS)
        share = draw.random() if regression else float(label == "warm")
        texts = []
        for _ in range(2 if pairs else 1):
            telling = [
                draw.choice(_WORDS["warm" if draw.random() < share else "cold"]) for _ in range(3)
            ]
            filler = [draw.choice(_WORDS["filler"]) for _ in range(draw.randint(1, 6))]
            words = telling + filler
            draw.shuffle(words)
            texts.append(" ".join(words))
        row = {"text": texts[0], "label": f"{share:.3f}" if regression else label}
        rows.append(row | {"other": texts[1]} if pairs else row)
    return rows


def write_csv(path: Path, rows: list[dict]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return str(path)
