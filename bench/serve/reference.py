"""A small server under load: its limits, random requests to it, and every right answer."""

from typing import Any, NamedTuple

from lets.run.engine import Engine

from bench.serve.problem import make_texts, small_encoder, small_tasks

SETTINGS = {
    "port": 0, "admin_port": 0, "payload_limit": 100_000, "body_timeout": 2.0,
    "header_timeout": 2.0, "max_queue": 1024, "keep_alive": 300, "request_timeout": 120,
}  # fmt: skip
STEADY, GUEST, TOLERANCE = ("t0", "t1", "t2"), "guest", 1e-5
VERSIONS = ("first", "second")  # packs that answer as the guest, one at a time


class Request(NamedTuple):
    """places: Numbers of the texts, or pairs, that are asked for."""

    path: str
    body: dict[str, Any]
    places: list[int]


class Reference:
    """Every answer that is right, computed once, one text at a time, before anybody asks."""

    def __init__(self) -> None:
        self.encoder = small_encoder()
        self.tasks = small_tasks(self.encoder)
        self.texts = make_texts(self.encoder.tokenizer, 300, 3, 60)
        self.pairs = list(zip(self.texts, reversed(self.texts)))
        engine = Engine(self.encoder, self.tasks.values(), batch_size=1, mode="serial")
        singles = [name for name in self.tasks if name != "pairs"]
        found = engine(self.texts, singles) | engine(self.pairs, ["pairs"])
        self.expected = {name: output.logits.tolist() for name, output in found.items()}

    def request(self, draw) -> Request:
        """One of three kinds, of one to eight texts, for one to four tasks."""
        places = [draw.randrange(len(self.texts)) for _ in range(draw.choice((1, 1, 2, 8)))]
        kind, raw = draw.random(), {"raw_scores": True}
        if kind < 0.2:
            inputs = [list(self.pairs[i]) for i in places]
            return Request("/pairs/predict", {"inputs": inputs, **raw}, places)
        if kind < 0.5:
            inputs = [[self.texts[i]] for i in places]
            return Request(f"/{draw.choice(STEADY)}/predict", {"inputs": inputs, **raw}, places)
        names = draw.sample((*STEADY, GUEST), draw.randint(1, 4))
        body = {"inputs": [self.texts[i] for i in places], "tasks": names, "all_scores": True}
        return Request("/v1/classify", {**body, **raw}, places)

    def check(self, request: Request, status: int, found: Any) -> tuple[int, list[str]]:
        """How many answers were compared, and what is wrong with them."""
        if status == 404 and GUEST in str(found):  # it comes and goes
            return 0, []
        if status != 200:
            return 0, [f"status {status}: {str(found)[:120]}"]
        if request.path == "/v1/classify":
            rows, wanted = found["results"], set(request.body["tasks"])
        else:
            name = request.path.split("/")[1]
            rows, wanted = [{name: row} for row in found], {name}
        if len(rows) != len(request.places) or any(set(row) != wanted for row in rows):
            return 0, ["answers for other texts or tasks than were asked for"]
        wrong = [name for name in wanted if not self._right(name, rows, request.places)]
        return len(rows) * len(wanted), [f"wrong answer of {name}" for name in wrong]

    def _right(self, name, rows, places) -> bool:
        """All texts of a request are answered by the same version of a task."""
        found = [_logits(row[name]) for row in rows]
        return any(
            all(_close(logits, self.expected[v][i]) for logits, i in zip(found, places))
            for v in (VERSIONS if name == GUEST else (name,))
        )


def _close(found, expected) -> bool:
    return len(found) == len(expected) and all(
        abs(a - b) <= TOLERANCE * (1 + abs(b)) for a, b in zip(found, expected)
    )


def _logits(answer):
    """Logits of a task in the order of its labels, from /predict or /v1/classify."""
    if isinstance(answer, list):
        return [entry["score"] for entry in sorted(answer, key=lambda entry: entry["label"])]
    return [answer["scores"][label] for label in sorted(answer["scores"])]
