-- Views for analysts. Sites and employers are shown by their ids: their names are in no result topic.

create view realname.on_site_now as
select p.site, p.employer, p.person, e.role, e.trade, e.position, p.started_at as on_site_since,
       a.operator_since is not null as operator,
       p.exit_registered_at is not null as exit_pending
from realname.presences p
left join realname.employments e on e.person = p.person and e.status = 'active'
left join realname.assignments a on a.person = p.person and a.status = 'confirmed'
where p.ended_at is null;
comment on view realname.on_site_now is '在场人员: who is on which site now.';

create view realname.on_site_counts as
select site, employer, role, trade, count(*) as persons
from realname.on_site_now
group by site, employer, role, trade;
comment on view realname.on_site_counts is '在场人数 by site, employer, role and trade (工种).';

create view realname.attendance_days as
select person, employer, date_trunc('month', day)::date as month,
       count(distinct day) as days, count(*) as scans
from realname.attendance
group by person, employer, date_trunc('month', day)::date;
comment on view realname.attendance_days is
    '考勤天数: attendance days of a person for an employer in a month (its first day).';

create view realname.open_offers as
select person, offer, employer, status, parked_at, made_at
from realname.offers
where status in ('parked', 'made');
comment on view realname.open_offers is
    '聘用待确认: parked waits for the identity, made for the person. An offer over 30 days old is '
    'closed by the person''s next accepted command.';

create view realname.pending_entries as
select site, employer, person, entry, scanned_at from realname.entries where status = 'waiting';
comment on view realname.pending_entries is '进场待处理: scanned at the gate, not processed yet.';

create view realname.pending_exits as
select site, employer, person, started_at as on_site_since, exit_registered_at
from realname.presences
where ended_at is null and exit_registered_at is not null;
comment on view realname.pending_exits is '退场待确认: registered to leave, not confirmed yet.';

create view realname.pending_ends as
select employer, person, 'dismissal' as kind, dismissal_requested_at as requested_at,
       dismissal_reason as reason
from realname.employments
where status = 'active' and dismissal_requested_at is not null
union all
select employer, person, 'departure', departure_requested_at, null
from realname.employments
where status = 'active' and departure_requested_at is not null;
comment on view realname.pending_ends is '解聘, 离职 that wait for the other side.';

create view realname.rejections as
select date_trunc('hour', o.answered_at, 'Asia/Shanghai') as hour, o.code, o.command_type,
       r.zh, r.en, count(*) as commands, count(distinct o.person) as persons
from realname.outcomes o
left join realname.reason_codes r on r.code = o.code
where o.status = 'rejected'
group by 1, 2, 3, 4, 5;
comment on view realname.rejections is 'Rejected commands by hour (of the answer) and code.';
