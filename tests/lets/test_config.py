import json

import pytest
from lets.config import FitConfig, PruneConfig
from lets.errors import LetsError
from lets.recipes import load_recipe, recipe_names


def test_shipped_recipes_load():
    assert recipe_names() == ["demo", "paper", "small"]
    for name in recipe_names():
        config = load_recipe(name)
        assert FitConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_paper_recipe_keeps_the_printed_schedule():
    cola, qnli = load_recipe("paper", "CoLA").finetune, load_recipe("paper", "QNLI").finetune
    assert (cola.num_train_epochs, cola.bias_learning_rate, cola.warmup_steps) == (10, 1e-3, 420)
    assert (qnli.num_train_epochs, qnli.bias_learning_rate, qnli.warmup_steps) == (7, 5e-4, 1986)
    assert qnli.learning_rate == 2e-5
    assert qnli.values_learning_rate is None


@pytest.mark.parametrize("density", [0, 0.0, -0.1, 1.5, float("nan")])
def test_density_out_of_range_is_refused_by_name(density):
    with pytest.raises(LetsError, match=r"density must be in \(0, 1\]"):
        PruneConfig(density=density)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"prune": {"densitty": 1}}, "unknown setting 'densitty'"),
        ({"search": {"accounting": "cycles"}}, "accounting must be one of engine, paper"),
        ({"finetune": {"learning_rate": "fast"}}, "learning_rate must be of type float"),
        ({"seed": 1.5}, "seed must be of type int"),
        ({"finetune": 3}, "must be a JSON object"),
        ({"finetune": {"learning_rate": -1}}, "learning_rate must be in"),
    ],
)
def test_wrong_settings_are_refused(raw, message):
    with pytest.raises(LetsError, match=message):
        FitConfig.from_dict(raw)


def test_override_keeps_the_rest():
    config = load_recipe("small").override({"prune": {"density": 0.02}, "seed": 3})
    assert config.prune.density == 0.02
    assert config.seed == 3
    assert config.finetune == load_recipe("small").finetune


def test_a_recipe_of_ones_own(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text('{"seed": 9, "search": {"groups": 2}}')
    assert load_recipe(str(file)).search.groups == 2
    file.write_text("{")
    with pytest.raises(LetsError, match="not JSON"):
        load_recipe(str(file))
    with pytest.raises(LetsError, match="neither a file nor one of demo, paper, small"):
        load_recipe("smal")
