"""Every limit of the system, in one place, each with what happens past it.

Names end in their unit. A limit that the wire contract fixes says so; the others may be tuned.
"""

from typing import Final

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

# --- what may be a command (contract) ------------------------------------------------------------

VALUE_BYTES_MAX: Final = 65_536
"""A larger record value is no command: dead letter `too_large`."""

ID_CHARS_MAX: Final = 128
"""Ids of commands, offers, assignments, entries, batches: longer is `not_an_envelope` or
`data_invalid`."""

SITE_CHARS_MAX: Final = 64
POSITION_CHARS_MAX: Final = 64

DEAD_LETTER_VALUE_BYTES_MAX: Final = 65_536
"""A dead letter carries at most this much of the value; its full length and hash always."""

# --- time (contract) -----------------------------------------------------------------------------

FUTURE_MS_MAX: Final = 5 * MINUTE_MS
"""A command whose `time` is further ahead of the broker's answers `from_the_future`."""

PAST_MS_MAX: Final = 7 * DAY_MS
"""A command whose `time` is further behind the broker's answers `too_late`."""

OFFER_OPEN_MS_MAX: Final = 30 * DAY_MS
"""An offer expires this long (broker time) after it was sent."""

NIGHT_SHIFT_MS: Final = 16 * HOUR_MS
"""An `out` less than this after the latest earlier `in` belongs to the day of that `in`."""

PERSON_CODE_STEP_MS: Final = MINUTE_MS
SITE_CODE_STEP_MS: Final = DAY_MS

# --- a person's record ---------------------------------------------------------------------------

OPEN_OFFERS_MAX: Final = 32
"""One more offer answers `too_many` (contract)."""

SEEN_IDS_MAX: Final = 512
"""Remembered commands. Past it the ones earliest in `time` are forgotten and a floor rises to
them: at or below the floor every command answers `too_late`, so no duplicate slips through."""

SPENT_CODES_MAX: Final = 64
"""Remembered steps of personal codes spent by entry scans. Past it the lowest is forgotten and a
floor rises to it: at or below the floor every code answers `code_replayed`."""

TENURES_MAX: Final = 16
"""Ended presences remembered for late attendance. Past it the earliest ended is forgotten: late
scans in it answer `not_present`."""

CLOCK_INS_MAX: Final = 64
"""Recorded `in` scans remembered to find the day of an `out`. Past it the earliest is forgotten:
an `out` of that shift counts for its own day."""

NAMED_IDS_MAX: Final = 256
"""Ids of a person's former offers, assignments and entries remembered to answer `id_reused`. Past
it the oldest may be used again, unless it is still open or live."""

# --- reading -------------------------------------------------------------------------------------

RECURRING_TEXTS_MAX: Final = 65_536
"""Of so many person ids, credit codes and sites each it is remembered that they are well-formed.
Past it those not seen for longest are looked at anew."""

HOMES_KNOWN_MAX: Final = 262_144
"""Of so many persons the partition is remembered, some 300 bytes each. Past it those not seen for
longest are computed again, for some 3 microseconds."""

# --- codes to scan -------------------------------------------------------------------------------

SITE_CODES_KNOWN_MAX: Final = 4_096
"""Texts of site codes that are known to be right. Past it all are forgotten, and each is verified
again when it is scanned."""

SITE_DIGESTS_KNOWN_MAX: Final = 16_384
"""Sites whose digest is at hand, some 200 bytes each. Past it those not seen for longest are
digested anew."""

# --- the embedded broker and database ------------------------------------------------------------

DOWNLOADS_AT_ONCE_MAX: Final = 8
DOWNLOAD_TRIES_MAX: Final = 3
"""Then the start fails and names the artifact."""

DOWNLOAD_READ_MS_MAX: Final = 60 * SECOND_MS
"""A download that stands still this long is tried again."""

LOCAL_START_MS_MAX: Final = 2 * MINUTE_MS
"""An embedded server that does not answer by then: the start fails with its log's tail."""

LOCAL_STOP_MS_MAX: Final = 15 * SECOND_MS
"""An embedded server that has not ended by then is killed; its data is made for that."""

