"""A real server over real HTTP: the model's own answers whatever the load, and a plain refusal of all else."""

import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from types import SimpleNamespace

import httpx
import pytest
import schemathesis
from hypothesis import given, settings
from prometheus_client.parser import text_string_to_metric_families
from schemathesis import GenerationMode

from tiny import tiny_rows
from understudy.errors import RecipeError
from understudy.installation import install_command
from understudy.runtime import Predictor
from understudy.serving import app, batching
from understudy.serving.limits import Limits
from understudy.serving.rows import _WRITTEN
from understudy.serving.server import bound, create_server

PATIENCE_S = 20


class Held(Predictor):
    """A model that answers when it is let, and notes what it is given."""

    def __init__(self, folder):
        super().__init__(folder, threads=1, int8=False)
        self.batches: list[list[str]] = []
        self.let = threading.Event()
        self.let.set()

    def predict(self, texts, pairs=None):
        if texts != ["a"]:  # the server's own question
            self.batches.append(list(texts))
        assert self.let.wait(PATIENCE_S)
        if "breaks" in texts:
            raise RuntimeError("broken")
        return super().predict(texts, pairs)


class Served:
    """A server in a thread of this process, and how to ask it."""

    def __init__(self, export: Predictor, limits: Limits) -> None:
        self.export, self._callers = export, ThreadPoolExecutor(40)
        listener, ready = bound("127.0.0.1", 0), threading.Event()
        self.address = listener.getsockname()
        self.server = create_server(export, limits, ready.set)
        self._thread = threading.Thread(target=self.server.run, args=([listener],))
        self._thread.start()
        assert ready.wait(PATIENCE_S)
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE_S, limits=httpx.Limits(max_connections=None))

    def predict(self, asked) -> httpx.Response:
        return self.client.post("/predict", json=asked)

    def later(self, asked) -> Future:
        return self._callers.submit(self.predict, asked)

    def metrics(self) -> dict[str, float]:
        """Name, with its labels' values → value."""
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        return {" ".join([one.name, *one.labels.values()]): one.value for family in families for one in family.samples}

    def until(self, metric: str, value: float) -> None:
        until(lambda: self.metrics().get(metric) == value)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self._callers.shutdown()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


@contextmanager
def serving(export: Predictor, **limits) -> Iterator[Served]:
    served = Served(export, Limits(**limits))
    try:
        yield served
    finally:
        getattr(export, "let", threading.Event()).set()
        served.stop()
        served.client.close()


@pytest.fixture
def held(single_export) -> Held:
    return Held(single_export)


@pytest.fixture(scope="module")
def single(single_export) -> Iterator[Served]:
    """Without anything special about it, for all tests that only ask."""
    with serving(Predictor(single_export, threads=1, int8=False)) as served:
        yield served


def alike(found, wanted) -> bool:
    """The same answers, up to what rounding makes of rows that were padded otherwise."""
    if isinstance(found, dict):
        return found.keys() == wanted.keys() and all(alike(found[name], wanted[name]) for name in found)
    return found == (wanted if isinstance(wanted, str) else pytest.approx(wanted, abs=1e-5))


def own(export: Predictor, rows: list[dict]) -> list[dict]:
    """What the model itself says of rows."""
    pairs = [row["text_pair"] for row in rows] if export.pair else None
    said = export.predict([row["text"] for row in rows], pairs)
    return [{name: one[name] for name in one if not name.startswith("text")} for one in said]


def rows_of(count: int, **kind: bool) -> list[dict]:
    return [{name: row[name] for name in row if name != "label"} for row in tiny_rows(count, seed=5, **kind)]


# --- answers


@pytest.mark.parametrize("which", ["single", "pair", "number"])
def test_one_row_or_many(which, request):
    export = Predictor(request.getfixturevalue(f"{which}_export"), threads=1, int8=False)
    rows = rows_of(30, pair=which != "single")
    wanted = own(export, rows)
    with serving(export) as served:
        one, many = served.predict(rows[0]), served.predict(rows)
        assert one.status_code == many.status_code == 200
        assert alike(one.json(), wanted[0])
        assert len(many.json()) == 30 and all(map(alike, many.json(), wanted))
        assert served.predict([]).json() == []


