"""What the fake provider says when nothing is scripted: text, titles, ballots, and how they are streamed.

Nothing here knows sockets or HTTP. A *play* is a function from a `Reply` (bench/provider.py) to a generator: it yields
the seconds it wants to wait, and writes to the reply in between. `inf` waits for ever.
"""

import json
import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

from bench.text import TITLES, Delta, pieces, stamp, tokens, words

MODELS = [
    {
        "id": f"fake/{name}",
        "name": f"Fake: {name.title()}",
        "context_length": context,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "pricing": {"prompt": prompt, "completion": completion},
        "supported_parameters": ["max_tokens", "temperature", "response_format", "structured_outputs", "reasoning"],
        "top_provider": {"context_length": context, "max_completion_tokens": longest},
    }
    for name, context, longest, prompt, completion in [
        ("alpha", 128_000, 16_384, "0.0000025", "0.00001"),
        ("beta", 200_000, 64_000, "0.000003", "0.000015"),
        ("gamma", 32_768, 8_192, "0.0000001", "0.0000004"),
    ]
]

LABELS = r"^\W*labels\b\W*?:\s*(.+)$"
BALLOT = {
    "properties": {
        "critique": {"type": "string"},
        "ranking": {"type": "array"},
        "abstain": {"type": "boolean"},
        "reason": {"type": "string"},
        "injection_suspected": {"type": "array"},
    }
}


@dataclass(frozen=True)
class Settings:
    """How the provider answers: pace, length, and what its ballots prefer."""

    first_token_ms: float = 50
    tokens_per_second: float = 30
    """0: all at once."""
    tokens: int = 300
    stamp: bool = False
    ranking: str = "hash"
    """The order of a ballot: "hash" of the request, "listed" as in the request, or "reversed"."""
    prefer: Sequence[str] = ()
    """Texts, the best first: the answer that holds one is ranked by its place here, before all that hold none."""
    labels_pattern: str = LABELS
    """Finds the line of a prompt that lists the labels to rank; its group is the list, divided by commas."""
    models: Sequence[dict] = field(default_factory=lambda: MODELS)

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.first_token_ms / 1000

    @property
    def gap(self) -> float:
        """Seconds between tokens."""
        return 1 / self.tokens_per_second if self.tokens_per_second else 0


# How the site's prompts for these begin.
OPENINGS = {"synthesis": "You are the chairman", "title": "Give the following question a title"}


@dataclass
class Ask:
    """One request as the provider understands it: its JSON body and the settings that hold for it."""

    number: int
    body: dict[str, Any]
    settings: Settings

    @property
    def model(self) -> str:
        """The model's name as asked for."""
        return str(self.body.get("model", ""))

    @cached_property
    def texts(self) -> list[str]:
        """The text of each message, parts joined."""
        return [_text(message.get("content")) for message in self.body.get("messages", [])]

    @property
    def prompt(self) -> str:
        """The last message that a user sent."""
        users = [t for m, t in zip(self.body.get("messages", []), self.texts, strict=True) if m.get("role") == "user"]
        return users[-1] if users else ""

    @cached_property
    def seed(self) -> int:
        """A number that depends on the model and the prompt alone, so that a retry is answered alike."""
        return zlib.crc32(f"{self.model}\n{self.prompt}".encode("utf-8", "replace"))

    @property
    def has_schema(self) -> bool:
        """Whether the request has a `response_format` of any type but plain text."""
        return (self.body.get("response_format") or {}).get("type", "text") != "text"

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema asked for; a ballot's own where the request only says "a JSON object"."""
        return (self.body.get("response_format") or {}).get("json_schema", {}).get("schema") or BALLOT

    @property
    def limit(self) -> int | None:
        """The most tokens that the request allows."""
        return self.body.get("max_completion_tokens") or self.body.get("max_tokens")

    @cached_property
    def labels(self) -> list[str]:
        """The labels to rank: from the schema, else from the prompt's line of labels."""
        ranking = self.schema.get("properties", {}).get("ranking", {})
        items = ranking.get("items", {})
        listed = items.get("items", {}).get("enum") or items.get("enum")
        if listed:
            return list(listed)
        lines = re.findall(self.settings.labels_pattern, self.prompt, re.MULTILINE | re.IGNORECASE)
        return re.findall(r"[\w-]+", lines[-1]) if lines else []

    @cached_property
    def kind(self) -> str:
        """Which of a deliberation's requests this is: "ballot", "synthesis", "title" or "answer"."""
        if self.has_schema or self.labels:
            return "ballot"
        for kind, beginning in OPENINGS.items():
            if self.prompt.startswith(beginning):
                return kind
        return "title" if self.limit and self.limit <= 64 else "answer"

    @property
    def prompt_tokens(self) -> int:
        """A plausible count of what was sent."""
        return sum(map(len, self.texts)) // 4 + 4 * len(self.texts)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def order(ask: Ask) -> list[str]:
    """The labels as this reviewer ranks them, the best first."""
    labels = list(ask.labels)
    if ask.settings.ranking == "hash":
        labels.sort(key=lambda label: zlib.crc32(f"{ask.seed}{label}".encode()))
    elif ask.settings.ranking == "reversed":
        labels.reverse()
    preferred = [label for text in ask.settings.prefer if (label := _label_before(ask, text))]
    return list(dict.fromkeys(preferred + labels))


