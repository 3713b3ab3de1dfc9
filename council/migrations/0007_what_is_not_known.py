from django.db import migrations, models
from django.db.models import Q


def of_which_nobody_knows(apps, _schema_editor):
    """What an earlier release said by outcome and times alone."""
    silent = Q(outcome="timed_out", sent__isnull=False, first_token__isnull=True)
    apps.get_model("council", "Call").objects.filter(Q(outcome="unknown") | silent).update(unknown=True)


class Migration(migrations.Migration):
    dependencies = [("council", "0006_seconds_of_models")]

    operations = [
        migrations.AddField(
            model_name="call",
            name="unknown",
            field=models.BooleanField(
                default=False,
                db_default=False,
                help_text="It went out and nobody knows what came of it: it may have been carried out, and billed.",
            ),
        ),
        migrations.AddField(
            model_name="deliberation",
            name="handed_over",
            field=models.PositiveSmallIntegerField(
                default=0, db_default=0, help_text="How often a worker that was told to go has passed it on."
            ),
        ),
        migrations.RunPython(of_which_nobody_knows, migrations.RunPython.noop, elidable=True),
    ]
