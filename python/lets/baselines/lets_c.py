"""LeTS-(c): the searched policy with whole matrices in its live layers, no mask."""

from __future__ import annotations

from dataclasses import replace

from lets.baselines.base import Costs, Sizes, SystemResult, SystemRun
from lets.baselines.lets_pc import lets_pc_costs, searched_policy, seconds_of, tuned_result
from lets.train.stages import finetune_stage, mask_of, prune_stage


def lets_c(run: SystemRun) -> SystemResult:
    """The search is that of LeTS-(p,c), on the sparse super network."""
    policy, seconds = searched_policy(run)
    inputs = replace(run.inputs, config=replace(run.inputs.config, variant="c"))
    mask = None
    if inputs.config.finetune.head_start == "pruned":
        warmed = prune_stage(inputs, run.folder / "prune", policy)
        mask, seconds = mask_of(warmed), {**seconds, "prune": seconds_of(warmed)}
    tuned, model = finetune_stage(inputs, run.folder / "finetune", policy, mask)
    costs = lets_c_costs(replace(Sizes.of(run), policy=policy))
    return tuned_result(run, tuned, model, seconds, costs)


def lets_c_costs(sizes: Sizes) -> Costs:
    return lets_pc_costs(sizes, dense=True)
