"""`manage.py ask` and `manage.py cancel`: as processes where exit code, streams or database are the point."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from accounts.models import SHELL_EMAIL, User
from bench.provider import Provider
from conversations.management.commands import ask
from conversations.models import Conversation
from conversations.tests import cast
from conversations.tests.database import environment, forget_jobs
from conversations.working import worker_alive
from council.models import Answer, Council, Deliberation
from governance.tests.trail import may_be_truncated

pytestmark = [pytest.mark.processes, pytest.mark.django_db, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds; a busy machine is slow, and no test asks how slow
QUESTION = "Why is the sky blue?"
TITLE = "\x1b]0;owned\x07"
"""What gives a terminal's window another title."""
KEYS = {
    "chairman",
    "question",
    "council",
    "practice",
    "answers",
    "reviews",
    "standings",
    "synthesis",
    "seconds",
    "cost",
    "unknown_calls",
}
FIGURES = {"outcome", "error", "seconds", "input_tokens", "output_tokens", "cost"}
ANSWER_KEYS = {"seat", "model", "stand_in", "text"} | FIGURES
REVIEW_KEYS = {"seat", "stand_in", "outcome", "error", "ballot", "text"}

MAKE_A_COUNCIL = """
from django.core.management import call_command
from conversations.tests import cast
from conversations.tests.database import environment, forget_jobs
call_command("migrate", verbosity=0)
cast.council("{}", slug="slow")
"""


@dataclass
class Ended:
    """A command that has ended: its exit code, and what it said where."""

    code: int
    output: str
    errors: str


