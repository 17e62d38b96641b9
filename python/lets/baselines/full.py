"""Full fine-tuning: an encoder per task."""

from __future__ import annotations

from lets.baselines.base import SystemCost, SystemResult, SystemRun, same_costs
from lets.cost import encoder_flops
from lets.metrics import Chain, TaskLoad
from lets.train.classifier import load_forward
from lets.train.full import full_finetune


def full(run: SystemRun) -> SystemResult:
    inputs = run.inputs
    trained = full_finetune(
        inputs.encoder, inputs.data, inputs.config, run.folder, inputs.progress, inputs.overwrite
    )
    shape, seq_len = inputs.encoder.shape, inputs.config.max_seq_length
    flops = encoder_flops(shape, seq_len)
    load = TaskLoad((Chain(flops, 0),), new_params=shape.num_parameters)
    return SystemResult(
        forward=load_forward(trained.model, inputs.encoder, seq_len),
        history=trained.history,
        costs=same_costs(SystemCost(load, shares_encoder=False)),
        seconds={"full": trained.seconds},
    )
