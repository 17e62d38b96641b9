"""Every mode gives the same answers; `auto` follows its calibration."""

import json
import threading

import pytest
import torch
from hypothesis import Phase, given, settings
from lets.errors import LetsError
from lets.plan.timing import MachineRates
from lets.policy import Policy
from lets.run import calibrate, modes
from lets.run.calibrate import Sizes, cache_folder, machine_rates
from lets.run.engine import Engine
from lets.run.modes import MODES, Choice, runnable
from lets.run.streams import ThreadedProgram

from tests.lets.plan.plans import (
    LAYERS,
    assert_answers,
    dense_answers,
    lengths,
    make_batch,
    make_encoder,
    make_tasks,
    task_sets,
)
from tests.models import make_task, make_texts

FIVE = [(Policy("pffp", word), 0.1, 2) for word in ("ffff", "pffp", "fpfp", "ppff", "ffff")]


@settings(max_examples=12, phases=(Phase.explicit, Phase.generate))
@given(task_sets, lengths)
def test_modes_agree(chosen, lengths):
    tasks, batch, encoder = make_tasks(chosen), make_batch(lengths), make_encoder(LAYERS)
    _, expected = dense_answers(tasks, batch)
    engine = Engine(encoder, tasks.values())
    for mode in MODES:
        engine.mode = mode
        assert_answers(engine.forward(batch), expected)
        some = list(tasks)[-1:]
        assert_answers(engine.forward(batch, some), {name: expected[name] for name in some})


def test_stacks_of_many_rows_are_cut(monkeypatch):
    tasks, batch, encoder = make_tasks(FIVE), make_batch([8, 12]), make_encoder(LAYERS)
    _, expected = dense_answers(tasks, batch)
    engine = Engine(encoder, tasks.values(), mode="stacked")
    monkeypatch.setattr(modes, "ROW_LIMIT", 2 * batch.input_ids.numel())
    assert_answers(engine.forward(batch), expected)
    plan = runnable(engine._set, tuple(tasks), "stacked", *batch.input_ids.shape).plan
    sizes = [len(s.tasks) for s in plan.steps if s.op == "full_tail" and s.tasks]
    assert max(sizes) == 2
    assert max(len(s.tasks) for s in plan.steps if s.op == "cls_tail") > 2


@pytest.mark.parametrize("faster", ["many rows", "few rows"])
def test_auto_follows_the_calibration(monkeypatch, faster):
    """Products of many rows are the faster ones, or (no machine does that) the slower ones."""
    rate = (1e9, 1e12) if faster == "many rows" else (1e12, 1e9)
    rates = MachineRates(((1, rate[0]), (64, rate[0]), (65, rate[1])), 1e15, 0.0)
    monkeypatch.setattr(modes, "machine_rates", lambda sizes: rates)
    encoder = make_encoder(LAYERS)
    engine = Engine(encoder, make_tasks(FIVE).values())
    program = runnable(engine._set, tuple(engine.tasks), "auto", 3, 20)
    serial = modes.program(engine._set, tuple(engine.tasks), Choice(False), 3, 20)
    assert (program is serial) == (faster == "few rows")


def test_programs_are_made_once():
    engine = Engine(make_encoder(LAYERS), make_tasks(FIVE).values(), mode="stacked")
    names = tuple(engine.tasks)
    first = runnable(engine._set, names, "stacked", 1, 8)
    assert runnable(engine._set, names, "stacked", 2, 16) is first
    for i in range(200):
        engine._set.cached(i, lambda: None)
    assert len(engine._set._programs) <= 64


def test_the_environment_decides_in_place_of_auto(monkeypatch):
    encoder = make_encoder(LAYERS)
    monkeypatch.setenv("LETS_ENGINE_MODE", "serial")
    assert Engine(encoder).mode == "serial"
    assert Engine(encoder, mode="stacked").mode == "stacked"
    monkeypatch.setenv("LETS_ENGINE_MODE", "fast")
    with pytest.raises(LetsError, match="LETS_ENGINE_MODE must be one of auto, serial"):
        Engine(encoder)
    with pytest.raises(LetsError, match="mode must be one of auto, serial, stacked, streams"):
        Engine(encoder, mode="graphs")


