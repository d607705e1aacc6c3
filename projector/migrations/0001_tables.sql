-- The projection: what the result topics of a deployment say, as tables.
-- Every commit equals the fold of the topic prefixes named by `progress`, and everything but
-- `migrations` and `reason_codes` is rebuilt from the topics alone: no column has a default that
-- depends on the clock, a sequence or the order of arrival.

create table realname.progress (
    topic        text   not null,
    partition    int    not null,
    next_offset  bigint not null check (next_offset >= 0),
    last_offset  bigint,
    last_digest  bytea,
    primary key (topic, partition),
    check ((last_offset is null) = (last_digest is null)),
    check (last_offset < next_offset)
);
comment on table realname.progress is
    'How far each topic-partition is in these tables. Written in the transaction that writes the rows.';
comment on column realname.progress.topic is 'Topic name on the broker.';
comment on column realname.progress.next_offset is
    'Every record below this offset is in the tables, none at or above it.';
comment on column realname.progress.last_offset is 'Offset of the last record in the tables.';
comment on column realname.progress.last_digest is
    'Digest of that record: it tells a recreated topic from the one these tables were made from.';

-- --- current ---------------------------------------------------------------------------------

create table realname.persons (
    person          text primary key,
    version         bigint not null check (version > 0),
    identity        text check (identity in ('submitted', 'verified', 'failed')),
    identity_at     timestamptz,
    identity_reason text
) with (fillfactor = 70);
comment on table realname.persons is '人员: one row a person, by the keyed hash of the ID number.';
comment on column realname.persons.person is 'Person id: 32 hex digits of a keyed hash, no ID number.';
comment on column realname.persons.version is
    'Version of the last event of this person in these tables; versions start at 1, without gaps.';
comment on column realname.persons.identity is
    '个人信息: submitted (waits for the centre), verified or failed.';
comment on column realname.persons.identity_at is 'When the identity became so.';
comment on column realname.persons.identity_reason is 'The centre''s reason for failed.';

create table realname.offers (
    person     text not null,
    since      bigint not null,
    version    bigint not null check (version >= since),
    offer      text not null,
    employer   text not null,
    status     text not null check (status in
        ('parked', 'made', 'withdrawn', 'refused', 'accepted', 'superseded', 'expired')),
    parked_at  timestamptz,
    made_at    timestamptz,
    closed_at  timestamptz,
    cause      text,
    primary key (person, since),
    check ((closed_at is null) = (status in ('parked', 'made')))
);
create unique index offers_open on realname.offers (person, offer)
    where status in ('parked', 'made');
create index offers_of_employer on realname.offers (employer) where status in ('parked', 'made');
comment on table realname.offers is '聘用待确认: every offer of employment and what became of it.';
comment on column realname.offers.since is 'Version of the event that made this row.';
comment on column realname.offers.version is 'Version of the last event that changed this row.';
comment on column realname.offers.offer is 'Id of the hire.offer command.';
comment on column realname.offers.employer is 'Unified social credit code.';
comment on column realname.offers.status is
    'parked (identity not verified yet) and made (waits for the person) are open.';
comment on column realname.offers.closed_at is 'When it stopped being open.';
comment on column realname.offers.cause is 'Why a parked offer was refused by the rules.';

create table realname.employments (
    person                 text not null,
    since                  bigint not null,
    version                bigint not null check (version >= since),
    employer               text not null,
    status                 text not null check (status in ('active', 'ended')),
    started_at             timestamptz not null,
    role                   text check (role in ('worker', 'manager')),
    trade                  text,
    position               text,
    registered_at          timestamptz,
    dismissal_requested_at timestamptz,
    dismissal_reason       text,
    departure_requested_at timestamptz,
    ended_at               timestamptz,
    end_cause              text,
    primary key (person, since),
    check ((ended_at is null) = (status = 'active'))
);
create unique index employments_one_active on realname.employments (person)
    where status = 'active';
create index employments_of_employer on realname.employments (employer) where status = 'active';
comment on table realname.employments is
    '聘用: every employment, active or ended; a person has at most one active.';
