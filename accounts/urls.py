"""Addresses of the settings and of one-time links; `/accounts/` is allauth's."""

from allauth.mfa.recovery_codes import views as codes
from allauth.mfa.totp import views as apps
from allauth.mfa.webauthn import views as keys
from django.contrib.auth.decorators import login_required
from django.urls import path

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
    # Each of these is an event, and allauth has no limit to how often.
    *(
        path(f"accounts/2fa/{place}/", login_required(sparingly("POST")(view)), name=name)
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
