"""The Django admin, behind the site's own sign-in."""

from django.contrib.admin import apps


class AdminConfig(apps.AdminConfig):
    """Puts `councilsite.admin.AdminSite` in the place of the stock site."""

    default = False  # not what the app `councilsite` itself is
    default_site = "councilsite.admin.AdminSite"
