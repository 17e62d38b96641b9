"""Tasks that come and go while requests are answered."""

import json
import threading
import time

import pytest
import torch
from lets.files import sha256_of_json
from lets.pack import CONFIG, save_pack
from lets.policy import Policy
from lets.run.engine import Engine

from tests.lets.serve.serving import make_tasks, running
from tests.models import make_encoder, make_task, make_texts

TEXTS = make_texts(6, seed=8, longest=14)


@pytest.fixture
def server():
    with running(admin_port=0) as found:
        yield found


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Two tasks that answer differently, and one whose stored samples are not its answers."""
    folder, encoder = tmp_path_factory.mktemp("packs"), make_encoder()
    made = {
        name: make_task(encoder, Policy("pff", "ffp"), seed=seed, name="late")
        for name, seed in (("late", 21), ("other", 22), ("false", 23))
    }
    paths = {name: save_pack(folder / name, task, encoder) for name, task in made.items()}
    change_samples(paths["false"], lambda samples: samples[1]["logits"].__setitem__(0, 5.0))
    return paths, made


def change_samples(pack, change):
    """A pack with other samples and a right checksum."""
    data = json.loads((pack / CONFIG).read_text())
    change(data["samples"])
    data.pop("checksum")
    data["checksum"] = sha256_of_json(data)
    (pack / CONFIG).write_text(json.dumps(data))


def expected(task):
    return Engine(make_encoder(), [task])(TEXTS)[task.name].scores


def scores(server, name):
    status, found = server.post("/v1/classify", {"inputs": TEXTS, "tasks": [name]})
    assert status == 200, found
    return torch.tensor([row[name]["score"] for row in found["results"]])


def test_add_replace_remove(server, packs):
    paths, made = packs
    status, found = server.admin("POST", "/tasks", {"pack": str(paths["late"])})
    assert (status, found["task"], found["change"], found["samples"]) == (201, "late", "added", 2)
    torch.testing.assert_close(scores(server, "late"), expected(made["late"]))
    assert server.admin("POST", "/tasks", {"pack": str(paths["other"])})[0] == 409
    status, found = server.admin("PUT", "/tasks/late", {"pack": str(paths["other"])})
    assert (status, found["change"]) == (200, "replaced")
    torch.testing.assert_close(scores(server, "late"), expected(made["other"]))
    status, found = server.admin("POST", "/tasks", {"pack": str(paths["late"]), "name": "again"})
    assert (status, found["task"]) == (201, "again")
    assert server.admin("GET", "/tasks")[1]["tasks"][-2:] == ["late", "again"]
    assert server.admin("DELETE", "/tasks/late")[0] == 200
    assert server.admin("DELETE", "/tasks/late")[0] == 404
    assert server.post("/late/predict", {"inputs": "red"})[0] == 404
    assert server.metric('lets_task_changes_total{change="added"}') == 2
    assert [task["name"] for task in server.ask("GET", "/info")[1]["tasks"]][-1] == "again"


def test_the_canary_refuses_a_pack_that_answers_otherwise(server, packs):
    paths, _ = packs
    before = server.engine.task_set
    for method, path in (("POST", "/tasks"), ("PUT", "/tasks/topic")):
        status, found = server.admin(method, path, {"pack": str(paths["false"])})
        assert status == 422
        assert "samples[1]: logits must be within" in found["error"]
    assert server.engine.task_set is before
    assert server.metric('lets_task_changes_total{change="refused"}') == 2


def test_wrong_packs_and_names(server, packs, tmp_path):
    paths, _ = packs
    other = make_encoder(seed=1)
    foreign = save_pack(tmp_path / "foreign", make_task(other, Policy("pff", "ffp")), other)
    for request, message in (
        ({"pack": str(tmp_path / "none")}, "must be the folder of a task pack"),
        ({"pack": str(foreign)}, "load the encoder that it was trained on"),
        ({"pack": str(paths["late"]), "name": "../x"}, "name must be 1 to 100 letters"),
        ({"pack": "a" * 5000}, "cannot be read (File name too long)"),
        ({"pack": "a/b\0"}, "a/b"),
        ({"pack": ""}, ""),
        ({"pack": "\ud800"}, "\\ud800"),
        ({"pack": str(paths["late"]), "name": "\ud800"}, "name must be 1 to 100 letters"),
        ({"pack": 3}, "pack"),
        ({}, "pack: Field required"),
    ):
        status, found = server.admin("POST", "/tasks", request)
        assert (status, message in found["error"]) == (422, True), found
    assert server.admin("POST", "/predict", {"inputs": "red", "task": "topic"})[0] == 404


def test_other_sites_pages_cannot_reach_the_port_without_a_key(server):
    """A site may give its own name this machine's address; the browser then sends that name."""
    port = server.server.admin_port
    for host in ("rebound.example", f"rebound.example:{port}", "localhost.example:80", "", "[::2]"):
        for method, path in (("GET", "/tasks"), ("DELETE", "/tasks/topic")):
            status, found = server.admin(method, path, headers={"host": host})
            assert (status, "without a key" in found["error"]) == (403, True), host
    for host in ("localhost", f"LOCALHOST:{port}", "127.0.0.1", f"[::1]:{port}", "[::1]"):
        assert server.admin("GET", "/tasks", headers={"host": host})[0] == 200, host
    assert "topic" in server.engine.tasks


def test_a_change_outlives_its_client(packs):
    """Its time is over; the change is made all the same, and counted."""
    paths, _ = packs
    go = threading.Event()
    with running(admin_port=0, request_timeout=0.3) as server:
        admitted = server.engine.add_task

        def slow(*arguments, **options):
            assert go.wait(10)
            return admitted(*arguments, **options)

        server.engine.add_task = slow
        assert server.admin("POST", "/tasks", {"pack": str(paths["late"])})[0] == 503
        go.set()
        deadline = time.monotonic() + 10
        while not server.metric('lets_task_changes_total{change="added"}'):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "late" in server.engine.tasks


def test_all_tasks_may_go(server):
    for name in list(server.engine.tasks):
        assert server.admin("DELETE", f"/tasks/{name}")[0] == 200
    assert server.ask("GET", "/info")[1]["plan"] is None
    assert server.post("/v1/classify", {"inputs": "red"})[0] == 422
    assert server.post("/predict", {"inputs": "red"})[0] == 422


def test_replacing_under_load_never_mixes_versions(server, packs):
    """Each answer is wholly the old task's or the new one's."""
    paths, made = packs
    server.admin("POST", "/tasks", {"pack": str(paths["late"])})
    allowed = [expected(made["late"]), expected(made["other"])]
    topic = Engine(make_encoder(), make_tasks(make_encoder())[1:2])(TEXTS)["topic"].scores
    wrong, seen, stop = [], set(), threading.Event()

    def client():
        while not stop.is_set():
            request = {"inputs": TEXTS, "tasks": ["late", "topic"]}
            status, found = server.post("/v1/classify", request)
            if status != 200:
                wrong.append(found)
                continue
            late, other = (
                torch.tensor([row[name]["score"] for row in found["results"]])
                for name in ("late", "topic")
            )
            which = [
                i for i, scores in enumerate(allowed) if torch.allclose(late, scores, atol=1e-5)
            ]
            seen.update(which)
            if not which or not torch.allclose(other, topic, atol=1e-5):
                wrong.append(found)

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    for i in range(8):
        pack = paths["other" if i % 2 == 0 else "late"]
        assert server.admin("PUT", "/tasks/late", {"pack": str(pack)})[0] == 200
    stop.set()
    for thread in clients:
        thread.join()
    assert not wrong
    assert seen == {0, 1}
