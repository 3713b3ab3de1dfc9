"""Links to conversations, for tests: how they are made, in a browser and without, and what stands behind them."""

from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import SiteSettings, User
from conversations import asking, sharing
from conversations.models import Conversation
from council.models import Answer, Call, Council, Deliberation, Synthesis


def answered(owner: User, council: Council) -> Conversation:
    """A conversation whose one question is answered."""
    made = asking.ask(owner, "First question?", council).conversation
    answer(made, "The first answer.")
    return made


def answer(conversation, text: str) -> None:
    """The council ends what it has begun, with this answer."""
    deliberation = Deliberation.objects.get(scope=conversation.pk, status="queued")
    Answer.objects.create(deliberation=deliberation, seat=0, state="ended", outcome="complete", text="Somebody's own.")
    Synthesis.objects.create(deliberation=deliberation, state="ended", outcome="complete", text=text)
    Call.objects.create(deliberation=deliberation, purpose="answer", sent=timezone.now(), state="ended", cost=70_000)
    Deliberation.objects.filter(pk=deliberation.pk).update(
        status="complete", stage="synthesising", finished=timezone.now(), revision=9
    )


def ask_more(conversation, council, question: str = "Second question?", text: str = "The second answer.") -> None:
    asking.ask(conversation.owner, question, council, conversation=conversation)
    if text:
        answer(conversation, text)


def browser(person=None) -> Client:
    client = Client()
    if person:
        client.force_login(person)
    return client


def make(conversation, audience="team", expires=None, *, live=False) -> str:
    """A link; its token."""
    return sharing.save(conversation, audience, expires, live=live).token


def place(token: str) -> str:
    return reverse("shared", args=[token])


def said(response) -> list[str]:
    return [str(each) for each in get_messages(response.wsgi_request)]


def allow_public_links(*, allowed: bool = True) -> None:
    SiteSettings.objects.update_or_create(pk=1, defaults={"public_links": allowed})


def post(client, conversation, **given):
    return client.post(reverse("share", args=[conversation.pk]), {"live": "", "expiry": "never", **given})
