"""People, invitations, and what an administrator decides about both."""

from typing import Any, ClassVar
from uuid import uuid4

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser, Group
from django.contrib.postgres.functions import RandomUUID
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, validate_domain_name
from django.db import models, transaction
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from accounts import roles
from accounts.roles import Role
from governance import rows
from governance.fields import EncryptedTextField
from governance.tokens import digest, new_token

SHELL_EMAIL = "shell@council.invalid"
"""Of the account that `UserManager.shell` makes. Nobody else gets it, whether that account is there yet or not."""
TAKEN = _("Somebody else uses this address.")


class UserManager(BaseUserManager["User"]):
    """Makes people, who are known by their e-mail address."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Raises ValueError without an address, and ValidationError with the shell's: commands show that in words."""
        if not email:
            raise ValueError("A person needs an e-mail address.")
        if email.lower() == SHELL_EMAIL:
            raise ValidationError(TAKEN)
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        user.groups.add(roles.group(Role.MEMBER))
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """An administrator who may do everything, and whose address needs no mail to be believed."""
        user = self.create_user(email, password, is_staff=True, is_superuser=True, **fields)
        user.vouch_for_address()
        return user

    def unproven(self) -> "models.QuerySet[User]":
        """Accounts whose address nobody has proved or vouched for. Nobody can sign in to them.

        Those of staff are an administrator's doing all the same, and one that is switched off is to stay so.
        """
        return self.filter(is_active=True, is_staff=False, is_superuser=False).exclude(emailaddress__verified=True)

    def has_account(self, email: str) -> bool:
        """Whether somebody has this address, or has proved it theirs. For administrators alone to know.

        The shell's is taken before the shell has ever asked.
        """
        if email.lower() == SHELL_EMAIL:
            return True
        owners = self.filter(email__iexact=email).exclude(pk__in=self.unproven())
        return owners.exists() or EmailAddress.objects.filter(email__iexact=email, verified=True).exists()

    def shell(self) -> "User":
        """The account that owns what is asked from the shell without `--user`. Nobody can sign in as it.

        Raises ValueError where somebody who can has its address: they would see what is asked from the shell.
        """
        user, _created = self.get_or_create(
            email=SHELL_EMAIL, defaults={"name": "Shell", "is_active": False, "password": "!shell"}
        )
        if not user.is_shell:
            raise ValueError(f"Somebody else has the shell's address, {SHELL_EMAIL}. Give them another, under People.")
        return user


class User(AbstractUser):
    """A person, known by an e-mail address."""

    username = None  # type: ignore[assignment]  # the address takes its place
    first_name = None  # type: ignore[assignment]  # narrower than the stubs say
    last_name = None  # type: ignore[assignment]  # narrower than the stubs say
    email = models.EmailField(_("e-mail address"), unique=True)
    name = models.CharField(_("name"), max_length=100, blank=True, help_text=_("How the site greets you."))
    actor = models.UUIDField(
        unique=True,
        default=uuid4,
        db_default=RandomUUID(),
        editable=False,
        help_text=_("Who this is in the audit trail, which knows no names: whoever forgets this, cuts them."),
    )

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]  # narrower than the stubs say

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("people")
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_any_case")]

    def __str__(self) -> str:
        return self.name or self.email

    def clean(self) -> None:
        """Addresses are kept in lower case.

        Raises ValidationError if somebody else has proved this one theirs, and if it is the shell's.
        """
        super().clean()
        self.email = self.email.lower()
        if self.email == SHELL_EMAIL:
            raise ValidationError({"email": TAKEN})
        if EmailAddress.objects.filter(email=self.email, verified=True).exclude(user_id=self.pk).exists():
            raise ValidationError({"email": TAKEN})

    def vouch_for_address(self) -> None:
        """Make it the one address of this person, and verified: an administrator stands for it, no mail is needed."""
        with transaction.atomic():
            EmailAddress.objects.filter(user=self).delete()
            EmailAddress.objects.create(user=self, email=self.email, primary=True, verified=True)

    def is_last_administrator(self) -> bool:
        """Whether nobody could administer the site without this person."""
        administrators = User.objects.filter(is_superuser=True, is_active=True)
        return administrators.filter(pk=self.pk).exists() and not administrators.exclude(pk=self.pk).exists()

    @cached_property
    def rights(self) -> frozenset[str]:
        """The permissions that are written down for this person or a group of theirs, such as `conversations.ask`."""
        (found,) = rows.execute([roles.statement(self.pk)])
        return roles.read(found)

    @property
    def is_shell(self) -> bool:
        """Whether this is the shell's account. Its address alone is not enough: nobody may be able to sign in to it."""
        return self.email == SHELL_EMAIL and not self.is_active and not self.has_usable_password()

    def may(self, right: str) -> bool:
        """Whether this person has a permission. Whoever works at the shell administers the machine, and may."""
        return self.is_shell or self.has_perm(right)

    def get_full_name(self) -> str:
        """The name, or the address of somebody without one."""
        return str(self)

    def get_short_name(self) -> str:
        """The same."""
        return str(self)


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """The one door to invitations for whoever holds a link."""

    def open(self) -> "InvitationQuerySet":
        """Those that can be accepted now."""
        return self.filter(accepted=None, withdrawn=None, expires__gt=timezone.now())