def test_under_load_answers_are_the_models_own(single):
    rows = rows_of(300)
    asked = [rows[start : start + 1 + start % 5] for start in range(0, 290, 2)]
    found = [later.result().json() for later in [single.later(rows) for rows in asked]]
    for rows, answers in zip(asked, found, strict=True):
        assert len(answers) == len(rows) and all(map(alike, answers, own(single.export, rows)))


def test_what_comes_meanwhile_is_answered_together(held):
    with serving(held, batch_rows=8) as served:
        held.let.clear()
        first = served.later({"text": "good fun"})
        until(lambda: held.batches == [["good fun"]])
        rest = [served.later({"text": text}) for text in ["dull"] * 15 + ["best"] * 15]
        served.until("understudy_queue_rows", 30)
        held.let.set()
        answers = [later.result().json()["label"] for later in (first, *rest)]
        assert answers == ["good"] + ["bad"] * 15 + ["good"] * 15
        assert [len(batch) for batch in held.batches] == [1, 8, 8, 8, 6]
        metrics = served.metrics()
        assert metrics["understudy_batch_rows_count"] == 5 and metrics["understudy_batch_rows_sum"] == 31
        assert metrics["understudy_rows_total"] == 31 and metrics["understudy_requests_total /predict 200"] == 31
        assert metrics["understudy_request_seconds_count /predict"] == 31


def test_a_long_request_goes_batch_by_batch_and_keeps_its_order(held):
    rows = rows_of(20)
    with serving(held, batch_rows=6) as served:
        answers = served.predict(rows).json()
    assert [len(batch) for batch in held.batches] == [6, 6, 6, 2]
    assert all(map(alike, answers, own(held, rows)))


def test_an_idle_model_may_wait_for_more(held):
    with serving(held, wait_ms=1000, batch_rows=2) as served:
        both = [served.later({"text": text}) for text in ("good", "dull")]
        assert [later.result().json()["label"] for later in both] == ["good", "bad"]
    assert [len(batch) for batch in held.batches] == [2]


# --- refusals

