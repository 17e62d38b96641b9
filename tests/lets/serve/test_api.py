"""The public routes over real HTTP: text-embeddings-inference's shapes, the engine's answers."""

import pytest
import torch

from tests.models import make_texts

TEXTS = make_texts(9, seed=4, longest=20)
PAIRS = [[a, b] for a, b in zip(TEXTS, reversed(TEXTS))]


def scores(predictions, labels):
    by_label = {entry["label"]: entry["score"] for entry in predictions}
    return torch.tensor([by_label[label] for label in labels])


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_predict_one_text(served):
    status, found = served.post("/topic/predict", {"inputs": TEXTS[0]})
    assert status == 200
    expected = served.engine(TEXTS[:1], ["topic"])["topic"]
    close(scores(found, "abc"), expected.probabilities[0])
    assert [entry["score"] for entry in found] == sorted(
        (entry["score"] for entry in found), reverse=True
    )
    assert served.post("/predict", {"inputs": TEXTS[0], "task": "topic"}) == (200, found)


def test_predict_batches(served):
    expected = served.engine(TEXTS, ["topic"])["topic"].probabilities
    for inputs in (TEXTS, [[text] for text in TEXTS]):
        status, found = served.post("/topic/predict", {"inputs": inputs})
        assert status == 200
        close(torch.stack([scores(row, "abc") for row in found]), expected)


def test_predict_pairs(served):
    expected = served.engine([tuple(p) for p in PAIRS], ["same"])["same"].probabilities
    status, found = served.post("/same/predict", {"inputs": PAIRS})
    assert status == 200
    close(torch.stack([scores(row, ("no", "yes")) for row in found]), expected)
    status, found = served.post("/same/predict", {"inputs": PAIRS[1]})  # one pair, as in TEI
    assert status == 200
    close(scores(found, ("no", "yes")), expected[1])


def test_raw_scores_and_numbers(served):
    logits = served.engine(TEXTS[:1], ["topic"])["topic"].logits[0]
    _, found = served.post("/topic/predict", {"inputs": TEXTS[0], "raw_scores": True})
    close(scores(found, "abc"), logits)
    stars = served.engine(TEXTS[:1], ["stars"])["stars"].scores
    for raw in (True, False):
        _, found = served.post("/stars/predict", {"inputs": TEXTS[0], "raw_scores": raw})
        close(scores(found, ["stars"]), stars)


def test_truncation(served):
    long = "red " * 40
    expected = served.engine([long], ["sentiment"])["sentiment"].probabilities[0]
    status, found = served.post("/sentiment/predict", {"inputs": long})
    assert status == 200
    close(scores(found, ("no", "yes")), expected)
    request = {"inputs": ["red", long], "truncate": False}
    status, found = served.post("/sentiment/predict", request)
    assert status == 413
    assert "`inputs`[1] must have at most 24 tokens for task sentiment" in found["error"]
    request["inputs"] = "red " * 22  # [CLS] and [SEP]: just fits
    assert served.post("/sentiment/predict", request)[0] == 200


def test_classify(served):
    expected = served.engine(TEXTS, ["sentiment", "topic", "stars"])
    status, found = served.post("/v1/classify", {"inputs": TEXTS, "all_scores": True})
    assert status == 200
    assert [sorted(result) for result in found["results"]] == [["sentiment", "stars", "topic"]] * 9
    for name, output in expected.items():
        rows = [result[name] for result in found["results"]]
        close(torch.tensor([row["score"] for row in rows]), output.scores)
        if name != "stars":
            assert [row["label"] for row in rows] == output.labels
    topic = [found["results"][i]["topic"]["scores"] for i in range(9)]
    close(torch.tensor([[row[c] for c in "abc"] for row in topic]), expected["topic"].probabilities)
    assert found["usage"]["texts"] == 9
    assert found["usage"]["tokens"] >= 9 * 3
    assert found["cost"]["dense_gflop"] > 0


def test_classify_chosen_tasks_and_pairs(served):
    request = {"inputs": TEXTS[:2], "tasks": ["topic", "topic"]}
    status, found = served.post("/v1/classify", request)
    assert status == 200
    assert [list(result) for result in found["results"]] == [["topic"], ["topic"]]
    status, found = served.post("/v1/classify", {"inputs": PAIRS})
    assert status == 200
    assert [list(result) for result in found["results"]] == [["same"]] * 9