def _label_before(ask: Ask, text: str) -> str | None:
    """The label under which the prompt shows an answer that holds `text`: the last one named before it."""
    place = ask.prompt.find(text)
    if place < 0 or not ask.labels:
        return None
    named = re.findall(rf"\b(?:{'|'.join(map(re.escape, ask.labels))})\b", ask.prompt[:place])
    return named[-1] if named else None


def ranking(ask: Ask, schema: dict[str, Any]) -> Any:
    """A ranking in the form that the schema asks for: one of its values, a flat list, or groups of one."""
    if choices := schema.get("enum"):
        return choices[{"listed": 0, "reversed": -1}.get(ask.settings.ranking, ask.seed % len(choices))]
    flat = schema.get("items", {}).get("type") == "string"
    return order(ask) if flat else [[label] for label in order(ask)]


def _plausible(schema: dict[str, Any]) -> Any:
    """The dullest value that a schema takes."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "string")
    match kind if isinstance(kind, str) else kind[0]:
        case "boolean":
            return False
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "array":
            return [_plausible(schema.get("items", {}))] * schema.get("minItems", 0)
        case "object":
            return {name: _plausible(part) for name, part in schema.get("properties", {}).items()}
        case "null":
            return None
        case _:
            return ""


def ballot(ask: Ask, **instead: Any) -> list[Delta]:
    """A ballot: JSON by the request's schema, or prose and fenced JSON; `instead` replaces values by their name."""
    if not ask.has_schema:
        fenced = json.dumps({"ranking": ranking(ask, {}), **instead}, ensure_ascii=False)
        return tokens(ask.settings.tokens, ask.seed) + pieces(f"\n\n```json\n{fenced}\n```\n")
    said: list[Delta] = []
    structure = "{"
    for name, schema in ask.schema.get("properties", {}).items():
        structure += f"{json.dumps(name)}: "
        if name == "critique" and name not in instead:
            said += pieces(structure + '"') + tokens(ask.settings.tokens, ask.seed, quoted=True)
            structure = '", '
            continue
        value = ranking(ask, schema) if name == "ranking" else _plausible(schema)
        structure += json.dumps(instead.get(name, value), ensure_ascii=False) + ", "
    return said + pieces(structure.removesuffix(", ") + "}")


@dataclass(frozen=True)
class Speech:
    """One completion: its tokens, and how it ends."""

    deltas: Sequence[Delta]
    finish: str | None = "stop"
    first: float = 0.05
    gap: float = 1 / 30
    error: dict[str, Any] | None = None
    """An error object, sent after the tokens instead of a finish reason."""
    usage: bool = True
    done: bool = True
    cut: bool = False
    """Whether the connection is reset after the tokens."""
    escaped: bool = False
    """Whether all but ASCII is sent as JSON escapes (the only way to send half a surrogate pair)."""


