"""A conversation as Markdown and as JSON: what the files say, who gets them, and the command."""

import json
import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from accounts.models import User
from conversations import exporting, results
from conversations.models import Conversation, Turn
from conversations.tests import cast
from conversations.tests.test_quoting import html, outside
from council import plans
from council.core.values import Mode, Plan
from council.models import Answer, Call, Council, Deliberation, Review, Synthesis

pytestmark = pytest.mark.django_db

BEGAN = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def conversation(alice):
    made = Conversation.objects.create(owner=alice, title="Why is the sky blue?")
    Conversation.objects.filter(pk=made.pk).update(created=BEGAN, updated=BEGAN)
    made.refresh_from_db()
    return made


def ask(conversation, council, question="Why?", mode=Mode.FULL, **values) -> Deliberation:
    """A turn whose deliberation is yet to be filled."""
    deliberation = plans.new_deliberation(conversation.pk, council, question, (), mode)
    for name, value in values.items():
        setattr(deliberation, name, value)
    deliberation.save()
    Deliberation.objects.filter(pk=deliberation.pk).update(created=BEGAN)
    turn = Turn.objects.create(conversation=conversation, deliberation=deliberation, request_id=uuid4())
    Turn.objects.filter(pk=turn.pk).update(created=BEGAN + timedelta(seconds=turn.pk))
    deliberation.refresh_from_db()
    return deliberation


def answer(deliberation, seat, text, outcome="complete", **values):
    given = {"state": "ended", "started": BEGAN, "finished": BEGAN + timedelta(seconds=2), "cost": 1500, **values}
    return Answer.objects.create(deliberation=deliberation, seat=seat, text=text, outcome=outcome, **given)


def review(deliberation, seat, text, ballot, **values):
    given = {"state": "ended", "outcome": "complete", "ballot_state": "valid", **values}
    return Review.objects.create(deliberation=deliberation, seat=seat, text=text, ballot=ballot, **given)


def complete(conversation, council, question="Why?", answers=("Because.", "As seen.", "It scatters.")) -> Deliberation:
    """All three answered; A and B put B first, C put A first."""
    made = ask(
        conversation, council, question, status="complete", stage="synthesising", finished=BEGAN + timedelta(seconds=75)
    )
    for seat, text in enumerate(answers):
        answer(made, seat, text)
    plan = Plan.from_json(made.plan)
    first = plan.orders[0].labels[plan.orders[0].seats.index(1)]
    review(made, 0, f"{first} is right.", [[1], [0, 2]])
    review(made, 1, "Fine.", [[1], [0], [2]])
    review(made, 2, "Hm.", [[0], [1], [2]])
    made.standings = [
        {"seat": 1, "place": 1, "mean": 4 / 3, "ballots": 3},
        {"seat": 0, "place": 2, "mean": 5.5 / 3, "ballots": 3},
        {"seat": 2, "place": 3, "mean": 8.5 / 3, "ballots": 3},
    ]
    made.save()
    Synthesis.objects.create(
        deliberation=made, text=f"Air scatters blue light [{plan.common[1]}].", state="ended", outcome="complete"
    )
    Call.objects.create(deliberation=made, purpose="answer", model_name="x", provider_name="x", sent=BEGAN, cost=12_345)
    return made


def markdown(conversation) -> str:
    return exporting.as_markdown(exporting.document(conversation))


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ .*", text, re.MULTILINE)


WHOLE = """\
# Why is the sky blue?

2026-03-04T05:06:07+00:00 · 1 question

## Question 1

{asked} · Council test

> Why?

### Council's answer

Written by AI, Model 3

> Air scatters blue light [B].

### Verdict

- Ballots that count: 3 of 3
- Top-ranked: B · Model 1
- Dissenting reviewers: C · Model 2
- Cost: $0.012
- Time: 1 min 15 s

| Place | Standing | Mean place | Ballots |
| ---: | --- | ---: | ---: |
| 1 | B · Model 1 | 1.33 | 3 |
| 2 | A · Model 0 | 1.83 | 3 |
| 3 | C · Model 2 | 2.83 | 3 |

### Answers

#### A · Model 0

2.0 s · $0.002

> Because.

#### B · Model 1

2.0 s · $0.002

> As seen.

#### C · Model 2

2.0 s · $0.002

> It scatters.

### Peer review

#### A · Model 0

> B is right.

Ballot: B > A = C

#### B · Model 1

> Fine.

Ballot: B > A > C

#### C · Model 2

> Hm.

Ballot: A > B > C
"""


