"""One call, over a real socket, that is tried again, or asked without a schema."""

import json
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from council.core.values import Outcome, Request
from council.providers.policy import Policy
from council.tests.calling_out import ASK, SCHEMA, Observer, call


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
