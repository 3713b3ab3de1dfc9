"""Addresses of the settings and of one-time links; `/accounts/` is allauth's."""

from allauth.account import views as account
from allauth.mfa.recovery_codes import views as codes
from allauth.mfa.totp import views as apps
from allauth.mfa.webauthn import views as keys
from django.contrib.auth.decorators import login_required
from django.db.transaction import atomic
from django.urls import path, re_path

from accounts import views
from accounts.refusing import sparingly

urlpatterns = [
    path("settings/", views.settings, name="settings"),
    path("settings/theme/", views.choose, {"what": "theme"}, name="theme"),
    path("settings/shortcuts/", views.choose, {"what": "shortcuts"}, name="shortcuts"),
    path("settings/sessions/<int:session_id>/end/", views.end_session, name="end_session"),
    path("accounts/login/", views.sign_in, name="account_login"),
    *(
        path(
            f"accounts/2fa/recovery-codes/{place}",
            views.recovery_codes,
            {"view": view, "what": f"recovery codes {what}"},
            name=name,
        )
        for place, view, what, name in (
            ("", codes.view_recovery_codes, "seen", "mfa_view_recovery_codes"),
            ("download/", codes.download_recovery_codes, "downloaded", "mfa_download_recovery_codes"),
        )
    ),
    # What these change, and its event, is kept together or not at all: allauth saves first, and tells then.
    *(
        re_path(f"^accounts/{place}/$", atomic(view), name=name)
        for place, view, name in (
            ("email", account.email, "account_email"),
            (r"confirm-email/(?P<key>[-:\w]+)", account.confirm_email, "account_confirm_email"),
            ("password/change", account.password_change, "account_change_password"),
            ("password/set", account.password_set, "account_set_password"),
            (
                "password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)",
                account.password_reset_from_key,
                "account_reset_password_from_key",
            ),
        )
    ),
    # The same; besides, allauth has no limit to how often.
    *(
        path(f"accounts/2fa/{place}/", login_required(sparingly("POST")(atomic(view))), name=name)
        for place, view, name in (
            ("recovery-codes/generate", codes.generate_recovery_codes, "mfa_generate_recovery_codes"),
            ("totp/activate", apps.activate_totp, "mfa_activate_totp"),
            ("totp/deactivate", apps.deactivate_totp, "mfa_deactivate_totp"),
            ("webauthn/add", keys.add_webauthn, "mfa_add_webauthn"),
            ("webauthn/keys/<int:pk>/remove", keys.remove_webauthn, "mfa_remove_webauthn"),
        )
    ),
    path("join/<str:token>/", views.join, name="join"),
    path("signup/<str:token>/", views.sign_up, name="sign_up"),
    path("setup/done/", views.set_up_done, name="setup_done"),
    path("setup/<str:token>/", views.set_up, name="setup"),
]