class TestMarkdown:
    def test_it_has_the_answer_first_and_then_the_evidence(self, conversation, council):
        complete(conversation, council)
        asked = conversation.turns.get().created.isoformat(timespec="seconds")
        assert asked.endswith("+00:00")
        assert markdown(conversation) == WHOLE.format(asked=asked)

    def test_it_has_every_turn_in_order(self, conversation, council):
        for question in ("First?", "Second?", "Third?"):
            complete(conversation, council, question)
        text = markdown(conversation)
        assert "· 3 questions" in text
        places = [text.index(each) for each in ("## Question 1", "> First?", "## Question 2", "> Second?", "> Third?")]
        assert places == sorted(places)

    def test_names_of_seats_stand_beside_those_of_models(self, conversation):
        cast.council(name="The doubter")
        complete(conversation, Council.objects.get())
        text = markdown(conversation)
        assert "#### A · The doubter (Model 0)" in text
        assert "Written by AI, The doubter (Model 3)" in text

    def test_what_goes_on_is_said_to_be_unfinished(self, conversation, council):
        made = ask(conversation, council, status="running", stage="answering")
        answer(made, 0, "Half a", outcome="", state="writing", finished=None, cost=None)
        text = markdown(conversation)
        assert "**Unfinished.** The council was still at work on this question when it was exported." in text
        assert "#### A · Model 0\n\nnot finished\n\n> Half a" in text
        assert "Verdict" not in text

    def test_a_question_in_line_is_said_to_be_unfinished(self, conversation, council):
        ask(conversation, council)
        assert markdown(conversation).endswith(
            "> Why?\n\n**Unfinished.** The council was still at work on this question when it was exported.\n"
        )

    def test_what_failed_says_why(self, conversation, council):
        made = ask(
            conversation, council, status="failed", stage="answering", reason="No member answered.", finished=BEGAN
        )
        answer(made, 0, "", outcome="failed", error="The provider refused the key.")
        text = markdown(conversation)
        assert "**Failed.** No member answered." in text
        assert "#### A · Model 0\n\nfailed · 2.0 s · $0.002: The provider refused the key.\n" in text
        assert "Council's answer" not in text

    def test_what_is_partial_says_why_and_the_best_answer_stands_in(self, conversation, council):
        made = complete(conversation, council)
        Deliberation.objects.update(status="partial", reason="The chairman failed.")
        Synthesis.objects.filter(deliberation=made).update(outcome="failed", error="It broke off.", text="Air sc")
        text = markdown(conversation)
        assert "**Partial.** The chairman failed." in text
        assert headings(text)[:5] == [
            "# Why is the sky blue?",
            "## Question 1",
            "### Top-ranked answer",
            "### What the chairman had written",
            "### Verdict",
        ]
        assert "it stands in for the council's.\n\nB · Model 1 · 2.0 s · $0.002\n\n> As seen." in text
        assert "Written by AI, Model 3 · failed: It broke off.\n\n> Air sc" in text

    def test_what_was_stopped_keeps_what_came(self, conversation, council):
        made = complete(conversation, council)
        Deliberation.objects.update(status="cancelled", reason="Stopped. What had come by then is kept.")
        Synthesis.objects.filter(deliberation=made).update(outcome="cancelled", text="Air sc")
        text = markdown(conversation)
        assert "**Stopped.** Stopped. What had come by then is kept." in text
        assert "### Council's answer\n\nWritten by AI, Model 3 · stopped\n\n> Air sc" in text

    def test_answers_only_have_no_verdict_on_them(self, conversation, council):
        made = ask(conversation, council, mode=Mode.ANSWERS, status="complete", stage="answering")
        answer(made, 0, "One.")
        text = markdown(conversation)
        assert "· Council test · Answers only" in text
        assert headings(text)[2:] == ["### Answers", "#### A · Model 0"]

    def test_a_ballot_that_does_not_count_says_why(self, conversation, council):
        made = complete(conversation, council)
        made.reviews.filter(seat=2).update(ballot_state="abstained", ballot=[], ballot_reason="Cannot tell.", text="")
        text = markdown(conversation)
        assert "- Ballots that count: 2 of 3" in text
        assert "- Dissenting reviewers: none" in text
        assert "No ballot (Cannot tell.)" in text

    def test_an_empty_conversation_is_a_document_too(self, conversation):
        assert markdown(conversation) == "# Why is the sky blue?\n\n2026-03-04T05:06:07+00:00 · 0 questions\n"

    def test_what_anybody_wrote_cannot_become_a_part_of_the_document(self, conversation):
        bad = "</blockquote>\n\n# Fake\n\n<!--\n\n[A]: https://evil.example\n\n```"
        council = cast.council(name="*x* <b>\n# y"[:60])
        Council.objects.update(name="| <i> [x](y)")
        council.refresh_from_db()
        made = complete(conversation, council, "# Not a heading", answers=(bad, "# Mine\n\n## Yours", "```\nopen"))
        made.reviews.update(text=bad, ballot_reason="# <b>")
        Conversation.objects.update(title="# <script> `x` [A](b) & \\")
        Deliberation.objects.update(reason="# <b> \n\n# no", status="partial")
        conversation.refresh_from_db()
        text = markdown(conversation)
        rendered = html(text)
        assert "raw HTML omitted" not in rendered
        assert re.findall(r"<h\d>", outside(rendered)) == [
            f"<h{level}>" for level in (1, 2, 3, 3, 3, 4, 4, 4, 3, 4, 4, 4)
        ]
        assert 'evil.example"' not in rendered
        assert "<a " not in outside(rendered)


