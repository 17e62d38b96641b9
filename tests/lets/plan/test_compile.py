"""Plans answer what plain dense evaluations answer, after every rule, with and without stacks."""

import pytest
import torch
from hypothesis import Phase, given, settings
from lets.encoder import FrozenNeeds
from lets.errors import LetsError
from lets.plan.compile import RULES, compile_plan, naive_plan
from lets.plan.spec import TaskSpec
from lets.plan.step import Plan
from lets.policy import LayerCase, Policy
from lets.policy_cost import frozen_cost, task_cost
from lets.run.interpreter import interpret
from lets.run.program import Program
from lets.run.stacks import Stacks
from lets.shape import EncoderShape

from tests.lets.plan.plans import (
    LAYERS,
    assert_answers,
    dense_answers,
    lengths,
    make_batch,
    make_encoder,
    make_tasks,
    specs_of,
    task_sets,
)

NO_SHRINK = (Phase.explicit, Phase.generate)  # an example takes tenths of a second


@settings(max_examples=10, phases=NO_SHRINK)
@given(task_sets, lengths)
def test_every_rule_keeps_the_answers(chosen, lengths):
    tasks, batch, encoder = make_tasks(chosen), make_batch(lengths), make_encoder(LAYERS)
    models, expected = dense_answers(tasks, batch)
    plan = naive_plan(encoder.shape, specs_of(tasks))
    assert_answers(interpret(plan, encoder, models, batch), expected)
    for rule in RULES:
        plan = rule(plan).check()
        assert_answers(interpret(plan, encoder, models, batch), expected)
    for merged in (False, True):
        plan = compile_plan(encoder.shape, specs_of(tasks), merged=merged)
        assert_answers(interpret(plan, encoder, models, batch), expected)


@settings(max_examples=15, phases=NO_SHRINK)
@given(task_sets, lengths)
@torch.inference_mode()
def test_programs_agree_with_dense(chosen, lengths):
    """Fast ops on stacked weights: all tasks, every other one, and small stacks."""
    tasks, batch, encoder = make_tasks(chosen), make_batch(lengths), make_encoder(LAYERS)
    _, expected = dense_answers(tasks, batch)
    stacks, specs = Stacks(encoder, tasks), specs_of(tasks)
    sizes = tuple(batch.input_ids.shape)
    for some in (specs, specs[::2]):
        wanted = {spec.name: expected[spec.name] for spec in some}
        for options in (
            {"stacked": False},
            {"stacked": False, "merged": True},
            {"merged": True},
            {"row_limit": 2 * batch.input_ids.numel()},
        ):
            plan = compile_plan(encoder.shape, some, *sizes, among=specs, **options)
            assert_answers(Program(plan, encoder, stacks).run(batch), wanted)


@settings(max_examples=25, phases=NO_SHRINK)
@given(task_sets)
def test_costs_are_the_cost_model_s(chosen):
    tasks, shape = make_tasks(chosen), make_encoder(LAYERS).shape
    specs, size = specs_of(tasks), {"batch": 3}
    policies = [spec.policy for spec in specs]
    dense = [spec.dense for spec in specs]
    expected = frozen_cost(shape, 7, policies, dense=dense, **size).total.flops
    for spec in specs:
        expected += task_cost(
            shape, spec.policy, 7, spec.nnz, num_labels=spec.num_labels, head=spec.head, **size
        ).total.flops
    single = compile_plan(shape, specs, 3, 7, stacked=False)
    assert single.cost.flops == expected
    merged = compile_plan(shape, specs, 3, 7, stacked=False, merged=True)
    assert (merged.cost.flops, merged.cost.params) == (expected, single.cost.params)
    # Stacked [CLS] attention may cost a little more, never less; nothing else changes.
    assert expected <= compile_plan(shape, specs, 3, 7).cost.flops <= 1.05 * expected