class Invitation(models.Model):
    """A link by which one person makes the account with this address. Whoever invites stands for the address."""

    class State(models.TextChoices):
        OPEN = "open", _("open")
        ACCEPTED = "accepted", _("accepted")
        WITHDRAWN = "withdrawn", _("withdrawn")
        EXPIRED = "expired", _("expired")

    digest = models.CharField(
        max_length=64, unique=True, editable=False, help_text=_("SHA-256 of the token: what is looked up.")
    )
    token = EncryptedTextField(default=new_token, editable=False, help_text=_("For whoever may hand the link on."))
    email = models.EmailField(_("e-mail address"))
    groups = models.ManyToManyField(Group, verbose_name=_("groups"), blank=True, related_name="+")
    created = models.DateTimeField(_("made"), auto_now_add=True)
    created_by = models.ForeignKey(User, models.PROTECT, verbose_name=_("made by"), related_name="invitations")
    expires = models.DateTimeField(_("good until"))
    withdrawn = models.DateTimeField(_("withdrawn"), null=True, editable=False)
    accepted = models.DateTimeField(_("accepted"), null=True, editable=False)
    accepted_by = models.OneToOneField(
        User, models.PROTECT, verbose_name=_("accepted by"), related_name="+", null=True, editable=False
    )

    objects = InvitationQuerySet.as_manager()

    class Meta:
        verbose_name = _("invitation")
        verbose_name_plural = _("invitations")
        ordering = ("-created",)
        default_permissions = ()  # whoever may add people may invite them

    def __str__(self) -> str:
        return self.email

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A new one with the digest of its token."""
        if not self.digest:
            self.digest = digest(self.token)
        super().save(*args, **kwargs)

    @property
    def state(self) -> State:
        """What became of it."""
        if self.accepted:
            return self.State.ACCEPTED
        if self.withdrawn:
            return self.State.WITHDRAWN
        return self.State.OPEN if self.expires > timezone.now() else self.State.EXPIRED

    @property
    def link(self) -> str:
        """The whole address, for a mail or to be copied; empty where the key that it was encrypted with is gone."""
        try:
            return f"{settings.SITE_URL}{reverse('join', args=[self.token])}"
        except ImproperlyConfigured:
            return ""


class SiteSettings(models.Model):
    """What an administrator decides for the whole site. There is one row at most; without it, the defaults hold."""

    class SignUp(models.TextChoices):
        """Who may make an account without being invited."""

        CLOSED = "closed", _("Nobody: people are invited")
        DOMAINS = "domains", _("Whoever has an address in one of the domains below")
        OPEN = "open", _("Everybody")

    signup = models.CharField(_("who may sign up"), max_length=10, choices=SignUp.choices, default=SignUp.CLOSED)
    domains = models.TextField(
        _("domains"),
        blank=True,
        help_text=_("One a line, such as example.org. Others below it (mail.example.org) have lines of their own."),
    )
    public_links = models.BooleanField(
        _("links for anyone"),
        default=False,
        help_text=_("Whether people may share a conversation with anyone who has the link, without signing in."),
    )

    factor_grace_days = models.PositiveSmallIntegerField(
        _("days without a second factor"),
        default=7,
        db_default=7,
        validators=[MaxValueValidator(365)],
        help_text=_(
            "Whoever may enter the administration needs a second factor. So many days after an account was made it may"
            " do without, the first administrator's too. 0: from the start."
        ),
    )

    class Meta:
        verbose_name = verbose_name_plural = _("site settings")
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="one_row_of_site_settings")]

    def __str__(self) -> str:
        return str(_("Site settings"))

    @classmethod
    def current(cls) -> "SiteSettings":
        """The row, or the defaults."""
        return cls.objects.filter(pk=1).first() or cls(pk=1)

    @property
    def domain_names(self) -> list[str]:
        """The domains, in lower case."""
        return [line.strip().lower().removeprefix("@") for line in self.domains.splitlines() if line.strip()]

    @property
    def sign_up_open(self) -> bool:
        """Whether people may make an account without being invited."""
        return self.signup != self.SignUp.CLOSED

    def admits(self, email: str) -> bool:
        """Whether somebody with this address may sign up without an invitation."""
        if self.signup == self.SignUp.DOMAINS:
            return email.rpartition("@")[2].lower() in self.domain_names
        return self.signup == self.SignUp.OPEN

    def clean(self) -> None:
        """Raises ValidationError for what is no domain, and where domains are asked for and none is named."""
        super().clean()
        names = self.domain_names
        for name in names:
            try:
                validate_domain_name(name)
            except ValidationError:
                raise ValidationError({"domains": _("“%(name)s” is not a domain.") % {"name": name}}) from None
        if self.signup == self.SignUp.DOMAINS and not names:
            raise ValidationError({"domains": _("Name at least one domain, or choose another way to sign up.")})
        self.domains = "\n".join(dict.fromkeys(names))


class Limit(models.Model):
    """How often something may be done, or how much of it may go on at the same time."""

    class What(models.TextChoices):
        ASKS = "asks", _("questions asked")
        GOING = "going", _("deliberations at the same time")
        SOCKETS = "sockets", _("open pages at the same time, in one process")
        MESSAGES = "messages", _("messages from open pages, to one process")
        OPENINGS = "openings", _("connections that pages open, to one process")
        SIGN_INS = "sign-ins", _("tries to sign in that fail")
        LINKS = "links", _("shared links opened")
        ACTS = "acts", _("exports, links, names, deletions, second factors")

    class Per(models.TextChoices):
        PERSON = "person", _("each person")
        GROUP = "group", _("the group together")
        ADDRESS = "address", _("each network address")

    AT_A_TIME = (What.GOING, What.SOCKETS)
    OF_STRANGERS = (What.OPENINGS, What.SIGN_INS)
    OF_PEOPLE = (What.ASKS, What.GOING, What.ACTS)

    what = models.CharField(max_length=10, choices=What)
    group = models.ForeignKey(
        Group,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        help_text=_("For these people, in place of what holds for everyone. Empty: for everyone."),
    )
    per = models.CharField(_("counted for"), max_length=10, choices=Per, default=Per.PERSON)
    amount = models.PositiveIntegerField(_("at most"), validators=[MinValueValidator(1)])
    seconds = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("In so many seconds: 3600 is an hour. Empty for what goes on at the same time."),
    )

    class Meta:
        verbose_name = _("limit")
        verbose_name_plural = _("limits")
        ordering = ("what", "group__name", "per")

    def __str__(self) -> str:
        return f"{self.get_what_display()}: {self.amount}"

    @property
    def window(self) -> str:
        """In how long, in words; empty for what goes on at the same time."""
        if self.seconds is None:
            return ""
        for unit, one, several in ((3600, _("an hour"), _("%s hours")), (60, _("a minute"), _("%s minutes"))):
            if self.seconds % unit == 0:
                count = self.seconds // unit
                return str(one) if count == 1 else str(several) % count
        return str(_("%s seconds")) % self.seconds

    def clean(self) -> None:
        """Raises ValidationError for what does not go together."""
        super().clean()
        if self.what in self.AT_A_TIME and self.seconds is not None:
            raise ValidationError({"seconds": _("This is counted as it goes on: leave the seconds empty.")})
        if self.what and self.what not in self.AT_A_TIME and self.seconds is None:
            raise ValidationError({"seconds": _("Say in how many seconds.")})
        if self.what in self.OF_STRANGERS and (self.group is not None or self.per != self.Per.ADDRESS):
            raise ValidationError({"per": _("Nobody knows yet who it is: this is counted for each network address.")})
        if self.what in self.OF_PEOPLE and self.per == self.Per.ADDRESS:
            raise ValidationError({"per": _("Whoever does this has signed in: choose each person, or a group.")})
        if self.per == self.Per.GROUP and self.group is None:
            raise ValidationError({"group": _("Choose the group whose people are counted together.")})
