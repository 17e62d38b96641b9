"""TrainingArguments: the settings of a run under the names that transformers gives them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lets.config import EVAL_STRATEGIES, FitConfig
from lets.errors import LetsError
from lets.recipes import load_recipe

# Of the final fine-tuning; what is None is the recipe's.
_FINETUNE = (
    "num_train_epochs", "learning_rate", "weight_decay", "max_grad_norm", "warmup_steps",
    "warmup_ratio", "group_by_length", "save_steps",
)  # fmt: skip
_INTERVALS = ("no", "steps", "epoch")


@dataclass
class TrainingArguments:
    """What a `Trainer` is told. Names of transformers mean what they mean there.

    Args:
        output_dir: Results and checkpoints; the same run started again goes on from them.
        overwrite_output_dir: Replace what is there of other settings or data.
        recipe: `paper`, `small`, `demo`, or a JSON file: everything that is not set here.
        settings: Any setting of a recipe, e.g. {"search": {"cost_power": 1.0}}.
        max_seq_length, density, groups: Longest text; kept share of the masked weights; LeTS-G.
        metric_for_best_model: A score of `lets.scores`; default: the task's.
        report_to: Names of transformers' integrations, e.g. "tensorboard"; "none", "all".
        full_determinism: As transformers does; on a CPU every run is the same bits anyway.
    """

    output_dir: str
    overwrite_output_dir: bool = False
    recipe: str = "small"
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_seq_length: int | None = None
    density: float | None = None
    groups: int | None = None
    num_train_epochs: float | None = None
    per_device_train_batch_size: int | None = None
    per_device_eval_batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    max_grad_norm: float | None = None
    warmup_steps: int | None = None
    warmup_ratio: float | None = None
    group_by_length: bool | None = None
    eval_strategy: str = "epoch"
    eval_steps: int | None = None
    logging_strategy: str = "steps"
    logging_steps: int = 50
    logging_first_step: bool = False
    save_steps: int | None = None
    seed: int = 42
    full_determinism: bool = False
    metric_for_best_model: str | None = None
    report_to: str | Sequence[str] | None = "none"
    run_name: str | None = None
    disable_tqdm: bool | None = None
    resume_from_checkpoint: str | bool | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("eval_strategy", self.eval_strategy, EVAL_STRATEGIES),
            ("logging_strategy", self.logging_strategy, _INTERVALS),
        ):
            if value not in allowed:
                raise LetsError(
                    f"arguments: {name} must be one of {', '.join(allowed)}, got {value!r}"
                )
        if self.logging_steps < 1:
            raise LetsError(f"arguments: logging_steps must be positive, got {self.logging_steps}")

    # What transformers' callbacks read, and is always so here.
    @property
    def load_best_model_at_end(self) -> bool:
        return True

    @property
    def greater_is_better(self) -> bool:
        return True

    @property
    def save_strategy(self) -> str:
        return "epoch"

    @property
    def eval_delay(self) -> int:
        return 0

    @property
    def logging_dir(self) -> str:
        return f"{self.output_dir}/runs"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "settings": json.loads(json.dumps(dict(self.settings)))}

    def to_json_string(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def to_sanitized_dict(self) -> dict[str, Any]:
        """For integrations that take flat values alone."""
        plain = (bool, int, float, str)
        return {k: v if type(v) in plain else str(v) for k, v in self.to_dict().items()}

    def to_config(self, task_name: str | None = None) -> FitConfig:
        """The recipe with these settings in place."""
        tuned: dict[str, Any] = {
            name: getattr(self, name) for name in _FINETUNE if getattr(self, name) is not None
        }
        tuned["eval_strategy"] = self.eval_strategy
        # transformers: evaluation steps are those of the log unless they are given.
        tuned["eval_steps"] = self.eval_steps or self.logging_steps
        raw: dict[str, Any] = {"prune": {}, "search": {}, "finetune": tuned, "seed": self.seed}
        for name in ("max_seq_length", "per_device_eval_batch_size"):
            if getattr(self, name) is not None:
                raw[name] = getattr(self, name)
        if self.per_device_train_batch_size is not None:
            for stage in ("prune", "search", "finetune"):
                raw[stage]["per_device_train_batch_size"] = self.per_device_train_batch_size
        if self.density is not None:
            raw["prune"]["density"] = self.density
        if self.groups is not None:
            raw["search"]["groups"] = self.groups
        config = load_recipe(self.recipe, task_name).override(raw, "arguments")
        return config.override(self.settings, "arguments.settings")
