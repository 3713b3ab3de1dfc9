"""People, invitations and site settings in the admin."""

from accounts.admin import invitations, people, site_settings

__all__ = ["invitations", "people", "site_settings"]