LOCAL_LOG_TAIL_LINES_MAX: Final = 30
"""What an error shows of a server's log."""

# --- topics --------------------------------------------------------------------------------------

COMMAND_RETENTION_MS_MIN: Final = 30 * DAY_MS
"""Commands are kept at least this long; a catalog with less is refused."""

REFERENCE_COMPACTION_LAG_MS_MIN: Final = 30 * DAY_MS
"""Reference topics keep every version of a record at least this long, so that each kept
command can be decided again with the references of its time; a catalog with less is refused."""

TOPICS_REQUEST_MS_MAX: Final = 15 * SECOND_MS
"""One request of `realname topics`; past it the brokers count as unavailable."""

TOPICS_APPLY_MS_MAX: Final = 60 * SECOND_MS
"""All of `realname topics apply`; past it it fails, and may be run again."""

TOPICS_POLL_MS: Final = 100
"""Pause before looking again whether the brokers show what was applied."""

AGE_YEARS_MIN: Final = 18
OVER_AGE_YEARS: Final = {"male": 60, "female": 50}
"""Offers from this age on answer `over_age` (contract, policy); other steps do not ask."""

# --- projector -----------------------------------------------------------------------------------

PROJECTOR_BATCH_RECORDS_MAX: Final = 20_000
"""Records in one PostgreSQL transaction; the rest waits in the broker. Bounds memory and the time
that a stop takes."""

PROJECTOR_FETCH_RECORDS_MAX: Final = 1_000
"""Records taken from the client at once. So long, some milliseconds, does the database wait for the
next statement of the batch before."""

PROJECTOR_COPY_LINES_MAX: Final = 4_000
"""Lines of a history that are put together and sent to PostgreSQL at once."""

PROJECTOR_HELD_RECORDS_MAX: Final = 2_000
"""Events of one topic-partition that wait for another topic; past it the partition is paused until
they are applied."""

PROJECTOR_PEOPLE_MAX: Final = 100_000
"""Persons remembered between batches; past it those not touched last are read again when needed."""

PROJECTOR_POLL_MS_MAX: Final = 200
"""A wait for records; what is to be done without any (a stop, an idle commit) happens after it."""

PROJECTOR_IDLE_COMMIT_MS: Final = 1 * SECOND_MS
"""Progress past transaction markers alone is stored this often at most."""

PROJECTOR_STATEMENT_MS_MAX: Final = 60 * SECOND_MS
"""A database statement without an answer: the connection is dropped and the batch read again."""

PROJECTOR_CONNECT_MS_MAX: Final = 10 * SECOND_MS

PROJECTOR_BACKOFF_MS_MIN: Final = 100
PROJECTOR_BACKOFF_MS_MAX: Final = 5 * SECOND_MS
"""Between attempts while broker or database is away; doubles from the one to the other, and goes on
for as long as it takes."""

PROJECTOR_STANDBY_MS: Final = 500
"""How often a second projector looks whether the first is gone."""

PROJECTOR_WATCH_MS: Final = 5 * SECOND_MS
"""How often the topics' ends are asked for: lag, and whether the broker answers."""

PROJECTOR_HELD_MS_MAX: Final = 30 * SECOND_MS
"""An event that waits longer for an earlier version is told of, again after each such time."""

PROJECTOR_STOP_MS_MAX: Final = 4 * SECOND_MS
"""What a stop gives the batch in hand; then it is rolled back and read again at the next start."""

# --- the ledger ----------------------------------------------------------------------------------

TURN_RECORDS_MAX: Final = 16_384
"""Commands of one turn; the others wait for the next. Bounds how long other partitions wait for
their decisions, some 0.4 s. Most persons' commands of a turn are decided in a row, so larger turns
cost less a command where persons have several waiting: of 20 commands each of 100,000 persons 7 %
against half as large ones."""

TURN_RECORDS_LIVE_MAX: Final = 1_024
"""The same while some partition of the worker is live: its turns wait for this one's decision.
Always so short, turns would cost 6 to 20 % of what is decided in a backlog."""

