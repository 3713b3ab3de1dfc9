"""Groups in the admin: none goes that something rests on."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.utils.translation import gettext as _

from accounts.models import Limit
from accounts.roles import Role
from council.models import Council

admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin):
    """A council without groups is everybody's, so the last of its groups must not go by itself.

    Nor does one with people: who leaves it is told of each person, with what was before.
    """

    def get_readonly_fields(self, request: HttpRequest, obj: Group | None = None) -> Any:
        """The site knows its roles by their names."""
        return (*super().get_readonly_fields(request, obj), *(("name",) if obj and obj.name in set(Role) else ()))

    def get_deleted_objects(self, objs: Iterable[Group], request: HttpRequest) -> Any:
        """With what forbids it: a role of the site, councils and limits that name them."""
        groups = list(objs)
        found, count, needed, protected = super().get_deleted_objects(groups, request)
        roles = [_("role: %s") % group for group in groups if group.name in set(Role)]
        councils = [_("council: %s") % each for each in Council.objects.filter(groups__in=groups).distinct()]
        limits = [_("limit: %s") % each for each in Limit.objects.filter(group__in=groups)]
        people = [_("people in it: %s") % group for group in groups if group.user_set.exists()]
        return found, count, needed, [*protected, *roles, *councils, *limits, *people]
