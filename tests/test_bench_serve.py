"""The load of the server's benchmark: what counts, and that nothing is left behind."""

import asyncio

import pytest

pytest.importorskip("fastapi")

from bench.serve.load import Asker, closed_loop, quantile
from tests.lets.serve.serving import running

TEXTS = ["red", "a blue tree", "the cat sat", "one two"]


@pytest.mark.parametrize("apart", [False, True])
def test_answers_count_after_a_first_one_of_each_client(apart):
    with running() as server:
        askers = [Asker(server.server.port, ("topic", "stars"), apart) for _ in range(4)]
        times, seconds = asyncio.run(closed_loop(askers, TEXTS, 20))
        assert len(times) == 20
        assert 0 < min(times) <= max(times) < 30
        assert seconds <= sum(times)  # four at once
        assert server.metric("lets_queue_texts") == 0
        assert server.metric("lets_requests_in_flight") <= 1  # the question itself
        assert server.metric('lets_answers_total{task="topic"}') >= 24


def test_a_refused_request_ends_the_load():
    with running() as server:
        asker = Asker(server.server.port, ("nobody",), True)
        with pytest.raises(RuntimeError, match="404"):
            asyncio.run(closed_loop([asker], TEXTS, 3))


def test_quantiles_are_nearest_ranks():
    times = [i / 1000 for i in range(1, 101)]
    assert quantile(times, 0.5) == pytest.approx(51)
    assert quantile(times, 0.99) == pytest.approx(100)
