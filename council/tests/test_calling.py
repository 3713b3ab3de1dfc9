"""One call, over a real socket, against everything that a provider may do."""

import asyncio
import json
import re
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import stamina

from council.core import errors
from council.core.values import Outcome, Request
from council.providers import calling, connecting
from council.providers.calling import Deadlines, Way
from council.providers.chat import Endpoint
from council.providers.policy import Policy
from council.tests.making import until

KEY = "sk-secret-0123456789"
ASK = Request(({"role": "user", "content": "Why?"},), 300)
SCHEMA = {"type": "object", "properties": {"critique": {"type": "string"}, "reason": {"type": "string"}}}
PATIENT = Deadlines(first_token=10, between_tokens=10, call=20)


class Observer:
    """Keeps what a call tells, and that it tells it in order."""

    def __init__(self):
        self.endpoint = None
        self.policy = Policy()
        self.attempts = []
        self.begun = []
        self.grown = []
        self.thinking = 0
        self.open = False

    async def sending(self):
        assert not self.open
        self.open = True
        return Way(self.endpoint, self.policy)

    def began(self, attempt):
        assert self.open
        self.begun.append((attempt.generation, attempt.first_token is not None))

    def grew(self, text):
        assert self.open
        self.grown.append(text)
        self.thinking += not text

    async def ended(self, attempt):
        assert self.open
        self.open = False
        self.attempts.append(attempt)


async def call(url, request=ASK, deadlines=PATIENT, observer=None, repeats=1, **endpoint):
    """The last attempt, and who observed."""
    observer = observer or Observer()
    given = {
        "base_url": url,
        "api_key": KEY,
        "kind": "compatible",
        "model_id": "fake/alpha",
        "private": True,
        **endpoint,
    }
    observer.endpoint = Endpoint(**given)
    async with connecting.new_transport() as transport:
        attempt = await calling.call(transport, request, deadlines, observer, repeats=repeats)
    assert not observer.open
    assert attempt is observer.attempts[-1]
    assert attempt.text == "".join(observer.grown)
    assert KEY not in attempt.error
    assert KEY not in repr(attempt)
    return attempt, observer


@pytest.fixture
def hasty():
    """Retries without waiting."""
    stamina.set_testing(True, attempts=100)
    yield
    stamina.set_testing(False)


async def test_an_answer(fake):
    attempt, observer = await call(fake.url)
    assert (attempt.outcome, attempt.error) == (Outcome.COMPLETE, "")
    assert len(attempt.text) > 40
    assert attempt.pieces == len(observer.grown) == 20
    assert attempt.usage["completion_tokens"] == 20
    assert attempt.generation == "gen-0"
    assert attempt.first_token is not None


