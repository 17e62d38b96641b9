"""Which rows an experiment learns from, chooses on and reports on."""

import pytest
from lets.config import FitConfig
from lets.errors import LetsError
from lets.reproduce.experiment import Experiment, settings_read

HEADER = "index\tsentence1\tsentence2\tgold_label\n"
LABELS = ("entailment", "neutral", "contradiction")


def lines(count, name):
    return "".join(f"{i}\t{name} {i}\tb\t{LABELS[i % 3]}\n" for i in range(count))


@pytest.fixture
def mnli(tmp_path):
    (tmp_path / "MNLI").mkdir()
    for name, count in (("train", 90), ("dev_matched", 6), ("dev_mismatched", 9)):
        (tmp_path / "MNLI" / f"{name}.tsv").write_text(HEADER + lines(count, name))
    return tmp_path


def test_mnli_is_reported_on_twice(mnli):
    experiment = Experiment.of_glue("MNLI", mnli, 40, {})
    assert {name: len(rows) for name, rows in experiment.dev.items()} == {"mnli-m": 6, "mnli-mm": 9}
    assert experiment.metrics == ("accuracy",)
    (mnli / "MNLI" / "dev_mismatched.tsv").unlink()
    assert set(Experiment.of_glue("MNLI", mnli, 40, {}).dev) == {"mnli-m"}


def test_the_slice_is_of_the_training_data_and_not_learnt_from(mnli):
    experiment = Experiment.of_glue("MNLI", mnli, 40, {})
    assert experiment.rows == {"train": 40, "slice": 9}
    learnt, chosen = ({row.text for row in rows} for rows in experiment_rows(experiment))
    assert not learnt & chosen
    assert all(text.startswith("train ") for text in learnt | chosen)
    again = Experiment.of_glue("MNLI", mnli, 40, {})
    assert experiment_rows(again) == experiment_rows(experiment)


def experiment_rows(experiment):
    return experiment.data.train, experiment.data.dev


def test_files_by_name(mnli):
    (mnli / "MNLI" / "train_sub.tsv").write_text(HEADER + lines(30, "sub"))
    experiment = Experiment.of_glue("mnli", mnli, None, {"train": "train_sub.tsv"})
    assert experiment.rows == {"train": 27, "slice": 3}
    with pytest.raises(LetsError, match=r"absent\.tsv: file not found"):
        Experiment.of_glue("mnli", mnli, None, {"dev": "absent.tsv"})


@pytest.mark.parametrize(
    ("system", "parts"),
    [
        ("lets-pc", {"prune", "search", "finetune"}),
        ("lets-g2", {"prune", "search", "finetune"}),
        ("full", {"full"}),
        ("freeze-3", {"full"}),
        ("bitfit", {"prune", "full", "light"}),
    ],
)
def test_a_cell_holds_the_settings_that_its_system_reads(system, parts):
    settings = settings_read(system, FitConfig())
    assert {name for name, value in settings.items() if isinstance(value, dict)} == parts
    assert settings["seed"] == 42
