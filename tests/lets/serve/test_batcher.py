"""What shares a call of the engine, and that sharing changes no answer."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lets.run.engine import Engine
from lets.serve.costs import MAX_SUBSETS, CallSeconds, Costs
from lets.serve.forming import cheapest_cuts, form_call
from lets.serve.job import Job, Row
from lets.tokens import Encoded

from tests.lets.serve.serving import RATES, make_tasks, running
from tests.lets.serve.slow_engine import SlowEngine
from tests.models import make_encoder, make_texts


@pytest.fixture(scope="module")
def loaded():
    encoder = make_encoder()
    return Engine(encoder, make_tasks(encoder)).task_set


def rows(loaded, *wanted):
    job = Job(loaded, {})
    return [Row(job, Encoded([0] * length, [0] * length), tasks, ()) for length, tasks in wanted]


def costs_of(fixed):
    """Costs by which a call takes so many seconds, and 1 for a billion operations."""
    costs = Costs(make_encoder(), RATES)
    for flops in (1e6, 2e6):
        costs.call_seconds.observe(flops, fixed + 1e-9 * flops)
    return costs


def form(queue, fixed=0.0, most=32, tokens=4096):
    call = form_call(queue, costs_of(fixed), most, tokens)
    return call.tasks, sorted(queue.index(row) for row in call.rows)


A, B, AB = ("sentiment",), ("topic",), ("sentiment", "topic")
SOME = 3e-4  # seconds of a call: a few tokens of padding


def test_like_rows_share_a_call(loaded):
    assert form(rows(loaded, (6, A), (6, A), (6, A))) == (A, [0, 1, 2])
    assert form(rows(loaded, (6, A), (8, A), (7, A)), SOME) == (A, [0, 1, 2])


def test_other_lengths_share_where_padding_is_cheaper_than_another_call(loaded):
    queue = rows(loaded, (4, A), (40, A), (5, A))
    assert form(queue, SOME) == (A, [0, 2])
    assert form(queue, 100 * SOME) == (A, [0, 1, 2])


def test_other_tasks_share_where_their_union_is_cheaper_than_another_call(loaded):
    queue = rows(loaded, (6, A), (6, B), (6, A), (6, AB))
    assert form(queue) == (A, [0, 2])
    assert form(queue, 100 * SOME) == (AB, [0, 1, 2, 3])


def test_limits_of_a_call_and_the_oldest_row_first(loaded):
    queue = rows(loaded, (40, A), (6, B), (39, A), (6, B), (30, A))
    assert form(queue, SOME, most=2) == (A, [0, 2])
    assert form(queue, SOME, tokens=80) == (A, [0, 2])
    assert form(queue, 100 * SOME, tokens=48) == (A, [0])
    assert form(rows(loaded, (48, A)), tokens=48) == (A, [0])


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=7),
    st.integers(0, 60),
    st.integers(1, 4),
    st.integers(40, 120),
)
def test_no_other_cuts_take_less_time(lengths, fixed, most, tokens):
    lengths.sort()

    def seconds(cuts):
        return sum(fixed + (end - begin) * lengths[end - 1] for begin, end in cuts)

    def fits(cuts):
        return all(e - b <= most and (e - b) * lengths[e - 1] <= tokens for b, e in cuts)

    inner = range(1, len(lengths))
    every = [
        list(pairwise((0, *places, len(lengths))))
        for count in range(len(lengths))
        for places in combinations(inner, count)
    ]
    found = cheapest_cuts(lengths, fixed, lengths, most, tokens)
    assert found in every
    assert fits(found)
    assert seconds(found) == min(seconds(cuts) for cuts in every if fits(cuts))


def test_seconds_of_calls_are_learnt_and_follow_the_machine():
    seconds = CallSeconds()
    assert seconds(2e9) == 2 * seconds(1e9)  # nothing is known
    for slower in (1.0, 3.0):
        for i in range(400):
            flops = 1e9 * (2 + i % 7)
            noise = 1 + 0.05 * (-1) ** (i // 7)
            seconds.observe(flops, slower * noise * (0.02 + 6e-12 * flops))
        for flops in (1e9, 4e9, 2e10):
            assert seconds(flops) == pytest.approx(slower * (0.02 + 6e-12 * flops), rel=0.1)


def test_calls_of_one_size_say_little_about_others():
    seconds = CallSeconds()
    for i in range(50):
        seconds.observe(1e9, 0.01 * (1 + 0.1 * (-1) ** i))
    assert seconds(1e9) == pytest.approx(0.01, rel=0.1)
    assert 0.01 <= seconds(2e9) <= 0.0205


def test_other_versions_of_the_tasks_never_share(loaded):
    encoder = make_encoder()
    newer = Engine(encoder, make_tasks(encoder)).task_set
    queue = [*rows(loaded, (6, A)), *rows(newer, (6, A))]
    assert form(queue, SOME) == (A, [0])


def test_few_subsets_get_programs(loaded):
    costs = Costs(make_encoder(), RATES)
    names = list(loaded.tasks)
    subsets = [tuple(n for i, n in enumerate(names) if k >> i & 1) for k in range(1, 16)]
    assert all(costs.subset(loaded, subset[::-1]) == subset for subset in subsets)
    costs._of(loaded).subsets |= {("x", str(i)): None for i in range(MAX_SUBSETS)}
    costs._of(loaded).subsets.pop(A)
    assert set(A) < set(costs.subset(loaded, A))


def test_waiting_requests_are_answered_together():
    encoder = make_encoder()
    engine = SlowEngine(encoder, make_tasks(encoder))
    texts = make_texts(6, seed=2, longest=5)
    with running(engine) as server, ThreadPoolExecutor(8) as pool, engine.held():
        first = pool.submit(server.post, "/topic/predict", {"inputs": "red"})
        assert engine.started.wait(10)
        others = [pool.submit(server.post, "/topic/predict", {"inputs": text}) for text in texts]
        while server.service.batcher.waiting < 6:
            threading.Event().wait(0.005)
        engine.go.set()
        answers = [future.result() for future in (first, *others)]
        assert engine.calls == [(1, ("topic",)), (6, ("topic",))]
        assert server.metric('lets_batch_rows_bucket{le="1.0"}') == 1
    expected = Engine(encoder, make_tasks(encoder))(["red", *texts], ["topic"])["topic"]
    for i, (status, found) in enumerate(answers):
        assert status == 200
        assert abs(found[0]["score"] - float(expected.scores[i])) < 1e-5


def test_answers_do_not_depend_on_who_else_asks():
    """Many clients, lengths and subsets at once; every logit as of the text alone."""
    encoder = make_encoder()
    texts = make_texts(24, seed=6, longest=22)
    alone = Engine(encoder, make_tasks(encoder)[:3], batch_size=1)(texts)
    subsets = [["sentiment"], ["topic", "stars"], ["sentiment", "topic", "stars"]]
    with running() as server, ThreadPoolExecutor(12) as pool:

        def ask(i):
            tasks = subsets[i % 3]
            request = {"inputs": [texts[i % 24], texts[(7 * i + 1) % 24]], "tasks": tasks,
                       "raw_scores": True, "all_scores": True}  # fmt: skip
            return i, *server.post("/v1/classify", request)

        for i, status, found in pool.map(ask, range(120)):
            assert status == 200
            for place, result in zip((i % 24, (7 * i + 1) % 24), found["results"]):
                for name in subsets[i % 3]:
                    scores = result[name].get("scores") or {"": result[name]["score"]}
                    torch.testing.assert_close(
                        torch.tensor(list(scores.values())), alone[name].logits[place],
                        rtol=1e-5, atol=1e-5,
                    )  # fmt: skip
        assert server.metric("lets_batch_rows_sum") == server.metric("lets_queue_seconds_count") * 2


def test_metrics_count_answers_and_operations():
    with running() as server:
        assert server.post("/v1/classify", {"inputs": ["red", "a blue tree"]})[0] == 200
        assert server.post("/topic/predict", {"inputs": "red"})[0] == 200
        assert server.metric('lets_answers_total{task="topic"}') == 3
        assert server.metric('lets_answers_total{task="stars"}') == 2
        assert server.metric('lets_task_seconds_count{task="topic"}') == 3
        assert server.metric('lets_requests_total{route="/{task}/predict",status="200"}') == 1
        assert server.metric('lets_request_seconds_count{route="/v1/classify"}') == 1
        assert server.metric("lets_tasks") == 4
        assert server.metric("lets_queue_texts") == 0
        shared, own = (
            server.metric(f'lets_flops_total{{part="{part}"}}') for part in ("shared", "own")
        )
        assert min(shared, own, server.metric("lets_dense_flops_total")) > 0
