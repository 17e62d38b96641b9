"""Inputs and outputs of the pipeline are those of transformers' own."""

import pytest
import torch
import transformers
from lets.errors import LetsError
from lets.model import LetsModel
from lets.pack import save_pack
from lets.policy import Policy
from lets.run.engine import Engine
from lets.text_classification import pipeline

from tests.models import make_bert, make_encoder, make_task, make_texts, make_tokenizer

POLICY = Policy("pff", "pff")
TEXTS = make_texts(3)
PAIR = {"text": TEXTS[0], "text_pair": TEXTS[1]}


def shape_of(value):
    """The structure of an answer, without its numbers and names."""
    if isinstance(value, list):
        return [shape_of(item) for item in value]
    return {key: type(entry) for key, entry in value.items()}


@pytest.fixture(scope="module")
def theirs():
    """transformers' pipeline of a BERT with three classes."""
    config = transformers.BertConfig(**{**make_bert().config.to_dict(), "num_labels": 3})
    model = transformers.BertForSequenceClassification(config)
    return transformers.pipeline("text-classification", model=model, tokenizer=make_tokenizer())


@pytest.fixture(scope="module")
def ours():
    encoder = make_encoder()
    tasks = [
        make_task(encoder, POLICY, name="single", labels=("a", "b", "c")),
        make_task(encoder, POLICY, name="pairs", labels=("a", "b", "c"), is_pair=True),
        make_task(encoder, POLICY, name="number", labels=()),
    ]
    return Engine(encoder, tasks)


@pytest.mark.parametrize("options", [{}, {"top_k": 1}, {"top_k": 2}, {"top_k": None}], ids=str)
@pytest.mark.parametrize("inputs", [TEXTS[0], TEXTS, TEXTS[:1], PAIR, [PAIR, PAIR]], ids=str)
def test_same_shapes_as_transformers(inputs, options, theirs, ours):
    name = (
        "pairs" if PAIR in (inputs, inputs[0] if isinstance(inputs, list) else None) else "single"
    )
    found = pipeline("text-classification", ours, name)(inputs, **options)
    assert shape_of(found) == shape_of(theirs(inputs, **options))


def test_scores_are_the_probabilities_of_the_engine(ours):
    output = ours(TEXTS, ["single"])["single"]
    found = pipeline("text-classification", ours, "single")(TEXTS, top_k=None)
    for row, entries in zip(output.probabilities, found):
        by_label = {entry["label"]: entry["score"] for entry in entries}
        assert by_label == pytest.approx(dict(zip("abc", row.tolist())))
        assert entries == sorted(entries, key=lambda entry: -entry["score"])
    logits = pipeline("text-classification", ours, "single")(
        TEXTS[0], top_k=None, function_to_apply="none"
    )
    assert max(entry["score"] for entry in logits) == pytest.approx(float(output.logits[0].max()))
    one = pipeline("text-classification", ours, "number")(TEXTS[0])
    value = ours(TEXTS[:1], ["number"])["number"].scores
    assert one == [{"label": "LABEL_0", "score": pytest.approx(float(value[0]))}]


def test_from_a_pack(tmp_path):
    encoder = make_encoder()
    save_pack(tmp_path / "pack", make_task(encoder, POLICY), encoder)
    pipe = pipeline("sentiment-analysis", tmp_path / "pack", encoder=encoder, mode="serial")
    model = LetsModel.from_pretrained(encoder, [tmp_path / "pack"])
    assert pipe(TEXTS) == pipeline("text-classification", model)(TEXTS)
    assert torch.tensor(pipe(TEXTS)[0]["score"]) > 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ours: pipeline("fill-mask", ours), "task must be text-classification, got"),
        (lambda ours: pipeline("text-classification", ours), "task_name must be one of single"),
        (lambda ours: pipeline("text-classification", ours, "mood"), "no task 'mood'"),
        (lambda ours: pipeline("text-classification", "packs/x"), "encoder must be given"),
        (
            lambda ours: pipeline("text-classification", ours, "single")({"txt": "a"}),
            "text and text_pair alone, got 'txt'",
        ),
        (
            lambda ours: pipeline("text-classification", ours, "single")(
                "a", function_to_apply="x"
            ),
            "function_to_apply must be one of softmax, sigmoid, none, got 'x'",
        ),
    ],
)
def test_refused(call, message, ours):
    with pytest.raises(LetsError, match=message):
        call(ours)
