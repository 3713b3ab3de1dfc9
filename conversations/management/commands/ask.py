"""Ask a council from the shell: the same job as the site's, followed by its rows."""

import contextlib
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, connection

from accounts.models import User
from conversations import asking, deleting, markdown, results, trail
from conversations.asking import Refused
from conversations.working import worker_alive
from council.core.aliases import letter
from council.core.values import Mode, Outcome
from council.models import Contribution, Council, Deliberation

LOOK = 0.2
WORKER_START = 30

EXITS = {
    Deliberation.Status.COMPLETE: 0,
    Deliberation.Status.FAILED: 1,
    Deliberation.Status.CANCELLED: 1,
    Deliberation.Status.PARTIAL: 3,
}
USAGE = 2


class Command(BaseCommand):
    """Exit codes: 0 complete, 1 failed or stopped, 2 wrong usage, 3 partial."""

    help = (
        "Ask a council and wait for its answer. Progress goes to the error stream, the answer to the output. "
        "Ctrl-C stops the deliberation and keeps what came. Exit codes: 0 complete, 1 failed, 2 wrong usage, 3 partial."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The question, who asks whom, and the form of the output."""
        parser.add_argument("question", help="the question; - reads it from the input")
        parser.add_argument("--council", metavar="SLUG", help="which council; else the default one")
        parser.add_argument(
            "--user", metavar="EMAIL", help="whose conversation it becomes; else the shell's own account"
        )
        parser.add_argument("--answers-only", action="store_true", help="without reviews and the council's answer")
        parser.add_argument("--here", action="store_true", help="run a worker for as long as it takes")
        parser.add_argument("--json", action="store_true", help="print one JSON object with everything")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Ask, follow, print."""
        question = _read() if options["question"] == "-" else options["question"]
        for name, given in (("The question", question), ("--user", options["user"]), ("--council", options["council"])):
            if not _is_text(given or ""):
                raise CommandError(f"{name} is not UTF-8.", returncode=USAGE)
        user = self._user(options["user"])
        council = self._council(user, options["council"])
        mode = Mode.ANSWERS if options["answers_only"] else Mode.FULL
        try:
            question = asking.checked(question)
            if not options["here"] and not worker_alive():
                raise CommandError(
                    "No worker is alive, so nobody would answer. Start the site (`manage.py up`) or a worker "
                    "(`manage.py worker`), or add --here.",
                    returncode=1,
                )
            turn = asking.ask(user, question, council, mode, by="shell")
        except Refused as refused:
            trail.refused(user, refused.rule, refused.limit, "ask by the shell")
            raise CommandError(str(refused), returncode=USAGE) from refused
        with _worker() if options["here"] else contextlib.nullcontext() as worker:
            try:
                deliberation = self._follow(turn.deliberation, worker)
            except (OperationalError, InterfaceError) as error:
                raise CommandError(
                    "The database is gone: the site was stopped, perhaps. The question is kept, and goes on where it "
                    "was once the site runs again.",
                    returncode=1,
                ) from error
        if options["json"]:
            self.stdout.write(results.written(results.as_json(deliberation)))
        else:
            self._print(deliberation)
        sys.exit(EXITS[Deliberation.Status(deliberation.status)])

    def _user(self, email: str | None) -> User:
        if email is None:
            try:
                return User.objects.shell()
            except ValueError as error:
                raise CommandError(str(error), returncode=USAGE) from error
        user = User.objects.filter(email__iexact=email, is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active account with the address {email}.", returncode=USAGE)
        return user

    def _council(self, user: User, slug: str | None) -> Council:
        # The shell's account stands for whoever administers the machine: it may ask every council.
        usable = Council.objects.filter(enabled=True) if user.is_shell else Council.objects.usable_by(user)
        council = usable.filter(slug=slug).first() if slug else usable.first()
        if council is None:
            known = ", ".join(usable.values_list("slug", flat=True))
            if not known:
                nothing = "There is no council to ask: make one, or switch one on, under Administration, Councils."
                raise CommandError(nothing, returncode=USAGE)
            raise CommandError(f"No council {slug!r} to ask. There are: {known}.", returncode=USAGE)
        return council

    def _follow(self, deliberation: Deliberation, worker: subprocess.Popen[bytes] | None) -> Deliberation:
        """Wait for the end, telling on the error stream what happens."""
        told: set[str] = set()
        seen = time.monotonic()  # when there was a worker
        practice = " (practice model)" if deliberation.practice else ""
        self._say(told, f"{deliberation.council_name}{practice} deliberates ({deliberation.id})")
        while True:
            try:
                deliberation.refresh_from_db()
                self._tell(deliberation, told)
                if not deliberation.unfinished:
                    return deliberation
                if worker is not None and worker.poll() is not None:
                    raise CommandError("The worker ended before the deliberation did; see above.", returncode=1)
                if worker is not None or worker_alive():
                    seen = time.monotonic()
                elif time.monotonic() - seen > WORKER_START:
                    raise CommandError("The worker is gone. The question waits for the next one.", returncode=1)
                time.sleep(LOOK)
            except KeyboardInterrupt:
                if deliberation.cancel_requested:
                    raise
                connection.close()  # it may have been in the middle of a statement
                deleting.cancel_one(deliberation.pk, where="shell")
                self._say(told, "Stopping …")

    def _tell(self, deliberation: Deliberation, told: set[str]) -> None:
        ended = Contribution.State.ENDED
        # Reviews are read first: whoever reviews had every answer.
        reviews = list(deliberation.reviews.filter(state=ended))
        happened = {
            Deliberation.Stage.ANSWERING: [
                f"  {letter(row.seat)} answered: {row.outcome}, {row.seconds or 0:.1f} s {row.error}"
                for row in deliberation.answers.filter(state=ended)
            ],
            Deliberation.Stage.REVIEWING: [
                f"  {letter(row.seat)} reviewed: ballot {row.ballot_state} {row.ballot_reason}" for row in reviews
            ],
            Deliberation.Stage.SYNTHESISING: [],
        }
        # Each stage's lines below its own, also those of one that ended between two looks.
        for stage, lines in happened.items():
            if lines or deliberation.stage == stage:
                self._say(told, f"{stage.label} …")
            for line in lines:
                self._say(told, line.rstrip())

    def _say(self, told: set[str], line: str) -> None:
        if line not in told:
            told.add(line)
            self.stderr.write(markdown.clean(line), style_func=str)  # an error would be red

    def _print(self, deliberation: Deliberation) -> None:
        # A terminal obeys what a model or a provider may have put between the words.
        if asking.has_synthesis(deliberation):
            self.stdout.write(markdown.clean(asking.chairman_text(deliberation)))
        else:
            self._print_answers(deliberation)
        if deliberation.reason:
            self.stderr.write(markdown.clean(f"{deliberation.get_status_display()}: {deliberation.reason}"))

    def _print_answers(self, deliberation: Deliberation) -> None:
        """All that came, the best first, each below its letter, who wrote it, its place and how else it ended."""
        told = results.as_json(deliberation)
        places = {each["seat"]: each["place"] for each in told["standings"]}
        parts = []
        for each in sorted(
            told["answers"], key=lambda each: (places.get(each["seat"], len(told["answers"])), each["seat"])
        ):
            said = [each["seat"], each["model"]]
            if each["seat"] in places:
                said.append(f"place {places[each['seat']]}")
            if each["outcome"] != Outcome.COMPLETE:
                said.append(each["outcome"])
            if each["text"]:
                parts += [f"{', '.join(said)}:", each["text"]]
        if parts:
            self.stdout.write(markdown.clean("\n\n".join(parts)))


def _is_text(given: str) -> bool:
    """Whether it came as UTF-8; Python keeps other bytes of a command line as halves of surrogate pairs."""
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise CommandError("The question is not UTF-8.", returncode=USAGE) from error


@contextlib.contextmanager
def _worker() -> Iterator[subprocess.Popen[bytes]]:
    """A worker of our own, in a process of its own, until the end of the block."""
    worker = subprocess.Popen(  # noqa: S603  # this very program
        [sys.executable, sys.argv[0], "worker"],
        stdout=subprocess.DEVNULL,  # the output is the answer's alone
        process_group=0,  # Ctrl-C in a terminal reaches us alone
    )
    # Whoever ends us must not leave it behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        yield worker
    finally:
        worker.terminate()
        try:
            worker.wait(WORKER_START)
        except subprocess.TimeoutExpired:
            worker.kill()
