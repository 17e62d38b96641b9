"""What a call costs, from the cost model: for answers, for metrics, and to decide what to batch."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

from lets.encoder import Encoder
from lets.metrics import policy_report
from lets.plan.timing import MachineRates
from lets.run.calibrate import Sizes, machine_rates
from lets.run.task_set import TaskSet

Names = tuple[str, ...]

# Different subsets of the tasks that get programs of their own: compiling one takes milliseconds,
# and clients choose the subsets. Any other is answered by a superset.
MAX_SUBSETS = 16
_MAX_REMEMBERED = 1 << 14
_GIGA = 1e9
_DECAY, _RIDGE = 0.95, 0.01


@dataclass(frozen=True)
class Flops:
    """Operations of one text.

    Args:
        dense: Of one dense model a task.
    """

    shared: int
    own: int
    dense: int

    @property
    def total(self) -> int:
        return self.shared + self.own


class CallSeconds:
    """Seconds of an engine call: something for every call, and something for every operation.

    A least-squares fit of relative errors to the calls that were timed; newer ones count more, so
    it follows a machine that others use too.
    """

    def __init__(self) -> None:
        self._sums = [0.0] * 5

    def observe(self, flops: float, seconds: float) -> None:
        u, y = _GIGA / flops, seconds * _GIGA / flops  # y = fixed · u + slope
        new = (1.0, u, y, u * u, u * y)
        self._sums = [_DECAY * total + term for total, term in zip(self._sums, new)]

    def fit(self) -> tuple[float, float]:
        """Seconds of a call, and of a billion operations.

        Calls of one size cannot tell the two apart, and noise misleads: at most half of a typical
        call is taken for fixed.
        """
        if not self._sums[0]:
            return 0.0, 1.0
        u, y, uu, uy = (total / self._sums[0] for total in self._sums[1:])
        fixed = (uy - u * y) / (uu - u * u + _RIDGE * u * u)
        fixed = min(max(fixed, 0.0), 0.5 * y / u)
        return fixed, y - fixed * u

    def __call__(self, flops: float) -> float:
        fixed, slope = self.fit()
        return fixed + slope * flops / _GIGA


@dataclass
class _Known:
    """What was found out about a set of tasks."""

    subsets: dict[Names, None] = field(default_factory=dict)
    flops: dict[tuple[Names, int], Flops] = field(default_factory=dict)


class Costs:
    """Costs of task sets on one encoder; forgets a set when nobody holds it. One thread at a time.

    Args:
        rates: Of this machine; default: measured, in half a second once a machine.

    Attributes:
        call_seconds: What the server's own calls took.
    """

    def __init__(self, encoder: Encoder, rates: MachineRates | None = None) -> None:
        self.shape = shape = encoder.shape
        self.rates = rates or machine_rates(
            Sizes(shape.hidden_size, shape.intermediate_size, encoder.dtype, encoder.device)
        )
        self.call_seconds = CallSeconds()
        self._known: weakref.WeakKeyDictionary[TaskSet, _Known] = weakref.WeakKeyDictionary()

    def subset(self, loaded: TaskSet, names: Names) -> Names:
        """The tasks that are computed where `names` are wanted: these, or a few more."""
        order = tuple(name for name in loaded.tasks if name in set(names))
        known = self._of(loaded).subsets
        if order in known or len(known) < MAX_SUBSETS:
            known[order] = None
            return order
        larger = [other for other in known if set(order) <= set(other)]
        return min(larger, key=lambda other: self.flops(loaded, other, 32).total)

    def flops(self, loaded: TaskSet, names: Names, seq_len: int) -> Flops:
        """Operations of one text of so many tokens."""
        kept = self._of(loaded).flops
        found = kept.get((names, seq_len))
        if found is None:
            if len(kept) >= _MAX_REMEMBERED:
                kept.clear()
            found = kept[names, seq_len] = self._count(loaded, names, seq_len)
        return found

    def seconds(self, loaded: TaskSet, names: Names, rows: int, seq_len: int) -> float:
        """Expected time of a call."""
        return self.call_seconds(rows * self.flops(loaded, names, seq_len).total)

    def observe(
        self, loaded: TaskSet, names: Names, rows: int, seq_len: int, seconds: float
    ) -> None:
        """What a call took."""
        total = rows * self.flops(loaded, names, seq_len).total
        self.call_seconds.observe(total, seconds)

    def _of(self, loaded: TaskSet) -> _Known:
        known = self._known.get(loaded)
        if known is None:
            known = self._known[loaded] = _Known({tuple(loaded.tasks): None})
        return known

    def _count(self, loaded: TaskSet, names: Names, seq_len: int) -> Flops:
        specs = [loaded.stacks.specs[name] for name in names]
        report = policy_report(
            self.shape,
            [spec.policy for spec in specs],
            seq_len,
            [spec.nnz for spec in specs],
            num_labels=[spec.num_labels for spec in specs],
            heads=[spec.head for spec in specs],
        )
        own = sum(task.total.flops for task in report.tasks)
        return Flops(report.overhead, own, len(specs) * report.encoder_flops)
