"""What the other tests and the benchmarks rely on when they talk to the fake provider."""

import asyncio
import hashlib
import json
import re
import time

import comrak
import httpx
import nh3
import pytest
from httpx_sse import aconnect_sse

from bench.faults import FAULTS
from bench.provider import Provider
from bench.replies import MODELS, Ask, Settings, ballot, order
from bench.text import BLOCKS, read_stamps, tokens

QUESTION = {"model": "fake/alpha", "messages": [{"role": "user", "content": "Where does a cache belong?"}]}
LABELLED = {"model": "fake/beta", "messages": [{"role": "user", "content": "Rank these.\nLabels: K7, Q2, M4\n\n..."}]}
SCHEMA = {
    "type": "object",
    "properties": {
        "critique": {"type": "string"},
        "ranking": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "string", "enum": ["K7", "Q2", "M4"]}},
        },
        "abstain": {"type": "boolean"},
        "reason": {"type": "string"},
        "injection_suspected": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["critique", "ranking", "abstain", "reason", "injection_suspected"],
}


def with_schema(schema):
    return {
        "model": "fake/beta",
        "messages": [{"role": "user", "content": "Rank these."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "ballot", "strict": True, "schema": schema}},
    }


@pytest.fixture(scope="module")
def started():
    with Provider(first_token_ms=5, tokens_per_second=2000, tokens=40) as provider:
        yield provider


@pytest.fixture
def provider(started):
    started.reset()
    return started


@pytest.fixture
async def client(provider):
    async with httpx.AsyncClient(base_url=provider.url, trust_env=False, timeout=10) as client:
        yield client


async def events(client, body=QUESTION, **more):
    """The JSON of each event of a stream; "[DONE]" as it is."""
    body = {**body, "stream": True, **more}
    async with aconnect_sse(client, "POST", "/chat/completions", json=body) as source:
        return [each.data if each.data == "[DONE]" else json.loads(each.data) async for each in source.aiter_sse()]


def said(found, name="content"):
    chunks = [each for each in found if each != "[DONE]" and each.get("choices")]
    return "".join(each["choices"][0]["delta"].get(name) or "" for each in chunks)


def count(found):
    """How many tokens of content came."""
    return sum(bool(said([each])) for each in found)


def finish(found):
    reasons = [each["choices"][0]["finish_reason"] for each in found if each != "[DONE]" and each.get("choices")]
    return next((each for each in reasons if each), None)


