import json

import pytest
import torch
import transformers
from lets.errors import LetsError
from lets.shape import PRESETS, EncoderShape, layer_parameters

SMALL = {
    "vocab_size": 57,
    "max_position_embeddings": 19,
    "num_hidden_layers": 3,
    "hidden_size": 24,
    "num_attention_heads": 4,
    "intermediate_size": 40,
}
DISTIL = {"vocab_size": 57, "max_position_embeddings": 19, "n_layers": 3, "dim": 24}
DISTIL |= {"n_heads": 4, "hidden_dim": 40}


def count_without_pooler(config):
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("pooler."))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_count_what_transformers_builds(name):
    shape = EncoderShape.from_name(name)
    config = transformers.AutoConfig.for_model(**PRESETS[name])
    assert shape.num_parameters == count_without_pooler(config)
    assert shape.name == name


@pytest.mark.parametrize(
    "config",
    [
        transformers.BertConfig(**SMALL),
        transformers.RobertaConfig(**SMALL),
        transformers.XLMRobertaConfig(**SMALL, type_vocab_size=1),
        transformers.ElectraConfig(**SMALL, embedding_size=16),
        transformers.ElectraConfig(**SMALL, embedding_size=24),
        transformers.MPNetConfig(**SMALL),
        transformers.DistilBertConfig(**DISTIL),
    ],
    ids=lambda config: config.model_type,
)
def test_folder_counts_what_transformers_builds(config, tmp_path):
    config.save_pretrained(tmp_path)
    shape = EncoderShape.from_folder(tmp_path)
    assert shape.num_parameters == count_without_pooler(config)
    assert (shape.num_layers, shape.hidden_size, shape.num_heads) == (3, 24, 4)
    assert shape.intermediate_size == 40
    assert EncoderShape.from_name(str(tmp_path)) == shape


def test_known_sizes():
    assert EncoderShape.from_name("bert-base").num_parameters == 108_891_648
    assert layer_parameters(768, 3072) == 7_087_872


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ("{}", "model_type must be one of"),
        ('{"model_type": "gpt2"}', "model_type must be one of bert"),
        ('{"model_type": "bert"}', "num_hidden_layers must be a positive integer, got None"),
        (json.dumps({"model_type": "bert", **SMALL, "hidden_size": "24"}), "hidden_size must"),
        (json.dumps({"model_type": "bert", **SMALL}), "type_vocab_size must"),
        (
            json.dumps({"model_type": "roberta", "type_vocab_size": 1, **SMALL, "hidden_size": 25}),
            "multiple of num_heads",
        ),
    ],
)
def test_malformed_config_is_refused(text, message, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(LetsError, match=message):
        EncoderShape.from_folder(tmp_path)


def test_missing_folder_and_file(tmp_path):
    with pytest.raises(LetsError, match="neither a built-in shape"):
        EncoderShape.from_name(str(tmp_path / "absent"))
    with pytest.raises(LetsError, match="cannot read"):
        EncoderShape.from_name(str(tmp_path))
