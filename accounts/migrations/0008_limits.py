
import django.core.validators
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0007_days_without_a_factor'),
        ('auth', '0012_alter_user_first_name_max_length'),
    ]

    operations = [
        migrations.CreateModel(
            name='Limit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('what', models.CharField(choices=[('asks', 'questions asked'), ('going', 'deliberations at the same time'), ('sockets', 'open pages at the same time, in one process'), ('messages', 'messages from an open page'), ('sign-ins', 'tries to sign in that fail'), ('links', 'shared links opened'), ('acts', 'exports, links, names, deletions')], max_length=10)),
                ('per', models.CharField(choices=[('person', 'each person'), ('group', 'the group together'), ('address', 'each network address')], default='person', max_length=10, verbose_name='counted for')),
                ('amount', models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1)], verbose_name='at most')),
                ('seconds', models.PositiveIntegerField(blank=True, help_text='In so many seconds: 3600 is an hour. Empty for what goes on at the same time.', null=True, validators=[django.core.validators.MinValueValidator(1)])),
                ('group', models.ForeignKey(blank=True, help_text='For these people, in place of what holds for everyone. Empty: for everyone.', null=True, on_delete=django.db.models.deletion.CASCADE, to='auth.group')),
            ],
            options={
                'verbose_name': 'limit',
                'verbose_name_plural': 'limits',
                'ordering': ('what', 'group__name', 'per'),
            },
        ),
    ]