async def until(true, seconds=5):
    """Wait for something to become true of the provider."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.01)


# The protocol.


async def test_a_stream_has_a_role_tokens_a_finish_reason_usage_and_an_end(client):
    found = await events(client, stream_options={"include_usage": True})
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert found[0]["choices"][0]["finish_reason"] is None
    assert len(found) == 1 + 40 + 3
    assert finish(found) == "stop"
    assert found[-2]["choices"] == []
    assert found[-2]["usage"]["completion_tokens"] == 40
    assert found[-1] == "[DONE]"


async def test_usage_comes_only_when_it_is_asked_for(client):
    assert not any("usage" in each for each in await events(client) if each != "[DONE]")


async def test_a_plain_request_gets_the_same_text_in_one_body(client):
    whole = (await client.post("/chat/completions", json=QUESTION)).json()
    assert whole["choices"][0]["message"]["content"] == said(await events(client))
    assert whole["usage"]["completion_tokens"] == 40


async def test_another_model_says_something_else(client):
    texts = {said(await events(client, model=model["id"])) for model in MODELS}
    assert len(texts) > 1


async def test_tokens_come_at_their_pace(provider, client):
    provider.configure(first_token_ms=100, tokens_per_second=50, tokens=11)
    await events(client)
    record = provider.requests()[0]
    # From the request to the first token .1 s, then ten gaps of .02 s.
    assert (record["last_byte_ns"] - record["received_ns"]) / 1e9 == pytest.approx(0.3, abs=0.1)


async def test_a_connection_is_used_again(provider, client):
    for _ in range(3):
        await events(client)
    assert len({each["connection"] for each in provider.requests()}) == 1


async def test_models_are_listed_in_openrouters_shape(provider, client):
    listed = (await client.get("/models")).json()["data"]
    assert listed == MODELS
    assert listed[0]["pricing"]["completion"] == "0.00001"
    provider.script({"path": "/models"}, status=500, body={"error": {"message": "no"}}, times=1)
    assert (await client.get("/models")).status_code == 500
    assert (await client.get("/models")).status_code == 200


async def test_a_limit_on_tokens_is_kept(client):
    found = await events(client, max_tokens=30 + 40)
    assert finish(found) == "stop"
    found = await events(client, LABELLED, max_completion_tokens=20)
    assert finish(found) == "length"


async def test_a_title_is_a_few_words(client):
    whole = (await client.post("/chat/completions", json={**QUESTION, "max_tokens": 24})).json()
    assert 2 <= len(whole["choices"][0]["message"]["content"].split()) <= 8


async def test_what_is_not_there_is_404(client):
    assert (await client.get("/nothing")).status_code == 404


# Stamps.


async def test_stamps_prove_that_no_token_was_lost(provider, client):
    provider.configure(stamp=True, tokens=300)
    text = said(await events(client))
    stamps = read_stamps(text)
    assert [each.serial for each in stamps] == list(range(300))
    assert {each.request for each in stamps} == {0}
    assert all(0 <= each.age_us < 5_000_000 for each in stamps)
    assert provider.requests()[0]["stamps"] == 300


async def test_stamps_survive_markdown_and_sanitising(provider, client):
    provider.configure(stamp=True, tokens=sum(map(len, BLOCKS)))
    html = nh3.clean(comrak.render_markdown(said(await events(client))))
    visible = re.sub(r"<[^>]*>", "", html)
    assert [each.serial for each in read_stamps(visible)] == list(range(sum(map(len, BLOCKS))))
    assert all(tag in html for tag in ("<ul>", "<ol>", "<strong>", "<em>", "<h2>", "<pre>", "<blockquote>"))


def test_an_age_survives_the_clocks_wrapping():
    assert read_stamps("Zq00102zzzz", now_ns=(62**4 + 4) * 100_000) == [(1, 2, 500)]


def test_text_is_whole_and_always_the_same():
    everything = "".join(token.text for token in tokens(sum(map(len, BLOCKS)), 0))
    assert everything == "".join(token.text for block in BLOCKS for token in block).lstrip()
    assert everything.count("```") == 2
    quoted = "".join(token.text for token in tokens(200, 3, quoted=True))
    assert json.loads(f'"{quoted}"') == "".join(token.text for token in tokens(200, 3))


# Ballots.


async def test_a_schema_is_answered_with_a_ballot_that_streams(client):
    found = await events(client, with_schema(SCHEMA))
    given = json.loads(said(found))
    assert list(given) == SCHEMA["required"]
    assert sorted(given["ranking"]) == [["K7"], ["M4"], ["Q2"]]
    assert given["abstain"] is False
    assert given["injection_suspected"] == []
    assert len(given["critique"].split()) >= 40
    assert said(await events(client, with_schema(SCHEMA))) == said(found)


async def test_stamps_within_a_ballot_are_within_its_critique(provider, client):
    provider.configure(stamp=True)
    given = json.loads(said(await events(client, with_schema(SCHEMA))))
    assert [each.serial for each in read_stamps(given["critique"])] == list(range(40))


async def test_a_ranking_out_of_a_list_of_rankings_is_one_of_them(client):
    choices = ["K7 > Q2", "Q2 > K7"]
    schema = {"type": "object", "properties": {"ranking": {"enum": choices}, "sure": {"type": "integer", "minimum": 1}}}
    given = json.loads(said(await events(client, with_schema(schema))))
    assert given["ranking"] in choices
    assert given["sure"] == 1


async def test_labels_in_a_prompt_are_answered_with_fenced_json(client):
    text = said(await events(client, LABELLED))
    fenced = re.search(r"```json\n(.+?)\n```", text, re.DOTALL)[1]
    assert sorted(json.loads(fenced)["ranking"]) == [["K7"], ["M4"], ["Q2"]]


@pytest.mark.parametrize(("how", "expected"), [("listed", ["K7", "Q2", "M4"]), ("reversed", ["M4", "Q2", "K7"])])
def test_the_order_of_a_ballot_can_be_chosen(how, expected):
    assert order(Ask(0, LABELLED, Settings(ranking=how))) == expected


def test_an_answer_can_be_preferred_by_its_text():
    prompt = "Labels: K7, Q2, M4\n\n## K7\nuse Redis\n\n## Q2\nuse Postgres\n\n## M4\nuse nothing"
    ask = Ask(0, {"messages": [{"role": "user", "content": prompt}]}, Settings(ranking="listed", prefer=["Postgres"]))
    assert order(ask) == ["Q2", "K7", "M4"]


def test_an_empty_schema_gives_an_empty_object():
    assert "".join(each.text for each in ballot(Ask(0, with_schema({"type": "object"}), Settings()))) == "{}"


# What it remembers.


async def test_it_counts_requests_and_keeps_no_key(provider, client):
    await client.post("/chat/completions", json=QUESTION, headers={"Authorization": "Bearer sk-planted"})
    await client.get("/models")
    asked, listed = provider.requests()
    assert (asked["method"], asked["path"], asked["kind"]) == ("POST", "/v1/chat/completions", "answer")
    assert asked["body"] == QUESTION
    assert asked["authorized"]
    assert asked["key_sha256"] == hashlib.sha256(b"sk-planted").hexdigest()
    assert "sk-planted" not in json.dumps(provider.requests())
    assert asked["finished"]
    assert not asked["disconnected"]
    assert asked["received_ns"] <= asked["first_byte_ns"] <= asked["last_byte_ns"]
    assert (listed["kind"], listed["authorized"]) == ("models", False)


async def test_it_sees_a_client_leave(provider, client):
    provider.configure(tokens_per_second=20, tokens=200)
    async with aconnect_sse(client, "POST", "/chat/completions", json={**QUESTION, "stream": True}) as source:
        await anext(source.aiter_sse())
    await until(lambda: provider.requests()[0]["disconnected"])
    assert not provider.requests()[0]["finished"]
    assert provider.told()["under_way"] == 0


async def test_it_sees_a_client_leave_before_the_headers(provider, client):
    provider.script(fault="no_headers")
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/chat/completions", json=QUESTION, timeout=0.1)
    await until(lambda: provider.requests()[0]["disconnected"])
    assert provider.requests()[0]["first_byte_ns"] is None


async def test_a_reset_forgets_and_drops(provider, client):
    provider.script(fault="hang")
    waiting = asyncio.create_task(events(client))
    await until(lambda: provider.told()["under_way"] == 1)
    provider.reset()
    with pytest.raises(httpx.TransportError):
        await waiting
    assert provider.requests() == []
    assert said(await events(client))


# The script.


async def test_the_first_unexhausted_rule_that_fits_answers(provider, client):
    provider.script({"model": "fake/beta"}, fault="server_error")
    provider.script({"contains": "cache"}, fault="rate_limited", n=1, times=1)
    provider.script({"nth": 2}, fault="fixed_text", text="second")
    assert (await client.post("/chat/completions", json=QUESTION)).headers["Retry-After"] == "1"
    assert said(await events(client)) not in {"", "second"}
    assert said(await events(client)) == "second"
    assert said(await events(client)) not in {"", "second"}
    assert (await client.post("/chat/completions", json=LABELLED)).status_code == 500
    assert [each["rule"] for each in provider.requests()] == [1, None, 2, None, 0]


async def test_rules_tell_kinds_of_request_apart(provider, client):
    provider.script({"kind": "ballot"}, fault="empty")
    provider.script({"kind": "title"}, fault="fixed_text", text="A title")
    assert said(await events(client, LABELLED)) == ""
    assert said(await events(client, max_tokens=16)) == "A title"
    assert count(await events(client)) == 40


async def test_a_rule_can_change_settings_for_its_requests(provider, client):
    provider.script({"model": "fake/alpha"}, tokens=3)
    assert count(await events(client)) == 3
    assert count(await events(client, model="fake/gamma")) == 40


async def test_a_rule_can_give_status_headers_body_and_delay(provider, client):
    provider.script(status=418, headers={"x-should-retry": "false"}, body={"error": "tea"}, delay=0.1)
    begun = time.monotonic()
    response = await client.post("/chat/completions", json=QUESTION)
    assert time.monotonic() - begun > 0.09
    assert (response.status_code, response.headers["x-should-retry"], response.json()) == (
        418,
        "false",
        {"error": "tea"},
    )


async def test_a_rule_can_give_events(provider, client):
    chunk = {"choices": [{"index": 0, "delta": {"content": "é"}, "finish_reason": "stop"}]}
    provider.script(events=[[0, ": PROCESSING"], [0.01, chunk], [0, "[DONE]"]])
    response = await client.post("/chat/completions", json={**QUESTION, "stream": True})
    assert response.text.startswith(": PROCESSING\n\ndata: {")
    assert await events(client) == [chunk, "[DONE]"]


async def test_a_rule_can_give_bytes_in_a_stream_or_bare(provider, client):
    provider.script(raw=[[0, b"\xff\xfe"], [0.01, b"\r\n"]], times=1)
    provider.script(raw=[[0, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"]], bare=True)
    assert (await client.post("/chat/completions", json=QUESTION)).content == b"\xff\xfe\r\n"
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/chat/completions", json=QUESTION)


async def test_a_script_that_asks_for_nothing_known_is_refused(provider):
    for wrong in ({"fault": "no_such"}, {"status_code": 500}):
        with pytest.raises(ValueError, match=r"no_such|status_code"):
            provider.script(**wrong)
    with pytest.raises(ValueError, match="modle"):
        provider.script({"modle": "x"}, fault="empty")


# The named faults on the wire.


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("refuse_auth", 401),
        ("rate_limited", 429),
        ("server_error", 500),
        ("unavailable", 503),
        ("context_exceeded", 400),
        ("redirect", 302),
    ],
)
async def test_a_status_instead_of_an_answer(provider, client, fault, status):
    provider.script(fault=fault)
    response = await client.post("/chat/completions", json=QUESTION)
    assert response.status_code == status
    assert "Retry-After" not in response.headers
    if fault != "redirect":
        assert response.json()["error"]["message"]


async def test_a_schema_is_rejected_only_where_there_is_one(provider, client):
    provider.script(fault="reject_schema", times=1)
    assert said(await events(client))
    response = await client.post("/chat/completions", json=with_schema(SCHEMA))
    assert "response_format" in response.json()["error"]["message"]
    assert json.loads(said(await events(client, with_schema(SCHEMA))))


async def test_a_cut_is_a_reset_after_some_tokens(provider, client):
    provider.script(fault="cut", n=3)
    found = []
    with pytest.raises(httpx.ReadError):
        await _collect(client, found)
    assert count(found) == 3
    assert not provider.requests()[0]["disconnected"]


async def _collect(client, found):
    async with aconnect_sse(client, "POST", "/chat/completions", json={**QUESTION, "stream": True}) as source:
        async for event in source.aiter_sse():
            found.append(json.loads(event.data))


async def test_utf8_is_split_within_a_character(provider, client):
    provider.script(fault="utf8_split", text="é 日 ✓")
    parts = []
    async with client.stream("POST", "/chat/completions", json={**QUESTION, "stream": True}) as response:
        parts = [part async for part in response.aiter_raw()]
    assert sum(not _decodes(part) for part in parts) >= 3
    assert said(await events(client)) == "é 日 ✓"


def _decodes(part):
    try:
        part.decode()
    except UnicodeDecodeError:
        return False
    return True


async def test_lines_can_end_with_crlf_cut_in_two(provider, client):
    expected = said(await events(client))
    provider.script(fault="crlf")
    response = await client.post("/chat/completions", json={**QUESTION, "stream": True})
    assert response.content.count(b"\n") == response.content.count(b"\r\n")
    assert said(await events(client)) == expected


async def test_endings(provider, client):
    expected = {
        "no_done": ("stop", False),
        "no_finish": (None, False),
        "length": ("length", True),
        "content_filter": ("content_filter", True),
        "empty": ("stop", True),
        "empty_thinking": ("length", True),
        "error_after": ("error", False),
    }
    for fault, (reason, done) in expected.items():
        provider.script(fault=fault, times=1)
        found = await events(client)
        assert (finish(found), found[-1] == "[DONE]") == (reason, done), fault
        assert bool(said(found)) == (not fault.startswith("empty")), fault


async def test_an_error_can_come_first_or_later_in_a_stream_of_status_200(provider, client):
    provider.script(fault="error_first", times=1)
    provider.script(fault="error_after", n=2, text="overloaded")
    assert (await events(client))[0]["error"]["code"] == 502
    found = await events(client)
    assert count(found) == 2
    assert found[-1]["error"]["message"] == "overloaded"


async def test_thinking_refusal_and_missing_usage(provider, client):
    provider.script(fault="reasoning", n=7, times=1)
    provider.script(fault="refusal", times=1)
    provider.script(fault="no_usage")
    found = await events(client, stream_options={"include_usage": True})
    assert len(said(found, "reasoning_content").split()) >= 7
    assert said(found)
    assert found[-2]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 7}
    assert said(await events(client), "refusal") == "I can't help with that."
    assert finish(found := await events(client, stream_options={"include_usage": True})) == "stop"
    assert not any("usage" in each for each in found if each != "[DONE]")


async def test_hostile_text_arrives_as_it_is(provider, client):
    for fault, held in (("nul", "\x00"), ("nul", "\ud800"), ("bidi", "\u202e"), ("html", "<script>")):
        provider.script(fault=fault, times=1)
        assert held in said(await events(client))


async def test_broken_json_and_pages(provider, client):
    provider.script(fault="malformed_json", times=2)
    provider.script(fault="not_json")
    with pytest.raises(json.JSONDecodeError):
        await events(client)
    with pytest.raises(json.JSONDecodeError):
        (await client.post("/chat/completions", json=QUESTION)).json()
    assert (await client.post("/chat/completions", json=QUESTION)).headers["Content-Type"] == "text/html"


async def test_size(provider, client):
    provider.script(fault="huge_line", n=200_000, times=1)
    provider.script(fault="ten_megabytes")
    assert [len(said([each])) for each in await events(client)][1] == 200_000
    response = await client.post("/chat/completions", json={**QUESTION, "stream": True})
    assert len(response.content) > 10_000_000
    assert response.content.endswith(b"data: [DONE]\n\n")


async def test_a_client_that_stops_reading_ten_megabytes_is_seen_to_leave(provider, client):
    provider.script(fault="ten_megabytes", n=100_000_000)
    async with client.stream("POST", "/chat/completions", json={**QUESTION, "stream": True}) as response:
        await anext(response.aiter_raw())
    await until(lambda: provider.requests()[0]["disconnected"])


async def test_slowness(provider, client):
    provider.script(fault="slow_first", n=0.2, times=1)
    provider.script(fault="slow_tokens", n=0.05, times=1)
    provider.script(fault="hang", n=2)
    begun = time.monotonic()
    assert said(await events(client))
    assert time.monotonic() - begun > 0.19
    for expected in (b"data", b'data: {"id"'):
        received = await _received_within(client, 0.5)
        assert received.startswith(expected)
        assert b"DONE" not in received


async def _received_within(client, seconds):
    """What arrives in that time of an answer that takes longer."""
    received = b""
    try:
        async with asyncio.timeout(seconds), client.stream("POST", "/chat/completions", json=QUESTION) as response:
            async for part in response.aiter_raw():
                received += part
    except TimeoutError:
        return received
    raise AssertionError("the answer ended")


async def test_spoilt_ballots(provider, client):
    ask = with_schema(SCHEMA)
    for fault in ("prose_ballot", "bold_ranking", "broken_ballot", "duplicate_ballot", "unknown_label_ballot"):
        provider.script(fault=fault, times=1)
    assert "{" not in said(await events(client, LABELLED))
    assert re.search(r"FINAL RANKING:\*\*\n\n1\. \*\*(K7|Q2|M4)\*\*\n2\. ", said(await events(client, ask)))
    assert said(await events(client, LABELLED)).endswith('"],\n```\n')
    doubled = json.loads(said(await events(client, ask)))["ranking"]
    assert doubled[0] == doubled[-1]
    assert ["Z99"] in json.loads(said(await events(client, ask)))["ranking"]
    provider.script(fault="abstain_ballot")
    abstained = json.loads(said(await events(client, ask)))
    assert (abstained["ranking"], abstained["abstain"]) == ([], True)


async def test_every_fault_leaves_the_provider_well(provider, client):
    for fault in FAULTS:
        provider.script(fault=fault, times=2, **({"n": 0.001} if fault == "slow_first" else {}))
        for body in ({**with_schema(SCHEMA), "stream": True}, with_schema(SCHEMA)):
            try:
                async with asyncio.timeout(0.15):
                    await client.post("/chat/completions", json=body)
            except (httpx.HTTPError, TimeoutError):
                pass
            assert provider.told()["requests"] > 0, fault
    assert all(each["rule"] is not None for each in provider.requests())
    assert said(await events(client))


def test_it_stops():
    provider = Provider()
    provider.stop()
    assert provider.process.returncode is not None
    with pytest.raises(httpx.ConnectError):
        httpx.get(provider.url + "/models", trust_env=False)
