"""What `lets plan` explains: task packs of one encoder, or policies that are not trained yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lets.errors import LetsError
from lets.pack import expand_packs, read_pack
from lets.plan.spec import TaskSpec
from lets.policy import Policy
from lets.shape import EncoderShape, layer_parameters

_SIZES = ("num_layers", "hidden_size", "num_heads", "intermediate_size")


def specs_of_packs(
    packs: Sequence[str | Path], encoder: str | None = None
) -> tuple[EncoderShape, list[TaskSpec]]:
    """Read packs, or folders of packs; their encoder's weights are not needed.

    Args:
        encoder: Its folder, or a built-in shape; default: the sizes that the packs name.

    Raises:
        LetsError: for packs of different encoders, naming two of them.
    """
    if not packs:
        raise LetsError("plan: give at least one task pack, or --policy with --encoder")
    read = [(pack, *read_pack(pack)) for pack in expand_packs(packs)]
    first, config, _ = read[0]
    for pack, other, _ in read[1:]:
        if other.encoder["fingerprint"] != config.encoder["fingerprint"]:
            raise LetsError(
                f"plan: {pack} was trained on another encoder ({other.encoder['source']}) than "
                f"{first} ({config.encoder['source']}); tasks share a pass only on one encoder"
            )
    sizes: list[int] = [config.encoder[name] for name in _SIZES]
    if encoder is None:
        layers, hidden, heads, intermediate = sizes
        parameters = layers * layer_parameters(hidden, intermediate)
        shape = EncoderShape(
            config.encoder["source"], layers, hidden, heads, intermediate, parameters
        )
    else:
        shape = EncoderShape.from_name(encoder)
        if [getattr(shape, name) for name in _SIZES] != sizes:
            raise LetsError(
                f"plan: {first} was trained on an encoder of other sizes than {encoder}: "
                f"{dict(zip(_SIZES, sizes))}"
            )
    return shape, _unique([TaskSpec.of(task) for _, _, task in read])


def specs_of_policies(
    policies: Sequence[str], encoder: str, density: float, copies: int
) -> tuple[EncoderShape, list[TaskSpec]]:
    """Tasks of policies by name or file, each `copies` times."""
    if copies < 1:
        raise LetsError(f"plan: copies must be at least 1, got {copies}")
    shape = EncoderShape.from_name(encoder)
    parsed = [(spec, Policy.from_spec(spec, shape.num_layers, encoder)) for spec in policies]
    return shape, _unique(
        [
            TaskSpec.from_policy(Path(spec).stem, policy, shape, density)
            for _ in range(copies)
            for spec, policy in parsed
        ]
    )


def _unique(specs: list[TaskSpec]) -> list[TaskSpec]:
    """Names as they are, numbered where several tasks have one."""
    names = [spec.name for spec in specs]
    out: list[TaskSpec] = []
    for i, spec in enumerate(specs):
        number = names[: i + 1].count(spec.name)
        name = spec.name if names.count(spec.name) == 1 else f"{spec.name}-{number}"
        out.append(replace(spec, name=name))
    return out
