import pytest
from lets.errors import LetsError
from lets.train.batches import Batches


def epoch(batches, number):
    start = number * batches.per_epoch
    return [batches.at(start + i) for i in range(batches.per_epoch)]


@pytest.mark.parametrize("lengths", [None, [(i * 7) % 11 for i in range(23)]])
def test_every_row_once_per_epoch(lengths):
    batches = Batches(23, 4, 1, "t", lengths)
    for number in range(3):
        assert sorted(r for b in epoch(batches, number) for r in b) == list(range(23))


def test_depends_on_seed_epoch_and_name_alone():
    make = lambda seed, name: Batches(23, 4, seed, name)  # noqa: E731
    assert epoch(make(1, "t"), 5) == epoch(make(1, "t"), 5)
    different = [epoch(make(1, "t"), 0), epoch(make(2, "t"), 0), epoch(make(1, "u"), 0)]
    assert epoch(make(1, "t"), 1) not in different
    assert len({str(e) for e in different}) == 3


def test_lengths_make_batches_even():
    lengths = list(range(64))
    batches = Batches(64, 8, 3, "t", lengths)
    assert all(max(b) - min(b) == 7 for b in epoch(batches, 0))
    assert epoch(batches, 0) != sorted(epoch(batches, 0), reverse=True)


def test_subset_of_rows():
    batches = Batches([5, 9, 11], 2, 0, "t")
    assert sorted(r for b in epoch(batches, 0) for r in b) == [5, 9, 11]


def test_refuses_no_rows():
    with pytest.raises(LetsError, match="at least one row"):
        Batches(0, 4, 0, "finetune")
