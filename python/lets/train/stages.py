"""The stages of Algorithm 1, each of which can be run, saved, skipped and resumed alone."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lets.classifiers import activation_of
from lets.config import FinetuneConfig, FitConfig, SearchConfig
from lets.errors import LetsError
from lets.files import write_json
from lets.heads import Head, LayerwiseHead, PoolerHead
from lets.policy import Policy
from lets.progress import Progress
from lets.search.search import search
from lets.search.selectors import Selectors
from lets.search.supernet import SuperNet
from lets.task_data import TaskData
from lets.task_model import TaskModel
from lets.train.activations import FrozenRows
from lets.train.checkpoint import load_tensors, save_tensors
from lets.train.distill import RowLoss, Teacher, loss_towards
from lets.train.finetune import finetune
from lets.train.loop import copy_into
from lets.train.masks import Masks, layouts_of, load_masks, save_masks
from lets.train.prune import prune
from lets.train.scoring import logits_of
from lets.train.seeds import seed_everything
from lets.train.stage import Stage, data_fingerprint

_MASK, _HEAD, _POLICY, _ALPHAS, _MODEL = (
    "mask.safetensors", "head.safetensors", "policy.json", "alphas.safetensors", "model.safetensors"
)  # fmt: skip


@dataclass(frozen=True)
class RunInputs:
    """What every stage of a run shares.

    Args:
        overwrite: Results of other inputs may be replaced, see `Stage`.
        teacher: Given: the final fine-tuning learns its logits too.
    """

    encoder: Any
    data: TaskData
    config: FitConfig
    progress: Progress
    overwrite: bool = False
    teacher: Teacher | None = None

    def stage(
        self, folder: Path, name: str, inputs: Mapping[str, Any], record: str = "result.json"
    ) -> Stage:
        return Stage(folder, name, inputs, record, self.overwrite)

    def head_input(self) -> dict[str, str]:
        """The kind of head, where it is not the layer-wise one."""
        return {"head": PoolerHead.kind} if self.config.variant == "p" else {}

    def common(self) -> dict[str, Any]:
        """What the result of any stage depends on."""
        return {
            "encoder": self.encoder.fingerprint,
            "data": data_fingerprint(self.data),
            "seed": self.config.seed,
            "max_seq_length": self.config.max_seq_length,
            **self._kept(),
        }

    def _kept(self) -> dict[str, int]:
        """Which rows are kept decides with what padding they were computed."""
        config = self.config
        return {"cache_bytes": config.cache_bytes} if config.cache_activations else {}

    @functools.cached_property
    def frozen(self) -> FrozenRows:
        """Frozen activations of the training rows, for all stages."""
        return FrozenRows(
            self.encoder, self.data, self.config.max_seq_length, self._kept().get("cache_bytes", 0)
        )

    def new_head(self, stage: str) -> Head:
        """A head that starts from nothing, the same for a seed and a stage.

        Of LeTS-(p): the ordinary one, whose pooler starts from the encoder's if it has one.
        """
        seed_everything(self.config.seed, stage, "head")
        shape, labels = self.encoder.shape, self.data.num_labels
        if self.config.variant != "p":
            head: Head = LayerwiseHead(shape.num_layers, shape.hidden_size, labels)
        else:
            activation = activation_of(self.encoder.model_type)
            head = PoolerHead(shape.hidden_size, labels, activation=activation)
            if self.encoder.pooler is not None:
                head.dense.load_state_dict(self.encoder.pooler)
        return head.to(self.encoder.device)


@dataclass(frozen=True)
class StageResult:
    """A stage's files, its result.json, and whether it was there before."""

    stage: Stage
    summary: Mapping[str, Any]
    skipped: bool


