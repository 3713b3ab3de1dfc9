"""Every address of the site."""

from django.contrib import admin
from django.urls import include, path

handler403 = "councilsite.views.refused"
handler404 = "councilsite.views.not_there"
handler429 = "accounts.refusing.much_too_often"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("accounts.urls")),  # before allauth's: the page to sign in has a limit of the site's own
    path("accounts/", include("allauth.urls")),
    path("", include("conversations.urls")),
]
