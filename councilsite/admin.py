"""The admin site: people sign in to it where they sign in to everything else, second factor included."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin


class AdminSite(admin.AdminSite):
    """The stock admin with allauth's sign-in."""

    site_header = site_title = "LLM Council"
    index_title = "Administration"

    login = secure_admin_login(admin.AdminSite.login)
