"""From alphas to a Policy."""

from __future__ import annotations

import torch

from lets.policy import Policy
from lets.search.selectors import INPUT, POOL, Selectors


@torch.no_grad()
def derive_policy(selectors: Selectors) -> Policy:
    """Arg-max of every selector that is not fixed; a tie goes to p, the cheaper one."""
    larger = selectors.alphas[..., 1] > selectors.alphas[..., 0]
    own = torch.where(selectors.fixed, selectors.fixed_value > 0, larger)
    letters = ["".join("f" if f else "p" for f in kind) for kind in own.tolist()]
    return Policy(input=letters[INPUT], pool=letters[POOL])
