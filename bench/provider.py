"""A fake provider of language models: the project's only double, and one that speaks the real protocol.

HTTP/1.1 and server-sent events as OpenAI's `/v1/chat/completions` and `/v1/models` have them, on a real socket, in a
process of its own. `python -m bench.provider --port 0` prints one line of JSON with its address once it listens. The
wire is in bench/wire.py, what it answers by default in bench/replies.py and bench/text.py, the named faults and the
forms of a script in bench/faults.py.

`/control` steers it: GET tells the settings and how late it ran; POST changes settings; `/control/script` adds rules,
`/control/requests` tells all that was asked, `/control/reset` forgets it and drops what is under way.

`Provider` starts one from a test or a benchmark.
"""

import argparse
import asyncio
import gc
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from array import array
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from bench import faults
from bench.replies import Ask, Play, Settings
from bench.wire import Connection, Pump, Record

TAKE_IN = 0.002
"""Seconds, part of those to the first token, before an answer is thought of.

Each request is dated when it is read. Those of one moment would wait for the words of the ones before, and where the
processors are few so would the process that still sends them.
"""


@dataclass
class Rule:
    """One line of the script: which requests, how often, and the answer."""

    respond: dict[str, Any]
    match: dict[str, Any] = field(default_factory=dict)
    times: int | None = None
    seen: int = 0
    used: int = 0

    def __post_init__(self) -> None:
        faults.check(self.respond)
        if unknown := self.match.keys() - {"model", "contains", "nth", "has_schema", "kind", "path"}:
            raise ValueError(f"unknown in match: {', '.join(sorted(unknown))}")

    def takes(self, ask: Ask, path: str) -> bool:
        """Whether this rule answers the request. Counts it."""
        match = self.match
        fits = (
            path.endswith(match.get("path", "/chat/completions"))
            and match.get("model", ask.model) == ask.model
            and match.get("kind", ask.kind) == ask.kind
            and match.get("has_schema", ask.has_schema) == ask.has_schema
            and any(match.get("contains", "") in text for text in [*ask.texts, ""])
            and (ask.has_schema or self.respond.get("fault") != "reject_schema")
        )
        if not fits or (self.times is not None and self.used >= self.times):
            return False
        self.seen += 1
        if match.get("nth", self.seen) != self.seen:
            return False
        self.used += 1
        return True


