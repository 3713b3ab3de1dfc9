"""Roles: groups whose permissions say what somebody may do here.

Three are made with the site. What they may is a superuser's to change, and so is which further groups there are; a
group that was changed stays as it is. Reading what others have asked is a right of its own that no role has.
"""

from collections.abc import Iterable
from enum import StrEnum

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

from governance import rows

ASK, EXPORT = "conversations.ask", "conversations.export"
SHARE, SHARE_PUBLICLY = "conversations.share", "conversations.share_publicly"
READ_OTHERS = "conversations.read_others"


class Role(StrEnum):
    """The groups that are made with the site, by their names."""

    MEMBER = "Members"
    AUDITOR = "Auditors"
    ADMINISTRATOR = "Administrators"


_MEMBER = (ASK, EXPORT, SHARE, SHARE_PUBLICLY)
_READ = (
    "governance.view_event",
    "accounts.view_user",
    "accounts.view_sitesettings",
    "conversations.view_share",
    "conversations.view_conversation",
    *(f"council.view_{each}" for each in ("provider", "languagemodel", "council", "seat", "fallback")),
    *(f"council.view_{each}" for each in ("callpolicy", "breaker", "deliberation", "call")),
)
_ROSTERS = tuple(
    f"council.{act}_{each}"
    for each in ("provider", "languagemodel", "council", "seat", "fallback")
    for act in ("add", "change", "delete")
)
_RIGHTS = {
    Role.MEMBER: _MEMBER,
    Role.AUDITOR: _READ,
    Role.ADMINISTRATOR: (
        *_MEMBER,
        *_READ,
        *_ROSTERS,
        "council.approve_languagemodel",
        "council.change_callpolicy",
        "council.change_breaker",
        "council.change_deliberation",
        "conversations.change_share",
        "accounts.add_user",
        "accounts.change_user",
        "accounts.change_sitesettings",
    ),
}
OF_STAFF = frozenset({Role.AUDITOR, Role.ADMINISTRATOR})
"""Whoever has one of these works in the admin."""

# Of a person, by groups and by themselves: what is written down, and not what a superuser may besides.
_OF = """
    SELECT type.app_label || '.' || permission.codename
    FROM auth_permission permission JOIN django_content_type type ON type.id = permission.content_type_id
    WHERE permission.id IN (
        SELECT permission_id FROM accounts_user_user_permissions WHERE user_id = %s
        UNION SELECT of_group.permission_id FROM auth_group_permissions of_group
        JOIN accounts_user_groups member ON member.group_id = of_group.group_id WHERE member.user_id = %s
    )
"""


def group(role: Role) -> Group:
    """The group of a role, made with its permissions where there is none."""
    found, made = Group.objects.get_or_create(name=str(role))
    if made:
        found.permissions.set(_permissions(_RIGHTS[role]))
    return found


def ensure() -> None:
    """Make the groups that are missing. Whoever was there before there were any roles is a member."""
    new = not Group.objects.filter(name__in=[str(role) for role in Role]).exists()
    members, *_others = [group(role) for role in Role]
    if new:
        members.user_set.add(*members.user_set.model.objects.all())


def with_role(groups: Iterable[Group]) -> list[Group]:
    """These groups, and that of members where none of them is a role: other groups say which councils somebody uses."""
    given = list(groups)
    return given if any(each.name in set(Role) for each in given) else [*given, group(Role.MEMBER)]


def is_of_staff(groups: Iterable[Group]) -> bool:
    """Whether one of these groups works in the admin."""
    return not OF_STAFF.isdisjoint(each.name for each in groups)


def statement(person_id: int) -> rows.Statement:
    """The SELECT of somebody's rights, to be carried out together with others."""
    return _OF, [person_id, person_id]


def read(found: rows.Result) -> frozenset[str]:
    """What it brought."""
    return frozenset(name for (name,) in found.rows)


def _permissions(names: Iterable[str]) -> list[Permission]:
    asked = Q()
    for name in names:
        label, codename = name.split(".")
        asked |= Q(content_type__app_label=label, codename=codename)
    return list(Permission.objects.filter(asked))