def prune_stage(run: RunInputs, folder: Path, policy: Policy | None) -> StageResult:
    """Delta-Pruning of the super network (policy None) or of a chosen policy."""
    config, space, selectors = run.config.prune, None, None
    if policy is None:
        groups, pool = run.config.search.groups, run.config.search.pool
        space = {"groups": groups, "pool": pool}
        selectors = Selectors(run.encoder.shape.num_layers, groups, pool)
    inputs = {
        **run.common(),
        "config": asdict(config),
        "policy": policy.to_dict() if policy else None,
        "space": space,
        **run.head_input(),
    }
    name = "prune" if policy else "prune-supernet"
    stage = run.stage(folder, name, inputs)
    found = stage.result()
    if found is not None:
        return _skipped(run, stage, found)
    head = run.new_head(name)
    pruned = prune(
        run.encoder,
        run.data,
        config,
        policy=policy,
        head=head,
        seed=run.config.seed,
        max_length=run.config.max_seq_length,
        selectors=selectors,
        frozen=run.frozen,
        stage=name,
        checkpoints=stage.checkpoints,
        progress=run.progress,
    )
    save_masks(stage.file(_MASK), pruned.masks)
    save_tensors(stage.file(_HEAD), head.state_dict())
    summary = {
        "kept": pruned.kept,
        "num_weights": pruned.num_weights,
        "score_sum": pruned.score_sum,
        "kept_per_matrix": {
            f"layers.{j}.{name}": mask.layout.nnz
            for j, layer in pruned.masks.items()
            for name, mask in layer.items()
        },
    }
    return StageResult(stage, stage.complete(summary, [_MASK, _HEAD]), False)


def search_stage(run: RunInputs, folder: Path, mask_file: Path) -> StageResult:
    """Search of a policy on the super network with the mask of `prune_stage`."""
    config = run.config.search
    inputs = {
        **run.common(),
        "config": _without(config, "save_steps", *_off(config)),
        "density": run.config.prune.density,
        "mask": Stage.checksum_of(mask_file),
        **_head_start(config.head_start, mask_file),
    }
    stage = run.stage(folder, "search", inputs)
    found = stage.result("policy", "step", "stopped", "seconds")
    if found is not None:
        return _skipped(run, stage, found)
    masks = load_masks(mask_file, run.encoder)
    supernet = SuperNet(run.encoder, layouts_of(masks), run.new_head("search"))
    if config.head_start == "pruned":
        _load_head(supernet.head, mask_file)
    if config.delta_start == "pruned":
        for j, deltas in masks.items():
            supernet.task_layer(j).load(deltas, {})
    result = search(
        supernet,
        run.data,
        config,
        density=run.config.prune.density,
        frozen=run.frozen,
        seed=run.config.seed,
        max_length=run.config.max_seq_length,
        checkpoints=stage.checkpoints,
        progress=run.progress,
    )
    policy = (result.policy.streamed() if config.stream else result.policy).to_dict()
    write_json(stage.file(_POLICY), policy)
    save_tensors(stage.file(_ALPHAS), {"alphas": result.alphas})
    summary = {**vars(result.state), "policy": policy}
    return StageResult(stage, stage.complete(summary, [_POLICY, _ALPHAS]), False)


def finetune_stage(
    run: RunInputs, folder: Path, policy: Policy, mask_file: Path | None
) -> tuple[StageResult, TaskModel]:
    """Final fine-tuning of a policy at a mask; also returns the trained model.

    Args:
        mask_file: Of LeTS-(c), whose live layers are trained whole, only the head beside it counts;
            None: a new head.
    """
    config, dense = run.config.finetune, run.config.variant == "c"
    inputs = {
        **run.common(),
        "config": _deciding(config, run.teacher),
        "policy": policy.to_dict(),
        "mask": None if dense or mask_file is None else Stage.checksum_of(mask_file),
        **({} if mask_file is None else _head_start(config.head_start, mask_file)),
        **run.head_input(),
        **({} if run.teacher is None else {"teacher": run.teacher.fingerprint}),
    }
    stage = run.stage(folder, "finetune", inputs)
    found = stage.result("metric", "dev_score", "best_step", "seconds", "history")
    model = new_model(run, policy, mask_file)
    if found is not None:
        copy_into(dict(model.named_parameters()), load_tensors(stage.file(_MODEL)))
        return _skipped(run, stage, found), model
    state = finetune(
        model,
        run.data,
        config,
        seed=run.config.seed,
        max_length=run.config.max_seq_length,
        eval_batch_size=run.config.per_device_eval_batch_size,
        loss_of=_loss_of(run),
        frozen=run.frozen,
        checkpoints=stage.checkpoints,
        progress=run.progress,
    )
    stage.folder.mkdir(parents=True, exist_ok=True)
    save_tensors(stage.file(_MODEL), dict(model.named_parameters()))
    summary = {
        "metric": run.data.metric,
        "dev_score": state.best_score,
        "best_step": state.best_step,
        "seconds": state.seconds,
        "history": state.history,
    }
    return StageResult(stage, stage.complete(summary, [_MODEL]), False), model