comment on column realname.employments.since is 'Version of the employment.started event.';
comment on column realname.employments.version is 'Version of the last event that changed this row.';
comment on column realname.employments.employer is 'Unified social credit code.';
comment on column realname.employments.role is '身份: worker or manager; null until registered.';
comment on column realname.employments.trade is '工种: national code, workers.';
comment on column realname.employments.position is '岗位: managers.';
comment on column realname.employments.registered_at is 'When role, trade and position were last set.';
comment on column realname.employments.dismissal_requested_at is
    '解聘 pending since; null when none is, or after it was withdrawn or refused.';
comment on column realname.employments.departure_requested_at is
    '离职 pending since; null when none is, or after it was withdrawn or refused.';
comment on column realname.employments.end_cause is 'dismissed or departed.';

create table realname.assignments (
    person         text not null,
    since          bigint not null,
    version        bigint not null check (version >= since),
    assignment     text not null,
    site           text not null,
    employer       text not null,
    position       text,
    status         text not null check (status in
        ('requested', 'withdrawn', 'confirmed', 'rejected', 'ended')),
    requested_at   timestamptz not null,
    confirmed_at   timestamptz,
    closed_at      timestamptz,
    end_cause      text,
    operator_since timestamptz,
    confirmed_site text generated always as
        (case when status = 'confirmed' then site end) stored,
    primary key (person, since),
    unique (person, confirmed_site),
    check ((closed_at is null) = (status in ('requested', 'confirmed'))),
    check (operator_since is null or status = 'confirmed')
);
create unique index assignments_one_live on realname.assignments (person)
    where status in ('requested', 'confirmed');
create index assignments_of_site on realname.assignments (site)
    where status in ('requested', 'confirmed');
comment on table realname.assignments is
    '分配: every assignment of a person to a site; a person has at most one live (requested or confirmed).';
comment on column realname.assignments.since is 'Version of the assignment.requested event.';
comment on column realname.assignments.version is 'Version of the last event that changed this row.';
comment on column realname.assignments.assignment is 'Id of the assignment.request command.';
comment on column realname.assignments.closed_at is 'When it stopped being live.';
comment on column realname.assignments.operator_since is
    '现场操作用户: authorised as operator of the site since; null when not.';
comment on column realname.assignments.confirmed_site is
    'The site while confirmed, else null: what an open presence refers to.';

create table realname.entries (
    person     text not null,
    since      bigint not null,
    version    bigint not null check (version >= since),
    entry      text not null,
    site       text not null,
    employer   text not null,
    status     text not null check (status in ('waiting', 'processed', 'lapsed')),
    scanned_at timestamptz not null,
    closed_at  timestamptz,
    primary key (person, since),
    check ((closed_at is null) = (status = 'waiting'))
);
create unique index entries_one_waiting on realname.entries (person) where status = 'waiting';
create index entries_of_site on realname.entries (site) where status = 'waiting';
comment on table realname.entries is
    '进场登记: every accepted entry scan; a person has at most one waiting to be processed.';
comment on column realname.entries.since is 'Version of the entry.scanned event.';
comment on column realname.entries.version is 'Version of the last event that changed this row.';
comment on column realname.entries.entry is 'Id of the scan.entry command.';

create table realname.presences (
    person             text not null,
    since              bigint not null,
    version            bigint not null check (version >= since),
    entry              text not null,
    assignment         text,
    site               text not null,
    employer           text not null,
    started_at         timestamptz not null,
    exit_registered_at timestamptz,
    ended_at           timestamptz,
    end_cause          text,
    present_site       text generated always as (case when ended_at is null then site end) stored,
    primary key (person, since),
    foreign key (person, present_site) references realname.assignments (person, confirmed_site)
        deferrable initially deferred
);
create unique index presences_one_present on realname.presences (person) where ended_at is null;
create index presences_of_site on realname.presences (site) where ended_at is null;
comment on table realname.presences is
    '在场: every tenure of a person on a site, from 进场 to 退场; at most one is open.';
comment on column realname.presences.since is 'Version of the presence.started event.';
comment on column realname.presences.version is 'Version of the last event that changed this row.';
comment on column realname.presences.entry is 'Id of the scan.entry or entry.self command.';
comment on column realname.presences.assignment is 'The confirmed assignment it rests on.';
comment on column realname.presences.exit_registered_at is '退场登记: waits for confirmation since.';
comment on column realname.presences.ended_at is 'Null while the person is present.';
comment on column realname.presences.end_cause is 'exit, dismissed or departed.';
comment on column realname.presences.present_site is
    'The site while present, else null: it must be the site of a confirmed assignment.';

