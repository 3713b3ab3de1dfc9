"""The settings, the look a browser has chosen, and the page of the one-time link."""

from typing import cast

from allauth.account.forms import LoginForm
from allauth.account.internal.flows.reauthentication import reauthenticate_by_password
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts import setup
from accounts.forms import AdministratorForm, ProfileForm
from accounts.models import User

YEAR = 365 * 24 * 3600
# Kept in cookies: they belong to a browser, and the first byte of a page must already know them.
CHOICES = {"theme": ("system", "light", "dark"), "shortcuts": ("on", "off")}


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest) -> HttpResponse:
    """A person's own page. Only the name is changed here; the rest leads to allauth's pages."""
    # Not request.user itself: a refused name must not greet its author from the sidebar.
    person = User.objects.get(pk=cast("int", request.user.pk))
    form = ProfileForm(request.POST or None, instance=person)
    if request.method == "POST" and form.is_valid():
        form.save()
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
        return _sign_in(request, form)
    return render(request, "accounts/setup.html", {"form": form})


@login_required
@never_cache
def set_up_done(request: HttpRequest) -> HttpResponse:
    """Offers a second factor right after the first administrator was made."""
    return render(request, "accounts/setup_done.html")


def _sign_in(request: HttpRequest, form: AdministratorForm) -> HttpResponse:
    """Sign the new administrator in as the sign-in page would."""
    data = {"login": form.cleaned_data["email"], "password": form.cleaned_data["password1"]}
    login = LoginForm(data, request=request)
    if not login.is_valid():
        return redirect("account_login")
    response: HttpResponse = login.login(request, redirect_url=reverse("setup_done"))
    # The second factor offered next would ask for the password that was chosen a moment ago.
    reauthenticate_by_password(request)
    return response


def _chosen(request: HttpRequest, what: str) -> str:
    chosen = request.COOKIES.get(what, "")
    return chosen if chosen in CHOICES[what] else CHOICES[what][0]
