import pytest
from lets.config import FitConfig
from lets.data import load_task

from tests.tiny import make_rows, save_tiny_bert, write_csv


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return save_tiny_bert(tmp_path_factory.mktemp("encoder") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_encoder(tiny_folder):
    from lets.encoder import Encoder

    return Encoder.from_pretrained(tiny_folder)


@pytest.fixture(scope="session")
def tiny_task(tmp_path_factory):
    """Builds a tiny task: single texts or pairs, classes or numbers."""
    folder = tmp_path_factory.mktemp("tiny-task")

    def make(pairs=False, regression=False, train=96, dev=48):
        files = [
            write_csv(folder / f"{split}.csv", make_rows(count, seed, pairs, regression))
            for split, count, seed in (("train", train, 1), ("dev", dev, 2))
        ]
        return load_task(
            "warmth",
            *files,
            text_pair_column="other" if pairs else None,
            problem_type="regression" if regression else "classification",
        )

    return make


@pytest.fixture(scope="session")
def tiny_config():
    """Settings under which all of Algorithm 1 takes seconds on the tiny encoder."""
    return FitConfig.from_dict(
        {
            "max_seq_length": 16,
            "prune": {
                "density": 0.05,
                "warmup_steps": 8,
                "score_batches": 2,
                "learning_rate": 1e-3,
                "head_learning_rate": 1e-2,
            },
            "search": {
                "num_train_epochs": 2,
                "learning_rate": 1e-2,
                "arch_learning_rate": 0.1,
                "temperature_decay": 0.2,
                "save_steps": 3,
            },
            "finetune": {
                "num_train_epochs": 3,
                "learning_rate": 1e-2,
                "bias_learning_rate": 1e-2,
                "save_steps": 2,
            },
            "full": {"learning_rate": 1e-3, "head_learning_rate": 1e-2},
        }
    )
