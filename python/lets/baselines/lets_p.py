"""LeTS-(p): the mask alone, on the ordinary architecture: one chain and the pooler's head."""

from __future__ import annotations

from dataclasses import replace

from lets.baselines.base import SystemCost, SystemResult, SystemRun
from lets.baselines.lets_pc import counts_of, seconds_of, tuned_result
from lets.cost import Cost, encoder_flops
from lets.metrics import Chain, TaskLoad
from lets.nnz import TaskNnz
from lets.policy import Policy
from lets.policy_cost import frozen_cost, head_cost, task_cost
from lets.shape import POOLER_WIDTHS, EncoderShape
from lets.train.stages import finetune_stage, mask_of, prune_stage


def lets_p(run: SystemRun) -> SystemResult:
    inputs = replace(run.inputs, config=replace(run.inputs.config, variant="p"))
    shape, seq_len = inputs.encoder.shape, inputs.config.max_seq_length
    policy = Policy.chain(shape.num_layers)
    pruned = prune_stage(inputs, run.folder / "prune", policy)
    tuned, model = finetune_stage(inputs, run.folder / "finetune", policy, mask_of(pruned))
    costs = chain_costs(shape, seq_len, counts_of(model), inputs.data.num_labels)
    return tuned_result(run, tuned, model, {"prune": seconds_of(pruned)}, costs)


def chain_costs(
    shape: EncoderShape, seq_len: int, nnz: float | TaskNnz, num_labels: int = 2
) -> dict[str, SystemCost]:
    """The paper counts a dense pass; the engine shares Q, K and V of the first layer, and ends in
    the [CLS] row of the last. The ordinary head is no new parameter (`lets.baselines.price`)."""
    policy = Policy.chain(shape.num_layers)
    task = task_cost(shape, policy, seq_len, nnz, "engine", num_labels)
    layers, frozen = Cost.total(task.layers), frozen_cost(shape, seq_len, [policy], "engine")
    head = head_cost(shape, num_labels, "engine", widths=POOLER_WIDTHS)
    dense = Chain(encoder_flops(shape, seq_len), 0)
    own = Chain(layers.flops, frozen.qkv_ready[0])
    return {
        "paper": SystemCost(TaskLoad((dense,), 0, layers.params, task.nnz)),
        "engine": SystemCost(
            TaskLoad((own,), head.flops, layers.params, task.nnz), frozen.total.flops
        ),
    }