DECIDED_AT_ONCE_MAX: Final = 128
"""Commands of a turn that are read, then decided, then answered, before the loop goes round: some
4 ms. Of one at a time, the code of each step drives that of the others out of the processor's
caches; of too many, their data does."""

LIVE_MS: Final = 200
"""A partition is live for this long after it had nothing left to decide."""

TURN_BYTES_MAX: Final = 8 << 20
"""Bytes of values in one turn: a turn ends with the record that passes it."""

TURNS_IN_HAND_MAX: Final = 4
"""Turns of one worker that are decided and written at once. More wait, and gather records: on one
machine 4 halved the p99 at 500 and at 2,000 scans a second against 16, and 2 raised it again."""

PERMIT_MS_MAX: Final = 500
"""A turn that asks the broker for longer is not counted among them meanwhile."""

TURN_DECIDE_MS_MAX: Final = 30 * SECOND_MS
"""A turn not answered by then counts as a failed decision."""

DECISION_TRIES_MAX: Final = 5
"""A turn whose decision fails this often stops its partition, with an alarm: nothing is skipped."""

TRANSACTION_MS_MAX: Final = 10 * SECOND_MS
"""The broker ends a transaction that is open for longer."""

COMMIT_MS_MAX: Final = 8 * SECOND_MS
"""Writing a turn; below the transaction's own end. Past it the partition is rebuilt."""

WRITER_START_MS_MAX: Final = 8 * SECOND_MS
"""Fencing the former owner; past it, tried again."""

WRITE_BATCH_BYTES_MAX: Final = 512 << 10
"""Records of one topic-partition are written in batches of about this; one record may be larger."""

WRITE_RECORD_BYTES_MAX: Final = 1 << 20
"""A larger record cannot be written: its partition stops, with an alarm."""

RESTORE_STALL_MS_MAX: Final = 30 * SECOND_MS
"""A restore that reads nothing for this long is begun anew."""

REBUILD_BACKOFF_MS_MIN: Final = 100
REBUILD_BACKOFF_MS_MAX: Final = 5 * SECOND_MS
"""The pause before a partition is rebuilt doubles from the one to the other."""

BARRIER_ALARM_MS: Final = 5 * SECOND_MS
"""A barrier not reached for this long is told of, again and again; the wait goes on."""

QUIET_MS_MAX: Final = 5 * SECOND_MS
"""A partition with nothing to decide for this long looks once whether its last transaction was
ended everywhere; readers would else wait for that until its next command."""

SESSION_MS_MAX: Final = 6 * SECOND_MS
"""A worker silent for this long loses its partitions to the others."""

HEARTBEAT_MS: Final = 500
REBALANCE_MS_MAX: Final = 10 * SECOND_MS
STOP_MS_MAX: Final = 4 * SECOND_MS
"""A worker that was asked to stop ends its turns in hand within this, or leaves them undone."""

FETCH_WAIT_MS: Final = 250
"""The broker holds an empty fetch this long."""

FETCH_WAIT_FULL_MS: Final = 5
"""The same while some feed is full and therefore left out of the fetch."""

FETCH_BYTES_MAX: Final = 8 << 20
FETCH_PARTITION_BYTES_MAX: Final = 1 << 20
FEED_BYTES_MAX: Final = 6 << 20
"""A feed that holds this much is not fetched for until some is taken: enough for a turn."""

FEEDS_BYTES_MAX: Final = 96 << 20
"""Past this, all feeds of a reader together, only empty feeds are fetched for."""

UNPACKED_BYTES_MAX: Final = 2 << 20
"""A compressed batch that unpacks to more is read piece by piece, never whole."""

PIECE_RECORDS_MAX: Final = 1_024
KEY_BYTES_MAX: Final = 65_536
"""Of a longer key only this much is kept: what is said of it must be sent."""

ZSTD_WINDOW_BYTES_MAX: Final = 128 << 20
"""What a batch may ask of the decompressor; the broker's own library has the same limit."""

BROKER_RETRY_MS_MIN: Final = 20
BROKER_RETRY_MS_MAX: Final = 1 * SECOND_MS
"""The pause before a request is sent again doubles from the one to the other."""

