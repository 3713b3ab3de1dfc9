"""Addresses of the settings and of one-time links; `/accounts/` is allauth's."""

from django.urls import path

from accounts import views

urlpatterns = [
    path("settings/", views.settings, name="settings"),
    path("settings/theme/", views.choose, {"what": "theme"}, name="theme"),
    path("settings/shortcuts/", views.choose, {"what": "shortcuts"}, name="shortcuts"),
    path("settings/sessions/<int:session_id>/end/", views.end_session, name="end_session"),
    path("join/<str:token>/", views.join, name="join"),
    path("signup/<str:token>/", views.sign_up, name="sign_up"),
    path("setup/done/", views.set_up_done, name="setup_done"),
    path("setup/<str:token>/", views.set_up, name="setup"),
]
