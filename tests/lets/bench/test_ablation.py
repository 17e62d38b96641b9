"""Variants of the ablation differ from the engine in one part alone."""

from lets.bench import ablation
from lets.plan import rewrite
from lets.policy import Policy
from lets.run.modes import ROW_LIMIT, Choice, program
from lets.run.task_set import TaskSet

from tests.models import make_encoder, make_task


def test_without_a_rule_stacks_are_as_high_as_the_engine_s():
    encoder = make_encoder()
    policies = [Policy("pff", "fff")] * 3
    tasks = {f"t{i}": make_task(encoder, p, seed=i, name=f"t{i}") for i, p in enumerate(policies)}
    loaded = TaskSet(encoder.packed(), tasks)

    def heights(plan):
        return sorted(len(step.tasks) for step in plan.steps if step.op == "full_tail")

    for batch, highest in ((1, 3), (38, 2), (76, 1)):
        tokens = encoder.tokenize(["ice"] * batch, 20, 20)
        run = ablation._without(rewrite.query_of_one_row, loaded, tokens)
        limit = ROW_LIMIT // (batch * 20)
        whole = program(loaded, tuple(tasks), Choice(True, limit if limit < 3 else 0), batch, 20)
        assert heights(run.plan) == heights(whole.plan)
        assert max(heights(whole.plan)) == highest
