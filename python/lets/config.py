"""Settings of every training stage: frozen, validated once, saved beside the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from lets.errors import LetsError

PRUNE_INITS = ("warmup", "random", "magnitude")
ACCOUNTINGS = ("engine", "paper")
DELTA_STARTS = ("zero", "pruned")
HEAD_STARTS = ("new", "pruned")
POOLS = ("search", "f")
EVAL_STRATEGIES = ("epoch", "steps", "no")
# Of METHOD section 9: `pc` searched policy and mask; `c` a policy and whole matrices; `p` a mask on
# the ordinary architecture.
VARIANTS = ("pc", "c", "p")


def _check(owner: object, rule: str, **ranges: tuple[float, float]) -> None:
    """Raise unless every named field lies in its closed range; None passes (= not set)."""
    for name, (low, high) in ranges.items():
        value = getattr(owner, name)
        if value is not None and not low <= value <= high:
            raise LetsError(f"{rule}: {name} must be in [{low:g}, {high:g}], got {value}")


def _check_choice(rule: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise LetsError(f"{rule}: {name} must be one of {', '.join(choices)}, got {value!r}")


_RATE = (0.0, 10.0)
_COUNT = (1, 10**9)


@dataclass(frozen=True)
class PruneConfig:
    """Delta-Pruning (METHOD section 6)."""

    density: float = 0.005  # kept share of the masked weight matrices
    init: str = "warmup"  # where the trial delta comes from, and for `magnitude` what is ranked
    warmup_steps: int = 100
    score_batches: int = 8  # mini-batches over which the gradient is averaged
    per_device_train_batch_size: int = 16
    learning_rate: float = 2e-5
    bias_learning_rate: float | None = 5e-4
    head_learning_rate: float | None = None
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    group_by_length: bool = False
    save_steps: int = 0  # 0: no checkpoint inside the warm-up, it is short

    def __post_init__(self) -> None:
        if not 0.0 < self.density <= 1.0:
            raise LetsError(f"prune: density must be in (0, 1], got {self.density}")
        _check_choice("prune", "init", self.init, PRUNE_INITS)
        _check(self, "prune", warmup_steps=(0, 10**9), score_batches=_COUNT, save_steps=(0, 10**9))
        _check(self, "prune", per_device_train_batch_size=_COUNT, max_grad_norm=(0.0, 1e9))
        _check(self, "prune", learning_rate=_RATE, bias_learning_rate=_RATE)
        _check(self, "prune", head_learning_rate=_RATE, weight_decay=(0.0, 1.0))


@dataclass(frozen=True)
class SearchConfig:
    """Computation-aware differentiable search (METHOD section 7)."""

    num_train_epochs: float = 10.0  # the most it may take; the stop rule usually ends it earlier
    per_device_train_batch_size: int = 16
    learning_rate: float = 2e-5  # of the super network's weights; also ξ of the second order
    values_learning_rate: float | None = None
    head_learning_rate: float | None = None
    arch_learning_rate: float = 5e-4
    warmup_epochs: float = 0.0  # of the weights alone, before the first step of the selectors
    delta_start: str = "zero"
    head_start: str = "new"  # "pruned": the head that warmed up with the trial delta
    arch_split: float = 0.2  # share of the training rows held out for the selectors (D2)
    second_order: bool = True
    epsilon_scale: float = 0.01  # ε = epsilon_scale / ‖∇ L_D2‖
    cost_weight: float = 0.5  # α of Eq. 8
    cost_power: float = 0.5  # β of Eq. 8
    # Share of the encoder's FLOPs up to which operations are free: below it cost has no say.
    # 0: the paper's objective.
    cost_target: float = 0.0
    accounting: str = "engine"
    temperature: float = 4.0
    temperature_decay: float = 0.065  # T *= exp(-decay) every temperature_interval epochs
    temperature_interval: float = 0.1
    stop_epochs: float = 0.3  # stop when the policy has not changed for so long
    stop_below_temperature: float | None = 1.0  # None: the paper's rule, counted from the start
    groups: int | None = None  # LeTS-G-g
    pool: str = "search"  # "f": every layer pools its own [CLS] row; the inputs alone are searched
    stream: bool = False  # the found policy gets the [CLS] stream wherever it is almost free
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    group_by_length: bool = False
    save_steps: int = 50

    def __post_init__(self) -> None:
        _check(self, "search", num_train_epochs=(0.0, 1e6), per_device_train_batch_size=_COUNT)
        _check(self, "search", learning_rate=_RATE, values_learning_rate=_RATE)
        _check(self, "search", head_learning_rate=_RATE, arch_learning_rate=_RATE)
        if not 0.0 < self.arch_split < 1.0:
            raise LetsError(f"search: arch_split must be in (0, 1), got {self.arch_split}")
        _check_choice("search", "accounting", self.accounting, ACCOUNTINGS)
        _check_choice("search", "delta_start", self.delta_start, DELTA_STARTS)
        _check_choice("search", "head_start", self.head_start, HEAD_STARTS)
        _check_choice("search", "pool", self.pool, POOLS)
        _check(self, "search", warmup_epochs=(0.0, 1e6))
        _check(self, "search", cost_weight=(1e-9, 1e9), cost_power=(0.0, 100.0))
        _check(self, "search", cost_target=(0.0, 1.0))
        _check(self, "search", temperature=(1e-6, 1e6), temperature_decay=(0.0, 100.0))
        _check(self, "search", temperature_interval=(1e-6, 1e6), stop_epochs=(0.0, 1e6))
        _check(self, "search", groups=_COUNT, save_steps=(0, 10**9), epsilon_scale=(1e-12, 1.0))
        _check(self, "search", weight_decay=(0.0, 1.0), max_grad_norm=(0.0, 1e9))


@dataclass(frozen=True)
class FinetuneConfig:
    """Final fine-tuning of the deltas at the mask (METHOD section 8)."""

    num_train_epochs: float = 10.0
    per_device_train_batch_size: int = 16
    learning_rate: float = 2e-5  # everything that has no rate of its own
    bias_learning_rate: float | None = 1e-3
    values_learning_rate: float | None = None
    dense_learning_rate: float | None = None  # of whole matrices: LeTS-(c)
    head_learning_rate: float | None = None
    warmup_steps: int | None = None  # None: warmup_ratio of all steps
    warmup_ratio: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    delta_start: str = "zero"
    head_start: str = "new"  # "pruned": the head that warmed up with the trial delta
    group_by_length: bool = False
    distill_weight: float = 0.5  # share of the teacher in the loss, where there is one
    distill_temperature: float = 2.0
    eval_strategy: str = "epoch"  # "no": at the end alone, as the others do too
    eval_steps: int = 500
    save_steps: int = 200

    def __post_init__(self) -> None:
        _check(self, "finetune", num_train_epochs=(0.0, 1e6), per_device_train_batch_size=_COUNT)
        _check(self, "finetune", learning_rate=_RATE, bias_learning_rate=_RATE)
        _check(self, "finetune", values_learning_rate=_RATE, head_learning_rate=_RATE)
        _check(self, "finetune", dense_learning_rate=_RATE)
        _check(self, "finetune", warmup_steps=(0, 10**9), warmup_ratio=(0.0, 1.0))
        _check(self, "finetune", weight_decay=(0.0, 1.0), max_grad_norm=(0.0, 1e9))
        _check(self, "finetune", save_steps=(0, 10**9))
        _check(self, "finetune", distill_weight=(0.0, 1.0), distill_temperature=(1e-3, 100.0))
        _check_choice("finetune", "delta_start", self.delta_start, DELTA_STARTS)
        _check_choice("finetune", "head_start", self.head_start, HEAD_STARTS)
        _check_choice("finetune", "eval_strategy", self.eval_strategy, EVAL_STRATEGIES)
        _check(self, "finetune", eval_steps=_COUNT)


@dataclass(frozen=True)
class FullConfig:
    """Baselines on the ordinary architecture: `full` of those that train whole layers, `light` of
    those that train few new weights beside frozen ones."""

    num_train_epochs: float = 3.0
    per_device_train_batch_size: int = 16
    learning_rate: float = 2e-5
    head_learning_rate: float | None = None
    warmup_steps: int | None = None
    warmup_ratio: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    group_by_length: bool = False
    eval_strategy: str = "epoch"
    eval_steps: int = 500
    save_steps: int = 0  # a checkpoint is three encoders large; 0: at epoch ends only

    def __post_init__(self) -> None:
        _check(self, "full", num_train_epochs=(0.0, 1e6), per_device_train_batch_size=_COUNT)
        _check(self, "full", learning_rate=_RATE, head_learning_rate=_RATE)
        _check(self, "full", warmup_steps=(0, 10**9), warmup_ratio=(0.0, 1.0))
        _check(self, "full", weight_decay=(0.0, 1.0), max_grad_norm=(0.0, 1e9))
        _check_choice("full", "eval_strategy", self.eval_strategy, EVAL_STRATEGIES)
        _check(self, "full", save_steps=(0, 10**9), eval_steps=_COUNT)


@dataclass(frozen=True)
class FitConfig:
    """Everything a run of Algorithm 1 depends on apart from the encoder and the data."""

    seed: int = 42
    max_seq_length: int = 128
    per_device_eval_batch_size: int = 32
    variant: str = "pc"
    cache_activations: bool = False  # keep what the frozen layers compute of the training rows
    cache_bytes: int = 2 << 30
    prune: PruneConfig = field(default_factory=PruneConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    full: FullConfig = field(default_factory=FullConfig)
    light: FullConfig = field(default_factory=lambda: FullConfig(learning_rate=5e-4))

    def __post_init__(self) -> None:
        _check(self, "fit", seed=(0, 2**31 - 1), max_seq_length=(2, 1 << 20))
        _check(self, "fit", per_device_eval_batch_size=_COUNT)
        _check(self, "fit", cache_bytes=(0, 1 << 60))
        _check_choice("fit", "variant", self.variant, VARIANTS)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: str = "config") -> FitConfig:
        """Build from (a part of) the nested dictionary of a recipe; unknown names are refused."""
        return _merge(cls(), raw, source)

    def override(self, raw: Mapping[str, Any], source: str = "override") -> FitConfig:
        """A copy with the given entries replaced, e.g. {"prune": {"density": 0.01}}."""
        return _merge(self, raw, source)


def _merge(config: Any, raw: Mapping[str, Any], source: str) -> Any:
    if not isinstance(raw, Mapping):
        raise LetsError(f"{source}: must be a JSON object, got {type(raw).__name__}")
    known = {f.name: getattr(config, f.name) for f in fields(config)}
    changes: dict[str, Any] = {}
    for name, value in raw.items():
        if name not in known:
            raise LetsError(f"{source}: unknown setting {name!r}; known: {', '.join(known)}")
        if hasattr(known[name], "__dataclass_fields__"):
            changes[name] = _merge(known[name], value, f"{source}.{name}")
        else:
            changes[name] = _typed(config, name, value, source)
    return replace(config, **changes)


def _typed(config: Any, name: str, value: Any, source: str) -> Any:
    """Refuse a value of another kind than the field's annotation; whole floats pass as int."""
    annotation = str(config.__dataclass_fields__[name].type)
    optional = "None" in annotation
    if value is None and optional:
        return None
    if annotation.startswith("bool"):
        good = isinstance(value, bool)
    elif annotation.startswith("str"):
        good = isinstance(value, str)
    else:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if good and annotation.startswith("int"):
            good = float(value).is_integer()
            value = int(value) if good else value
        elif good:
            value = float(value)
    if not good:
        raise LetsError(f"{source}: {name} must be of type {annotation}, got {value!r}")
    return value
