"""The Django admin, behind the site's own sign-in."""

from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(DjangoAdminConfig):
    """Puts `councilsite.admin.AdminSite` in the place of the stock site."""

    default_site = "councilsite.admin.AdminSite"
