"""Answers as JSON: every pack's, and the reason where a pack cannot answer."""

import pytest
from lets.answers import answer
from lets.errors import LetsError
from lets.pack import save_pack
from lets.policy import Policy
from lets.run.engine import Engine

from tests.models import make_encoder, make_task


def test_answers_and_errors(tmp_path):
    encoder = make_encoder()
    packs = [
        save_pack(tmp_path / name, make_task(encoder, Policy("ppf", "pff"), name=name, **kind),
                  encoder)
        for name, kind in {
            "topic": {}, "stars": {"labels": ()}, "same": {"is_pair": True}
        }.items()
    ]  # fmt: skip
    engine = Engine.from_pretrained(encoder, packs, batch_size=2)
    entries = answer(engine, ["a house", "one old tree", "two"])
    assert [entry["text"] for entry in entries] == ["a house", "one old tree", "two"]
    for entry in entries:
        answers = entry["answers"]
        assert answers["topic"]["label"] in ("no", "yes")
        assert 0.5 <= answers["topic"]["score"] <= 1.0
        assert answers["stars"]["label"] == answers["stars"]["score"]
        assert "takes pairs of texts" in answers["same"]["error"]
    pairs = Engine.from_pretrained(encoder, packs[2:])
    assert answer(pairs, [("a", "b")])[0]["text"] == ["a", "b"]


def test_no_texts():
    encoder = make_encoder()
    engine = Engine(encoder, [make_task(encoder, Policy("ppf", "pff"))])
    with pytest.raises(LetsError, match="at least one text"):
        answer(engine, [])


def test_no_task_that_can_answer():
    encoder = make_encoder()
    engine = Engine(encoder, [make_task(encoder, Policy("ppf", "pff"))])
    with pytest.raises(LetsError, match=r"^task: the task takes single texts, got pairs of texts$"):
        answer(engine, [("a", "b")])