def test_the_call_s_cost_is_the_cost_model_s(served):
    from lets.policy_cost import frozen_cost, task_cost

    encoder, tasks = served.engine.encoder, served.engine.tasks
    names = ["sentiment", "topic"]
    _, found = served.post("/v1/classify", {"inputs": "a red house", "tasks": names})
    policies = [tasks[name].policy for name in names]
    shared = frozen_cost(encoder.shape, 5, policies).total.flops
    own = sum(
        task_cost(encoder.shape, tasks[name].policy, 5, tasks[name].layer_nnz(),
                  num_labels=tasks[name].head.num_labels).total.flops
        for name in names
    )  # fmt: skip
    assert found["cost"]["shared_gflop"] == pytest.approx(shared / 1e9)
    assert found["cost"]["own_gflop"] == pytest.approx(own / 1e9)


def test_info(served):
    status, found, _ = served.ask("GET", "/info")
    assert status == 200
    assert found["model_id"] == "tiny-bert"
    assert found["max_client_batch_size"] == 32
    tasks = {task["name"]: task for task in found["tasks"]}
    assert tasks["topic"]["labels"] == ["a", "b", "c"]
    assert tasks["topic"]["cases"] == [str(c) for c in served.engine.tasks["topic"].policy.cases]
    assert len(found["plan"]["layers"]) == 3
    assert found["plan"]["flop_ratio"] > 0


def test_health_and_openapi(served):
    assert served.ask("GET", "/health")[:2] == (200, "")
    schema = served.ask("GET", "/openapi.json")[1]
    assert {"/predict", "/{task}/predict", "/v1/classify", "/info"} <= set(schema["paths"])
    assert "/tasks" not in schema["paths"]


def test_usage_headers(served):
    headers = served.ask("POST", "/predict", {"inputs": "red", "task": "topic"})[2]
    assert headers["x-compute-tokens"] == "3"
    assert int(headers["x-total-time"]) >= int(headers["x-inference-time"]) >= 0


def test_compare(served):
    status, found = served.post("/v1/compare", {"inputs": "a red house"})
    assert status == 200
    assert found["tasks"] == 3
    assert found["dense_ms"] == pytest.approx(3 * found["one_dense_ms"])
    assert found["ratio"] == pytest.approx(found["dense_ms"] / found["lets_ms"])


@pytest.mark.parametrize(
    ("path", "request_", "status", "message"),
    [
        ("/predict", {"inputs": "a"}, 422, "`task` must name one of several tasks: same, senti"),
        ("/nobody/predict", {"inputs": "a"}, 404, "no task 'nobody'; loaded: same, sentiment"),
        ("/v1/classify", {"inputs": "a", "tasks": ["nobody"]}, 404, "no task 'nobody'"),
        ("/v1/classify", {"inputs": "a", "tasks": []}, 422, "at least one task"),
        ("/topic/predict", {"inputs": []}, 400, "at least one text"),
        ("/topic/predict", {"inputs": ["a"] * 33}, 413, "at most 32 texts, got 33"),
        ("/topic/predict", {"inputs": ""}, 422, r"topic: texts[0] must not be empty"),
        ("/topic/predict", {"inputs": ["a", " "]}, 422, "texts[1] must not be empty"),
        ("/topic/predict", {"inputs": PAIRS}, 422, "takes single texts, got pairs of texts"),
        ("/same/predict", {"inputs": "a"}, 422, "takes pairs of texts, got single texts"),
        ("/topic/predict", {"inputs": [["a", "b", "c"]]}, 422, "must be [text] or [text, text]"),
        ("/topic/predict", {"inputs": [["a"], ["a", "b"]]}, 422, "all texts or all pairs"),
        ("/topic/predict", {"inputs": 3}, 422, "inputs"),
        ("/topic/predict", {"inputs": [None]}, 422, "inputs"),
        ("/topic/predict", {}, 422, "inputs: Field required"),
        ("/topic/predict", {"inputs": "a", "truncation_direction": "left"}, 422, "must be `right`"),
        ("/v1/classify", {"inputs": "a", "raw_scores": "yes"}, 422, "raw_scores"),
        ("/predict", [], 422, "body"),
    ],
)
def test_wrong_requests(served, path, request_, status, message):
    found_status, found = served.post(path, request_)
    assert (found_status, found["error_type"] != "") == (status, True)
    assert message in found["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"inputs": "\xff"}', 400),
        (b'{"inputs": "\\ud800"}', 422),
        (b"[" * 100_000, 400),
        (b'{"inputs": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400),
        (b"null", 422),
        (b"9" * 5000, 400),
        (b'{"inputs": "a", "truncate": NaN}', 422),
        (b"", 422),
    ],
    ids=lambda value: str(value)[:30],
)
def test_malformed_bodies(served, body, status):
    found, answer, _ = served.ask("POST", "/topic/predict", body=body)
    assert (found, "error" in answer) == (status, True)


def test_other_routes_and_methods(served):
    assert served.ask("GET", "/nothing")[0] == 404
    assert served.ask("GET", "/predict")[0] == 405
    assert served.ask("POST", "/tasks", {"pack": "x"})[0] in (404, 405)