def new_model(run: RunInputs, policy: Policy, mask_file: Path | None) -> TaskModel:
    """The model that fine-tuning starts from."""
    head, config = run.new_head("finetune"), run.config.finetune
    if mask_file is not None and config.head_start == "pruned":
        _load_head(head, mask_file)
    if run.config.variant == "c":
        return TaskModel(run.encoder, policy, None, head)
    if mask_file is None:
        raise LetsError("finetune: mask is needed, except by variant c")
    masks = load_masks(mask_file, run.encoder)
    check_layers(mask_file, masks, policy)
    model = TaskModel(run.encoder, policy, layouts_of(masks), head)
    if config.delta_start == "pruned":
        for j, deltas in masks.items():
            model.task_layer(j).load(deltas, {})
    return model


def _head_start(start: str, mask_file: Path) -> dict[str, str]:
    """What a stage's result depends on if its head was warmed up beside the mask."""
    return {"warm_head": Stage.checksum_of(_head_of(mask_file))} if start == "pruned" else {}


def _load_head(head: nn.Module, mask_file: Path) -> None:
    copy_into(dict(head.named_parameters()), load_tensors(_head_of(mask_file)))


def _head_of(mask_file: Path) -> Path:
    """The head that pruning left beside its mask."""
    return mask_file.with_name(_HEAD)


def check_layers(mask_file: Path, masks: Masks, policy: Policy) -> None:
    """Raise unless a mask is of exactly the policy's live layers."""
    if sorted(masks) != sorted(policy.live_layers):
        raise LetsError(
            f"{mask_file}: must be of the policy's live layers {sorted(policy.live_layers)}, got "
            f"{sorted(masks)}; run lets prune with this policy"
        )


def mask_of(result: StageResult) -> Path:
    return result.stage.file(_MASK)


def policy_of(result: StageResult) -> Policy:
    return Policy.from_json(result.stage.file(_POLICY))


def _skipped(run: RunInputs, stage: Stage, found: dict[str, Any]) -> StageResult:
    run.progress.note(f"{stage.name}: done before, {stage.folder}")
    return StageResult(stage, found, True)


def _loss_of(run: RunInputs) -> RowLoss | None:
    """The teacher's answers are asked for once, before the first step."""
    if run.teacher is None:
        return None
    config, data, size = run.config.finetune, run.data, run.config.per_device_eval_batch_size
    logits = logits_of(run.teacher.forward, data, data.train, size)
    return loss_towards(logits, data, config.distill_temperature, config.distill_weight)


def _deciding(config: FinetuneConfig, teacher: Teacher | None) -> dict[str, Any]:
    """Settings that change the result: how often a checkpoint is written does not."""
    unread = () if teacher else ("distill_weight", "distill_temperature")
    return _without(config, "save_steps", *unread)


def _off(config: SearchConfig) -> tuple[str, ...]:
    """Settings that are none of the paper's and not in use, so that searches without them stay."""
    return tuple(name for name in ("stream", "cost_target") if not getattr(config, name))


def _without(config: FinetuneConfig | SearchConfig, *names: str) -> dict[str, Any]:
    return {name: value for name, value in asdict(config).items() if name not in names}