-- --- history ---------------------------------------------------------------------------------

create table realname.events (
    person    text not null,
    version   bigint not null check (version > 0),
    type      text not null,
    time      timestamptz not null,
    command   text not null,
    data      jsonb not null,
    topic     text not null,
    partition int not null,
    "offset"  bigint not null,
    primary key (person, version)
);
comment on table realname.events is 'Every state change of every person, in the person''s own order.';
comment on column realname.events.time is 'When it happened: the time of the command that made it.';
comment on column realname.events.command is 'Id of the command that made it.';
comment on column realname.events.data is 'The event''s own fields, without version and command.';
comment on column realname.events.topic is 'Where the record is: topic on the broker.';

create table realname.attendance (
    person    text not null,
    version   bigint not null,
    day       date not null,
    time      timestamptz not null,
    site      text not null,
    employer  text not null,
    direction text check (direction in ('in', 'out')),
    method    text not null check (method in ('staff', 'self')),
    scanner   text,
    primary key (person, version)
);
create index attendance_of_day on realname.attendance using brin (day);
comment on table realname.attendance is '考勤: one row for each recorded scan.';
comment on column realname.attendance.version is 'Version of the attendance.recorded event.';
comment on column realname.attendance.day is
    'Attendance day in Asia/Shanghai; an out of a night shift belongs to the day of its in.';
comment on column realname.attendance.time is 'When the code was scanned.';
comment on column realname.attendance.scanner is 'Person id of the staff member who scanned.';

create table realname.outcomes (
    origin_topic     text   not null,
    origin_partition int    not null,
    origin_offset    bigint not null,
    person           text   not null,
    command          text   not null,
    command_source   text   not null,
    command_type     text   not null,
    status           text   not null check (status in ('accepted', 'rejected', 'duplicate')),
    code             text   not null,
    version          bigint not null,
    events           text[] not null,
    batch            text,
    rules_version    int    not null,
    time             timestamptz not null,
    answered_at      timestamptz not null,
    primary key (origin_topic, origin_partition, origin_offset)
);
create index outcomes_rejected on realname.outcomes (answered_at) where status = 'rejected';
create index outcomes_of_batch on realname.outcomes (batch) where batch is not null;
comment on table realname.outcomes is
    'The answer to each command; the key names the command''s record on the broker.';
comment on column realname.outcomes.code is 'accepted, or the reason; its words are in reason_codes.';
comment on column realname.outcomes.version is 'The person''s version after the command, 0 without one.';
comment on column realname.outcomes.events is 'Ids ({person}:{version}) of the events it made.';
comment on column realname.outcomes.time is 'The command''s own time; a wrong clock shows here.';
comment on column realname.outcomes.answered_at is 'Broker time of the answer.';

create table realname.dead_letters (
    origin_topic     text   not null,
    origin_partition int    not null,
    origin_offset    bigint not null,
    code             text   not null,
    detail           text   not null,
    encoding         text   not null check (encoding in ('utf-8', 'base64')),
    key              bytea,
    value            bytea,
    length           bigint not null,
    sha256           text   not null,
    answered_at      timestamptz not null,
    primary key (origin_topic, origin_partition, origin_offset)
);
comment on table realname.dead_letters is
    'Records that cannot be a command; the key names the record on the broker.';
comment on column realname.dead_letters.encoding is 'How the dead letter wrote key and value.';
comment on column realname.dead_letters.key is 'The record''s key, as the bytes it was.';
comment on column realname.dead_letters.value is 'The first 64 KiB of the record''s value, as bytes.';
comment on column realname.dead_letters.length is 'Bytes of the whole value.';
comment on column realname.dead_letters.sha256 is 'Hash of the whole value, hex.';
comment on column realname.dead_letters.answered_at is 'Broker time of the dead letter.';

-- --- words -----------------------------------------------------------------------------------

create table realname.reason_codes (
    code text primary key,
    zh   text not null,
    en   text not null
);
comment on table realname.reason_codes is 'What each code says to people; filled by the program.';
comment on column realname.reason_codes.zh is 'Prompt in Chinese; the manual''s own where it has one.';
comment on column realname.reason_codes.en is 'Prompt in English.';