class TestEveryFault:
    @pytest.mark.parametrize(
        ("fault", "outcome", "words"),
        [
            ("refuse_auth", Outcome.FAILED, "refused the API key. It says: Incorrect API key provided."),
            ("context_exceeded", Outcome.FAILED, "longer than this model can read"),
            ("redirect", Outcome.FAILED, "redirects elsewhere, which is not followed"),
            ("not_json", Outcome.FAILED, "not the OpenAI-compatible protocol"),
            ("malformed_json", Outcome.TRUNCATED, "something that is not JSON"),
            ("utf8_split", Outcome.COMPLETE, ""),
            ("crlf", Outcome.COMPLETE, ""),
            ("cut", Outcome.TRUNCATED, "broke off before the end"),
            ("no_done", Outcome.COMPLETE, ""),
            ("no_finish", Outcome.TRUNCATED, "without saying that it was finished"),
            ("no_usage", Outcome.COMPLETE, ""),
            ("length", Outcome.TRUNCATED, "reached the most tokens it may write"),
            ("content_filter", Outcome.FILTERED, "content filter stopped"),
            ("error_after", Outcome.TRUNCATED, "It says: Provider returned error"),
            ("empty", Outcome.EMPTY, "The model returned no text."),
            ("reasoning", Outcome.COMPLETE, ""),
            ("empty_thinking", Outcome.EMPTY, "spent all its tokens on thinking"),
            ("refusal", Outcome.REFUSED, "The model declined: I can't help with that."),
            ("fixed_text", Outcome.EMPTY, "The model returned no text."),
            ("nul", Outcome.COMPLETE, ""),
            ("bidi", Outcome.COMPLETE, ""),
            ("html", Outcome.COMPLETE, ""),
        ],
    )
    async def test_it_has_its_outcome_and_its_words_and_is_not_asked_again(self, fake, fault, outcome, words):
        fake.script(fault=fault)
        attempt, observer = await call(fake.url)
        assert attempt.outcome is outcome
        assert words in attempt.error
        assert bool(words) == bool(attempt.error)
        assert len(observer.attempts) == len(fake.requests()) == 1
        attempt.text.encode()
        assert "\x00" not in attempt.text

    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            ("rate_limited", "asked too often just now. It says: Rate limit reached."),
            ("server_error", "failed on its side (HTTP 500). It says: The server had an error."),
            ("unavailable", "(HTTP 503). It says: The model is overloaded."),
            ("error_first", "failed on its side (HTTP 502). It says: Provider returned error."),
        ],
    )
    async def test_what_may_pass_is_tried_twice_and_then_told(self, fake, hasty, fault, words):
        fake.script(fault=fault)
        attempt, observer = await call(fake.url)
        assert attempt.outcome is Outcome.FAILED
        assert words in attempt.error
        assert len(observer.attempts) == len(fake.requests()) == 2

    async def test_no_way_to_the_provider_is_tried_twice_and_then_told(self, hasty):
        attempt, observer = await call("http://127.0.0.1:9/v1")
        assert attempt.outcome is Outcome.FAILED
        assert "http://127.0.0.1:9/v1 cannot be reached" in attempt.error
        assert len(observer.attempts) == 2

    async def test_a_line_cut_before_the_first_byte_is_tried_again(self, fake, hasty):
        fake.script(raw=[], bare=True, times=1)
        attempt, observer = await call(fake.url)
        assert attempt.outcome is Outcome.COMPLETE
        assert "closed the connection without an answer" in observer.attempts[0].error
        assert observer.attempts[0].error.endswith("bills it, is not known.")
        assert [each.unknown for each in observer.attempts] == [True, False]

    @pytest.mark.parametrize("name", ["prose_ballot", "bold_ranking", "broken_ballot", "abstain_ballot"])
    async def test_a_strange_ballot_is_an_answer_like_any_other(self, fake, name):
        fake.script(fault=name)
        attempt, _ = await call(fake.url)
        assert attempt.outcome is Outcome.COMPLETE

    async def test_the_whole_table_is_covered(self):
        from bench import faults

        tested = {mark.args[1][n][0] for mark in _tables() for n in range(len(mark.args[1]))}
        elsewhere = {
            *("reject_schema", "no_headers", "hang", "slow_first", "slow_tokens", "huge_line", "ten_megabytes"),
            *("prose_ballot", "bold_ranking", "broken_ballot", "abstain_ballot"),
            *("duplicate_ballot", "unknown_label_ballot"),
        }
        assert tested | elsewhere == set(faults.FAULTS)


def _tables():
    for name in dir(TestEveryFault):
        for mark in getattr(getattr(TestEveryFault, name), "pytestmark", ()):
            if mark.args[0] in {("fault", "outcome", "words"), ("fault", "words")}:
                yield mark


