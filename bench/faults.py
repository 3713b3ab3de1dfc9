"""The ways in which the fake provider can be told to answer: one named fault a function, and the scripted forms.

A fault is `(ask, n, text) -> play`; `n` and `text` are the script's own, None where it gave none. A fault that spoils a
ballot or a finish reason works for plain requests too; one that spoils the stream's bytes needs `stream: true`.
"""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from math import inf
from typing import Any

from bench.replies import Ask, Play, Settings, Speech, ballot, order, say, speech
from bench.text import Delta, pieces, tokens, words

Fault = Callable[[Ask, Any, Any], Play]

HTML = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> "
    "[click](javascript:document.title='owned') <a href=\"javascript:alert(1)\">here</a> <svg onload=alert(1)> "
    "<iframe srcdoc='<script>alert(1)</script>'></iframe> </textarea></template> <style>body{display:none}</style> done"
)
BIDI = (
    "plain \u202egnippilf\u202c \u2066isolated\u2069 zero\u200bwidth "
    "\u200fright \ufeffmark \u061cletter \U000e0041tag end"
)
NUL = "before \x00 after, \ud800 alone, \udc00 low, \ud83d split end"
SPLIT = "naïve café — 日本語 🏳️‍🌈 ✓ "


def plain(status: int, body: Any, headers: dict[str, str] | None = None, delay: float = 0) -> Play:
    """Answer with one whole body: text as it is, anything else as JSON."""

    def play(reply: Any) -> Iterator[float]:
        if delay:
            yield delay
        reply.whole(status, body, headers or {})

    return play


def failing(status: int, message: str, kind: str, code: Any = None, *, retry_after: bool = False) -> Fault:
    """A fault that is an HTTP status with an error body in OpenAI's shape; `n` is its Retry-After in seconds."""

    def fault(_ask: Ask, n: Any, text: Any) -> Play:
        headers = {"Retry-After": str(n)} if retry_after and n is not None else {}
        return plain(status, {"error": {"message": text or message, "type": kind, "code": code}}, headers)

    return fault


def saying(make: Callable[[Ask, Any, Any], Speech]) -> Fault:
    """A fault that is a completion, well-formed on the wire."""
    return lambda ask, n, text: say(ask, make(ask, n, text))


def first(ask: Ask, n: Any, default: int = 5) -> list[Delta]:
    """The first `n` tokens of what would have been said."""
    return list(speech(ask).deltas[: default if n is None else n])


def steps(ask: Ask, said: Speech) -> list[tuple[float, bytes]]:
    """The stream of a completion as (seconds to wait, bytes), for faults that send it otherwise."""
    sent: list[list[Any]] = [[0.0, b""]]
    ask = replace(ask, body={**ask.body, "stream": True})

    class Paper:
        def start(self, *_: Any) -> None: ...

        def event(self, text: str) -> None:
            sent[-1][1] += text.encode()

        def token(self, text: str, *, stamps: int) -> None:  # noqa: ARG002  # the signature is the framework's
            self.event(text)

    for wait in say(ask, said)(Paper()):
        sent.append([wait, b""])  # noqa: PERF401  # the play writes into the last one
    return [(wait, data) for wait, data in sent]


def played(parts: list[tuple[float, bytes]], status: int = 200, headers: dict[str, str] | None = None) -> Play:
    """Send a body in the given parts, each as a chunk of its own after its wait."""

    def play(reply: Any) -> Iterator[float]:
        reply.start(status, {"Content-Type": "text/event-stream"} | (headers or {}))
        for wait, data in parts:
            if wait:
                yield wait
            reply.write(data)

    return play


def bare(parts: list[tuple[float, bytes]]) -> Play:
    """Send bytes on the socket as they are, without any head, then close it."""

    def play(reply: Any) -> Iterator[float]:
        for wait, data in parts:
            if wait:
                yield wait
            reply.raw(data)
        reply.close()

    return play


def no_headers(_ask: Ask, _n: Any, _text: Any) -> Play:
    """Never answer."""
    return lambda _reply: iter([inf])


def hang(ask: Ask, n: Any, _text: Any) -> Play:
    """Send the head and `n` tokens (none), then nothing, and keep the connection open."""
    sent = steps(ask, replace(speech(ask, first(ask, n, 0)), finish=None, usage=False, done=False))
    return played([*(sent if n else []), (inf, b"")])


def malformed_json(ask: Ask, n: Any, _text: Any) -> Play:
    """Two tokens, an event whose JSON is broken, and the end."""
    if not ask.body.get("stream"):
        return plain(200, '{"choices":[{"message":{"content":"ha', {"Content-Type": "application/json"})
    sent = steps(ask, replace(speech(ask, first(ask, n, 2)), finish=None, done=False))
    return played([*sent, (0.01, b'data: {"choices":[{"index":0,"delta":{"content":"ha\n\n')])