class Server:
    """The provider's state: settings, script, and all that was asked."""

    def __init__(self, settings: Settings) -> None:
        self.started_with = settings
        self.pump = Pump()
        self.open: set[Connection] = set()
        self.connections = 0
        self.forget()

    def forget(self) -> None:
        """Go back to the settings of the start: no script, no requests, no answers under way."""
        for connection in list(self.open):
            if connection.reply:
                connection.reply = None
                connection.transport.abort()
        self.settings = self.started_with
        self.rules: list[Rule] = []
        self.records: list[Record] = []
        self.pump.late = array("d")

    def receive(
        self, connection: int, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[Record, Play]:
        """Count a request and decide on its answer."""
        key = headers.pop("authorization", None)
        digest = hashlib.sha256(key.removeprefix("Bearer ").encode()).hexdigest() if key else None
        record = Record(len(self.records), connection, method, path, headers, digest, body, time.time_ns())
        if path.startswith("/control"):
            return record, self._control(method, path, body)
        self.records.append(record)
        return record, self._answer(record)

    def _answer(self, record: Record) -> Play:
        if "transfer-encoding" in record.headers:
            return faults.plain(411, {"error": {"message": "Send a Content-Length.", "type": "invalid_request_error"}})
        body = record.parsed() if record.method == "POST" else {}
        if not isinstance(body, dict):
            return faults.plain(
                400, {"error": {"message": "The body is no JSON object.", "type": "invalid_request_error"}}
            )
        ask = Ask(record.number, body, self.settings)
        last = record.path.partition("?")[0].rpartition("/")[2]
        record.kind = last if record.method == "GET" else ask.kind
        for place, rule in enumerate(self.rules):
            if rule.takes(ask, record.path):
                record.rule = place
                return faults.scripted(ask, rule.respond)
        match record.method, last:
            case "GET", "models":
                return faults.plain(200, {"object": "list", "data": self.settings.models})
            case "POST", "completions":
                return _by_default(ask)
        return faults.plain(
            404, {"error": {"message": f"No {record.method} {record.path}", "type": "invalid_request_error"}}
        )

    def _control(self, method: str, path: str, body: bytes) -> Play:
        try:
            return faults.plain(200, self._steer(method, path, json.loads(body or b"{}")))
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            return faults.plain(400, {"error": {"message": str(error)}})

    def _steer(self, method: str, path: str, given: Any) -> Any:
        match method, path:
            case "GET", "/control":
                return self.told()
            case "POST", "/control":
                self.settings = replace(self.settings, **given)
                return self.told()
            case "POST", "/control/script":
                self.rules += [Rule(**rule) for rule in (given if isinstance(given, list) else [given])]
                return {"rules": len(self.rules)}
            case "GET", "/control/requests":
                return [record.told() for record in self.records]
            case "POST", "/control/reset":
                self.forget()
                return {}
        raise ValueError(f"no {method} {path}")

    def told(self) -> dict[str, Any]:
        """The settings, and what it costs: events sent, how late they were, processor seconds since the start."""
        late = sorted(self.pump.late)
        return {
            "settings": asdict(self.settings),
            "requests": len(self.records),
            "under_way": sum(connection.reply is not None for connection in self.open),
            "events": len(late),
            "late_ms": {f"p{share}": round(_percentile(late, share) * 1000, 3) for share in (50, 95, 99, 100)},
            "late_by_over_1_ms": sum(each > 0.001 for each in late),
            "processor_seconds": time.process_time(),
        }


def _by_default(ask: Ask) -> Play:
    """Answer as nothing is scripted, and think of the words after others' requests are in."""

    def play(reply: Any) -> Iterator[float]:
        yield TAKE_IN
        parts = faults.scripted(ask, {})(reply)
        yield max(0.0, next(parts) - TAKE_IN)
        yield from parts

    return play


def _percentile(ordered: list[float], share: int) -> float:
    return max(0.0, ordered[(len(ordered) - 1) * share // 100]) if ordered else 0.0


async def serve(host: str, port: int, settings: Settings, *, until_stdin_closes: bool) -> None:
    """Serve until killed, or until whoever started it is gone."""
    loop = asyncio.get_running_loop()
    server = Server(settings)
    listening = await loop.create_server(lambda: Connection(server), host, port, backlog=2048)
    host, port = listening.sockets[0].getsockname()[:2]
    print(json.dumps({"url": f"http://{host}:{port}/v1", "pid": os.getpid()}), flush=True)
    # A full collection takes milliseconds, in which every stream would be late.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    gone = asyncio.Event()
    if until_stdin_closes:
        loop.add_reader(0, lambda: os.read(0, 1) or gone.set())
    await gone.wait()


class Provider:
    """A fake provider in its own process; a context manager.

    Keywords are settings (`bench.replies.Settings`), which a reset goes back to. `url` is what an OpenAI client takes
    as its base address. It ends with this process at the latest.
    """

    def __init__(self, port: int = 0, **settings: Any) -> None:
        command = [sys.executable, "-m", "bench.provider", "--until-stdin-closes", "--port", str(port)]
        self.process = subprocess.Popen(
            [*command, "--settings", json.dumps(settings)],
            cwd=Path(__file__).resolve().parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        line = self.process.stdout.readline()  # type: ignore[union-attr]  # a pipe was asked for
        if not line:
            self.stop()
            raise RuntimeError("The fake provider did not start; its error output says why.")
        told = json.loads(line)
        self.url: str = told["url"]
        self.pid: int = told["pid"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def script(self, match: dict[str, Any] | None = None, *, times: int | None = None, **respond: Any) -> None:
        """Add a rule: requests that fit `match` (all), at most `times` of them, are answered as the keywords say."""
        if "raw" in respond:
            respond["raw"] = [[wait, b64encode(data).decode()] for wait, data in respond["raw"]]
        self._control("/script", {"match": match or {}, "times": times, "respond": respond})

    def configure(self, **settings: Any) -> None:
        """Change settings until the next reset."""
        self._control("", settings)

    def requests(self) -> list[dict[str, Any]]:
        """Every request so far, in the order of arrival: the fields of `Record`, and `authorized`."""
        return self._control("/requests")

    def told(self) -> dict[str, Any]:
        """The settings, events sent, how late they were in milliseconds, processor seconds used."""
        return self._control("")

    def reset(self) -> None:
        """Forget the script and the requests, drop what is under way, go back to the settings of the start."""
        self._control("/reset", {})

    def _control(self, path: str, given: Any = None) -> Any:
        data = None if given is None else json.dumps(given).encode()
        request = urllib.request.Request(self.url.removesuffix("/v1") + "/control" + path, data)
        # No proxy from the environment may come between.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(error.read().decode()) from None

    def stop(self) -> None:
        """End the process. Afterwards its address refuses connections."""
        self.process.terminate()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()  # type: ignore[union-attr]  # a pipe was asked for


def main() -> None:
    """Serve, or measure what serving costs."""
    parser = argparse.ArgumentParser(prog="python -m bench.provider", description="A fake provider of language models.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--settings", type=json.loads, default={}, help="settings as a JSON object")
    parser.add_argument("--until-stdin-closes", action="store_true")
    parser.add_argument("--measure", action="store_true", help="print the processor time of an event, and stop")
    for each in fields(Settings):
        if each.name in {"first_token_ms", "tokens_per_second", "tokens"}:
            parser.add_argument(f"--{each.name}", type=type(each.default), default=each.default)
    parser.add_argument("--stamp", action="store_true")
    given = parser.parse_args()
    if given.measure:
        from bench.measure_provider import measure  # noqa: PLC0415  # it imports this module

        print(json.dumps(measure(), indent=1))
        return
    named = {name: getattr(given, name) for name in ("first_token_ms", "tokens_per_second", "tokens", "stamp")}
    settings = Settings(**{**named, **given.settings})
    asyncio.run(serve(given.host, given.port, settings, until_stdin_closes=given.until_stdin_closes))


if __name__ == "__main__":
    main()
