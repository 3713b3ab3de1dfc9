import governance.fields
from django.db import migrations, models

# Numbers, dates and chains each event; refuses to change, delete or truncate any. The lock is held until the commit:
# the next insert waits for it, and sees this one then.
TRIGGERS = """
CREATE FUNCTION governance_event_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    previous record;
BEGIN
    PERFORM pg_advisory_xact_lock(7021226914836476777);
    SELECT id, hash INTO previous FROM governance_event ORDER BY id DESC LIMIT 1;
    NEW.id := coalesce(previous.id, 0) + 1;
    NEW.at := clock_timestamp();
    NEW.hash := sha256(coalesce(previous.hash, ''::bytea) || convert_to(jsonb_build_array(
        NEW.id, to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), NEW.actor, NEW.kind,
        NEW.object_type, NEW.object_id, NEW.details
    )::text, 'UTF8'));
    RETURN NEW;
END
$$;
CREATE FUNCTION governance_event_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit trail is append-only: % is refused.', TG_OP;
END
$$;
CREATE TRIGGER chain BEFORE INSERT ON governance_event FOR EACH ROW EXECUTE FUNCTION governance_event_chain();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON governance_event
    FOR EACH ROW EXECUTE FUNCTION governance_event_refuse();
CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON governance_event
    FOR EACH STATEMENT EXECUTE FUNCTION governance_event_refuse();
"""
NO_TRIGGERS = """
DROP TRIGGER chain ON governance_event;
DROP TRIGGER append_only ON governance_event;
DROP TRIGGER append_only_whole ON governance_event;
DROP FUNCTION governance_event_chain();
DROP FUNCTION governance_event_refuse();
"""


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='AuditKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('secret', governance.fields.EncryptedTextField()),
            ],
            options={
                'default_permissions': (),
                'constraints': [models.CheckConstraint(condition=models.Q(('pk', 1)), name='one_row_of_audit_key')],
            },
        ),
        migrations.CreateModel(
            name='Event',
            fields=[
                ('id', models.BigIntegerField(primary_key=True, serialize=False, verbose_name='number')),
                ('at', models.DateTimeField(verbose_name='when')),
                ('actor', models.UUIDField(help_text='A pseudonym, which only accounts can resolve. Empty: the site, or nobody known.', null=True, verbose_name='who')),
                ('kind', models.CharField(max_length=40, verbose_name='what')),
                ('object_type', models.CharField(blank=True, max_length=60, verbose_name='kind of thing')),
                ('object_id', models.CharField(blank=True, max_length=64, verbose_name='which thing')),
                ('details', models.JSONField(default=dict, verbose_name='details')),
                ('hash', models.BinaryField(help_text='SHA-256 of the hash before it and of this row.', max_length=32, verbose_name='hash')),
            ],
            options={
                'verbose_name': 'event',
                'verbose_name_plural': 'events',
                'ordering': ('-id',),
                'default_permissions': ('view',),
                'indexes': [models.Index(fields=['object_id', 'id'], name='event_object'), models.Index(fields=['actor', 'id'], name='event_actor'), models.Index(fields=['kind', 'id'], name='event_kind')],
            },
        ),
        migrations.CreateModel(
            name='Tally',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('minute', models.DateTimeField()),
                ('kind', models.CharField(max_length=40)),
                ('object_type', models.CharField(blank=True, max_length=60)),
                ('object_id', models.CharField(blank=True, max_length=64)),
                ('count', models.PositiveIntegerField(default=1)),
            ],
            options={
                'default_permissions': (),
                'constraints': [models.UniqueConstraint(fields=('minute', 'kind', 'object_type', 'object_id'), name='one_tally_a_minute')],
            },
        ),
        migrations.CreateModel(
            name='Verification',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('count', models.PositiveBigIntegerField()),
                ('wrong', models.TextField(blank=True, help_text='What was found; empty where the chain is whole.')),
            ],
            options={
                'default_permissions': (),
                'constraints': [models.CheckConstraint(condition=models.Q(('pk', 1)), name='one_row_of_verification')],
            },
        ),
        migrations.RunSQL(TRIGGERS, NO_TRIGGERS),
    ]
