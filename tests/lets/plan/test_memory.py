"""Buffers that are alive together never share memory, and the arena is close to the bound."""

import itertools

import torch
from hypothesis import given, settings
from lets.plan.compile import compile_plan
from lets.plan.memory import last_uses, lifetimes, plan_memory
from lets.plan.price import is_view
from lets.run.kernels import Call
from lets.run.program import Program
from lets.run.stacks import Stacks

from tests.lets.plan.plans import LAYERS, make_batch, make_encoder, make_tasks, specs_of, task_sets
from tests.lets.plan.test_compile import fig2b


@settings(max_examples=25)
@given(task_sets)
def test_no_two_live_buffers_overlap(chosen):
    specs = specs_of(make_tasks(chosen))
    plan = compile_plan(make_encoder(LAYERS).shape, specs, 2, 9)
    memory = plan_memory(plan)
    for a, b in itertools.combinations(memory.slots, 2):
        apart = a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset
        assert apart or a.last < b.first or b.last < a.first
    assert {slot.buffer for slot in memory.slots} == set(lifetimes(plan))
    assert memory.alive <= memory.arena <= memory.total
    assert memory.arena <= 1.5 * memory.alive
    assert memory.peak >= memory.alive


def test_a_view_keeps_its_source():
    plan = compile_plan(*fig2b(2))
    spans = lifetimes(plan)
    position = {step.output: i for i, step in enumerate(plan.steps)}
    for i, step in enumerate(plan.steps):
        for name in step.inputs:
            source = plan.steps[position[name]]
            while is_view(source):
                name = source.inputs[0]
                source = plan.steps[position[name]]
            assert spans[name][1] >= i


def test_reuse_pays():
    memory = plan_memory(compile_plan(*fig2b(9)))
    assert memory.arena < 0.4 * memory.total
    # Nine tasks, 128 tokens: both sides of gelu are the largest workspace.
    assert memory.peak - memory.alive <= 4 * 9 * 128 * (2 * 3072 + 768)


@torch.inference_mode()
def test_bytes_are_those_of_the_tensors():
    """What the plan says of every buffer is what a run allocates; released values are gone."""
    encoder = make_encoder(LAYERS)
    words = [("pffp", "ffpf"), ("pppf", "ffff"), ("pfpp", "pfpf")]
    tasks = make_tasks([(_policy(*word), 0.1, 2) for word in words])
    batch = make_batch([4, 7])
    plan = compile_plan(encoder.shape, specs_of(tasks), *batch.input_ids.shape)
    program = Program(plan, encoder, Stacks(encoder, tasks))
    values = []
    for step, kernel in zip(plan.steps, program.kernels):
        inputs = [values[i] for i in program.inputs[len(values)]]
        values.append(kernel(Call(batch, batch.key_mask), *inputs))
        buffer = plan.buffers[step.output]
        if not is_view(step):
            assert values[-1].nbytes == buffer.bytes, step
    run = program.values(Call(batch, batch.key_mask))
    kept = {i for i, value in enumerate(run) if value is not None}
    assert kept == {plan.producers()[a.buffer] for a in plan.answers.values()}
    assert sum(map(len, last_uses(plan))) == len(plan.steps) - len(kept)


def _policy(*word):
    from lets.policy import Policy

    return Policy(*word)