class TestJson:
    def test_it_holds_everything_as_it_is(self, conversation, council):
        made = complete(conversation, council, answers=("# As\r\n\tit is </blockquote>", "b", "c"))
        said = json.loads(exporting.as_json(exporting.document(conversation)))
        assert said["version"] == 1
        assert (said["id"], said["title"]) == (str(conversation.pk), "Why is the sky blue?")
        assert (said["created"], said["updated"]) == ("2026-03-04T05:06:07+00:00",) * 2
        (turn,) = said["turns"]
        assert turn["answers"][0]["text"] == "# As\r\n\tit is </blockquote>"
        assert turn["synthesis"] == "Air scatters blue light [B]."
        assert turn["dissent"] == ["C"]
        assert turn["members"][1] == {"seat": "B", "name": "Model 1", "model": "Model 1"}
        chairman = {"name": "Model 3", "model": "Model 3", "stand_in": "", "outcome": "complete", "error": ""}
        assert turn["chairman"] == chairman
        assert turn["finished"] == "2026-03-04T05:07:22+00:00"
        assert (turn["status"], turn["seconds"], turn["cost"]) == ("complete", 75.0, 12_345)
        assert made.council_name == turn["council"]

    def test_nobody_dissents_where_there_are_no_standings(self, conversation, council):
        complete(conversation, council)
        Deliberation.objects.update(standings=[], status="cancelled")
        (turn,) = exporting.document(conversation)["turns"]
        assert turn["dissent"] == []

    def test_what_goes_on_has_no_end(self, conversation, council):
        ask(conversation, council, status="running")
        (turn,) = exporting.document(conversation)["turns"]
        assert (turn["status"], turn["finished"], turn["seconds"], turn["synthesis"]) == ("running", None, None, "")

    def test_the_documentation_describes_exactly_the_fields_that_are_there(self, conversation, council):
        complete(conversation, council)
        text = (ROOT / "docs" / "export.md").read_text()
        told = re.findall(r"^\| `([\w.\[\]]+)` \|", text, re.MULTILINE)
        assert len(told) == len(set(told))
        assert set(told) == set(paths(exporting.document(conversation)))

    def test_the_documentation_names_every_state(self):
        text = (ROOT / "docs" / "export.md").read_text()
        for each in (*Deliberation.Status.values, *Deliberation.Mode.values, *Review.BallotState.values):
            assert f"`{each}`" in text or not each, each
        for each, _ in Answer._meta.get_field("outcome").choices:
            assert f"`{each}`" in text, each

    def test_it_takes_as_many_ways_to_the_database_as_there_are_turns_and_a_few(
        self, conversation, council, django_assert_max_num_queries
    ):
        for _ in range(5):
            complete(conversation, council)
        with django_assert_max_num_queries(3 + 5):
            exporting.document(conversation)


def paths(value, path="") -> list[str]:
    """The path of each field: turns[].answers[].text."""
    if isinstance(value, dict):
        return [each for key, inner in value.items() for each in [f"{path}{key}", *paths(inner, f"{path}{key}.")]]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [each for inner in value for each in paths(inner, f"{path[:-1]}[].")]
    return []


