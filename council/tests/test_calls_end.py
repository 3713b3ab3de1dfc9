"""One call, over a real socket, that a deadline or a person ends."""

import asyncio
import socket

import pytest

from council.core.values import Outcome, Request
from council.providers.calling import Deadlines
from council.providers.policy import Policy
from council.tests.calling_out import ASK, Observer, call, gone
from council.tests.making import until


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