TRANSACTION_RETRY_MS: Final = 2
"""The pause while the broker still writes the markers of the transaction before."""

MARKERS_MS_MAX: Final = 500
"""Markers that take longer met something on their way: it is looked whether one was forgotten."""

FORGOTTEN_PAUSE_MS_MAX: Final = 500
"""A transaction whose result is lost is looked at again after pauses that double up to this; then
its partition stops."""

BAD_REFERENCES_KEPT_MAX: Final = 100
"""Unreadable reference records listed; the count goes on."""

WATCH_MS: Final = 1 * SECOND_MS
"""How often lag and age are measured."""

TOPIC_CHECK_MS: Final = 30 * SECOND_MS
"""How often the identities of the topics are compared with those in the progress."""

# --- the command line ----------------------------------------------------------------------------

CLI_POLL_MS: Final = 200
"""A wait for records while reading a topic to its end or watching it."""

CLI_STALL_MS_MAX: Final = 30 * SECOND_MS
"""Reading a topic to its end without any coming: the command fails."""

CLI_LINES_MAX: Final = 100_000
"""Commands or reference records in one `send`, `put` or `replay`; more are refused before any is
sent. Bounds memory: all are checked first."""

CLI_CHAINS_MAX: Final = 256
"""Persons whose commands are on the way at once; of one person, one at a time."""

CLI_GAP_MS: Final = 2
"""Between one command of a person and the next on another topic: the order across topics is the
broker's clock, in milliseconds."""

CLI_ACK_MS_MAX: Final = 30 * SECOND_MS
"""A record that the broker has not acknowledged by then counts as not sent."""

CLI_ANSWER_MS_MAX: Final = 30 * SECOND_MS
"""How long `--wait` waits for an outcome after the last was seen, if not told otherwise."""

CLI_SORTED_MAX: Final = 100_000
"""Past records that `watch --since` brings into one order; more come in as many orders."""

CLI_PROBLEMS_SHOWN_MAX: Final = 20
"""Lines shown of an input that is wrong in many; the rest is counted."""

CLI_LISTED_MAX: Final = 1_000
"""Dead letters listed one by one, the latest; the counts are of all."""

# --- the played project --------------------------------------------------------------------------

DEMO_ANSWER_MS_MAX: Final = 60 * SECOND_MS
"""A message that is not answered by then ends the play; a worker's death costs less than 10 s."""

DEMO_START_MS_MAX: Final = 60 * SECOND_MS
"""A process that does not say it is well by then: the play does not begin."""

DEMO_STOP_MS_MAX: Final = 10 * SECOND_MS
"""A process that has not ended by then after it was asked to is killed."""

DEMO_TABLES_MS_MAX: Final = 60 * SECOND_MS
"""The tables are at the topics' ends by then, after the last answer, or the play has failed."""

DEMO_POLL_MS: Final = 100
"""How often the play looks again at what it waits for."""

# --- the checker ---------------------------------------------------------------------------------

CHECK_STORIES_MAX: Final = 20
"""Violations told a judgement; past it they are only counted."""

CHECK_STORY_LINES_MAX: Final = 8
"""Decisions told of a person: those around the one that is broken."""

CHECK_EPSILON_MS: Final = 5
"""Of two records of one person, one acknowledged this long before the other was sent must be
decided first. What lies closer together is not judged."""

CHECK_APPEND_MS_MAX: Final = 1 * SECOND_MS
"""How long a record may be invisible after the broker gave it its time. By the brokers' clocks
alone, only what is further apart must be decided in that order."""

CHECK_QUIET_MS_MAX: Final = 30 * SECOND_MS
"""How long the check waits for everything to be decided and projected. Longer than a transaction
of a killed worker stays open. Past it the rest cannot be judged."""

CHECK_STALL_MS_MAX: Final = 30 * SECOND_MS
"""Reading a topic to its end without any coming: the check fails."""

CHECK_TAIL_RECORDS: Final = 64
"""Read first from the end of a `person-state` partition to find its progress record; then 16 times
as many, and so on."""

CHECK_POLL_MS: Final = 100
CHECK_PERSONS_MAX: Final = 2_000
"""Persons whose rows are asked for at once."""
