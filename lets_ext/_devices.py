"""Tensors on several devices, or larger than what the kernels count: refused in fake kernels."""

from __future__ import annotations

from torch import Tensor

MOST_ELEMENTS = 2**31 - 1  # as in csrc/checks.h


def check_devices(op: str, *arguments: object) -> None:
    """Raise unless all tensors among an op's arguments are on one device, and of countable size.

    A fake kernel also answers for meta tensors, which the dispatcher prefers to those that are
    somewhere: mixed in, they would turn the result into one without data.
    """
    check_elements(op, *arguments)
    devices = {argument.device for argument in arguments if isinstance(argument, Tensor)}
    if len(devices) > 1:
        raise ValueError(
            f"{op}: all tensors must be on one device, got {', '.join(sorted(map(str, devices)))}; "
            "move them with .to()"
        )


def check_elements(op: str, *arguments: object) -> None:
    """Raise for a tensor of 2^31 elements or more; symbolic sizes are left to the kernels."""
    for argument in arguments:
        if isinstance(argument, Tensor):
            count = argument.numel()
            if type(count) is int and count > MOST_ELEMENTS:
                raise ValueError(
                    f"{op}: tensors must have fewer than 2^31 elements, got "
                    f"{list(argument.shape)}; take fewer rows at once"
                )
