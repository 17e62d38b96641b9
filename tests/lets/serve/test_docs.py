"""The calls that docs/serving.md shows, as they are printed; its table of limits; the tables of
what was measured."""

import itertools
import re
import shlex
from dataclasses import fields

import pytest
from lets.pack import save_pack
from lets.policy import Policy
from lets.run.engine import Engine
from lets.serve.settings import ServeSettings

from bench.serve.tables import serve_section, soak_section
from tests import documents
from tests.lets.serve.serving import running
from tests.models import make_encoder, make_task

PAGE = documents.read("docs/serving.md")


def curls():
    """(method, port, path, body) of every curl."""
    for line in re.findall(r"^\$ (curl (?:.*\\\n)*.*)$", PAGE, re.MULTILINE):
        words = shlex.split(line.replace("\\\n", " "))
        after = dict(itertools.pairwise(words))
        url = next(word for word in words if word.startswith("localhost:"))
        port, _, path = url.removeprefix("localhost:").partition("/")
        method = after.get("-X", "POST" if "-d" in after else "GET")
        yield method, port, f"/{path}", after.get("-d")


def test_calls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = make_encoder()
    policy = Policy("ppf", "pff")
    tasks = [
        make_task(encoder, policy, seed=i, name=n) for i, n in enumerate(("topic", "injection"))
    ]
    for name in ("sentiment", "sentiment-2"):
        save_pack(tmp_path / "packs" / name, make_task(encoder, policy, name="sentiment"), encoder)
    with running(Engine(encoder, tasks), admin_port=0) as server:
        ports = {"8080": server.server.port, "8081": server.server.admin_port}
        found = list(curls())
        assert len(found) == 7
        for method, port, path, body in found:
            sent = None if body is None else body.encode()
            status, answer, _ = server.ask(method, path, body=sent, port=ports[port])
            assert status in (200, 201), (path, answer)
        assert answer == {"tasks": ["topic", "injection"], "queue": 0}


def test_the_limits_of_the_page_are_the_defaults():
    rows = re.findall(r"^\| (`--[^|]*) \| ([\d,]+)", PAGE, re.MULTILINE)
    defaults = {field.name: field.default for field in fields(ServeSettings)}
    assert len(rows) >= 9
    for flags, value in rows:
        name = re.search(r"`--([\w-]+)`", flags).group(1).replace("-", "_")
        assert float(value.replace(",", "")) == defaults[name], name


def test_tables_of_results():
    row = {"clients": 8, "answers": 10, "p50_ms": 4.0, "p99_ms": 9.0}
    result = {
        "settings": {"tasks": 3, "encoder": "x", "packs": [], "policy": "fig2b", "lengths": [3, 9],
                     "threads": 2},
        "idle": {"overhead_ms": 1.5, "engine_ms": 20.0},
        "flop_ratio": 2.0,
        "rows": [
            {**row, "system": "lets", "per_second": 30.0},
            {**row, "system": "eager", "per_second": 20.0},
        ],
    }  # fmt: skip
    text = "\n".join(serve_section({"runs": [result]}))
    assert "| 8 | eager | 20.0 | 4.0 | 9.0 | **1.50** | 2.00 | 75% |" in text
    soaked = {
        "requests": 1000, "clients": 4, "answers_checked": 5000, "bad_clients": {"a": 3, "b": 4},
        "task_changes": {"PUT": 2}, "server_errors": 0, "p50_ms": 1.0, "p99_ms": 2.0,
        "longest_queue": 7, "rss_mb": {"warm": 500.0, "end": 510.0}, "rss_growth_percent": 2.0,
        "failures": {},
        "kills": {"kills": 2, "clients": 4, "lost_under_way": 7, "answered": 90,
                  "answers_checked": 300, "failures": {}},
    }  # fmt: skip
    text = "\n".join(soak_section(soaked))
    assert "| bad clients | 7 of 2 kinds |" in text
    assert "| failures | none |" in text


@pytest.mark.parametrize("name", [field.name for field in fields(ServeSettings)])
def test_every_setting_has_an_option(name):
    import inspect

    from lets.cli.serve import serve

    assert name.replace("_key", "_key_file") in inspect.signature(serve).parameters
