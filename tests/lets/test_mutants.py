"""A sample of the damaged and forged packs that `make soak` tries one by one."""

import platform
import random

import pytest

from tests.soak.memory import damaged_peaks
from tests.soak.mutants import FILES, Trial, damages


@pytest.fixture
def trial(tmp_path):
    trial = Trial(tmp_path)
    yield trial
    trial.close()


def test_damaged_packs_are_refused_or_answer_the_same(trial):
    for seed, name in enumerate(FILES):
        data = trial.files[name]
        trial.damage(name, damages(data, random.Random(seed), share=60 / len(data)))
    assert trial.tried == 240
    assert trial.refused + trial.equal == trial.tried
    assert trial.slowest_seconds < 5


def test_forged_packs_are_refused_or_answer(trial):
    trial.forge(150, random.Random(0))
    assert trial.refused + trial.forged_loaded == trial.tried == 150
    assert min(trial.refused, trial.forged_loaded) > 15


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory as Linux and glibc tell it")
def test_damaged_packs_take_less_than_twice_their_files():
    found = damaged_peaks()
    assert found["largest_refused"] <= 2.0
    assert found["whole"] > 1.0  # or pages do not show what is taken
