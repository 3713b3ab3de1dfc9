"""Links: the dialog, a person's list of them, and the page that one opens. Every view's first line is access."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from uuid import UUID, uuid4

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import limits, roles
from accounts.refusing import count_refused, sparingly, too_often
from conversations import changes, presenting, sharing, timeline, trail
from conversations.forms import PRIVATE, ShareForm
from conversations.models import Conversation, Share

P = ParamSpec("P")


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@permission_required(roles.SHARE, raise_exception=True)
@sparingly("POST")
def share(request: HttpRequest, conversation_id: UUID) -> HttpResponse:
    """The dialog of a conversation's link, and the page that stands in for it; a post makes, changes or revokes it."""
    found = get_object_or_404(Conversation.objects.visible_to(request.user), pk=conversation_id)
    current = sharing.current(found)
    if request.method != "POST":
        return _dialog(request, found, _form(request, None, found, current))
    match request.POST.get("action"):
        case "revoke":
            return _done(request, found, _revoke(request, found))
        case "update":
            if (
                current
                and current.audience == Share.Audience.ANYONE
                and not request.user.has_perm(roles.SHARE_PUBLICLY)
            ):
                raise PermissionDenied
            if current and sharing.update(current, trail.actor_of(request.user)):
                return _done(request, found, _all_of(found))
            return _done(request, found, _("Nothing was updated: there is no snapshot any more."))
    form = _form(request, request.POST, found, current)
    if not form.is_valid():
        return _dialog(request, found, form, status=422)
    if form.cleaned_data["audience"] == PRIVATE:
        return _done(request, found, _revoke(request, found))
    try:
        given = form.cleaned_data
        by = trail.actor_of(request.user)
        saved = sharing.save(found, given["audience"], form.expires, live=given["live"], by=by)
    except Conversation.DoesNotExist as gone:
        raise Http404 from gone
    return _done(request, found, _("Saved.") if saved == current else _("The link is ready."))


@login_required
@never_cache
@require_GET
def links(request: HttpRequest) -> HttpResponse:
    """A person's own links."""
    mine = Share.objects.visible_to(request.user).select_related("conversation")
    shown = [(each, _address(request, each)) for each in mine]
    return render(request, "conversations/links.html", {"links": shown})


@login_required
@require_POST
@sparingly("POST")
def revoke_links(request: HttpRequest) -> HttpResponse:
    """Revoke one of a person's own links, or all of them."""
    mine = Share.objects.visible_to(request.user)
    one = request.POST.get("share", "")
    which = int(one) if one.isdecimal() and len(one) < 18 else 0
    if one:
        mine = mine.filter(pk=which)
    count = sharing.revoke(mine, trail.actor_of(request.user))
    if one and not Share.objects.filter(pk=which, conversation__owner=request.user).exists():
        count_refused(request)
    messages.success(request, ngettext("%s link was revoked.", "%s links were revoked.", count) % count)
    return redirect("links")


