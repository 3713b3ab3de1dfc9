import uuid

from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_unproven_accounts")]

    operations = [
        migrations.AddField(
            model_name="user",
            name="actor",
            field=models.UUIDField(
                unique=True,
                default=uuid.uuid4,
                db_default=RandomUUID(),  # of each that is there already its own
                editable=False,
                help_text="Who this is in the audit trail, which knows no names: whoever forgets this, cuts them.",
            ),
        ),
    ]
