"""Full fine-tuning: an encoder per task."""

from __future__ import annotations

from lets.baselines.base import Costs, Sizes, SystemCost, SystemResult, SystemRun, same_costs
from lets.cost import encoder_flops
from lets.metrics import Chain, TaskLoad
from lets.train.classifier import load_forward
from lets.train.full import full_finetune


def full(run: SystemRun) -> SystemResult:
    inputs = run.inputs
    trained = full_finetune(
        inputs.encoder, inputs.data, inputs.config, run.folder, inputs.progress, inputs.overwrite
    )
    return SystemResult(
        forward=load_forward(trained.model, inputs.encoder, inputs.config.max_seq_length),
        history=trained.history,
        costs=full_costs(Sizes.of(run)),
        seconds={"full": trained.seconds},
    )


def full_costs(sizes: Sizes) -> Costs:
    flops = encoder_flops(sizes.shape, sizes.seq_len)
    load = TaskLoad((Chain(flops, 0),), new_params=sizes.shape.num_parameters)
    return same_costs(SystemCost(load, shares_encoder=False))
