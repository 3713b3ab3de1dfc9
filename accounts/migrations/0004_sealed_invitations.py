"""Tokens of invitations are looked up by a digest and kept encrypted, as those of links are."""

from django.db import migrations, models

import governance.fields
import governance.tokens


def seal(apps, schema_editor):
    Invitation = apps.get_model("accounts", "Invitation")
    for pk, token in Invitation.objects.values_list("pk", "token"):  # as it is stored
        Invitation.objects.filter(pk=pk).update(token=str(token), digest=governance.tokens.digest(token))


def open_again(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        for each in apps.get_model("accounts", "Invitation").objects.all():
            cursor.execute("UPDATE accounts_invitation SET token = %s WHERE id = %s", [each.token, each.pk])


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_invitation"),
    ]

    operations = [
        migrations.AddField(
            model_name="invitation",
            name="digest",
            field=models.CharField(editable=False, max_length=64, null=True),
        ),
        migrations.AlterField(
            model_name="invitation",
            name="token",
            field=governance.fields.EncryptedTextField(
                default=governance.tokens.new_token,
                editable=False,
                help_text="For whoever may hand the link on.",
            ),
        ),
        migrations.RunPython(seal, open_again),
        migrations.AlterField(
            model_name="invitation",
            name="digest",
            field=models.CharField(
                editable=False, help_text="SHA-256 of the token: what is looked up.", max_length=64, unique=True
            ),
        ),
    ]
