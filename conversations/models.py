"""Conversations, their turns, and the links to them. A turn is a question and its deliberation."""

import uuid

from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import Exists, Q
from django.db.models.functions import Now, Upper
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import roles
from accounts.models import SiteSettings, User
from governance.fields import EncryptedTextField
from governance.tokens import digest

TITLE_LENGTH = 120


class ConversationQuerySet(models.QuerySet["Conversation"]):
    """The one door to conversations."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> "ConversationQuerySet":
        """Those of this person that are not deleted. Nobody else's, whoever asks."""
        return self.filter(owner=user.pk, deleted=None)

    def deleted_by(self, user: AbstractBaseUser | AnonymousUser) -> "ConversationQuerySet":
        """Those of this person that can still be restored."""
        return self.filter(owner=user.pk, deleted__isnull=False)


class Conversation(models.Model):
    """Questions and the council's answers to them, in order; it belongs to its owner."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="conversations")
    title = models.CharField(max_length=TITLE_LENGTH)
    titled = models.BooleanField(
        default=False, help_text=_("By a model or by its owner; else it is the question's start.")
    )
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now_add=True, help_text=_("When it was last asked something."))
    deleted = models.DateTimeField(null=True)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ("-updated", "-id")
        permissions = (
            ("ask", _("Can ask councils")),
            ("export", _("Can export conversations of their own")),
            ("share", _("Can share conversations of their own with the team")),
            ("share_publicly", _("Can share them with anyone who has the link, where the site allows that")),
            ("read_others", _("Can read conversations of others, for a reason that is written down")),
        )
        indexes = [
            models.Index(fields=("owner", "-updated", "-id"), name="conversation_history"),
            # For `icontains`, of three letters and more.
            GinIndex(OpClass(Upper("title"), name="gin_trgm_ops"), name="conversation_title"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    def get_absolute_url(self) -> str:
        """Its page."""
        return reverse("conversation", args=[self.id])


class Turn(models.Model):
    """A question and its deliberation. Turns form a tree; today every parent has one child."""

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="turns")
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE, related_name="children")
    # A copy of a conversation has turns of its own with the same deliberations, which do not change any more then.
    deliberation = models.ForeignKey("council.Deliberation", on_delete=models.PROTECT, related_name="+")
    request_id = models.UUIDField(help_text=_("From the form, so that a double click asks once."))
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("created", "id")
        constraints = [
            models.UniqueConstraint(fields=("conversation", "request_id"), name="one_turn_a_request"),
            models.UniqueConstraint(fields=("conversation", "deliberation"), name="one_turn_a_deliberation"),
        ]

    def __str__(self) -> str:
        return f"turn {self.pk}"


def _who_may(right: str) -> models.QuerySet[User]:
    """The people who have a permission, by whatever way."""
    people: models.QuerySet[User] = ModelBackend().with_perm(right).order_by()
    return people


class ShareQuerySet(models.QuerySet["Share"]):
    """The one door to links."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> "ShareQuerySet":
        """The links of this person that are not revoked, expired ones too. Nobody else's, whoever asks."""
        return self.filter(conversation__in=Conversation.objects.visible_to(user), revoked=None)

    def open_to(self, user: AbstractBaseUser | AnonymousUser, token: str) -> "ShareQuerySet":
        """The link with this token, if it opens for this person now; one query, whatever the reason if it does not.

        A link for anyone opens for nobody while the administrator does not allow such links, and none while its owner
        may not share so.
        """
        allowed = Exists(SiteSettings.objects.filter(public_links=True))
        may = Q(allowed, audience=Share.Audience.ANYONE, conversation__owner__in=_who_may(roles.SHARE_PUBLICLY))
        if user.is_authenticated:
            may |= Q(audience=Share.Audience.TEAM, conversation__owner__in=_who_may(roles.SHARE))
        return self.filter(
            may,
            Q(expires=None) | Q(expires__gt=Now()),
            digest=digest(token),
            revoked=None,
            conversation__deleted=None,
            conversation__owner__is_active=True,
        )


class Share(models.Model):
    """A link to a conversation. A conversation without one is private.

    A snapshot is the turns up to `until`, all of them ended, under the `title` of then; nothing is copied, because what
    has ended does not change, unless its owner has a part of it tried again. A live link has neither: it shows
    all there is.
    """

    class Audience(models.TextChoices):
        """Who may open it."""

        TEAM = "team", _("Team")
        ANYONE = "anyone", _("Anyone with the link")

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="shares")
    digest = models.CharField(max_length=64, unique=True, help_text=_("SHA-256 of the token: what is looked up."))
    token = EncryptedTextField(help_text=_("For its owner, who may copy the link at any time."))
    audience = models.CharField(_("audience"), max_length=10, choices=Audience)
    live = models.BooleanField(_("live"), default=False)
    until = models.ForeignKey(Turn, null=True, on_delete=models.CASCADE, related_name="+")
    title = models.CharField(max_length=TITLE_LENGTH, blank=True)
    taken = models.DateTimeField(_("updated"), default=timezone.now, help_text=_("When the snapshot was taken."))
    created = models.DateTimeField(_("created"), auto_now_add=True)
    expires = models.DateTimeField(_("expires"), null=True)
    revoked = models.DateTimeField(_("revoked"), null=True)
    opened = models.PositiveIntegerField(_("opened"), default=0, help_text=_("How often, by others than its owner."))

    objects = ShareQuerySet.as_manager()

    class Meta:
        verbose_name = _("link")
        verbose_name_plural = _("links")
        ordering = ("-created", "-pk")
        constraints = [
            models.UniqueConstraint(
                fields=("conversation",), condition=Q(revoked=None), name="one_link_a_conversation"
            ),
            models.CheckConstraint(condition=Q(live=False) | Q(audience="team"), name="live_links_for_the_team_alone"),
            models.CheckConstraint(
                condition=Q(live=True, until=None) | Q(live=False, until__isnull=False), name="snapshots_have_an_end"
            ),
        ]

    def __str__(self) -> str:
        return f"link {self.pk}"

    @property
    def shows(self) -> str:
        """What a page of it is told apart by, when it becomes live or a snapshot, or is updated."""
        return "live" if self.live else self.taken.isoformat()

    @property
    def over(self) -> bool:
        """It has expired."""
        return self.expires is not None and self.expires <= timezone.now()
