"""Passwords that were chosen before the address was proved: whoever proves it later must not let a stranger in."""

from django.db import migrations


def forget_passwords(apps, schema_editor):
    addresses = apps.get_model("account", "EmailAddress").objects.all()
    people = apps.get_model("accounts", "User").objects.filter(is_staff=False, is_superuser=False)
    unproven = people.filter(pk__in=addresses.values("user")).exclude(pk__in=addresses.filter(verified=True).values("user"))
    unproven.update(password="!unproven")


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0004_sealed_invitations"),
        ("account", "0009_emailaddress_unique_primary_email"),
    ]

    operations = [
        migrations.RunPython(forget_passwords, migrations.RunPython.noop),
    ]
