"""Random policies of every letter."""

import itertools
import re

from hypothesis import strategies as st
from lets.policy import Policy


def as_input(word):
    """A word of p, f and s as the input of a policy: p at the bottom, no f right above s."""
    return re.sub("s(?=f)", "p", "p" + word[1:])


def policies(layers):
    words = (st.text(letters, min_size=layers, max_size=layers) for letters in ("pfs", "pf"))
    return st.builds(lambda inputs, pool: Policy(as_input(inputs), pool), *words)


def every_policy(layers):
    inputs = {as_input("".join(word)) for word in itertools.product("pfs", repeat=layers)}
    pools = itertools.product("pf", repeat=layers)
    return [Policy(word, "".join(p)) for word, p in itertools.product(sorted(inputs), pools)]
