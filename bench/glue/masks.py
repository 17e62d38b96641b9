"""Masks of one task that were found in several ways, for figure 7:
``python -m bench.glue.masks --data <GLUE folder> --encoder <folder> --encoder-name minilm-l6``.

One criterion, Delta-Pruning's |gradient · delta|, and three deltas: the final one of a whole
fine-tuning, that of a short warm-up (Delta-Pruning itself) and a random one; beside them the final
delta by magnitude. All on the ordinary architecture.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from lets.bench.report import commit, machine
from lets.config import FitConfig
from lets.delta import SparseDelta
from lets.encoder import Encoder
from lets.files import write_json
from lets.policy import Policy
from lets.progress import TerminalProgress
from lets.recipes import load_recipe
from lets.report.density import by_matrix, mask_cells
from lets.reproduce.experiment import Experiment
from lets.train.masks import Masks, load_masks, total_nnz
from lets.train.stages import RunInputs, mask_of, prune_stage

FOLDER = Path(__file__).resolve().parent
_CELLS = 48


def ways(config: FitConfig, final_steps: int) -> dict[str, FitConfig]:
    """The ways, as settings of pruning."""
    prune, full = config.prune, config.full
    final = replace(
        prune,
        warmup_steps=final_steps,
        learning_rate=full.learning_rate,
        head_learning_rate=full.head_learning_rate,
    )
    named = {
        "final": final,
        "gradient": prune,
        "random": replace(prune, init="random"),
        "magnitude": replace(final, init="magnitude"),
    }
    return {name: replace(config, prune=part, variant="p") for name, part in named.items()}


def overlap(ours: Masks, reference: Masks) -> float:
    """Share of the reference's weights that are in both."""
    both = sum(
        int(torch.isin(_positions(ours[j][name]), _positions(delta)).sum())
        for j, layer in reference.items()
        for name, delta in layer.items()
    )
    return both / total_nnz(reference)


def _positions(delta: SparseDelta) -> torch.Tensor:
    """Flat row-major positions of the kept weights. int64 [nnz]"""
    layout = delta.layout
    rows = torch.repeat_interleave(
        torch.arange(layout.out_features), layout.crow_indices.diff().long()
    )
    return rows * layout.in_features + layout.col_indices.long()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--encoder-name", required=True)
    parser.add_argument("--task", default="sst-2")
    parser.add_argument("--train-rows", type=int, default=2500)
    parser.add_argument("--epochs", type=float, default=3.0, help="Of full fine-tuning.")
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--out", type=Path, default=FOLDER / "results" / "masks")
    parser.add_argument("--work", type=Path, default=Path("runs/masks"))
    args = parser.parse_args()
    made_by = commit()  # before others go on with the tree
    encoder, config = Encoder.from_pretrained(args.encoder), load_recipe(args.recipe)
    experiment = Experiment.of_glue(args.task, args.data, args.train_rows, {})
    rows = experiment.rows["train"]
    steps = round(args.epochs * rows / config.prune.per_device_train_batch_size)
    policy, layer = Policy.chain(encoder.shape.num_layers), encoder.shape.num_layers // 2
    found: dict[str, Masks] = {}
    for name, settings in ways(config, steps).items():
        inputs = RunInputs(encoder, experiment.data, settings, TerminalProgress())
        stage = prune_stage(inputs, args.work / args.task / name, policy)
        found[name] = load_masks(mask_of(stage), encoder)
    result = {
        "task": args.task, "encoder": args.encoder_name, "rows": rows, "steps": steps,
        "warmup_steps": config.prune.warmup_steps, "density": config.prune.density,
        "seed": config.seed, "recipe": args.recipe, "layer": layer,
        "machine": machine(), "commit": made_by,
        "overlap": {name: overlap(masks, found["final"]) for name, masks in found.items()},
        "masks": {name: _pictures(masks, layer) for name, masks in found.items()},
    }  # fmt: skip
    write_json(args.out / f"{args.task}.json", result)


def _pictures(masks: Masks, layer: int) -> dict[str, list[str]]:
    """Q, K and V of a layer; a hexadecimal digit per cell."""
    layouts = by_matrix({name: delta.layout for name, delta in masks[layer].items()})
    return {
        name: ["".join(f"{round(15 * share):x}" for share in row) for row in cells]
        for name in "QKV"
        for cells in [mask_cells(layouts[name], _CELLS)]
    }


if __name__ == "__main__":
    main()
