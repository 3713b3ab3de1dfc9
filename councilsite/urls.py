"""Every address of the site."""

from django.contrib import admin
from django.urls import include, path

from councilsite import views

urlpatterns = [
    path("healthz", views.healthz),
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
    path("", include("accounts.urls")),
    path("", include("conversations.urls")),
]