def test_calibration_is_remembered(monkeypatch):
    sizes = Sizes(8, 16)
    first = machine_rates(sizes)
    file = cache_folder() / "calibration.json"
    assert sizes.key() in file.read_text()
    monkeypatch.setattr("lets.run.calibrate.measure", lambda sizes: pytest.fail("measured again"))
    assert machine_rates(sizes) == first
    monkeypatch.undo()
    file.write_text("damaged")
    assert machine_rates(sizes).bandwidth > 0
    file.write_text(json.dumps({sizes.key(): {"gemm": [], "bandwidth": 1, "overhead": 0}}))
    assert machine_rates(sizes).gemm


def test_a_disturbed_calibration_does_not_make_many_rows_slow(monkeypatch):
    """The longest product is the likeliest to be disturbed; it must not send `auto` to `serial`."""
    times = iter([1e-6, 1e-6, 1e-6, 1e-6, 1e-3, 1.0, 1e-3, 1e-6])
    monkeypatch.setattr(calibrate, "_best", lambda run: next(times))
    rates = [rate for _, rate in calibrate.measure(Sizes(8, 16)).gemm]
    assert rates == sorted(rates)
    assert rates[-1] > rates[0]


def test_calibration_without_a_cache_folder(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("LETS_CACHE_DIR", str(blocked / "folder"))
    assert machine_rates(Sizes(8, 16)).gemm


def test_streams_use_the_workers_and_hand_errors_on():
    engine = Engine(make_encoder(LAYERS), make_tasks(FIVE).values(), mode="streams")
    batch = make_batch([5, 9])
    streams = runnable(engine._set, tuple(engine.tasks), "streams", 2, 11)
    assert isinstance(streams, ThreadedProgram)
    seen, both = set(), threading.Barrier(2, timeout=20)
    kernels = streams.program.kernels

    def watched(kernel):
        def run(*inputs):
            seen.add(threading.get_ident())
            both.wait()
            return kernel(*inputs)

        return run

    last = [i for i, step in enumerate(streams.program.plan.steps) if step.op == "head"][:2]
    for i in last:
        kernels[i] = watched(kernels[i])
    engine.forward(batch)
    assert len(seen) == 2

    def broken(*_):
        raise RuntimeError("broken step")

    kernels[last[0]] = broken
    kernels[last[1]] = broken
    with pytest.raises(RuntimeError, match="broken step"):
        engine.forward(batch)


def test_too_large_for_memory_is_a_clear_error():
    encoder = make_encoder(LAYERS)
    engine = Engine(encoder, make_tasks(FIVE[:2]).values(), mode="stacked")
    batch = make_batch([5])
    expected = engine.forward(batch)
    program = runnable(engine._set, tuple(engine.tasks), "stacked", *batch.input_ids.shape)
    kernel = program.kernels[3]
    program.kernels[3] = lambda *_: torch.empty(1 << 60)
    with pytest.raises(LetsError, match="do not fit into memory for 2 tasks; use a smaller"):
        engine.forward(batch)
    program.kernels[3] = kernel
    assert torch.equal(engine.forward(batch)["t0"], expected["t0"])


def test_padding_to_a_multiple():
    encoder = make_encoder()
    task = make_task(encoder, Policy("pff", "fpf"))
    texts = make_texts(5, longest=20)
    expected = Engine(encoder, [task])(texts)["task"].logits
    for multiple in (4, 100):
        engine = Engine(encoder, [task], pad_to_multiple_of=multiple)
        torch.testing.assert_close(engine(texts)["task"].logits, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(LetsError, match="pad_to_multiple_of must be a positive integer"):
        Engine(encoder, pad_to_multiple_of=0)
