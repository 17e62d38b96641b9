"""Result cells of a grid that nobody trained: random predictions, real costs."""

import random
from dataclasses import asdict

from lets.config import ACCOUNTINGS, FitConfig
from lets.cost import encoder_flops
from lets.metrics import policy_report, system_metrics
from lets.nnz import policy_nnz
from lets.policy import Policy
from lets.reproduce.cell import NUM_TASKS, Cell, rounded
from lets.scores import score
from lets.shape import EncoderShape

SHAPE = EncoderShape("tiny", 6, 32, 4, 64, 60_000)
POLICY = Policy("pppfff", "ffffff")
DENSITY = 0.01
METRICS = {"cola": "matthews", "rte": "accuracy", "mrpc": "f1", "sts-b": "spearman"}
# Share of right answers, or noise of the numbers.
SYSTEMS = {"full": 0.9, "lets-pc": 0.85, "freeze-3": 0.6}


def make_result(system, task, seed, quality, rows=120, policy=POLICY) -> Cell:
    """One cell; with a policy also its costs, without one those of a pass of its own."""
    draw = random.Random(f"{task}")
    regression = task == "sts-b"
    targets = [rounded(draw.random() * 5) if regression else draw.randrange(2) for _ in range(rows)]
    noise = random.Random(f"{system}{task}{seed}")
    if regression:
        predictions = [rounded(t + (1 - quality) * 5 * noise.gauss(0, 1)) for t in targets]
    else:
        predictions = [t if noise.random() < quality else 1 - t for t in targets]
    metric = METRICS[task]
    settings = FitConfig(seed=seed)
    return Cell(
        task=task, system=system, seed=seed, recipe="small", settings=settings.to_dict(),
        encoder={"fingerprint": "abc", **asdict(SHAPE)},
        rows={"train": 200, "slice": 20, "dev": rows},
        problem_type="regression" if regression else "classification", metric=metric,
        history=[{"epoch": 1.0, "step": 9, "loss": 0.5, "score": 0.5}], chosen_epoch=1.0,
        scores={metric: score(metric, targets, predictions)}, targets=targets,
        predictions=predictions, seconds={"search": 5.0, "finetune": 10.0},
        policy=policy.to_dict() if policy else None,
        details=details(policy),
        environment={"machine": "here", "device": "cpu", "commit": "abc123"},
        **costs(settings.max_seq_length, policy),
    )  # fmt: skip


def details(policy) -> dict:
    """What LeTS-(p,c) keeps of its search and its mask."""
    if policy is None:
        return {}
    entry = {"temperature": 4.0, "expected_gflop": 1.0, "p_pool": [1.0] * 6}
    history = [
        {**entry, "epoch": 0.1, "p_input": [0.0] + [0.5] * 5},
        {**entry, "epoch": 0.2, "p_input": [0.0, 0.1, 0.2, 0.9, 0.8, 0.9]},
    ]
    nnz = {j: asdict(counts) for j, counts in policy_nnz(SHAPE, policy, DENSITY).items()}
    return {"search": {"steps": 20, "stopped": "enough", "history": history}, "nnz": nnz}


def costs(seq_len, policy) -> dict:
    """`ops` and `params` of a policy, or of full fine-tuning."""
    ops = {}
    for name in ACCOUNTINGS:
        if policy is None:
            m = full(seq_len)
        else:
            report = policy_report(SHAPE, [policy] * NUM_TASKS, seq_len, DENSITY, name)
            m = report.metrics
        ops[name] = {
            "new_ops_percent": m.new_percent,
            "overhead_percent": m.overhead_percent,
            "total_percent": m.total_percent,
            "max_speedup": m.max_speedup,
        }
    params = {
        "new_params": m.new_params_percent * SHAPE.num_parameters / 100,
        "new_params_percent": m.new_params_percent,
        "mask_percent": m.mask_percent,
        "total_params_ratio": m.total_params_ratio,
    }
    return {"ops": ops, "params": params}


def full(seq_len):
    from lets.metrics import Chain, TaskLoad

    flops = encoder_flops(SHAPE, seq_len)
    load = TaskLoad((Chain(flops, 0),), new_params=SHAPE.num_parameters)
    return system_metrics(flops, SHAPE.num_parameters, 0, [load] * NUM_TASKS, False)


def save_grid(folder, seeds=(0, 1)) -> None:
    """All systems on all tasks, but for freeze-3, which lacks CoLA."""
    for system, quality in SYSTEMS.items():
        for task in METRICS:
            if (system, task) != ("freeze-3", "cola"):
                for seed in seeds:
                    policy = POLICY if system == "lets-pc" else None
                    make_result(system, task, seed, quality, policy=policy).save(folder)
