"""One call, over a real socket, against everything that a provider may do."""

import json

import pytest

from council.core import errors
from council.core.values import Outcome
from council.providers import calling, connecting
from council.providers.calling import Deadlines
from council.tests.calling_out import ASK, KEY, PATIENT, Observer, call, gone


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