class Manage:
    """`manage.py` with arguments, its output and its errors apart."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self._streams = [Path(tempfile.mkstemp(dir=folder)[1]) for _ in range(2)]
        ours = {"DATABASE_URL", "SECRET_KEY", "FIELD_KEYS", "DJANGO_ALLOW_ASYNC_UNSAFE"}
        clean = {name: value for name, value in os.environ.items() if name not in ours}
        with self._streams[0].open("w") as output, self._streams[1].open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env={**clean, **environment},
                stdout=output,
                stderr=errors,
                start_new_session=True,  # Ctrl-C reaches it and its children, and not the tests
            )

    @property
    def errors(self) -> str:
        return self._streams[1].read_text()

    def says(self, pattern: str) -> re.Match[str]:
        """Wait for words that match in the error stream."""
        wait_until(lambda: re.search(pattern, self.errors) or self.process.poll() is not None)
        match = re.search(pattern, self.errors)
        assert match, f"it ended and said:\n{self.errors}"
        return match

    def ends(self) -> Ended:
        code = self.process.wait(PATIENCE)
        return Ended(code, self._streams[0].read_text(), self.errors)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()  # it has a worker to end
            self.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """What a council is called after is what its models do."""
    with Provider(tokens=20, tokens_per_second=0, first_token_ms=1) as provider:
        for model in ("dead-0", "dead-1", "dead-2", "lame-1"):
            provider.script({"model": model}, fault="refuse_auth")
        provider.script(
            {"kind": "synthesis", "model": "lame-3"}, fault="fixed_text", text=f"Yes{TITLE}, \x9b2Jwe should."
        )
        for model in ("slow-0", "slow-1", "slow-2"):
            provider.script({"model": model}, tokens=5000, tokens_per_second=20)
        yield provider


@pytest.fixture(scope="module")
def asked(provider, tmp_path_factory, django_db_setup, django_db_blocker) -> Iterator[dict[str, Ended]]:
    """How `ask` ended for each council. All were asked at once, of one worker; no worker is left."""
    with django_db_blocker.unblock():
        forget_jobs()
        cast.alice()
        for slug in ("good", "only", "dead", "lame", "slow", "left"):
            cast.council(provider.url, slug=slug)
        var = tmp_path_factory.mktemp("commands")
        known = environment(VAR_DIR=str(var))
        worker = Manage(var, "worker", **known)
        started: dict[str, Manage] = {}
        try:
            wait_until(worker_alive)
            asking = (
                ("good", "--json", "--user", "Alice@example.org"),
                ("only", "--answers-only"),
                ("dead",),
                ("lame",),
                ("none",),
            )
            for slug, *options in asking:
                started[slug] = Manage(var, "ask", QUESTION, "--council", slug, *options, **known)
            ended = {slug: each.ends() for slug, each in started.items()}
            worker.process.terminate()
            assert worker.ends().code == 0
            yield ended
        finally:
            for each in (worker, *started.values()):
                each.close()
            with may_be_truncated():
                call_command("flush", interactive=False, verbosity=0)
            forget_jobs()
            connection.close()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def refused(*arguments: str, **options: object) -> CommandError:
    """Why a command refused."""
    with pytest.raises(CommandError) as caught:
        call_command(*arguments, stdout=StringIO(), stderr=StringIO(), **options)
    return caught.value


def test_a_complete_answer_as_one_json_object(asked):
    ended = asked["good"]
    assert ended.code == 0
    told = json.loads(ended.output)
    assert told.keys() == KEYS
    assert (told["question"], told["council"]) == (QUESTION, "Council good")
    assert all(each.keys() == ANSWER_KEYS for each in told["answers"])
    assert all(each.keys() == REVIEW_KEYS for each in told["reviews"])
    for part in ("answers", "reviews", "standings"):
        assert sorted(each["seat"] for each in told[part]) == ["A", "B", "C"]
    assert {each["outcome"] for each in told["answers"]} == {"complete"}
    assert all(each["text"] and each["seconds"] is not None for each in told["answers"])
    assert {each["ballot"]["state"] for each in told["reviews"]} == {"valid"}
    assert told["synthesis"]
    assert told["seconds"] > 0
    assert told["cost"] >= sum(each["cost"] for each in told["answers"]) > 0


def test_progress_goes_to_the_error_stream(asked):
    for line in ("Council good deliberates", "A answered: complete", "C reviewed: ballot valid"):
        assert line in asked["good"].errors
        assert line not in asked["good"].output


def test_progress_comes_in_its_order(asked):
    said = asked["good"].errors
    answered, reviewed = ([said.index(f"{letter} {did}:") for letter in "ABC"] for did in ("answered", "reviewed"))
    begun = [said.index(f"{stage} …") for stage in ("answering", "reviewing", "synthesising")]
    assert begun[0] < min(answered) < max(answered) < begun[1] < min(reviewed) < max(reviewed) < begun[2]


def test_without_a_council_answer_all_answers_are_printed(asked):
    ended = asked["only"]
    assert ended.code == 0
    answers = list(Answer.objects.filter(deliberation__council__slug="only").order_by("seat"))
    each = [f"{letter}, Model {seat}:\n\n{answers[seat].text}" for seat, letter in enumerate("ABC")]
    assert ended.output == "\n\n".join(each) + "\n"


def test_where_nobody_answers_it_fails_and_prints_no_answer(asked):
    ended = asked["dead"]
    assert (ended.code, ended.output) == (1, "")
    assert "No member answered." in ended.errors


def test_a_partial_answer_is_printed_and_has_a_code_of_its_own(asked):
    ended = asked["lame"]
    assert ended.code == 3
    assert Deliberation.objects.get(council__slug="lame").synthesis.text == f"Yes{TITLE}, \x9b2Jwe should."
    assert ended.output == "Yes]0;owned, 2Jwe should.\n"  # nothing that a terminal would obey
    assert "B did not answer" in ended.errors


def test_wrong_usage_says_what_there_is(asked):
    ended = asked["none"]
    assert (ended.code, ended.output) == (2, "")
    for slug in ("good", "dead", "lame"):
        assert slug in ended.errors


@pytest.mark.parametrize(
    ("question", "options", "word"),
    [
        (QUESTION, {"council": "none"}, "none"),
        (QUESTION, {"user": "nobody@example.org"}, "nobody@example.org"),
        (QUESTION, {"user": SHELL_EMAIL}, SHELL_EMAIL),
        (QUESTION, {"user": "\udcff@example.org"}, "--user is not UTF-8"),
        (QUESTION, {"council": "\udcff"}, "--council is not UTF-8"),
        ("Why\udcff?", {}, "The question is not UTF-8"),
        (" \n", {"here": True}, "Write a question"),
        ("x" * 60_000, {"here": True}, "60,000 characters"),
    ],
    ids=["council", "user", "shell", "user's bytes", "council's bytes", "bytes", "empty", "long"],
)
def test_wrong_usage_asks_nothing(asked, question, options, word):
    before = Conversation.objects.count()
    error = refused("ask", question, **options)
    assert error.returncode == 2
    assert word in str(error)
    assert Conversation.objects.count() == before


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # the latter where there is no locale
def test_an_input_that_is_no_text_is_wrong_usage(asked, monkeypatch, errors):
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"Why\xff?"), "utf-8", errors))
    error = refused("ask", "-")
    assert (error.returncode, str(error)) == (2, "The question is not UTF-8.")


def test_without_any_council_it_says_where_to_make_one(asked):
    councils = Council.objects.filter(enabled=True)
    slugs = list(councils.values_list("slug", flat=True))
    councils.update(enabled=False)
    try:
        error = refused("ask", QUESTION)
    finally:
        Council.objects.filter(slug__in=slugs).update(enabled=True)
    assert error.returncode == 2
    assert "under Administration, Councils" in str(error)


def test_without_a_worker_it_says_so_and_asks_nothing(asked):
    before = Conversation.objects.count()
    error = refused("ask", QUESTION)
    assert error.returncode == 1
    for word in ("No worker is alive", "manage.py up", "--here"):
        assert word in str(error)
    assert Conversation.objects.count() == before


@pytest.mark.parametrize("question", ["", "  ", "x" * 200_000])
def test_what_is_no_question_is_wrong_usage_with_a_worker_or_without(asked, question):
    assert refused("ask", question).returncode == 2


def test_it_does_not_wait_for_ever_for_a_worker_that_is_gone(asked, monkeypatch):
    alive = iter([True, True])
    monkeypatch.setattr(ask, "worker_alive", lambda: next(alive, False))
    monkeypatch.setattr(ask, "WORKER_START", 0.1)
    error = refused("ask", QUESTION, "--council", "slow")
    assert error.returncode == 1
    assert "worker is gone" in str(error)


def test_it_becomes_the_conversation_of_whoever_is_named(asked):
    conversation = Conversation.objects.get(turns__deliberation__council__slug="good")
    assert conversation.owner == User.objects.get(email="alice@example.org")
    browser = Client()
    browser.force_login(conversation.owner)
    assert browser.get(conversation.get_absolute_url()).status_code == 200


def test_without_a_name_it_belongs_to_an_account_that_cannot_sign_in(asked):
    owners = Conversation.objects.filter(turns__deliberation__council__slug__in=("dead", "lame")).values("owner__email")
    assert [each["owner__email"] for each in owners] == [SHELL_EMAIL] * 2
    shell = User.objects.get(email=SHELL_EMAIL)
    assert not shell.has_usable_password()
    browser = Client()
    for password in ("shell", shell.password):
        assert not browser.login(email=SHELL_EMAIL, password=password)
    browser.cookies["sessionid"] = cast.session_of(shell)
    assert browser.get("/").status_code == 302


def test_it_cancels_only_what_runs(asked):
    unknown = uuid4()
    error = refused("cancel", str(unknown))
    assert error.returncode == 1
    assert f"no deliberation {unknown}" in str(error)
    finished = Deliberation.objects.get(council__slug="good")
    error = refused("cancel", str(finished.pk))
    assert error.returncode == 1
    assert "over already: complete" in str(error)
    finished.refresh_from_db()
    assert not finished.cancel_requested


def test_it_brings_database_and_worker_and_can_be_stopped_from_elsewhere(provider):
    with tempfile.TemporaryDirectory(prefix="ask-") as folder:
        var = Path(folder) / "var"
        started = [Manage(folder, "shell", "--no-imports", "-c", MAKE_A_COUNCIL.format(provider.url), VAR_DIR=str(var))]
        try:
            made = started[0].ends()
            assert made.code == 0, made.errors
            assert not served(var)

            ask = Manage(folder, "ask", QUESTION, "--here", "--json", VAR_DIR=str(var))
            started.append(ask)
            ask.says("answering")
            wait_until(lambda: under_way(provider) >= 3)
            assert served(var)
            wanted = ask.says(r"Council slow deliberates \(([\w-]+)\)")[1]
            started.append(Manage(folder, "cancel", wanted, VAR_DIR=str(var)))
            cancelled = started[-1].ends()
            assert (cancelled.code, cancelled.output) == (0, "It is being stopped.\n"), cancelled.errors

            ended = ask.ends()
            assert ended.code == 1, ended.errors
            told = json.loads(ended.output)
            assert told.keys() == KEYS
            assert {each["outcome"] for each in told["answers"]} == {"cancelled"}
            assert all(each["text"] for each in told["answers"])
            assert "Traceback" not in ended.errors
            assert under_way(provider) == 0
            assert not served(var)
        finally:
            for each in started:
                each.close()


def test_ctrl_c_stops_the_deliberation_and_keeps_what_came(asked, tmp_path):
    ask = Manage(tmp_path, "ask", QUESTION, "--council", "slow", "--here", **environment(), VAR_DIR=str(tmp_path))
    try:
        ask.says("answering")
        wait_until(lambda: Answer.objects.filter(deliberation__council__slug="slow").exclude(text="").count() == 3)
        os.killpg(ask.process.pid, signal.SIGINT)
        ended = ask.ends()
    finally:
        ask.close()
    assert ended.code == 1
    assert "stopped: Stopped. What had come by then is kept." in ended.errors
    assert "Traceback" not in ended.errors
    found = Deliberation.objects.get(council__slug="slow")
    assert found.status == "cancelled"
    assert all(each.text for each in found.answers.all())


def test_told_to_stop_it_takes_its_worker_along(asked, tmp_path):
    ask = Manage(tmp_path, "ask", QUESTION, "--council", "left", "--here", **environment(), VAR_DIR=str(tmp_path))
    try:
        ask.says("deliberates")
        (worker,) = psutil.Process(ask.process.pid).children()
        # Its line is empty for a moment while it takes on the program that it is to run.
        wait_until(lambda: "worker" in worker.cmdline())
        ask.process.terminate()
        ask.ends()
        assert not worker.is_running()
    finally:
        ask.close()


def served(var: Path) -> bool:
    """Its database is there and a server holds it."""
    return (var / "postgres" / "postmaster.pid").exists()


def under_way(provider: Provider) -> int:
    """Answers that are being sent; the one to this look is not counted."""
    return provider.told()["under_way"]
