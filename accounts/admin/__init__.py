"""People, invitations and site settings in the admin."""

from accounts.admin import audit_trail, invitations, limits, people, site_settings

__all__ = ["audit_trail", "invitations", "limits", "people", "site_settings"]