def _through_a_link(
    view: Callable[Concatenate[HttpRequest, Share, P], HttpResponse],
) -> Callable[Concatenate[HttpRequest, str, P], HttpResponse]:
    """Access: the link opens for whoever asks. What does not is told in one way, whatever the reason, existing or not:

    who has signed in gets one and the same page, and everybody else is asked to sign in.
    """

    @wraps(view)
    @never_cache
    def opened(request: HttpRequest, token: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        try:
            limits.take(limits.What.LINKS, request.user, request.META["REMOTE_ADDR"])
        except limits.Reached as reached:
            return too_often(request, reached)
        link = Share.objects.open_to(request.user, token).select_related("conversation__owner").first()
        if link is not None:
            if link.conversation.owner_id != request.user.pk:
                trail.opened(link, request.user, request.META["REMOTE_ADDR"])
            link.token = token  # here it is at hand, whether the key that it was kept with is or not
            response = view(request, link, *args, **kwargs)
        elif request.user.is_authenticated:
            count_refused(request)
            response = _gone(request)
        else:
            response = redirect_to_login(request.get_full_path())
        response["X-Robots-Tag"] = "noindex, nofollow"
        # Not of a form's page: browsers would hide its own origin too, which the protection from forgery asks for.
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        return response

    return opened


@_through_a_link
@require_http_methods(["GET", "HEAD"])
def shared(request: HttpRequest, share: Share) -> HttpResponse:
    """What a link shows, to be read."""
    mine = share.conversation.owner_id == request.user.pk
    # A page without JavaScript loads itself again while the council works.
    if not mine and request.method == "GET" and "again" not in request.GET:
        sharing.count_opening(share)
    context = {
        **presenting.page(sharing.turns(share)),
        "share": share,
        "token": share.token,
        "title": sharing.title_of(share),
        "mine": mine,
    }
    return render(request, "conversations/shared.html", context)


@_through_a_link
@require_GET
def shared_changes(request: HttpRequest, share: Share) -> HttpResponse:
    """What a page lacks, as JSON: for pages whose socket does not work. A snapshot lacks nothing while it is there."""
    known = changes.known_from(request.GET)
    if not share.live:
        return JsonResponse(changes.page_message("", known, unfinished=False))
    return JsonResponse(changes.since(share.conversation, known).as_message())


@_through_a_link
@require_GET
def shared_calls(request: HttpRequest, share: Share, turn: int) -> HttpResponse:
    """Every call of a turn that the link shows, over time."""
    shown = get_object_or_404(sharing.shown(share).select_related("deliberation"), pk=turn)
    return timeline.answer(request, shown, sharing.title_of(share))


@_through_a_link
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@sparingly("POST")
def copy(request: HttpRequest, share: Share) -> HttpResponse:
    """Go on with a copy: a form, because a page that tells nobody where it was read cannot send one, and its post."""
    if not request.user.has_perm(roles.ASK):
        raise PermissionDenied
    count = len(sharing.to_copy(share))
    if request.method == "POST" and count:
        try:
            request_id = UUID(request.POST.get("request_id", ""))
        except ValueError:
            request_id = uuid4()
        made = sharing.copy(share, request.user, request_id)
        return redirect(made) if made else _gone(request)
    context = {
        "share": share,
        "token": share.token,
        "title": sharing.title_of(share),
        "count": count,
        "request_id": uuid4(),
    }
    refused = request.method == "POST"  # nothing has been answered, which the page says
    response = render(request, "conversations/share_copy.html", context, status=409 if refused else 200)
    response["Referrer-Policy"] = "same-origin"
    return response


def _form(request: HttpRequest, data: Any, conversation: Conversation, current: Share | None) -> ShareForm:
    return ShareForm(data, conversation, current, publicly=request.user.has_perm(roles.SHARE_PUBLICLY))


def _gone(request: HttpRequest) -> HttpResponse:
    return render(request, "conversations/share_gone.html", status=404)


def _address(request: HttpRequest, share: Share) -> str:
    """Where a link leads, for its owner; empty where its key is gone."""
    token = sharing.token_of(share)
    return request.build_absolute_uri(reverse("shared", args=[token])) if token else ""


def _revoke(request: HttpRequest, conversation: Conversation) -> str:
    """Revoke its link; returns what there is to say."""
    count = sharing.revoke(Share.objects.filter(conversation=conversation), trail.actor_of(request.user))
    return _("The link is revoked. It opens for nobody any more.") if count else _("It is private.")


def _all_of(conversation: Conversation) -> str:
    """How much its link shows, which was updated just now."""
    link = sharing.current(conversation)
    count = sharing.shown(link).count() if link else 0
    return ngettext("The link now shows %s question.", "The link now shows all %s questions.", count) % count


def _done(request: HttpRequest, conversation: Conversation, said: str) -> HttpResponse:
    """With htmx the dialog as it is now; without, its page."""
    if request.htmx:
        return _dialog(request, conversation, _form(request, None, conversation, sharing.current(conversation)), said)
    messages.success(request, said)
    return redirect("share", conversation.pk)


def _dialog(
    request: HttpRequest, conversation: Conversation, form: ShareForm, said: str = "", status: int = 200
) -> HttpResponse:
    link = form.share
    address = _address(request, link) if link else ""
    context = {
        "conversation": conversation,
        "form": form,
        "share": link,
        "address": address,
        "count": len(sharing.turns(link)) if link and not link.live else 0,
        "behind": bool(link and sharing.behind(link)),
        "forbidden": bool(link and link.audience == Share.Audience.ANYONE and not form.public_links),
        "said": said,
        "focus": next(iter(form.errors), "") or (("copy" if address else "audience") if request.htmx else ""),
    }
    template = "conversations/_share.html" if request.htmx else "conversations/share.html"
    return render(request, template, context, status=status)