class TestTheRetry:
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 408])
    async def test_once_and_then_an_answer(self, fake, hasty, status):
        fake.script(status=status, body={"error": {"message": "Not now."}}, times=1)
        attempt, observer = await call(fake.url)
        assert attempt.outcome is Outcome.COMPLETE
        assert [each.outcome for each in observer.attempts] == [Outcome.FAILED, Outcome.COMPLETE]
        assert "Not now." in observer.attempts[0].error

    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
    async def test_not_where_it_would_be_no_better(self, fake, hasty, status):
        fake.script(status=status, body={"error": {"message": "No."}})
        attempt, _ = await call(fake.url)
        assert (attempt.outcome, attempt.text) == (Outcome.FAILED, "")
        assert "It says: No." in attempt.error
        assert len(fake.requests()) == 1

    @pytest.mark.parametrize("code", [400, 401, 402, 403, 404, 422])
    async def test_neither_where_the_stream_says_so(self, fake, hasty, code):
        fake.script(fault="error_first", n=code, text="Your input was flagged.")
        attempt, _ = await call(fake.url)
        assert (attempt.outcome, attempt.fault) == (Outcome.FAILED, None)
        assert "It says: Your input was flagged." in attempt.error
        assert len(fake.requests()) == 1

    async def test_after_as_long_as_the_provider_says(self, fake):
        fake.script(fault="rate_limited", n=1, times=1)
        attempt, _ = await call(fake.url)
        assert attempt.outcome is Outcome.COMPLETE
        first, second = fake.requests()
        assert second["received_ns"] - first["last_byte_ns"] >= 990_000_000

    async def test_as_often_as_the_rules_say(self, fake, hasty):
        fake.script(status=503)
        observer = Observer()
        observer.policy = Policy(attempts=4)
        await call(fake.url, observer=observer)
        assert len(fake.requests()) == len(observer.attempts) == 4

    async def test_once_where_it_may_have_been_carried_out(self, fake, hasty):
        """Who reads the request and closes the connection may have worked on it, and bill it."""
        fake.script(raw=[], bare=True)
        observer = Observer()
        observer.policy = Policy(attempts=4)
        await call(fake.url, observer=observer)
        assert len(fake.requests()) == len(observer.attempts) == 2

    @pytest.mark.parametrize("status", [408, 504, 524])
    async def test_once_where_somebody_else_noticed_that_it_took_too_long(self, fake, hasty, status):
        fake.script(status=status)
        observer = Observer()
        observer.policy = Policy(attempts=4)
        attempt, _ = await call(fake.url, observer=observer)
        assert len(fake.requests()) == 2
        assert [each.unknown for each in observer.attempts] == [True, True]
        assert "not known" in attempt.error

    async def test_never_where_the_rules_say_so(self, fake, hasty):
        fake.script(status=503)
        observer = Observer()
        observer.policy = Policy(attempts=1)
        await call(fake.url, observer=observer)
        assert len(fake.requests()) == 1

    @pytest.mark.parametrize(("status", "told", "requests"), [(500, "false", 1), (400, "true", 2), (429, "no idea", 2)])
    async def test_as_the_provider_says_itself(self, fake, hasty, status, told, requests):
        fake.script(status=status, headers={"x-should-retry": told}, body={})
        await call(fake.url)
        assert len(fake.requests()) == requests

    async def test_after_a_date_too(self, fake, hasty):
        later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
        fake.script(status=503, headers={"Retry-After": later}, body={})
        attempt, _ = await call(fake.url)
        assert re.search(r"It asks to wait 3,(600|59\d) seconds, which is longer than this site waits", attempt.error)
        assert len(fake.requests()) == 1

    async def test_not_where_the_wait_is_longer_than_the_rules_allow(self, fake, hasty):
        fake.script(fault="rate_limited", n=121)
        await call(fake.url)
        assert len(fake.requests()) == 1
        observer = Observer()
        observer.policy = Policy(longest_wait=121)
        await call(fake.url, observer=observer)
        assert len(fake.requests()) == 3

    async def test_what_never_went_out_says_so(self, fake, hasty):
        attempt, _ = await call("http://127.0.0.1:9/v1")
        assert not attempt.sent
        attempt, _ = await call(fake.url, api_key="no key\n")
        assert not attempt.sent
        attempt, _ = await call(fake.url)
        assert attempt.sent

    async def test_once_and_no_more(self, fake):
        fake.script(fault="rate_limited", n=0)
        await call(fake.url)
        assert len(fake.requests()) == 2

    async def test_not_where_the_wait_would_be_too_long(self, fake):
        fake.script(fault="rate_limited", n=3600)
        attempt, _ = await call(fake.url)
        assert "asked too often" in attempt.error
        assert len(fake.requests()) == 1

    @pytest.mark.parametrize("fault", ["error_after", "cut", "malformed_json"])
    async def test_never_once_something_has_come(self, fake, hasty, fault):
        fake.script(fault=fault)
        attempt, _ = await call(fake.url)
        assert attempt.text
        assert len(fake.requests()) == 1

    async def test_never_once_the_model_was_thinking(self, fake, hasty):
        thought = {"choices": [{"delta": {"reasoning": "Hm."}}]}
        fake.script(events=[[0, thought], [0, {"error": {"message": "Gone.", "code": 502}}]])
        attempt, _ = await call(fake.url)
        assert (attempt.outcome, attempt.text) == (Outcome.FAILED, "")
        assert len(fake.requests()) == 1