@settings(max_examples=25, phases=NO_SHRINK)
@given(task_sets)
def test_only_what_is_read_of_the_encoder_is_run(chosen):
    specs = specs_of(make_tasks(chosen))
    plan = compile_plan(make_encoder(LAYERS).shape, specs)
    needs = FrozenNeeds()
    for spec in specs:
        needs = needs | FrozenNeeds.of(spec.policy, spec.dense)
    frozen = [step for step in plan.steps if not plan.buffers[step.output].tasks]
    full = {step.layer for step in frozen if step.op == "full_tail"}
    rows = {step.layer for step in frozen if step.op == "cls_tail"}
    products = {step.layer for step in frozen if step.op == "project"}
    top_hidden = max(needs.hidden | needs.pooled, default=-1)
    read = needs.products
    top = max(top_hidden, max(read, default=0) - 1)
    row_alone = top >= 0 and top not in needs.hidden and top + 1 not in read
    assert full == set(range(top if row_alone else top + 1))
    assert rows == ({top} if row_alone else set())
    assert {j for j in products if j > top} == {j for j in needs.qkv if j > top}


def fig2b(count, name="task"):
    shape = EncoderShape.from_name("bert-base")
    policy = Policy.preset("fig2b", 12)
    return shape, [TaskSpec.from_policy(f"{name}{i}", policy, shape) for i in range(count)]


def test_equal_policies_stack_completely():
    shape, specs = fig2b(9)
    plan = compile_plan(shape, specs)
    owned = [step for step in plan.steps if step.tasks and step.op not in ("gather", "head")]
    assert all(len(step.tasks) == 9 for step in owned)
    assert not [step for step in plan.steps if step.op == "gather" and step.layer is not None]
    cases = {s.layer: s.case for s in owned if s.op.endswith("tail")}
    expected = {j: str(c) for j, c in enumerate(specs[0].policy.cases) if c != LayerCase.BYPASS}
    assert cases == expected
    assert len(plan.steps) < 80


def test_rows_of_both_inputs_share_one_tail():
    shape = make_encoder(LAYERS).shape
    chosen = [("pppp", "pppf"), ("pppf", "pppf"), ("pppp", "pppf")]
    specs = [TaskSpec.from_policy(f"t{i}", Policy(*word), shape) for i, word in enumerate(chosen)]
    plan = compile_plan(shape, specs)
    top = [step for step in plan.steps if step.layer == 3]
    assert [len(s.tasks) for s in top if s.op == "cls_tail"] == [3]
    assert sorted(len(s.tasks) for s in top if s.op == "cls_attention") == [1, 2]
    assert [s.case for s in top if s.op == "cls_tail"] == ["f-cls+p-cls"]


def test_tails_of_all_layers_are_one_step():
    shape, specs = fig2b(3)
    plan = compile_plan(shape, specs, merged=True)
    (tails,) = (step for step in plan.steps if step.op.startswith("cls_tail"))
    assert [layer for layer, _ in tails.parts] == [3, 5, 8, 11]
    assert len(plan.buffers[tails.output].tasks) == 12
    assert tails.case == "f-cls+p-cls"
    assert len(compile_plan(shape, specs).steps) == len(plan.steps) + 3


@pytest.mark.parametrize("merged", [False, True])
def test_plans_are_data(merged):
    shape, specs = fig2b(3)
    plan = compile_plan(shape, specs, 2, 50, merged=merged)
    assert Plan.from_json(plan.to_json()) == plan
    assert "full_tail" in str(plan)
    assert plan.tasks == ("task0", "task1", "task2")
    done = set()
    for step, needs in zip(plan.steps, plan.dependencies()):
        assert set(needs) <= done
        done.add(plan.producers()[step.output])


@pytest.mark.parametrize("text", ["{}", "[]", "nonsense", '{"buffers": [], "steps": [1]}'])
def test_wrong_json(text):
    with pytest.raises(LetsError, match="not a plan's JSON"):
        Plan.from_json(text)


def test_wrong_arguments():
    shape, specs = fig2b(1)
    with pytest.raises(LetsError, match="at least one task"):
        compile_plan(shape, [])
    with pytest.raises(LetsError, match="different names, got task0 twice"):
        compile_plan(shape, specs * 2)
    with pytest.raises(LetsError, match="must be positive"):
        compile_plan(shape, specs, 0)
    with pytest.raises(LetsError, match="must have 6 letters"):
        compile_plan(EncoderShape.from_name("minilm-l6"), specs)
