"""LeTS-(p) packs of every architecture: exact both ways, from a classifier and back to one."""

import pytest
import torch
import transformers
from lets.cli import app
from lets.config import FitConfig
from lets.convert.checkpoint import load_fine_tuned
from lets.convert.convert import ConvertConfig, convert
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.model import LetsModel
from lets.pack import load_pack, save_pack
from lets.policy import Policy
from lets.task_data import TaskData, TaskRow
from lets.train.classifier import forward_of, load_classifier
from typer.testing import CliRunner

from tests.models import VOCAB, make_encoder, make_task, make_texts, make_tokenizer

SIZES = {
    "vocab_size": len(VOCAB), "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 24, "max_position_embeddings": 40, "pad_token_id": 0, "num_labels": 3,
}  # fmt: skip
CONFIGS = {
    "bert": transformers.BertConfig(**SIZES),
    "roberta": transformers.RobertaConfig(**SIZES, type_vocab_size=1),
    "xlm-roberta": transformers.XLMRobertaConfig(**SIZES, type_vocab_size=1),
    "electra": transformers.ElectraConfig(**SIZES, embedding_size=8),
    "mpnet": transformers.MPNetConfig(**SIZES),
    "distilbert": transformers.DistilBertConfig(
        vocab_size=len(VOCAB), dim=16, n_layers=3, n_heads=4, hidden_dim=24,
        max_position_embeddings=40, num_labels=3,
    ),
}  # fmt: skip
CHAIN = Policy.chain(3)
TEXTS = make_texts(12, seed=3)


def make_classifier(config, folder):
    """A random classifier's folder, and that of the encoder that it started from."""
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    model.base_model.save_pretrained(folder / "base")
    embeddings = {n for n, _ in model.base_model.named_parameters() if "layer." not in n.lower()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.removeprefix(f"{model.base_model_prefix}.") not in embeddings:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    model.save_pretrained(folder / "tuned")
    for name in ("base", "tuned"):
        make_tokenizer(folder / name).save_pretrained(folder / name)
    return folder / "base", folder / "tuned"


@pytest.fixture(scope="module")
def data():
    rows = [TaskRow(text, None, f"LABEL_{i % 3}") for i, text in enumerate(TEXTS)]
    return TaskData("letters", rows[:6], rows[6:], ("LABEL_0", "LABEL_1", "LABEL_2"))


@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back(name, data, tmp_path):
    base, tuned_folder = make_classifier(CONFIGS[name], tmp_path)
    encoder = Encoder.from_pretrained(base)
    tuned = load_fine_tuned(tuned_folder, encoder)
    settings = FitConfig.from_dict({"max_seq_length": 16, "prune": {"density": 1.0}})
    how = ConvertConfig(CHAIN, "p", score="magnitude")
    report = convert(encoder, tuned, data, how, settings, tmp_path / "pack", train=False)
    assert report["max_difference"] < 1e-4
    assert report["agreement"] == report["delta_kept"] == 1.0
    assert report["embeddings_changed"] == 0.0
    model = LetsModel.from_pretrained(encoder, tmp_path / "pack")
    merged = model.merge_and_unload()
    assert type(merged) is type(tuned.model)
    with torch.no_grad():
        found, expected = (forward_of(m, encoder, 16)(TEXTS) for m in (merged, tuned.model))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(TEXTS)["letters"].logits, found, rtol=1e-4, atol=1e-4)


def test_variant_p_starts_near_the_model(data, tmp_path):
    """Half of the change and the model's own head, and distillation on top."""
    base, tuned_folder = make_classifier(CONFIGS["bert"], tmp_path)
    encoder = Encoder.from_pretrained(base)
    tuned = load_fine_tuned(tuned_folder, encoder)
    raw = {
        "max_seq_length": 16,
        "prune": {"density": 0.5, "score_batches": 1},
        "finetune": {"num_train_epochs": 4, "learning_rate": 1e-3, "bias_learning_rate": 1e-3},
    }
    how = ConvertConfig(CHAIN, "p")
    settings = FitConfig.from_dict(raw)
    start = convert(encoder, tuned, data, how, settings, tmp_path / "start", train=False)
    end = convert(encoder, tuned, data, how, settings, tmp_path / "end")
    assert end["agreement"] >= start["agreement"]
    assert load_pack(tmp_path / "end", encoder).variant == "p"
    with pytest.raises(LetsError, match="variant p has no policy of its choice"):
        ConvertConfig(Policy("ppf", "fff"), "p")


def test_command(data, tmp_path):
    base, tuned_folder = make_classifier(CONFIGS["bert"], tmp_path)
    encoder = Encoder.from_pretrained(base)
    settings = FitConfig.from_dict({"max_seq_length": 16, "prune": {"density": 1.0}})
    tuned = load_fine_tuned(tuned_folder, encoder)
    convert(encoder, tuned, data, ConvertConfig(CHAIN, "p"), settings, tmp_path / "p", train=False)
    arguments = ["merge", tmp_path / "p", "--encoder", base, "-o", tmp_path / "merged"]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output + result.stderr
    merged = load_classifier(tmp_path / "merged")
    assert merged.config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    pipe = transformers.pipeline("text-classification", str(tmp_path / "merged"))
    assert len(pipe(TEXTS)) == len(TEXTS)
    again = CliRunner().invoke(app, [str(a) for a in arguments])
    assert "must be a new or empty folder" in again.stderr


def test_policies_cannot_be_merged(tmp_path):
    encoder = make_encoder()
    pack = save_pack(tmp_path / "pc", make_task(encoder, Policy("pfp", "pff")), encoder)
    with pytest.raises(LetsError, match="must be of variant p, got pc: its layers read frozen"):
        LetsModel.from_pretrained(encoder, pack).merge_and_unload("task")