class TestTheSchema:
    request = Request(ASK.messages, 300, None, SCHEMA)

    async def test_a_provider_that_refuses_it_is_asked_again_without(self, fake):
        fake.script(fault="reject_schema")
        attempt, observer = await call(fake.url, self.request)
        assert attempt.outcome is Outcome.COMPLETE
        assert [("response_format" in request["body"]) for request in fake.requests()] == [True, False]
        assert [each.outcome for each in observer.attempts] == [Outcome.FAILED, Outcome.COMPLETE]
        assert observer.attempts[0].error == "The provider does not take a JSON schema."

    async def test_neither_does_one_that_refuses_it_in_its_stream_get_it_again(self, fake):
        fake.script({"has_schema": True}, fault="error_first", n=400, text="'response_format' is not supported")
        attempt, observer = await call(fake.url, self.request)
        assert attempt.outcome is Outcome.COMPLETE
        assert "does not take a JSON schema" in observer.attempts[0].error
        assert len(fake.requests()) == 2

    async def test_it_is_not_asked_again_once_something_has_come(self, fake):
        chunk = {"choices": [{"delta": {"content": "It is"}}]}
        refused = {"error": {"message": "failed to parse grammar", "code": 400}}
        fake.script(events=[[0, chunk], [0, refused]])
        attempt, _ = await call(fake.url, self.request)
        assert (attempt.outcome, attempt.text, attempt.fault) == (Outcome.TRUNCATED, "It is", None)
        assert len(fake.requests()) == 1

    async def test_without_is_tried_once_more_as_well(self, fake, hasty):
        fake.script(fault="reject_schema")
        fake.script({"has_schema": False}, fault="server_error", times=1)
        attempt, _ = await call(fake.url, self.request)
        assert attempt.outcome is Outcome.COMPLETE
        assert [("response_format" in request["body"]) for request in fake.requests()] == [True, False, False]

    async def test_a_model_that_takes_it_is_asked_once(self, fake):
        attempt, _ = await call(fake.url, self.request)
        assert set(json.loads(attempt.text)) == {"critique", "reason"}
        assert len(fake.requests()) == 1


