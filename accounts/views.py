"""The settings, the look a browser has chosen, and the pages of one-time links: setup, invitation, sign-up."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import cast

from allauth.account import views as allauth_views
from allauth.account.forms import LoginForm
from allauth.account.internal.flows.reauthentication import reauthenticate_by_password
from allauth.mfa.models import Authenticator
from allauth.usersessions.internal.flows.sessions import end_sessions
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts import invitations, joining, limits, setup, signing_up, trail
from accounts.forms import AdministratorForm, JoinForm, ProfileForm
from accounts.models import Invitation, User
from accounts.refusing import View, sparingly, too_often
from governance import audit
from governance.audit import Kind

YEAR = 365 * 24 * 3600
# Kept in cookies: they belong to a browser, and the first byte of a page must already know them.
CHOICES = {"theme": ("system", "light", "dark"), "shortcuts": ("on", "off")}


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@sparingly("POST")
def settings(request: HttpRequest) -> HttpResponse:
    """A person's own page. Only the name is changed here; the rest leads to allauth's pages."""
    # Not request.user itself: a refused name must not greet its author from the sidebar.
    person = User.objects.get(pk=cast("int", request.user.pk))
    form = ProfileForm(request.POST or None, instance=person)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            form.save()
            if form.has_changed():
                audit.record(Kind.CHANGED, person.actor, trail.thing(person), what="own name")
        messages.success(request, _("Saved."))
        return redirect("settings")
    factors = list(Authenticator.objects.filter(user=person).values_list("type", flat=True))
    context = {
        "form": form,
        "theme": _chosen(request, "theme"),
        "shortcuts": _chosen(request, "shortcuts"),
        "app": Authenticator.Type.TOTP in factors,
        "keys": factors.count(Authenticator.Type.WEBAUTHN),
        "sessions": len(UserSession.objects.purge_and_list(person)),
    }
    return render(request, "accounts/settings.html", context)


@require_POST
def choose(request: HttpRequest, what: str) -> HttpResponse:
    """Keep a choice in this browser, and go back to where it was made."""
    chosen = request.POST.get(what, "")
    if chosen not in CHOICES[what]:
        return HttpResponseBadRequest()
    there = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(there, {request.get_host()}, require_https=request.is_secure()):
        there = reverse("settings")
    response = redirect(there)
    if chosen == CHOICES[what][0]:
        response.delete_cookie(what, samesite="Lax")
    else:
        response.set_cookie(what, chosen, max_age=YEAR, samesite="Lax", secure=request.is_secure(), httponly=True)
    return response


@login_required
@require_POST
def end_session(request: HttpRequest, session_id: int) -> HttpResponse:
    """Sign out one of a person's own browsers."""
    session = get_object_or_404(UserSession, pk=session_id, user_id=request.user.pk)
    end_sessions(request, [session])
    messages.success(request, _("That browser is signed out."))
    return redirect("usersessions_list")


@never_cache
@sensitive_post_parameters("new_password1", "new_password2")
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    """Whoever holds the link of an open invitation makes its account. Whatever else it is looks the same."""
    invitation = invitations.opened_by(token)
    if invitation is None:
        return render(request, "accounts/join_over.html", status=404)
    return _join(request, invitation.email, partial(invitations.accept, invitation), invitation)


@never_cache
@sensitive_post_parameters("new_password1", "new_password2")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_up(request: HttpRequest, token: str) -> HttpResponse:
    """Whoever has read the mail of a sign-up makes the account. Whatever else it is looks the same."""
    email = signing_up.opened_by(token)
    if email is None:
        return render(request, "accounts/join_over.html", status=404)
    return _join(request, email, joining.join)


@never_cache
@sensitive_post_parameters("password1", "password2")
@require_http_methods(["GET", "HEAD", "POST"])
def set_up(request: HttpRequest, token: str) -> HttpResponse:
    """Whoever holds the link becomes the first administrator."""
    if setup.done():
        return render(request, "accounts/setup_over.html", {"done": True}, status=404)
    if not setup.accepts(token):
        return render(request, "accounts/setup_over.html", {"done": False}, status=404)
    form = AdministratorForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if setup.make_administrator(form) is None:
            return render(request, "accounts/setup_over.html", {"done": True}, status=404)
        return _sign_in(request, form.cleaned_data["email"], form.cleaned_data["password1"])
    return render(request, "accounts/setup.html", {"form": form})


@login_required
@never_cache
def set_up_done(request: HttpRequest) -> HttpResponse:
    """Offers a second factor right after an account was made by a link."""
    return render(request, "accounts/setup_done.html")


def sign_in(request: HttpRequest) -> HttpResponse:
    """Allauth's own page; but nobody goes wrong there as often as they like.

    What goes well does not count: a whole house may share one address.
    """
    if request.method != "POST":
        return cast("HttpResponse", allauth_views.login(request))
    address = request.META["REMOTE_ADDR"]
    try:
        limits.look(limits.What.SIGN_INS, address=address)
        response = cast("HttpResponse", allauth_views.login(request))
        if getattr(request, "sign_in_failed", False):
            limits.take(limits.What.SIGN_INS, address=address)
    except limits.Reached as reached:
        return too_often(request, reached)
    return response


@login_required
@sparingly("GET")
def recovery_codes(request: HttpRequest, view: View, what: str) -> HttpResponseBase:
    """Allauth's own pages, told of: whoever has seen them can sign in with them."""
    response = view(request)
    if response.status_code == HTTPStatus.OK:
        person = cast("User", request.user)
        audit.record(Kind.DID, person.actor, trail.thing(person), what=what)
    return response


def _join(
    request: HttpRequest, email: str, make: Callable[[JoinForm], User | None], invitation: Invitation | None = None
) -> HttpResponse:
    """Name and password of somebody whose address is proved."""
    context = {"email": email, "invitation": invitation}
    if request.user.is_authenticated:
        return render(request, "accounts/join_signed_in.html", context)
    form = JoinForm(email, request.POST or None)
    if request.method == "POST" and form.is_valid():
        if make(form) is None:
            return render(request, "accounts/join_over.html", status=404)
        return _sign_in(request, email, form.cleaned_data["new_password1"])
    return render(request, "accounts/join.html", {**context, "form": form})


def _sign_in(request: HttpRequest, email: str, password: str) -> HttpResponse:
    """Sign somebody new in as the sign-in page would."""
    login = LoginForm({"login": email, "password": password}, request=request)
    if not login.is_valid():
        return redirect("account_login")
    response: HttpResponse = login.login(request, redirect_url=reverse("setup_done"))
    # The second factor offered next would ask for the password that was chosen a moment ago.
    reauthenticate_by_password(request)
    return response


def _chosen(request: HttpRequest, what: str) -> str:
    chosen = request.COOKIES.get(what, "")
    return chosen if chosen in CHOICES[what] else CHOICES[what][0]