def speech(ask: Ask, deltas: Sequence[Delta] | None = None, **ending: Any) -> Speech:
    """What this request is answered with by default, or the given tokens at the pace of the settings."""
    if deltas is None:
        match ask.kind:
            case "ballot":
                deltas = ballot(ask)
            case "title":
                deltas = words(TITLES[ask.seed % len(TITLES)])
            case _:
                deltas = tokens(ask.settings.tokens, ask.seed)
        if ask.limit and len(deltas) > ask.limit:
            deltas, ending = deltas[: ask.limit], {"finish": "length", **ending}
    return Speech(deltas, **{"first": ask.settings.first, "gap": ask.settings.gap, **ending})


Play = Callable[[Any], Iterator[float]]


def say(ask: Ask, said: Speech) -> Play:
    """The play of a completion: a stream of events or one JSON object, whichever was asked for."""
    play = _stream if ask.body.get("stream") else _whole
    return lambda reply: play(reply, ask, said)


def _stream(reply: Any, ask: Ask, said: Speech) -> Iterator[float]:
    quote = encode_basestring_ascii if said.escaped else encode_basestring
    common = f'"id":"gen-{ask.number}","object":"chat.completion.chunk","created":{int(time.time())}'
    common += f',"model":{encode_basestring_ascii(ask.model)}'
    opening = f'data: {{{common},"choices":[{{"index":0,"delta":{{'
    closing = '},"finish_reason":null}]}\n\n'
    stamped = ask.settings.stamp
    serial = 0
    reply.start(200, {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"})
    yield said.first
    role = f'{opening}"role":"assistant","content":""{closing}'
    for place, (name, text, mark) in enumerate(said.deltas):
        if place:
            yield said.gap
        if stamped and mark >= 0:
            # In the place of the word, so that what is around it stays what it is to Markdown.
            text = text[:mark] + re.sub(r"^\w*", stamp(ask.number, serial), text[mark:], count=1)  # noqa: PLW2901  # the token with its stamp
            serial += 1
        reply.token(f'{role}{opening}"{name}":{quote(text)}{closing}', stamps=serial)
        role = ""
    if said.cut:
        yield 0.02
        reply.reset()
        return
    tail = role
    if said.error:
        error = json.dumps(said.error)
        tail += f'data: {{{common},"error":{error},"choices":'
        tail += '[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n'
    elif said.finish:
        tail += f'{opening}}},"finish_reason":"{said.finish}"}}]}}\n\n'
    if said.usage and (ask.body.get("stream_options") or {}).get("include_usage"):
        tail += f'data: {{{common},"choices":[],"usage":{json.dumps(usage(ask, said))}}}\n\n'
    if said.done:
        tail += "data: [DONE]\n\n"
    if tail:
        reply.event(tail)


def _whole(reply: Any, ask: Ask, said: Speech) -> Iterator[float]:
    yield said.first + said.gap * len(said.deltas)
    if said.cut:
        reply.reset()
        return
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    for name, text, _ in said.deltas:
        message[name] = message.get(name, "") + text
    completion = {
        "id": f"gen-{ask.number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": ask.model,
        "choices": [{"index": 0, "message": message, "finish_reason": said.finish}],
        "usage": usage(ask, said) if said.usage else None,
    }
    if said.error:
        completion = {"error": said.error}
    reply.whole(200, completion)


def usage(ask: Ask, said: Speech) -> dict[str, Any]:
    """The usage of a completion: a token for each delta."""
    thought = sum(name.startswith("reasoning") for name, _, _ in said.deltas)
    counts = {
        "prompt_tokens": ask.prompt_tokens,
        "completion_tokens": len(said.deltas),
        "total_tokens": ask.prompt_tokens + len(said.deltas),
    }
    return counts | ({"completion_tokens_details": {"reasoning_tokens": thought}} if thought else {})
