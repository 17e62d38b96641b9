"""LeTS-(p): the mask alone, on the ordinary architecture: one chain and the pooler's head."""

from __future__ import annotations

from dataclasses import replace

from lets.baselines.base import (
    Costs,
    Sizes,
    SystemCost,
    SystemResult,
    SystemRun,
    own_pass_costs,
)
from lets.baselines.lets_pc import counts_of, seconds_of, tuned_result
from lets.cost import Cost
from lets.metrics import Chain, TaskLoad
from lets.policy import Policy
from lets.policy_cost import frozen_cost, head_cost, task_cost
from lets.shape import POOLER_WIDTHS
from lets.train.stages import finetune_stage, mask_of, prune_stage


def lets_p(run: SystemRun) -> SystemResult:
    inputs = replace(run.inputs, config=replace(run.inputs.config, variant="p"))
    policy = Policy.chain(inputs.encoder.shape.num_layers)
    pruned = prune_stage(inputs, run.folder / "prune", policy)
    tuned, model = finetune_stage(inputs, run.folder / "finetune", policy, mask_of(pruned))
    costs = lets_p_costs(replace(Sizes.of(run), nnz=counts_of(model)))
    return tuned_result(run, tuned, model, {"prune": seconds_of(pruned)}, costs)


def lets_p_costs(sizes: Sizes) -> Costs:
    """The paper counts a dense pass; the engine shares Q, K and V of the first layer, and ends in
    the [CLS] row of the last. The ordinary head is no new parameter
    (`lets.baselines.system_costs`)."""
    shape, seq_len = sizes.shape, sizes.seq_len
    policy = Policy.chain(shape.num_layers)
    nnz = sizes.density if sizes.nnz is None else sizes.nnz
    task = task_cost(shape, policy, seq_len, nnz, "engine", sizes.num_labels)
    layers, frozen = Cost.total(task.layers), frozen_cost(shape, seq_len, [policy], "engine")
    head = head_cost(shape, sizes.num_labels, "engine", widths=POOLER_WIDTHS)
    own = TaskLoad((Chain(layers.flops, frozen.qkv_ready[0]),), head.flops, layers.params, task.nnz)
    return {
        "paper": own_pass_costs(sizes, layers.params, mask=task.nnz)["paper"],
        "engine": SystemCost(own, frozen.total.flops),
    }
