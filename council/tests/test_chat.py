"""What is sent, and what is understood of what comes back."""

import asyncio
import json
from dataclasses import replace

import pytest

from council.core import errors
from council.core.values import Outcome, Request
from council.providers import chat, connecting
from council.providers.chat import Piece
from council.tests.protocol import KEY, REQUEST, endpoint, pieces, said


class TestWhatIsSent:
    def test_the_request_in_the_words_of_the_protocol(self):
        assert chat.payload(endpoint(), REQUEST) == {
            "model": "fake/alpha",
            "messages": [{"role": "user", "content": "Why? 日本 😀"}],
            "stream": True,
            "max_tokens": 300,
            "temperature": 0.7,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "ballot", "strict": True, "schema": {"type": "object"}},
            },
            "stream_options": {"include_usage": True},
        }

    def test_only_what_the_model_takes(self):
        body = chat.payload(endpoint(takes_temperature=False, usage_in_stream=False), Request(REQUEST.messages, 9, 0.5))
        assert set(body) == {"model", "messages", "stream", "max_tokens"}

    def test_the_cap_by_the_name_that_the_model_wants(self):
        body = chat.payload(endpoint(max_tokens_field="max_completion_tokens"), REQUEST)
        assert body["max_completion_tokens"] == 300
        assert "max_tokens" not in body

    def test_effort_as_the_provider_phrases_it(self):
        assert chat.payload(endpoint(kind="openrouter", effort="low"), REQUEST)["reasoning"] == {"effort": "low"}
        assert chat.payload(endpoint(kind="openai", effort="low"), REQUEST)["reasoning_effort"] == "low"
        assert "reasoning" not in chat.payload(endpoint(kind="openrouter"), REQUEST)

    def test_the_practice_model_is_kept_from_saying_the_same_again_but_in_a_ballot(self):
        answer = replace(REQUEST, schema=None)
        assert chat.payload(endpoint(kind="practice"), answer)["repeat_penalty"] > 1
        assert "repeat_penalty" not in chat.payload(endpoint(kind="practice"), REQUEST)
        assert "repeat_penalty" not in chat.payload(endpoint(), answer)

    def test_openrouter_is_asked_for_its_cost(self):
        assert chat.payload(endpoint(kind="openrouter"), REQUEST)["usage"] == {"include": True}
        assert "usage" not in chat.payload(endpoint(), REQUEST)

    async def test_it_arrives_as_it_was_meant(self, fake):
        await pieces(endpoint(fake.url + "/"))
        (request,) = fake.requests()
        assert (request["method"], request["path"]) == ("POST", "/v1/chat/completions")
        assert request["body"] == chat.payload(endpoint(), REQUEST)
        assert request["authorized"]

    async def test_without_a_key_none_is_sent(self, fake):
        await pieces(endpoint(fake.url, api_key=""))
        assert not fake.requests()[0]["authorized"]

    @pytest.mark.parametrize("key", ["sk-“quoted”", "sk-two\nlines", "sk-\x00", "ключ"])
    async def test_a_key_that_no_header_can_carry_is_not_quoted(self, fake, key):
        with pytest.raises(errors.WrongKey, match="holds characters that no key has") as raised:
            await pieces(endpoint(fake.url, api_key=key))
        assert key not in repr(raised.value)
        assert raised.value.__cause__ is None
        assert not fake.requests()

    def test_the_key_is_in_no_representation(self):
        assert KEY not in repr(endpoint())
        assert KEY not in str(endpoint())
        assert "fake/alpha" in repr(endpoint())


