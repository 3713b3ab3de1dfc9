"""Pages and actions of a person's conversations. Every view's first line is access."""

from datetime import tzinfo
from urllib.parse import urlencode, urlsplit
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import HttpResponseClientRedirect, reswap, retarget, trigger_client_event

from accounts import limits, roles
from accounts.refusing import sparingly
from conversations import (
    asking,
    changes,
    deleting,
    exporting,
    naming,
    presenting,
    reading,
    retrying,
    showing,
    timeline,
    trail,
    viewers,
)
from conversations.history import MOST, PAGE, Place
from conversations.history import page as history_page
from conversations.markdown import clean
from conversations.models import TITLE_LENGTH, Conversation
from council import plans
from council.core.values import Mode
from council.models import Council
from governance.audit import NOTHING, Kind


@login_required
@never_cache
def ask(request: HttpRequest) -> HttpResponse:
    """The first question of a new conversation: the form, and its post."""
    if request.method == "POST":
        return _ask(request, None)
    return _ask_page(request)


@login_required
@never_cache
def conversation(request: HttpRequest, conversation_id: UUID) -> HttpResponse:
    """A conversation with all its turns; a post asks the next question."""
    found = get_object_or_404(Conversation.objects.visible_to(request.user), pk=conversation_id)
    if request.method == "POST":
        return _ask(request, found)
    return _conversation_page(request, found)


@login_required
@never_cache
@require_GET
def changed(request: HttpRequest, conversation_id: UUID) -> HttpResponse:
    """What a page lacks, as JSON: for pages whose socket does not work."""
    found = get_object_or_404(Conversation.objects.visible_to(request.user), pk=conversation_id)
    return JsonResponse(changes.since(found, changes.known_from(request.GET)).as_message())


@login_required
@never_cache
@require_GET
def calls(request: HttpRequest, conversation_id: UUID, turn: int) -> HttpResponse:
    """Every call of a turn's deliberation, over time: a fold of its page, or a page of its own."""
    found = get_object_or_404(Conversation.objects.visible_to(request.user), pk=conversation_id)
    shown = get_object_or_404(found.turns.select_related("deliberation"), pk=turn)
    return timeline.answer(request, shown, found.title)


@login_required
@never_cache
@require_GET
@permission_required(roles.EXPORT, raise_exception=True)
@sparingly("GET")
def export(request: HttpRequest, conversation_id: UUID, form: str) -> HttpResponse:
    """The whole conversation as a file; `form` is one of exporting.FORMATS."""
    found = get_object_or_404(Conversation.objects.visible_to(request.user), pk=conversation_id)
    made = exporting.FORMATS[form]
    name = content_disposition_header(as_attachment=True, filename=exporting.file_name(found, made))
    text = made.text(exporting.document(found))
    trail.told(Kind.EXPORTED, request.user, found, form=form)
    return HttpResponse(text, content_type=made.content_type, headers={"Content-Disposition": name})


@login_required
@require_POST
def stop(request: HttpRequest, conversation_id: UUID) -> HttpResponse:
    """Stop what runs in a conversation; what came is kept."""
    found = get_object_or_404(Conversation.objects.visible_to(request.user), pk=conversation_id)
    deleting.cancel(found, trail.actor_of(request.user))
    return _done(request, found.get_absolute_url())


@login_required
@require_POST
@permission_required(roles.ASK, raise_exception=True)
def retry(request: HttpRequest, conversation_id: UUID) -> HttpResponse:
    """Try one answer, one review, or the council's answer of the last turn again."""
    found = get_object_or_404(Conversation.objects.visible_to(request.user), pk=conversation_id)
    try:
        place = retrying.retry(found, request.POST.get("slot", ""), trail.actor_of(request.user))
    except asking.Refused as refused:
        trail.refused(request.user, refused.rule, refused.limit, "try again", trail.of(found))
        if request.htmx:
            told = {"text": str(refused), "tone": "warn"}
            said = trigger_client_event(HttpResponse(status=refused.status), "toast", told)
            return _with_time(said, refused.limit)
        messages.warning(request, str(refused))
        return _with_time(_conversation_page(request, found, status=refused.status), refused.limit)
    async_to_sync(viewers.tell)(found.pk, {"type": "renewed"})
    return _done(request, f"{found.get_absolute_url()}#{place}")


