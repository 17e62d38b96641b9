"""Answers as JSON: every pack's, and the reason where a pack cannot answer."""

import pytest
from lets.answers import answer
from lets.errors import LetsError
from lets.pack import save_pack
from lets.policy import Policy

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
    entries = answer(encoder, packs, ["a house", "one old tree", "two"], batch_size=2)
    assert [entry["text"] for entry in entries] == ["a house", "one old tree", "two"]
    for entry in entries:
        answers = entry["answers"]
        assert answers["topic"]["label"] in ("no", "yes")
        assert 0.5 <= answers["topic"]["score"] <= 1.0
        assert answers["stars"]["label"] == answers["stars"]["score"]
        assert "takes pairs of texts" in answers["same"]["error"]
    assert answer(encoder, [tmp_path], ["two"]) == answer(encoder, sorted(packs), ["two"])
    assert answer(encoder, packs[2:], [("a", "b")])[0]["text"] == ["a", "b"]


def test_no_texts(tmp_path):
    encoder = make_encoder()
    pack = save_pack(tmp_path / "pack", make_task(encoder, Policy("ppf", "pff")), encoder)
    with pytest.raises(LetsError, match="at least one text"):
        answer(encoder, [pack], [])


def test_no_task_that_can_answer(tmp_path):
    encoder = make_encoder()
    pack = save_pack(tmp_path / "pack", make_task(encoder, Policy("ppf", "pff")), encoder)
    with pytest.raises(LetsError, match=r"^task: the task takes single texts, got pairs of texts$"):
        answer(encoder, [pack], [("a", "b")])