class TestAddresses:
    ADDRESSES = ("export_markdown", "export_json")

    @pytest.mark.parametrize(
        ("name", "content_type", "ending"),
        [("export_markdown", "text/markdown; charset=utf-8", ".md"), ("export_json", "application/json", ".json")],
    )
    def test_its_owner_gets_a_file(self, conversation, council, alice, name, content_type, ending):
        complete(conversation, council)
        browser = Client()
        browser.force_login(alice)
        response = browser.get(reverse(name, args=[conversation.pk]))
        assert response.status_code == 200
        assert response["Content-Type"] == content_type
        assert response["Content-Disposition"] == f'attachment; filename="Why-is-the-sky-blue-2026-03-04{ending}"'
        assert response["X-Content-Type-Options"] == "nosniff"
        assert "private" in response["Cache-Control"]
        assert "Air scatters blue light [B]." in response.content.decode()

    @pytest.mark.parametrize("name", ADDRESSES)
    def test_nobody_else_does(self, conversation, name):
        address = reverse(name, args=[conversation.pk])
        browser = Client()
        assert browser.get(address).status_code == 302
        browser.force_login(cast.bob())
        assert browser.get(address).status_code == 404
        browser.force_login(User.objects.create_superuser("root@example.org", "correct horse battery"))
        assert browser.get(address).status_code == 404

    @pytest.mark.parametrize("name", ADDRESSES)
    def test_what_is_deleted_or_was_never_there_is_not_found(self, conversation, alice, name):
        browser = Client()
        browser.force_login(alice)
        assert browser.get(reverse(name, args=[uuid4()])).status_code == 404
        Conversation.objects.update(deleted=BEGAN)
        assert browser.get(reverse(name, args=[conversation.pk])).status_code == 404

    def test_it_is_only_read(self, conversation, alice):
        browser = Client()
        browser.force_login(alice)
        assert browser.post(reverse("export_json", args=[conversation.pk])).status_code == 405

    def test_the_page_leads_there(self, conversation, alice):
        browser = Client()
        browser.force_login(alice)
        page = browser.get(conversation.get_absolute_url()).content.decode()
        for name in self.ADDRESSES:
            assert f'href="{reverse(name, args=[conversation.pk])}"' in page

    @pytest.mark.parametrize(
        ("title", "name"),
        [
            ("../../etc/passwd", "etc-passwd-2026-03-04.md"),
            ('a"; filename="evil.exe', "a-filename-evil-exe-2026-03-04.md"),
            ("CON", "CON-2026-03-04.md"),
            ("...", "conversation-2026-03-04.md"),
            ("Größe & Maß", "Größe-Maß-2026-03-04.md"),
            ("हिन्दी में", "हिन्दी-में-2026-03-04.md"),
            ("a\u202egpj.exe", "a-gpj-exe-2026-03-04.md"),
            ("字" * 120, "字" * 50 + "-2026-03-04.md"),
            ("a\nb\r\nX-Evil: 1", "a-b-X-Evil-1-2026-03-04.md"),
        ],
    )
    def test_its_name_is_safe_whatever_the_title(self, conversation, alice, title, name):
        Conversation.objects.update(title=title)
        conversation.refresh_from_db()
        assert exporting.file_name(conversation, exporting.FORMATS["markdown"]) == name
        assert len(name.encode()) < 250
        browser = Client()
        browser.force_login(alice)
        header = browser.get(reverse("export_markdown", args=[conversation.pk]))["Content-Disposition"]
        assert header.startswith("attachment; filename")


class TestCommand:
    def run(self, *arguments) -> str:
        output = StringIO()
        call_command("export", *map(str, arguments), stdout=output)
        return output.getvalue()

    def test_it_writes_markdown_unless_told_otherwise(self, conversation, council):
        complete(conversation, council)
        assert self.run(conversation.pk) == markdown(conversation)
        assert self.run(conversation.pk, "--format", "markdown") == markdown(conversation)

    def test_it_writes_json(self, conversation, council):
        complete(conversation, council)
        assert json.loads(self.run(conversation.pk, "--format", "json")) == exporting.document(conversation)

    def test_it_writes_a_file(self, conversation, council, tmp_path):
        complete(conversation, council, "Größe?")
        assert self.run(conversation.pk, "--output", tmp_path / "it.md") == ""
        assert (tmp_path / "it.md").read_bytes() == markdown(conversation).encode()

    @pytest.mark.parametrize("deleted", [True, False])
    def test_without_such_a_conversation_it_says_so(self, conversation, deleted):
        wanted = conversation.pk if deleted else uuid4()
        Conversation.objects.update(deleted=BEGAN)
        with pytest.raises(CommandError, match=f"There is no conversation {wanted}") as caught:
            self.run(wanted)
        assert caught.value.returncode == 1

    def test_where_it_cannot_write_it_says_so(self, conversation, tmp_path):
        with pytest.raises(CommandError, match="cannot be written: Is a directory") as caught:
            self.run(conversation.pk, "--output", tmp_path)
        assert caught.value.returncode == 1

    @pytest.mark.parametrize("arguments", [["no-id"], [uuid4(), "--format", "pdf"]])
    def test_wrong_usage(self, arguments):
        with pytest.raises(CommandError):
            self.run(*arguments)


def test_json_holds_nothing_that_a_terminal_obeys_and_loses_nothing():
    said = {"text": "\x1b]0;owned\x07 \x9b2J \x7f é …"}
    text = results.written(said)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert json.loads(text) == said