@login_required
@require_POST
@sparingly("POST")
def rename(request: HttpRequest, conversation_id: UUID) -> HttpResponse:
    """Give a conversation another title. With htmx the answer is its line of the history."""
    found = get_object_or_404(Conversation.objects.visible_to(request.user), pk=conversation_id)
    typed = request.POST.get("title", "")
    title = " ".join(clean(typed).split())
    wrong = _wrong_title(title)
    if not wrong:
        found.title = title
        with transaction.atomic():
            Conversation.objects.filter(pk=found.pk).update(title=title, titled=True)
            trail.told(Kind.CHANGED, request.user, found, what="title")
        async_to_sync(viewers.tell)(found.pk, {"type": "renewed"})
    kept = {"typed_title": typed, "wrong_title": wrong}
    if request.htmx:
        context = {"each": found, "page": _page(request), "renamed": True, **kept}
        return render(request, "conversations/_entry.html", context, status=422 if wrong else 200)
    if wrong:
        # Its line of the history may be folded away, or further down than the page begins.
        said = [wrong, _("You typed: “%s”") % Truncator(title).chars(300)] if title else [wrong]
        messages.error(request, " ".join(said))
        return _conversation_page(request, found, status=422, **kept)
    return redirect(found)


@login_required
@require_POST
@sparingly("POST")
def delete(request: HttpRequest, conversation_id: UUID) -> HttpResponse:
    """Delete a conversation; a message offers to take that back. Only the page of what is gone has to be left."""
    found = get_object_or_404(Conversation.objects.visible_to(request.user), pk=conversation_id)
    linked = deleting.delete(found, trail.actor_of(request.user))
    said = _("“%(title)s” was deleted, and its link is revoked.") if linked else _("“%(title)s” was deleted.")
    messages.success(
        request,
        said % {"title": found.title},
        extra_tags=f"undo:{reverse('restore', args=[found.pk])}",
    )
    if not request.htmx:
        return redirect("ask")
    if _page(request) == found.get_absolute_url():
        return HttpResponseClientRedirect(reverse("ask"))
    return _changed_history(request, found)


@login_required
@require_POST
@sparingly("POST")
def restore(request: HttpRequest, conversation_id: UUID) -> HttpResponse:
    """Take a deletion back. With htmx it happens beside the page that is being read."""
    found = get_object_or_404(Conversation.objects.deleted_by(request.user), pk=conversation_id)
    deleting.restore(found, trail.actor_of(request.user))
    messages.success(request, _("“%(title)s” is back.") % {"title": found.title})
    return _changed_history(request, found) if request.htmx else redirect(found)


@login_required
@never_cache
@require_GET
def history(request: HttpRequest) -> HttpResponse:
    """The sidebar's list alone, searched by title; or what follows a place in it, to be put there."""
    if not request.GET.get("before"):
        return render(request, "conversations/_history.html", _history(request))
    context = _history(request, continued=True)
    if context["misplaced"]:
        return retarget(reswap(render(request, "conversations/_history.html", context), "outerHTML"), "#history")
    return render(request, "conversations/_history_page.html", context)


def _ask(request: HttpRequest, conversation: Conversation | None) -> HttpResponse:
    """Ask and go to the conversation; or show the form again, with what was typed and what to do."""
    try:
        turn = asking.ask(
            request.user,
            request.POST.get("question", ""),
            _council(request),
            _mode(request),
            conversation,
            _request_id(request),
        )
    except asking.Refused as refused:
        on = trail.of(conversation) if conversation else NOTHING
        trail.refused(request.user, refused.rule, refused.limit, "ask", on)
        if conversation is None:
            response = _ask_page(request, error=str(refused), status=refused.status)
        else:
            response = _conversation_page(request, conversation, error=str(refused), status=refused.status)
        return _with_time(response, refused.limit)
    if conversation is None:
        return redirect(turn.conversation)
    async_to_sync(viewers.tell)(turn.conversation_id, {"type": "renewed"})
    return redirect(f"{conversation.get_absolute_url()}#{naming.turn_id(turn.deliberation_id)}")


def _with_time(response: HttpResponse, limit: limits.Reached | None) -> HttpResponse:
    """With when to come back, where that is known."""
    if limit and limit.seconds:
        response["Retry-After"] = str(limit.seconds)
    return response


def _ask_page(request: HttpRequest, error: str = "", status: int = 200) -> HttpResponse:
    context = {**_history(request), **_composer(request, error)}
    return render(request, "conversations/ask.html", context, status=status)


def _conversation_page(
    request: HttpRequest, conversation: Conversation, error: str = "", status: int = 200, **kept: object
) -> HttpResponse:
    """The whole page. `error` is about a question; `kept`: a title that was refused, and why."""
    shown = presenting.page(reading.turns(conversation.pk))
    context = {
        **_history(request),
        **_composer(request, error, shown["last"]),
        **shown,
        "conversation": conversation,
        "page": conversation.get_absolute_url(),  # not where a form was sent
        **kept,
    }
    return render(request, "conversations/conversation.html", context, status=status)