BAD = {
    "nothing": (b"", 400, "not JSON"),
    "half a row": (b'{"text": "a f', 400, "not JSON: Unterminated string"),
    "no JSON": (b"text=a+film", 400, "not JSON"),
    "null bytes around": (b'\0{"text": "a film"}', 400, "not JSON"),
    "not UTF-8": (b'{"text": "caf\xe9"}', 400, "not UTF-8 (byte 14)"),
    "UTF-16": ('{"text": "a film"}'.encode("utf-16"), 400, "not UTF-8"),
    "nested beyond reason": (b"[" * 100_000, 400, "not JSON"),
    "an endless number": (b"1" * 100_000, 400, "not JSON"),
    "a number": (b"3", 422, 'must be a row like {"text": "…"}'),
    "a text alone": (b'"a film"', 422, "must be a row like"),
    "a list of texts": (b'["a film"]', 422, "row 1: a row must be an object like"),
    "no text": (b"{}", 422, "text is missing"),
    "texts": (b'{"texts": "a film"}', 422, "unknown key 'texts'; known are text. Did you mean 'text'?"),
    "half a key": (b'{"\\ud800": 1}', 422, "unknown key '?'"),
    "null": (b'{"text": null}', 422, "text must be text"),
    "not a number": (b'{"text": NaN}', 422, "text must be text"),
    "many in one": (b'{"text": ["a", "b"]}', 422, "text must be text"),
    "empty": (b'[{"text": "a film"}, {"text": ""}]', 422, "row 2: text is empty"),
    "blank": (b'{"text": " \\t\\u2003"}', 422, "text is empty"),
    "a null character": (b'{"text": "a\\u0000b"}', 422, "text: character 2 is null"),
    "half a character": (b'{"text": "caf\\ud800"}', 422, "text: character 4 is half a character"),
    "a pair": (b'{"text": "a", "text_pair": "b"}', 422, "this model reads one text; remove text_pair"),
    "a megabyte": (json.dumps({"text": "x" * 1_000_000}).encode(), 413, "text has 1000000 characters; at most 20000"),
    "a body too long": (json.dumps({"text": "x" * 2**21}).encode(), 413, "longer than 1048576 bytes"),
    "rows": (json.dumps([{"text": "a"}] * 1025).encode(), 413, "1025 rows; at most 1024"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_row_is_refused(case, single):
    body, status, message = BAD[case]
    said = single.client.post("/predict", content=body)
    assert said.status_code == status and message in said.json()["detail"] and said.json().keys() == {"detail"}
    assert single.predict({"text": "good fun"}).json()["label"] == "good"


def test_pairs_want_both(pair_export):
    with serving(Predictor(pair_export, threads=1)) as served:
        for asked, message in (
            ({"text": "a film"}, "text_pair is missing"),
            ([{"text": "a film", "text_pair": "fun"}, {"text": "a film", "text_pair": ""}], "row 2: text_pair is empty"),
            ({"text": "a film", "text_pair": None}, "text_pair must be text"),
        ):
            said = served.predict(asked)
            assert said.status_code == 422 and message in said.json()["detail"]


def test_a_long_text_where_it_is_allowed(single_export):
    with serving(Predictor(single_export, threads=1, int8=False), max_characters=2**21, max_body_mib=4) as served:
        row = {"text": "good fun " * 2**16}
        assert alike(served.predict(row).json(), own(served.export, [row])[0])


def raw(served: Served, *parts: bytes) -> socket.socket:
    connection = socket.create_connection(served.address, timeout=PATIENCE_S)
    for part in parts:
        connection.sendall(part)
    return connection


CHUNKED = b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


def test_a_body_without_a_length_has_the_same_limit(single_export):
    """It is refused before it ends; the caller never says that it does."""
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    with serving(Predictor(single_export, threads=1), max_body_mib=0.0625) as served:
        with raw(served, CHUNKED, chunk * 17) as connection:
            assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")
        inside = json.dumps({"text": "good"}).encode().ljust(0x1000)
        with raw(served, CHUNKED, b"1000\r\n" + inside + b"\r\n", chunk * 15, b"0\r\n\r\n") as connection:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_does_not_come(single, monkeypatch):
    monkeypatch.setattr(app, "_BODY_S", 0.1)
    with raw(single, CHUNKED) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    with raw(single, b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"):
        pass  # and hangs up
    single.until("understudy_requests_total /predict 499", 1)


def test_a_full_queue_turns_away(held):
    with serving(held, queue_rows=4, max_rows=4) as served:
        held.let.clear()
        working = served.later([{"text": "good"}] * 4)
        until(lambda: len(held.batches) == 1)
        waiting = served.later([{"text": "good"}] * 3)
        served.until("understudy_queue_rows", 3)
        said = served.predict([{"text": "good"}] * 2)
        assert said.status_code == 429 and said.headers["retry-after"] == "1" and "queue is full" in said.json()["detail"]
        last = served.later({"text": "dull"})
        served.until("understudy_queue_rows", 4)
        held.let.set()
        assert [later.result().status_code for later in (working, waiting, last)] == [200] * 3
        assert served.predict([{"text": "good"}] * 4).status_code == 200


def test_a_request_that_breaks_the_model_breaks_alone(held, caplog):
    with serving(held) as served:
        held.let.clear()
        first = served.later({"text": "good"})
        until(lambda: len(held.batches) == 1)
        later = [served.later({"text": text}) for text in ("best fun", "breaks", "dull plot")]
        served.until("understudy_queue_rows", 3)
        held.let.set()
        assert first.result().status_code == 200
        assert [one.result().status_code for one in later] == [200, 500, 200]
        assert later[1].result().json() == {"detail": "internal error; see the server's log"}
        assert [later[at].result().json()["label"] for at in (0, 2)] == ["good", "bad"]
        assert served.metrics()["understudy_requests_total /predict 500"] == 1
    assert "RuntimeError: broken" in caplog.text


def test_ready_only_while_the_model_answers(held, monkeypatch):
    monkeypatch.setattr(batching, "_FRESH_S", 0)
    with serving(held) as served:
        assert served.client.get("/health").json() == {"status": "ready", "task": "classification", "precision": "float32"}
        monkeypatch.setattr(Predictor, "predict", lambda *_: 1 / 0)
        said = served.client.get("/health")
        assert said.status_code == 503 and said.json()["status"] == "unavailable"
        monkeypatch.undo()
        monkeypatch.setattr(batching, "_FRESH_S", 0)
        assert served.client.get("/health").status_code == 200
        held.let.clear()
        monkeypatch.setattr(batching, "_PATIENCE_S", 0.05)
        assert served.client.get("/health").status_code == 503


def test_other_paths(single):
    for path, status in (("/", 404), ("/docs", 404), ("/made/up", 404), ("/predict", 405)):
        assert single.client.get(path).status_code == status
    metrics = single.metrics()
    assert metrics["understudy_requests_total other 404"] >= 3 and not any("made" in name for name in metrics)
    assert "understudy_requests_total /predict 405" in metrics


# --- callers who go, and the end


def test_who_hangs_up_leaves_no_work(held):
    """A request that waits is dropped whole, one that the model has begun loses the rest."""
    body = json.dumps([{"text": "thin"}] * 5).encode()
    post = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    with serving(held, batch_rows=2) as served:
        held.let.clear()
        begun = raw(served, post)
        until(lambda: len(held.batches) == 1)
        waiting = raw(served, post)
        served.until("understudy_queue_rows", 8)
        stays = served.later({"text": "good"})
        served.until("understudy_queue_rows", 9)
        begun.close()
        waiting.close()
        served.until("understudy_dropped_rows_total", 8)
        served.until("understudy_queue_rows", 1)
        held.let.set()
        assert stays.result().json()["label"] == "good"
        assert held.batches == [["thin", "thin"], ["good"]]
        served.until("understudy_requests_total /predict 499", 2)


def test_a_stop_answers_all_that_was_accepted(held):
    with serving(held, batch_rows=4) as served:
        held.let.clear()
        later = [served.later({"text": "good"}) for _ in range(20)]
        until(lambda: len(held.batches) == 1)
        until(lambda: served.metrics()["understudy_queue_rows"] + len(held.batches[0]) == 20)
        served.server.should_exit = True

        def refused() -> bool:
            try:
                socket.create_connection(served.address, timeout=PATIENCE_S).close()
            except ConnectionRefusedError:
                return True
            return False

        until(refused)
        held.let.set()
        assert [one.result().json()["label"] for one in later] == ["good"] * 20


# Everything heavy that is installed beside it is hidden, as if it were not there: what a small container leaves out.
HIDING = """
import sys, threading
hidden = {"torch", "transformers", "datasets", "accelerate", "safetensors", "scipy", "sklearn", "pandas", "pyarrow",
          "jaxtyping", "matplotlib", "rich", "jinja2", "tqdm", "onnx", "onnxscript", "yaml", "huggingface_hub", "optuna"}
class Hidden:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
from understudy.cli import main
main()
"""


@pytest.fixture
def command(single_export):
    """The command in a process of its own."""
    words = ["serve", str(single_export), "--port", "0", "--threads", "1", "--precision", "float32", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HIDING), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    told = json.loads(process.stdout.readline())
    yield SimpleNamespace(process=process, told=told, port=int(told["url"].rpartition(":")[2]))
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_without_torch_stops_under_load(number, command, single_export):
    """Whatever was sent before the signal is answered, and the exit code is 0."""
    assert command.told == {"model": str(single_export), "url": f"http://127.0.0.1:{command.port}", "precision": "float32", "threads": 1}
    body = json.dumps([{"text": "good fun for the whole family"}] * 200)
    sent: list[float] = []  # when a request that was never answered had been sent
    statuses: list[int] = []

    def ask_on() -> None:
        connection = HTTPConnection("127.0.0.1", command.port, timeout=PATIENCE_S)
        while True:
            at = float("inf")
            try:
                connection.request("POST", "/predict", body)
                at = time.monotonic()
                said = connection.getresponse()
                assert len(json.loads(said.read())) == 200
                statuses.append(said.status)
                if said.headers["connection"] == "close":
                    return
            except (OSError, HTTPException):
                sent.append(at)
                return

    callers = [threading.Thread(target=ask_on) for _ in range(8)]
    for caller in callers:
        caller.start()
    until(lambda: len(statuses) > 20)
    before, signalled = len(statuses), time.monotonic()
    command.process.send_signal(number)
    for caller in callers:
        caller.join(PATIENCE_S)
    out, err = command.process.communicate(timeout=PATIENCE_S)
    assert command.process.returncode == 0 and (out, err) == ("", "")
    assert set(statuses) == {200} and len(statuses) > before
    assert all(at > signalled for at in sent)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "int4"], "--precision int4: allowed are int8 and float32"),
        (["--batch-rows", "0"], "--batch-rows 0: must be at least 1"),
        (["--wait-ms", "-1"], "--wait-ms -1: allowed are 0 to 1000"),
        (["--max-body-mib", "nan"], "--max-body-mib nan: must be above 0"),
        (["--queue-rows", "10"], "--queue-rows 10: a request of --max-rows 1024 would never fit"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid --port 8000: no such address"),
    ],
)
def test_options_that_make_no_sense(words, message, single_export, understudy):
    said = understudy("serve", single_export, *words)
    assert said.code == 2 and message in said.err and said.out == ""