def utf8_split(ask: Ask, _n: Any, text: Any) -> Play:
    """Cut every event inside a character of several bytes, far enough apart in time to arrive apart."""
    parts: list[tuple[float, bytes]] = []
    for wait, data in steps(ask, speech(ask, words(text or SPLIT * 3), gap=0.005)):
        cut = next((i + 1 for i, byte in enumerate(data) if byte >= 0xC0), len(data))
        parts += [(wait, data[:cut])] + ([(0.01, data[cut:])] if cut < len(data) else [])
    return played(parts)


def crlf(ask: Ask, _n: Any, _text: Any) -> Play:
    """End each line with CR LF, the two in different chunks at each event's end."""
    parts: list[tuple[float, bytes]] = []
    for wait, data in steps(ask, speech(ask)):
        lines = data.replace(b"\n", b"\r\n")
        parts += [(wait, lines[:-1]), (0.002, lines[-1:])] if lines else [(wait, lines)]
    return played(parts)


def slow_tokens(ask: Ask, n: Any, _text: Any) -> Play:
    """Send the stream one byte every `n` seconds (5)."""
    every = b"".join(data for _, data in steps(ask, speech(ask)))
    return played([(5 if n is None else n, bytes([byte])) for byte in every])


def thinking(ask: Ask, n: Any, _text: Any) -> list[Delta]:
    """Some `n` tokens (20) of reasoning."""
    return [token._replace(field="reasoning_content", mark=-1) for token in tokens(n or 20, ask.seed + 1)]


def bold_ranking(ask: Ask, _n: Any, _text: Any) -> Speech:
    """A review that ends with a ranking header and labels in bold, and no JSON."""
    ranked = "\n".join(f"{place}. **{label}**" for place, label in enumerate(order(ask), 1))
    return speech(ask, tokens(ask.settings.tokens, ask.seed) + words(f"\n\n**FINAL RANKING:**\n\n{ranked}\n"))


def broken_ballot(ask: Ask, _n: Any, _text: Any) -> Speech:
    """A ballot whose JSON lacks its last brackets and has a trailing comma: one that can be repaired."""
    ranked = ", ".join(f'["{label}"]' for label in order(ask))
    broken = f'```json\n{{"ranking": [{ranked},\n```\n'
    return speech(ask, tokens(ask.settings.tokens, ask.seed) + pieces("\n\n" + broken))


def _error(ask: Ask, n: Any, text: Any, deltas: list[Delta], code: int) -> Speech:  # noqa: ARG001  # one signature for all faults
    return speech(
        ask, deltas, error={"message": text or "Provider returned error", "code": code}, usage=False, done=False
    )


def _error_first(_ask: Ask, n: Any, text: Any) -> Play:
    error = {"error": {"message": text or "Provider returned error", "code": 502 if n is None else n}}
    return played([(0, b"data: %b\n\n" % json.dumps(error).encode())])


def _doubled(ask: Ask, _n: Any, _text: Any) -> Speech:
    ranked = order(ask)
    return speech(ask, ballot(ask, ranking=[[label] for label in [*ranked, *ranked[:1]]]))


def _unknown(ask: Ask, _n: Any, text: Any) -> Speech:
    ranked = [*order(ask)[1:], text or "Z99"]
    return speech(ask, ballot(ask, ranking=[[label] for label in ranked]))


def _abstains(ask: Ask, _n: Any, text: Any) -> Speech:
    reason = text or "The answers cannot be compared."
    return speech(ask, ballot(ask, ranking=[], abstain=True, reason=reason))