def _composer(request: HttpRequest, error: str, last: showing.TurnView | None = None) -> dict[str, object]:
    """What the composer offers, with what was typed where a form comes back."""
    councils = list(Council.objects.usable_by(request.user).prefetch_related("seats__language_model__provider"))
    asked_before = last.deliberation.council_id if last else None
    typed = request.POST.get("council")
    chosen = next((each for each in councils if (each.slug == typed if typed else each.pk == asked_before)), None)
    return {
        "councils": [presenting.council_view(each) for each in councils],
        "councils_of_others": not councils and Council.objects.filter(enabled=True).exists(),
        "chosen": chosen or next(iter(councils), None),
        "mode": _mode(request) if "mode" in request.POST or last is None else last.deliberation.mode,
        "typed": request.POST.get("question", last.question if last and "again" in request.GET else ""),
        "request_id": uuid4().hex,
        "received": last.turn.request_id.hex if last else "",
        "error": error,
    }


def _history(
    request: HttpRequest, *, continued: bool = False, acted_on: Conversation | None = None
) -> dict[str, object]:
    """A page of the list; one that is `continued` shows below others; after an action it is as long as it was."""
    given = request.POST if request.htmx and request.method == "POST" else request.GET
    conversations = Conversation.objects.visible_to(request.user)
    query = " ".join(clean(given.get("q", "")).split())[:100]
    if query:
        conversations = conversations.filter(title__icontains=query)
    typed = given.get("before", "")
    before = Place.read(typed)
    shown = _whole(given.get("shown", ""))
    # Whole pages: what an undo brings back pushes no other line off the end.
    size = min(PAGE * max(-(-shown // PAGE), 1), MOST) if acted_on else PAGE
    found, older = history_page(conversations, before, size)
    continued = continued and before is not None
    return {
        "history": presenting.by_age(found, _zone(request), before.updated if before and continued else None),
        "query": query,
        "before": before.as_text() if before else "",
        "misplaced": bool(typed and not before),
        "older": urlencode({"before": older.as_text(), **({"q": query} if query else {})}) if older else "",
        "came": len(found),
        "shown": len(found) + (shown if continued else 0),
        "continued": continued,
        "focused": _focused(found, acted_on) if acted_on else found[0].pk if continued and found else None,
        "page": _page(request),
    }


def _focused(found: list[Conversation], acted_on: Conversation) -> UUID | None:
    """Where the keyboard goes on after an action: the conversation's line, else the next, else the last."""
    place = Place.of(acted_on)
    return next((each.pk for each in found if Place.of(each) <= place), found[-1].pk if found else None)


def _whole(typed: str) -> int:
    """A number from an address or a form; 0 where it is none."""
    return int(typed) if typed.isdecimal() and len(typed) < 10 else 0


def _changed_history(request: HttpRequest, acted_on: Conversation) -> HttpResponse:
    """The list after an action in it, as it was searched and as far as it was shown, with what there is to say."""
    context = {**_history(request, acted_on=acted_on), "acted": True}
    return render(request, "conversations/_history_changed.html", context)


def _page(request: HttpRequest) -> str:
    """The path of the page that is being read."""
    return urlsplit(request.htmx.current_url or "").path if request.htmx else request.path


def _wrong_title(title: str) -> str:
    """What is wrong with a title, or nothing."""
    if not title:
        return _("A title needs at least one character. The old one stays.")
    if len(title) > TITLE_LENGTH:
        return _("The title has %(length)s characters; %(most)s fit. The old one stays.") % {
            "length": len(title),
            "most": TITLE_LENGTH,
        }
    return ""


def _zone(request: HttpRequest) -> tzinfo:
    """The viewer's zone, which the page's script tells in a cookie."""
    try:
        return ZoneInfo(request.COOKIES.get("zone", ""))
    except (ValueError, KeyError, OSError):  # no such zone; or a name that is a folder
        return timezone.get_default_timezone()


def _council(request: HttpRequest) -> Council | None:
    slug = clean(request.POST.get("council", ""))
    return plans.usable(request.user.pk, slug) if slug else Council.objects.usable_by(request.user).first()


def _mode(request: HttpRequest) -> Mode:
    return Mode.ANSWERS if request.POST.get("mode") == Mode.ANSWERS else Mode.FULL


def _request_id(request: HttpRequest) -> UUID | None:
    try:
        return UUID(request.POST.get("request_id", ""))
    except ValueError:
        return None


def _done(request: HttpRequest, address: str) -> HttpResponse:
    """An action that the socket will show needs no new page; without JavaScript there is one."""
    return HttpResponse(status=204) if request.htmx else redirect(address)
