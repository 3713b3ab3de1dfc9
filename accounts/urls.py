"""Addresses of the settings and of one-time links; `/accounts/` is allauth's."""

from allauth.mfa.recovery_codes import views as codes
from django.urls import path

from accounts import views

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
    path("join/<str:token>/", views.join, name="join"),
    path("signup/<str:token>/", views.sign_up, name="sign_up"),
    path("setup/done/", views.set_up_done, name="setup_done"),
    path("setup/<str:token>/", views.set_up, name="setup"),
]
