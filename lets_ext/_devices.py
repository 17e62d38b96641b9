"""Tensors on several devices: refused where the dispatcher would look at one of them alone."""

from __future__ import annotations

from torch import Tensor


def check_devices(op: str, *arguments: object) -> None:
    """Raise unless all tensors among an op's arguments are on one device.

    A fake kernel also answers for meta tensors, which the dispatcher prefers to those that are
    somewhere: mixed in, they would turn the result into one without data.
    """
    devices = {argument.device for argument in arguments if isinstance(argument, Tensor)}
    if len(devices) > 1:
        raise ValueError(
            f"{op}: all tensors must be on one device, got {', '.join(sorted(map(str, devices)))}; "
            "move them with .to()"
        )
