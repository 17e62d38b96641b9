"""What is served: task packs, or seeded ones on a built-in shape; and the same texts answered by
one dense model a task, in the same server."""

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from lets.bench.baselines import baseline_class
from lets.bench.baselines.base import Dense, as_inputs
from lets.bench.problem import bench_encoder, dense_classifier, random_task
from lets.cost import encoder_flops
from lets.encoder import Encoder
from lets.pack import load_pack
from lets.policy import Policy
from lets.run.engine import Engine
from lets.serve.costs import Costs, Flops

SEED = 11
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_engine(encoder, packs=(), tasks=3, policy="fig2b", mode="auto"):
    """An engine of real packs, or of `tasks` random ones of a policy on a built-in shape."""
    if packs:
        loaded = Encoder.from_pretrained(encoder)
        return Engine(loaded, [load_pack(pack, loaded) for pack in packs], mode=mode)
    made = bench_encoder(encoder, SEED)
    made.tokenizer = word_tokenizer(made.vocab_size)
    chosen = Policy.preset(policy, made.shape.num_layers)
    return Engine(
        made, [random_task(made, chosen, 0.005, SEED + i, f"t{i}") for i in range(tasks)], mode=mode
    )


def word_tokenizer(vocab_size):
    """A word w0, w1, … for every id that is not special."""
    from transformers import BertTokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocab.txt"
        words = (f"w{i}" for i in range(vocab_size - len(_SPECIAL)))
        file.write_text("\n".join([*_SPECIAL, *words]) + "\n", encoding="utf-8")
        return BertTokenizerFast(str(file))


def make_texts(tokenizer, count, shortest, longest, seed=SEED):
    """Texts of so many tokens, special ones included, lengths evenly spread."""
    draw = random.Random(seed)
    words = sorted(word for word in tokenizer.get_vocab() if word.isalnum())
    return [
        " ".join(draw.choice(words) for _ in range(draw.randint(shortest, longest) - 2))
        for _ in range(count)
    ]


class DenseEngine(Engine):
    """Answers every task by a dense model of its own, of the same shape and with random weights."""

    def __init__(self, engine, shape, kind, threads):
        super().__init__(engine.encoder, [], mode=engine.mode)
        self._set = engine.task_set
        model = dense_classifier(shape, SEED)
        self._folder = tempfile.TemporaryDirectory(prefix="bench-serve-")
        dense = Dense(model, model, threads, Path(self._folder.name))
        self._models = baseline_class(kind)(dense, len(self._set.tasks))
        self._numbers = {name: i for i, name in enumerate(self._set.tasks)}

    @torch.inference_mode()
    def forward(self, tokens, tasks=None, task_set=None):
        inputs = as_inputs(tokens)
        return {name: self._models.forwards[self._numbers[name]](inputs) for name in tasks}

    def reference(self, tokens):
        """What eager PyTorch answers for any of the tasks."""
        return self._models.reference(as_inputs(tokens))


class DenseCosts(Costs):
    """Dense models share nothing, so no two tasks are ever worth a common call."""

    def seconds(self, loaded, names, rows, seq_len):
        return sum(super(DenseCosts, self).seconds(loaded, (n,), rows, seq_len) for n in names)

    def observe(self, loaded, names, rows, seq_len, seconds):
        """Of one model: the warm-up asks all of them at once."""
        super().observe(loaded, names[:1], rows, seq_len, seconds / len(names))

    def _count(self, loaded, names, seq_len):
        dense = len(names) * encoder_flops(self.shape, seq_len)
        return Flops(0, dense, dense)


def small_encoder():
    """Three layers, the same in every process: for load rather than for speed."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(SEED)
    model = BertModel(
        BertConfig(
            vocab_size=500, hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=64, initializer_range=0.3,
        )
    )  # fmt: skip
    return Encoder(model.eval(), word_tokenizer(500), "small-bert")


def small_tasks(encoder):
    """Four that stay (one on pairs), and two versions of one that comes and goes."""
    policies = (("ppf", "pff"), ("pff", "fff"), ("ppp", "fpp"), ("pff", "ppf"), ("ppf", "fpf"))
    made = {
        name: random_task(encoder, Policy(*policies[i % 5]), 0.05, SEED + i, name)
        for i, name in enumerate(("t0", "t1", "t2", "pairs", "first", "second"))
    }
    made["pairs"] = replace(made["pairs"], is_pair=True)
    return {name: replace(task, max_length=24 + 6 * i) for i, (name, task) in
            enumerate(made.items())}  # fmt: skip