def test_what_is_no_export(world, understudy):
    said = understudy("serve", world.teacher, "--port", "0")
    assert said.code == 2 and "not exported yet" in said.err


def test_a_port_that_is_taken(single, understudy):
    said = understudy("serve", single.export.folder, "--port", single.address[1])
    assert said.code == 2 and "Address already in use; give another --port" in said.err


def test_a_model_that_does_not_answer_is_not_served(single_export, understudy, monkeypatch):
    monkeypatch.setattr(Predictor, "predict", lambda *_: 1 / 0)
    said = understudy("serve", single_export, "--port", "0")
    assert said.code == 2 and "the model does not work (division by zero)" in said.err


def test_the_extra_is_named_where_it_is_missing(single_export, understudy, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("understudy.programs.serve.find_spec", lambda name: None if name == "prometheus_client" else found(name))
    said = understudy("serve", single_export)
    assert said.code == 2 and f"needs prometheus-client, which is not installed; run: {install_command('serve')}" in said.err


def test_answers_are_sent_at_once():
    """A socket that does not say TCP keeps Nagle's algorithm, and each answer takes 40 ms."""
    with bound("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_limits_from_python():
    with pytest.raises(RecipeError, match="--max-characters 0"):
        Limits(max_characters=0)


# --- fuzzing: all that the description promises is kept, and all that it rules out is refused


@pytest.fixture(scope="module", params=["single", "pair", "number"])
def described(request):
    export = Predictor(request.getfixturevalue(f"{request.param}_export"), threads=1, int8=False)
    with serving(export, max_rows=3, max_characters=40, max_body_mib=0.01) as served:
        schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
        schema.config.checks.negative_data_rejection.expected_statuses = ["400", "405", "413", "422"]
        yield schema


def test_what_is_described_as_blank_is_what_is_refused():
    """For every character alone; fuzzing seldom draws one that is blank."""
    for text in map(chr, [*range(0xD800), *range(0xE000, 0x11000)]):
        assert (re.search(_WRITTEN, text) is None) == (text == "\0" or text.isspace()), repr(text)


@pytest.mark.parametrize("which", ["single", "pair", "number"])
def test_the_description_is_true(which, request):
    export = Predictor(request.getfixturevalue(f"{which}_export"), threads=1, int8=False)
    with serving(export, max_rows=3, max_characters=40, max_body_mib=0.01) as served:
        described = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
        described.config.checks.negative_data_rejection.expected_statuses = ["400", "405", "413", "422"]
        kinds = {"/predict": list(GenerationMode), "/health": [GenerationMode.POSITIVE], "/metrics": [GenerationMode.POSITIVE]}
        found = {one.ok().path: one.ok() for one in described.get_all_operations()}
        assert found.keys() == kinds.keys()
        for path, kind in [(path, kind) for path, several in kinds.items() for kind in several]:

            @settings(max_examples=30, derandomize=True, deadline=None, database=None)
            @given(case=found[path].as_strategy(generation_mode=kind))
            def check(case):
                case.call_and_validate()

            check()
        metrics = served.metrics()
        refused = sum(metrics.get(f"understudy_requests_total /predict {status}", 0) for status in (400, 413, 422))
        assert refused >= 20 and metrics["understudy_requests_total /predict 200"] >= 20