class TestTheEnd:
    last = {"choices": [{"delta": {"content": "It is blue."}, "finish_reason": "stop"}]}
    failed = {"choices": [{"delta": {}, "finish_reason": "error"}]}

    @pytest.mark.parametrize("after", [b"", b"data: [DONE]\n\n"])
    async def test_what_said_that_it_is_finished_is_complete_though_the_line_breaks_then(self, fake, after):
        """It was paid for; to be asked again, or in its place, would be paid for twice."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n"
        fake.script(raw=[[0, head + b"data: " + json.dumps(self.last).encode() + b"\n\n" + after]], bare=True)
        attempt, _ = await call(fake.url)
        assert (attempt.outcome, attempt.text, attempt.error) == (Outcome.COMPLETE, "It is blue.", "")
        assert attempt.fault is False

    async def test_a_finish_for_a_reason_that_nobody_knows_is_no_success_and_its_word_is_told(self, fake):
        chunk = {"choices": [{"delta": {"content": "It is blue."}, "finish_reason": "Something new"}]}
        fake.script(events=[[0, chunk], [0, "[DONE]"]])
        attempt, _ = await call(fake.url)
        assert (attempt.outcome, attempt.text, attempt.fault) == (Outcome.TRUNCATED, "It is blue.", False)
        assert attempt.error == "It ended for a reason that this site does not know: “Something new”."

    async def test_its_id_is_told_as_soon_as_the_headers_say_it_should_nothing_more_come(self, fake):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Generation-Id: gen-7\r\n\r\n"
        fake.script(raw=[[0, head]], bare=True)
        attempt, observer = await call(fake.url)
        assert observer.begun == [("gen-7", False)]
        assert (attempt.outcome, attempt.generation, attempt.unknown) == (Outcome.FAILED, "gen-7", False)

    async def test_or_nothing_more_comes(self, fake, monkeypatch):
        """What may still come is the usage, which is not waited for as long as a word."""
        monkeypatch.setattr(calling, "USAGE_SECONDS", 0.1)
        fake.script(events=[[0, self.last], [3, "[DONE]"]])
        attempt, _ = await call(fake.url)
        assert (attempt.outcome, attempt.text, attempt.error) == (Outcome.COMPLETE, "It is blue.", "")
        await gone(fake)

    async def test_the_usage_is_waited_for_though_a_word_would_not_be(self, fake):
        usage = {"prompt_tokens": 10, "completion_tokens": 3}
        fake.script(events=[[0, self.last], [0.5, {"choices": [], "usage": usage}], [0, "[DONE]"]])
        attempt, _ = await call(fake.url, deadlines=Deadlines(10, 0.1, 10))
        assert (attempt.outcome, attempt.usage) == (Outcome.COMPLETE, usage)

    async def test_or_the_call_is_at_its_deadline(self, fake):
        fake.script(events=[[0, self.last], [30, "[DONE]"]])
        attempt, _ = await call(fake.url, deadlines=Deadlines(10, 10, 3))
        assert (attempt.outcome, attempt.text, attempt.error) == (Outcome.COMPLETE, "It is blue.", "")
        assert attempt.fault is False

    @pytest.mark.parametrize(
        "then",
        [
            {"error": {"message": "Gone.", "code": 502}},
            {"error": {"message": "Flagged.", "code": 403}},
            failed,
            '{"choices": [',
        ],
    )
    async def test_or_what_comes_is_an_error_or_nonsense(self, fake, then):
        fake.script(events=[[0, self.last], [0, then]])
        attempt, _ = await call(fake.url)
        assert (attempt.outcome, attempt.text, attempt.error) == (Outcome.COMPLETE, "It is blue.", "")
        assert attempt.fault is False
        assert len(fake.requests()) == 1

    @pytest.mark.parametrize(
        ("finish", "outcome", "words"),
        [
            ("length", Outcome.TRUNCATED, "reached the most tokens"),
            ("content_filter", Outcome.FILTERED, "content filter stopped"),
            ("refusal", Outcome.REFUSED, "declined to answer"),
        ],
    )
    async def test_what_it_said_of_its_end_holds_then(self, fake, finish, outcome, words):
        last = {"choices": [{"delta": {"content": "It is blue."}, "finish_reason": finish}]}
        fake.script(events=[[0, last], [0, {"error": {"message": "Gone.", "code": 502}}]])
        attempt, _ = await call(fake.url)
        assert attempt.outcome is outcome
        assert words in attempt.error
        assert "Gone." not in attempt.error

    async def test_an_error_is_no_end(self, fake):
        """What came is kept as cut off, and tells against the model."""
        fake.script(events=[[0, {"choices": [{"delta": {"content": "It is"}}]}], [0, self.failed]])
        attempt, _ = await call(fake.url)
        assert (attempt.outcome, attempt.text, attempt.fault) == (Outcome.TRUNCATED, "It is", True)
        assert attempt.error == "The provider failed while the model was writing."


async def test_where_there_is_nowhere_to_send_it_the_call_says_so(hasty):
    class Nowhere(Observer):
        async def sending(self):
            await super().sending()
            raise errors.ProviderGone("Fake has been switched off.")

    observer = Nowhere()
    async with connecting.new_transport() as transport:
        attempt = await calling.call(transport, ASK, PATIENT, observer)
    assert (attempt.outcome, attempt.error) == (Outcome.FAILED, "Fake has been switched off.")
    assert observer.attempts == [attempt]


class TestDeadlines:
    async def test_no_sign_of_life(self, fake):
        fake.script(fault="no_headers")
        attempt, _ = await call(fake.url, deadlines=Deadlines(0.1, 10, 10))
        assert attempt.outcome is Outcome.TIMED_OUT
        assert "gave no sign of life for 0 seconds" in attempt.error

    async def test_a_head_alone_is_no_sign_of_life(self, fake):
        fake.script(fault="hang")
        attempt, _ = await call(fake.url, deadlines=Deadlines(0.1, 10, 10))
        assert attempt.outcome is Outcome.TIMED_OUT

    async def test_neither_are_comments(self, fake):
        fake.script(events=[[0.03, ": PROCESSING"]] * 30)
        attempt, _ = await call(fake.url, deadlines=Deadlines(0.1, 10, 10))
        assert attempt.outcome is Outcome.TIMED_OUT

    async def test_neither_are_events_without_a_word(self, fake):
        fake.script(events=[[0.03, {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]] * 30)
        attempt, _ = await call(fake.url, deadlines=Deadlines(0.1, 10, 10))
        assert attempt.outcome is Outcome.TIMED_OUT

    async def test_a_byte_now_and_then_is_none_either(self, fake):
        fake.script(fault="slow_tokens", n=0.02)
        attempt, _ = await call(fake.url, deadlines=Deadlines(0.2, 10, 10))
        assert attempt.outcome is Outcome.TIMED_OUT

    async def test_silence_keeps_what_had_come(self, fake):
        fake.script(fault="hang", n=5)
        attempt, _ = await call(fake.url, deadlines=Deadlines(10, 0.1, 10))
        assert attempt.outcome is Outcome.TRUNCATED
        assert attempt.text
        assert "fell silent for 0 seconds" in attempt.error

    async def test_the_whole_call(self, fake):
        fake.script(tokens_per_second=50, tokens=200)
        attempt, _ = await call(fake.url, deadlines=Deadlines(10, 10, 0.3))
        assert attempt.outcome is Outcome.TRUNCATED
        assert attempt.text
        assert "not done after 0 seconds" in attempt.error

    async def test_thinking_is_a_sign_of_life(self, fake):
        fake.script(fault="reasoning", n=15, tokens_per_second=50, tokens=5)
        attempt, _ = await call(fake.url, deadlines=Deadlines(0.25, 0.25, 10))
        assert attempt.outcome is Outcome.COMPLETE

    async def test_what_was_sent_and_stays_silent_is_repeated_once(self, fake, hasty):
        fake.script(fault="no_headers")
        _attempt, observer = await call(fake.url, deadlines=Deadlines(10, 10, 0.5))
        assert [each.outcome for each in observer.attempts] == [Outcome.TIMED_OUT] * 2
        for each in observer.attempts:
            assert each.error.endswith("Whether the provider carried it out, and bills it, is not known.")
        assert all(each.sent for each in observer.attempts)
        assert len(fake.requests()) == 2

    async def test_the_repeat_may_go_well(self, fake, hasty):
        fake.script(fault="no_headers", times=1)
        _attempt, observer = await call(fake.url, deadlines=Deadlines(1, 10, 10))
        assert [each.outcome for each in observer.attempts] == [Outcome.TIMED_OUT, Outcome.COMPLETE]

    async def test_it_is_not_repeated_where_the_rules_say_so(self, fake, hasty):
        fake.script(fault="no_headers")
        observer = Observer()
        observer.policy = Policy(repeats=0)
        await call(fake.url, deadlines=Deadlines(0.5, 10, 10), observer=observer)
        assert len(fake.requests()) == 1

    async def test_it_is_not_repeated_where_an_earlier_one_was_lost_already(self, fake, hasty):
        fake.script(fault="no_headers")
        await call(fake.url, deadlines=Deadlines(0.5, 10, 10), repeats=0)
        assert len(fake.requests()) == 1

    async def test_what_fell_silent_after_a_word_is_not_repeated(self, fake, hasty):
        fake.script(fault="hang", n=5)
        await call(fake.url, deadlines=Deadlines(10, 0.1, 10))
        assert len(fake.requests()) == 1

    async def test_a_connection_that_takes_too_long_is_given_up_and_was_never_sent(self, hasty):
        # A socket that listens and whose queue is full: the connection is never made.
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            others = [socket.socket() for _ in range(4)]
            for each in others:
                each.setblocking(False)
                each.connect_ex(address)
            observer = Observer()
            observer.policy = Policy(connect=0.2)
            try:
                attempt, _ = await call(f"http://127.0.0.1:{address[1]}/v1", observer=observer)
            finally:
                for each in others:
                    each.close()
        assert "cannot be reached" in attempt.error
        assert not any(each.sent for each in observer.attempts)

    async def test_patience_enough_for_a_slow_start(self, fake):
        fake.script(fault="slow_first", n=0.2)
        attempt, _ = await call(fake.url, deadlines=Deadlines(5, 0.1, 10))
        assert attempt.outcome is Outcome.COMPLETE


class TestText:
    async def test_thinking_never_gets_into_it(self, fake):
        plain, _ = await call(fake.url)
        fake.script(fault="reasoning", n=30)
        attempt, observer = await call(fake.url)
        assert attempt.text == plain.text
        assert observer.thinking == 30
        assert attempt.thought
        assert attempt.pieces == 50

    async def test_characters_cut_in_two_are_whole(self, fake):
        fake.script(fault="utf8_split")
        attempt, _ = await call(fake.url)
        assert "日本語" in attempt.text
        assert "🏳️‍🌈" in attempt.text
        assert "�" not in attempt.text

    async def test_line_ends_cut_in_two_are_whole(self, fake):
        plain, _ = await call(fake.url)
        fake.script(fault="crlf")
        attempt, _ = await call(fake.url)
        assert attempt.text == plain.text

    async def test_a_very_long_line(self, fake):
        fake.script(fault="huge_line")
        attempt, _ = await call(fake.url)
        assert attempt.outcome is Outcome.COMPLETE
        assert len(attempt.text) == 1_000_000

    async def test_what_no_database_holds_is_taken_out(self, fake):
        fake.script(fault="nul")
        attempt, _ = await call(fake.url)
        assert attempt.text.startswith("before")
        assert "after" in attempt.text
        assert "�" in attempt.text

    @pytest.mark.parametrize(
        "respond", [{"fault": "ten_megabytes"}, {"fault": "huge_line", "n": 3_000_000}], ids=["many parts", "one part"]
    )
    async def test_ten_megabytes_are_cut_at_two_million_characters(self, fake, respond):
        fake.script(**respond)
        attempt, _ = await call(fake.url)
        assert attempt.outcome is Outcome.TRUNCATED
        assert len(attempt.text) == calling.TEXT_CHARACTERS == 2_000_000
        assert "longer than two million characters" in attempt.error

    async def test_blanks_alone_are_no_text(self, fake):
        fake.script(fault="fixed_text", text=" \n \n ")
        attempt, _ = await call(fake.url)
        assert (attempt.outcome, attempt.error) == (Outcome.EMPTY, "The model returned no text.")

    async def test_an_endless_refusal_is_not_kept_whole(self, fake):
        fake.script(fault="refusal", text="No, and again no. " * 1000)
        attempt, _ = await call(fake.url)
        assert attempt.outcome is Outcome.REFUSED
        assert len(attempt.error) < 600

    async def test_a_stream_without_usage_reports_none(self, fake):
        fake.script(fault="no_usage")
        attempt, _ = await call(fake.url)
        assert attempt.usage is None

    async def test_a_key_that_the_provider_repeats_stays_with_administrators(self, fake):
        fake.script(status=401, body={"error": {"message": f"Incorrect API key provided: {KEY}."}})
        attempt, _ = await call(fake.url)
        assert "It says: Incorrect API key provided: " in attempt.error
        assert KEY not in attempt.error


class TestStopping:
    async def test_it_closes_the_connection_and_keeps_what_had_come(self, fake):
        fake.configure(tokens_per_second=100, tokens=1000)
        observer = Observer()
        task = asyncio.create_task(call(fake.url, Request(ASK.messages, 1000), observer=observer))
        await until(lambda: len(observer.grown) >= 5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        (attempt,) = observer.attempts
        assert (attempt.outcome, attempt.error, attempt.unknown) == (Outcome.CANCELLED, "Stopped.", False)
        assert attempt.text == "".join(observer.grown)
        await gone(fake)

    async def test_it_works_before_the_first_byte_too(self, fake):
        fake.script(fault="no_headers")
        observer = Observer()
        task = asyncio.create_task(call(fake.url, observer=observer))
        await until(fake.requests)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        (attempt,) = observer.attempts
        assert (attempt.outcome, attempt.unknown) == (Outcome.CANCELLED, True)
        assert attempt.error.endswith("is not known.")
        await gone(fake)

    async def test_it_works_while_waiting_for_the_second_try(self, fake):
        fake.script(fault="rate_limited", n=60)
        observer = Observer()
        task = asyncio.create_task(call(fake.url, observer=observer))
        await until(lambda: observer.attempts)
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert [each.outcome for each in observer.attempts] == [Outcome.FAILED]
        assert len(fake.requests()) == 1

    @pytest.mark.parametrize("respond", [{"fault": "no_headers"}, {"raw": [], "bare": True}])
    async def test_what_is_stopped_before_it_is_repeated_does_not_say_that_it_was(self, fake, respond):
        fake.script(**respond)
        observer = Observer()
        task = asyncio.create_task(call(fake.url, deadlines=Deadlines(1, 10, 10), observer=observer))
        await until(lambda: observer.attempts)
        task.cancel()
        await asyncio.wait([task])
        (attempt,) = observer.attempts
        assert attempt.error.endswith("Whether the provider carried it out, and bills it, is not known.")

    @pytest.mark.parametrize("fault", ["no_headers", "hang"])
    async def test_a_deadline_closes_the_connection_too(self, fake, fault):
        fake.script(fault=fault)
        await call(fake.url, deadlines=Deadlines(0.1, 0.1, 5))
        await gone(fake)


async def gone(fake):
    """Wait until the provider has seen its client leave."""
    await until(lambda: fake.requests()[0]["disconnected"])
