import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def approve(apps, _schema_editor):
    """What was in use before there were approvals stays in use."""
    apps.get_model("council", "LanguageModel").objects.update(approval="approved")


class Migration(migrations.Migration):

    dependencies = [
        ('council', '0007_what_is_not_known'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='languagemodel',
            options={'ordering': ('provider__name', 'name'), 'permissions': (('approve_languagemodel', 'Can approve models, and retire them'),)},
        ),
        migrations.AddField(
            model_name='languagemodel',
            name='approval',
            field=models.CharField(choices=[('proposed', 'proposed'), ('approved', 'approved'), ('retired', 'retired')], db_default='proposed', default='proposed', help_text='Only an approved model is asked anything, whatever councils it sits in.', max_length=10),
        ),
        migrations.AddField(
            model_name='languagemodel',
            name='approval_note',
            field=models.CharField(blank=True, db_default='', default='', help_text='Why, and for what it may be used.', max_length=300, verbose_name='note'),
        ),
        migrations.AddField(
            model_name='languagemodel',
            name='decided',
            field=models.DateTimeField(editable=False, help_text='When its approval was last decided,', null=True),
        ),
        migrations.AddField(
            model_name='languagemodel',
            name='decided_by',
            field=models.ForeignKey(editable=False, help_text='and by whom; nobody: a file, or the site itself.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.RunPython(approve, migrations.RunPython.noop, elidable=True),
    ]
