import pytest
import torch
from lets.errors import LetsError
from lets.progress import Progress
from lets.train.full import full_finetune
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification


class Stop(Progress):
    def advance(self, stage, step, **shown):
        if step == 8:
            raise KeyboardInterrupt


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def test_trains_saves_resumes_and_skips(tiny_encoder, tiny_task, tiny_config, tmp_path):
    data = tiny_task()
    config = tiny_config.override({"full": {"save_steps": 3, "num_train_epochs": 2}})
    plain = full_finetune(tiny_encoder, data, config, tmp_path / "plain")
    assert plain.dev_score > 0.6
    with pytest.raises(KeyboardInterrupt):
        full_finetune(tiny_encoder, data, config, tmp_path / "cut", Stop())
    resumed = full_finetune(tiny_encoder, data, config, tmp_path / "cut")
    first, second = weights(tmp_path / "plain"), weights(tmp_path / "cut")
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert resumed.history == plain.history
    again = full_finetune(tiny_encoder, data, config, tmp_path / "cut")
    assert again.seconds == resumed.seconds
    other = config.override({"full": {"learning_rate": 1e-5}})
    with pytest.raises(LetsError, match=r"result of full with other inputs .*learning_rate"):
        full_finetune(tiny_encoder, data, other, tmp_path / "cut")
    replaced = full_finetune(tiny_encoder, data, other, tmp_path / "cut", overwrite=True)
    assert replaced.history != plain.history
    model = AutoModelForSequenceClassification.from_pretrained(plain.model)
    assert model.config.id2label == {0: "cold", 1: "warm"}


def test_regression_has_one_output(tiny_encoder, tiny_task, tiny_config, tmp_path):
    data = tiny_task(regression=True, pairs=True)
    result = full_finetune(tiny_encoder, data, tiny_config, tmp_path)
    assert result.metric == "spearman"
    assert AutoModelForSequenceClassification.from_pretrained(result.model).config.num_labels == 1