class TestWhatComesBack:
    async def test_text_then_a_finish_then_usage(self, fake):
        found = await pieces(endpoint(fake.url), Request(REQUEST.messages, 300))
        assert len(said(found)) > 40
        assert [piece.finish for piece in found if piece.finish] == [Outcome.COMPLETE]
        assert next(piece.usage for piece in found if piece.usage)["completion_tokens"] == 20
        assert found[0].generation == "gen-0"

    async def test_nothing_that_a_provider_sets_is_sent_back(self):
        heard = []

        async def answer(reader, writer):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 401 No\r\nSet-Cookie: who=one\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()

        async with (
            await asyncio.start_server(answer, "127.0.0.1", 0) as server,
            connecting.new_transport() as transport,
        ):
            where = endpoint(f"http://localhost:{server.sockets[0].getsockname()[1]}/v1")
            for _ in range(2):
                with pytest.raises(errors.WrongKey):
                    await anext(chat.stream(transport, where, REQUEST))
        assert len(heard) == 2
        assert not any(b"cookie" in each.lower() for each in heard)

    @pytest.mark.parametrize(
        "address", ["http://a..b/v1", f"http://{'a' * 64}.example/v1", "http://u:p@host/v1", "http://", ""]
    )
    async def test_an_address_that_cannot_be_used_cannot_be_reached(self, address):
        with pytest.raises(errors.Unreachable):
            await pieces(endpoint(address))

    async def test_connections_are_kept(self, fake):
        async with connecting.new_transport() as transport:
            for _ in range(3):
                assert [piece async for piece in chat.stream(transport, endpoint(fake.url), REQUEST)]
        assert len({request["connection"] for request in fake.requests()}) == 1

    async def test_they_are_kept_though_the_end_comes_a_little_after_the_last_event(self, fake):
        chunk = {"choices": [{"delta": {"content": "Hello."}, "finish_reason": "stop"}]}
        fake.script(events=[[0, chunk], [0, "[DONE]"], [0.05, ": bye"]])
        async with connecting.new_transport() as transport:
            for _ in range(2):
                assert [piece async for piece in chat.stream(transport, endpoint(fake.url), REQUEST)]
        assert len({request["connection"] for request in fake.requests()}) == 1

    async def test_one_that_is_never_closed_is_not_waited_for(self, fake, monkeypatch):
        monkeypatch.setattr(chat, "DRAIN_SECONDS", 0.05)
        chunk = {"choices": [{"delta": {"content": "Hello."}, "finish_reason": "stop"}]}
        fake.script(events=[[0, chunk], [0, "[DONE]"], [600, chunk]])
        assert said(await pieces(endpoint(fake.url))) == "Hello."

    @pytest.mark.parametrize(
        ("finish", "outcome"),
        [
            # As OpenAI says it.
            ("stop", Outcome.COMPLETE),
            ("tool_calls", Outcome.COMPLETE),
            ("function_call", Outcome.COMPLETE),
            ("length", Outcome.TRUNCATED),
            ("content_filter", Outcome.FILTERED),
            # As others do, or did.
            ("eos", Outcome.COMPLETE),  # Together
            ("eos_token", Outcome.COMPLETE),  # TGI
            ("stop_sequence", Outcome.COMPLETE),
            ("end_turn", Outcome.COMPLETE),  # Anthropic, xAI
            ("COMPLETE", Outcome.COMPLETE),  # Cohere
            ("STOP", Outcome.COMPLETE),  # Gemini
            ("normal", Outcome.COMPLETE),  # Qianfan
            ("max_tokens", Outcome.TRUNCATED),
            ("MAX_TOKENS", Outcome.TRUNCATED),
            ("model_length", Outcome.TRUNCATED),  # Mistral
            ("model_context_window_exceeded", Outcome.TRUNCATED),  # Anthropic, Zhipu
            ("content_filter: RECITATION", Outcome.FILTERED),  # Gemini
            ("sensitive", Outcome.FILTERED),  # Zhipu
            ("refusal", Outcome.REFUSED),
            # Not yet.
            ("", None),
            ("null", None),
            (None, None),
            (7, None),
        ],
    )
    def test_finish_reasons(self, finish, outcome):
        piece = chat._piece(json.dumps({"choices": [{"delta": {}, "finish_reason": finish}]}).encode())
        assert (piece.finish, piece.reason) == (outcome, "")

    def test_a_finish_for_a_reason_that_nobody_knows_is_no_success_and_its_word_is_kept(self):
        word = "Something new\x00" + "x" * 1000
        piece = chat._piece(json.dumps({"choices": [{"delta": {}, "finish_reason": word}]}).encode())
        assert piece.finish is Outcome.TRUNCATED
        assert piece.reason.startswith("Something newx")
        assert len(piece.reason) < 100

    async def test_neither_is_what_stands_between_its_tags_in_the_text(self, fake):
        deltas = [{"content": part} for part in ("<th", "ink>Hm.", "</think>\n\nYes", ", but.")]
        fake.script(events=[*([0, {"choices": [{"delta": each}]}] for each in deltas), [0, "[DONE]"]])
        found = await pieces(endpoint(fake.url))
        assert said(found) == "Yes, but."
        assert any(piece.thinking for piece in found)

    def test_a_list_of_parts_is_read(self):
        content = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
        assert chat._piece(json.dumps({"choices": [{"delta": {"content": content}}]}).encode()) == Piece(thinking="…")
        content = [{"type": "text", "text": "Yes"}, {"type": "text", "text": "."}, {"type": "reference"}, 7]
        assert chat._piece(json.dumps({"choices": [{"delta": {"content": content}}]}).encode()) == Piece(text="Yes.")

    @pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
    def test_thinking_is_never_text(self, name):
        piece = chat._piece(json.dumps({"choices": [{"delta": {name: "Hm.", "content": None}}]}).encode())
        assert (piece.text, piece.thinking) == ("", "Hm.")

    @pytest.mark.parametrize(
        ("detail", "thinking"),
        [
            ({"type": "reasoning.text", "text": "Hm."}, "Hm."),
            ({"type": "reasoning.summary", "summary": "In short."}, "In short."),
            ({"type": "reasoning.encrypted", "data": "gAAA"}, "…"),
        ],
    )
    def test_details_of_thinking_are_thinking(self, detail, thinking):
        piece = chat._piece(
            json.dumps({"choices": [{"delta": {"content": "", "reasoning_details": [detail]}}]}).encode()
        )
        assert (piece.text, piece.thinking) == ("", thinking)

    def test_what_is_no_utf_8_is_marked(self):
        assert chat._piece(b'{"choices": [{"delta": {"content": "a\xffb"}}]}').text == "a\ufffdb"

    def test_nul_and_half_characters_are_taken_out(self):
        data = '{"choices": [{"delta": {"content": "a\\u0000b\\ud800c\\ud83d\\ude00"}}]}'
        assert chat._piece(data.encode()).text == "ab�c😀"

    def test_a_control_character_in_a_string_is_borne(self):
        assert chat._piece(b'{"choices": [{"delta": {"content": "a\tb"}}]}').text == "a\tb"

    @pytest.mark.parametrize(
        "chunk",
        [
            {},
            {"choices": None},
            {"choices": []},
            {"choices": {}},
            {"choices": "text"},
            {"choices": [None]},
            {"choices": [{"delta": None}]},
            {"choices": [{"delta": "text"}]},
            {"choices": [{"delta": ["text"]}]},
            {"choices": [{"delta": {"content": 5, "reasoning": {}, "refusal": []}}]},
            {"choices": [{"delta": {"content": [{"type": "text"}], "reasoning_details": ["x", 5]}}]},
            {"usage": "much", "id": 7},
        ],
    )
    def test_what_makes_no_sense_is_nothing(self, chunk):
        assert chat._piece(json.dumps(chunk).encode()) == Piece()

    @pytest.mark.parametrize("data", ["ping", "[1]", '"text"', "5", '{"choices":', "[" * 100_000, '{"a":' * 100_000])
    def test_what_is_no_chunk_is_not_the_protocol(self, data):
        with pytest.raises(errors.NotTheProtocol):
            chat._piece(data.encode())

    @pytest.mark.parametrize(
        ("error", "kind", "words"),
        [
            ({"message": "Overloaded", "code": 502}, errors.ServerFailed, "Overloaded"),
            ({"message": "Slow down", "code": 429}, errors.RateLimited, "Slow down"),
            ({"message": "Flagged", "code": 403}, errors.WrongKey, "Flagged"),
            ({"message": "Slow down", "code": "rate_limit_exceeded"}, errors.RateLimited, "Slow down"),
            ({"code": []}, errors.ServerFailed, "failed on its side"),
            ({"message": {"nested": 1}, "code": {}}, errors.ServerFailed, "nested"),
            ("just words", errors.ServerFailed, "just words"),
            ([5], errors.ServerFailed, "5"),
        ],
    )
    def test_an_error_inside_the_stream_is_told_in_the_providers_words(self, error, kind, words):
        with pytest.raises(kind, match=words):
            chat._piece(json.dumps({"error": error}).encode())

    @pytest.mark.parametrize("finish", ["error", "abort", "insufficient_system_resource", "network_error"])
    def test_an_error_as_a_finish_reason(self, finish):
        with pytest.raises(errors.ServerFailed, match="while the model was writing"):
            chat._piece(json.dumps({"choices": [{"delta": {}, "finish_reason": finish}]}).encode())

    def test_what_is_said_with_it_counts_as_what_is_said_in_its_place(self):
        choice = {"delta": {}, "finish_reason": "error", "error": {"message": "Flagged", "code": 403}}
        with pytest.raises(errors.WrongKey, match="Flagged"):
            chat._piece(json.dumps({"choices": [choice]}).encode())

    @pytest.mark.parametrize("line_end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
    async def test_what_other_tongues_call_a_line_end_is_text(self, fake, line_end):
        escape = json.dumps(f"one{line_end}two", ensure_ascii=line_end < " ")
        chunk = f'{{"choices":[{{"delta":{{"content":{escape}}},"finish_reason":"stop"}}]}}'
        fake.script(raw=[[0, f"data: {chunk}\n\ndata: [DONE]\n\n".encode()]])
        assert said(await pieces(endpoint(fake.url))) == f"one{line_end}two"

    async def test_comments_and_other_fields_are_passed_over(self, fake):
        chunk = {"choices": [{"delta": {"content": "Hello."}, "finish_reason": "stop"}]}
        stream = (
            f": OPENROUTER PROCESSING\n\nid: 1\nevent: message\nretry: 5\ndata: {json.dumps(chunk)}\n\ndata:[DONE]\n\n"
        )
        fake.script(raw=[[0, stream.encode()]])
        assert said(await pieces(endpoint(fake.url))) == "Hello."