FAULTS: dict[str, Fault] = {
    # A status instead of an answer.
    "refuse_auth": failing(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    "rate_limited": failing(429, "Rate limit reached.", "requests", "rate_limit_exceeded", retry_after=True),
    "server_error": failing(500, "The server had an error.", "server_error"),
    "unavailable": failing(503, "The model is overloaded.", "server_error", retry_after=True),
    "context_exceeded": failing(
        400, "This model's maximum context length is exceeded.", "invalid_request_error", "context_length_exceeded"
    ),
    "reject_schema": failing(
        400, "Invalid parameter: 'response_format' is not supported with this model.", "invalid_request_error"
    ),
    "redirect": lambda _ask, _n, text: plain(302, "", {"Location": text or "http://127.0.0.1:9/elsewhere"}),
    "not_json": lambda _ask, _n, text: plain(
        200, text or "<!doctype html><title>Sign in</title><p>Please sign in.", {"Content-Type": "text/html"}
    ),
    # Time.
    "no_headers": no_headers,
    "hang": hang,
    "slow_first": saying(lambda ask, n, _text: speech(ask, first=5 if n is None else n)),
    "slow_tokens": slow_tokens,
    # Bytes.
    "malformed_json": malformed_json,
    "utf8_split": utf8_split,
    "crlf": crlf,
    "huge_line": saying(lambda ask, n, _text: speech(ask, [Delta("content", "long " * ((n or 1_000_000) // 5))])),
    "ten_megabytes": saying(
        lambda ask, n, _text: speech(
            ask, [Delta("content", "ten mega " * 1_138)] * ((n or 10_485_760) // 10_242 + 1), gap=0
        )
    ),
    "cut": saying(lambda ask, n, _text: speech(ask, first(ask, n), cut=True)),
    # Endings.
    "no_done": saying(lambda ask, _n, _text: speech(ask, done=False)),
    "no_finish": saying(lambda ask, _n, _text: speech(ask, finish=None, usage=False, done=False)),
    "no_usage": saying(lambda ask, _n, _text: speech(ask, usage=False)),
    "length": saying(lambda ask, n, _text: speech(ask, first(ask, n, 20), finish="length")),
    "content_filter": saying(lambda ask, n, _text: speech(ask, first(ask, n), finish="content_filter")),
    "error_first": _error_first,
    "error_after": saying(lambda ask, n, text: _error(ask, n, text, first(ask, n), 502)),
    # Words.
    "empty": saying(lambda ask, _n, _text: speech(ask, [])),
    "reasoning": saying(lambda ask, n, text: speech(ask, [*thinking(ask, n, text), *speech(ask).deltas])),
    "empty_thinking": saying(lambda ask, n, text: speech(ask, thinking(ask, n, text), finish="length")),
    "refusal": saying(lambda ask, _n, text: speech(ask, words(text or "I can't help with that.", "refusal"))),
    "fixed_text": saying(lambda ask, _n, text: speech(ask, words(text or ""))),
    "nul": saying(lambda ask, _n, text: speech(ask, words(text or NUL), escaped=True)),
    "bidi": saying(lambda ask, _n, text: speech(ask, words(text or BIDI))),
    "html": saying(lambda ask, _n, text: speech(ask, words(text or HTML))),
    # Ballots.
    "prose_ballot": saying(lambda ask, _n, _text: speech(ask, tokens(ask.settings.tokens, ask.seed))),
    "bold_ranking": saying(bold_ranking),
    "broken_ballot": saying(broken_ballot),
    "duplicate_ballot": saying(_doubled),
    "unknown_label_ballot": saying(_unknown),
    "abstain_ballot": saying(_abstains),
}

SETTINGS = {each.name for each in fields(Settings)}
KEYS = SETTINGS | {"fault", "n", "text", "delay", "status", "headers", "body", "raw", "bare", "events"}


def check(respond: dict[str, Any]) -> None:
    """Raise ValueError where a script asks for something that does not exist."""
    if unknown := respond.keys() - KEYS:
        raise ValueError(f"unknown in respond: {', '.join(sorted(unknown))}")
    if respond.get("fault", "empty") not in FAULTS:
        raise ValueError(f"no fault is called {respond['fault']}; there are {', '.join(FAULTS)}")


def scripted(ask: Ask, respond: dict[str, Any]) -> Play:
    """The play that a script's `respond` asks for; settings in it hold for this request alone."""
    ask = replace(ask, settings=replace(ask.settings, **{k: v for k, v in respond.items() if k in SETTINGS}))
    play = _scripted(ask, respond)
    delay = respond.get("delay", 0)

    def later(reply: Any) -> Iterator[float]:
        yield delay
        yield from play(reply)

    return later if delay else play


def _scripted(ask: Ask, respond: dict[str, Any]) -> Play:
    status, headers = respond.get("status", 200), respond.get("headers", {})
    if name := respond.get("fault"):
        return FAULTS[name](ask, respond.get("n"), respond.get("text"))
    if "raw" in respond:
        parts = [(wait, base64.b64decode(data)) for wait, data in respond["raw"]]
        return bare(parts) if respond.get("bare") else played(parts, status, headers)
    if "events" in respond:
        return played([(wait, _event(event)) for wait, event in respond["events"]], status, headers)
    if "status" in respond or "body" in respond:
        return plain(status, respond.get("body", ""), headers)
    return say(ask, speech(ask))


def _event(event: Any) -> bytes:
    """One event: a comment if a text begins with a colon, a text as it is ("[DONE]"), anything else as JSON."""
    if isinstance(event, str):
        return (event if event.startswith(":") else f"data: {event}").encode() + b"\n\n"
    return b"data: %b\n\n" % json.dumps(event, ensure_ascii=False).encode()
