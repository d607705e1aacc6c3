import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** The rules of the scan stream: scans, entry processing and exits of workers. Not thread-safe. */
final class Rules {
    record Participant(String employer, String type, String project_manager) {}

    record Site(String site, String name, String status, List<Participant> participants) {}

    record Staff(
            String person,
            String employer,
            String position,
            String site,
            boolean operator,
            boolean present) {}

    record Command(
            String id,
            String source,
            String type,
            String time,
            long atMs,
            String subject,
            Map<String, String> data,
            byte[] keyDigest,
            byte[] contentDigest) {}

    record Event(String type, Map<String, String> data) {}

    record Decision(String status, String code, int version, List<Event> events, Person person) {}

    private static final class Rejected extends RuntimeException {
        final String code;

        Rejected(String code) {
            super(code, null, false, false);
            this.code = code;
        }
    }

    static final long DAY_MS = 86_400_000L;
    private static final long PAST_MS = 7 * DAY_MS;
    private static final long FUTURE_MS = 300_000;
    private static final long NIGHT_SHIFT_MS = 16 * 3_600_000L;
    private static final int RECORD = 32;
    private static final int CLOCK_IN = 16;
    private static final int SEEN_MAX = 512;
    private static final int TENURES_MAX = 16;
    private static final int CLOCK_INS_MAX = 64;
    private static final int SPENT_MAX = 64;
    private static final int NAMED_MAX = 256;

    /** A code's place is its number in the memory: append, never reorder. */
    private static final List<String> CODES =
            List.of(
                    "accepted", "id_reused", "not_authorized", "code_invalid", "code_expired",
                    "code_not_this_person", "code_replayed", "site_unknown", "site_closed",
                    "employer_not_on_site", "project_manager_required",
                    "general_contractor_required", "assignment_not_confirmed", "wrong_site",
                    "already_present", "entry_not_pending", "operator_required", "not_present",
                    "exit_not_pending", "already_pending");

    private final Map<String, Site> sites;
    private final Map<String, Staff> staff;
    private final Codes codes;
    private final MessageDigest sha256;

    /** As many as there are sites. */
    private final Map<String, Long> siteDigests = new HashMap<>();

    Rules(Map<String, Site> sites, Map<String, Staff> staff, Codes codes) {
        this.sites = sites;
        this.staff = staff;
        this.codes = codes;
        try {
            sha256 = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException(error);
        }
    }

    byte[] digest(int size, String first, String second) {
        sha256.update(first.getBytes(StandardCharsets.UTF_8));
        sha256.update((byte) 0);
        return Arrays.copyOf(sha256.digest(second.getBytes(StandardCharsets.UTF_8)), size);
    }

    byte[] digest(int size, String type, Map<String, String> data) {
        StringBuilder all = new StringBuilder(256);
        for (Map.Entry<String, String> field : new TreeMap<>(data).entrySet()) {
            all.append(field.getKey()).append('\0').append(field.getValue()).append('\0');
        }
        return digest(size, type, all.toString());
    }

    /** Judges a command at the broker's time; `person` is changed and given back. */
    Decision decide(Person person, Command command, long nowMs) {
        int at = find(person.seen, command.keyDigest, RECORD);
        if (at >= 0) {
            if (Arrays.equals(person.seen, at + 12, at + 20, command.contentDigest, 0, 8)) {
                ByteBuffer record = ByteBuffer.wrap(person.seen, at, RECORD);
                String code = CODES.get((int) (record.getLong(at + 20) & 0xFF));
                return new Decision("duplicate", code, record.getInt(at + 28), List.of(), null);
            }
            return new Decision("rejected", "id_reused", person.version, List.of(), null);
        }
        if (command.atMs > nowMs + FUTURE_MS) {
            return new Decision("rejected", "from_the_future", person.version, List.of(), null);
        }
        if (command.atMs < nowMs - PAST_MS || command.atMs <= person.seenFloorMs) {
            return new Decision("rejected", "too_late", person.version, List.of(), null);
        }
        List<Event> events = List.of();
        String code = "accepted";
        if (names(person, command.id)) {
            code = "id_reused";
        } else {
            try {
                events = ladder(person, command, nowMs);
                person.version += events.size();
            } catch (Rejected rejected) {
                code = rejected.code;
            }
        }
        remember(person, command, code, nowMs);
        String status = code.equals("accepted") ? "accepted" : "rejected";
        return new Decision(status, code, person.version, events, person);
    }

    private List<Event> ladder(Person person, Command command, long nowMs) {
        return switch (command.type) {
            case "scan.entry" -> entryScan(person, command, nowMs);
            case "scan.attendance" -> staffScan(person, command, nowMs);
            case "scan.checkin" -> checkin(person, command, nowMs);
            case "entry.process" -> process(person, command);
            case "exit.register" -> exitRegister(person, command);
            case "exit.confirm" -> exitConfirm(person, command, nowMs);
            default -> throw new IllegalArgumentException(command.type);
        };
    }

    // --- scans ----------------------------------------------------------------------------------

    private List<Event> entryScan(Person person, Command command, long nowMs) {
        String site = command.data.get("site");
        String scanner = command.data.get("scanner");
        scannedByRight(command, site, scanner);
        Codes.Code code = personalCode(command);
        long spent = code.step() << 8 | code.keyId();
        if (code.step() <= person.spentFloor || person.spentCodes.contains(spent)) {
            throw new Rejected("code_replayed");
        }
        mayEnter(person, site, scanner);
        List<Event> events = new ArrayList<>(2);
        if (person.entry != null) {
            events.add(
                    event(
                            "entry.lapsed",
                            "entry", person.entry.id(),
                            "site", person.entry.site(),
                            "employer", person.entry.employer()));
        }
        person.entry = new Person.Entry(command.id, site, person.employer);
        name(person, command.id);
        spend(person, spent, nowMs);
        events.add(
                event(
                        "entry.scanned",
                        "entry", command.id, "site", site, "employer", person.employer));
        return events;
    }

    private List<Event> staffScan(Person person, Command command, long nowMs) {
        String site = command.data.get("site");
        String scanner = command.data.get("scanner");
        scannedByRight(command, site, scanner);
        personalCode(command);
        if (confirmedFor(sites.get(site), scanner).isEmpty() && !isOperator(site, scanner)) {
            throw new Rejected("operator_required");
        }
        return record(person, command, site, "staff", scanner, nowMs);
    }

    private List<Event> checkin(Person person, Command command, long nowMs) {
        if (!command.source.equals("/persons/" + command.subject)) {
            throw new Rejected("not_authorized");
        }
        Codes.Code code = codes.parse(command.data.get("code"));
        if (code == null || code.ofPerson()) {
            throw new Rejected("code_invalid");
        }
        if (!Codes.inWindow(code, command.atMs)) {
            throw new Rejected("code_expired");
        }
        String site = command.data.get("site");
        if (!code.id().equals(site)) {
            throw new Rejected("wrong_site");
        }
        return record(person, command, site, "self", null, nowMs);
    }

    private void scannedByRight(Command command, String site, String scanner) {
        String source = command.source;
        boolean device = source.startsWith("/devices/") && source.length() > 9
                && source.indexOf('/', 9) < 0;
        if (!device && !scanner.equals(staffSource(source, site))) {
            throw new Rejected("not_authorized");
        }
    }

    private Codes.Code personalCode(Command command) {
        Codes.Code code = codes.parse(command.data.get("code"));
        if (code == null || !code.ofPerson()) {
            throw new Rejected("code_invalid");
        }
        if (!Codes.inWindow(code, command.atMs)) {
            throw new Rejected("code_expired");
        }
        if (!code.id().equals(command.subject)) {
            throw new Rejected("code_not_this_person");
        }
        return code;
    }

    private List<Event> record(
            Person person, Command command, String site, String method, String scanner, long now) {
        long at = command.atMs;
        String employer = null;
        boolean elsewhere = false;
        for (Person.Tenure tenure : person.tenures) {
            if (tenure.fromMs() <= at && at <= tenure.toMs()) {
                elsewhere = true;
                employer = tenure.site().equals(site) ? tenure.employer() : employer;
            }
        }
        if (person.presence != null && person.presence.sinceMs() <= at) {
            elsewhere = true;
            employer = person.presence.site().equals(site) ? person.presence.employer() : employer;
        }
        if (employer == null) {
            throw new Rejected(elsewhere ? "wrong_site" : "not_present");
        }
        String direction = command.data.get("direction");
        String day = day(person, site, direction, at);
        if ("in".equals(direction)) {
            clockIn(person, site, at, now - PAST_MS - NIGHT_SHIFT_MS);
        }
        return List.of(
                event(
                        "attendance.recorded",
                        "site", site, "employer", employer, "day", day,
                        "direction", direction, "method", method, "scanner", scanner));
    }

    private void clockIn(Person person, String site, long at, long oldest) {
        byte[] ins = person.clockIns;
        if (ins.length > 0 && clockInTime(ins, 0) < oldest) {
            ins = since(ins, oldest, Rules::clockInTime, CLOCK_IN);
        }
        int end = ins.length;
        ins = Arrays.copyOf(ins, end + CLOCK_IN);
        ByteBuffer.wrap(ins, end, CLOCK_IN).putLong(at).putLong(siteDigest(site));
        if (ins.length > CLOCK_INS_MAX * CLOCK_IN) {
            ins = without(ins, earliest(ins, Rules::clockInTime, CLOCK_IN), CLOCK_IN);
        }
        person.clockIns = ins;
    }

    private long siteDigest(String site) {
        return siteDigests.computeIfAbsent(
                site, one -> ByteBuffer.wrap(digest(8, "", one)).getLong());
    }

    private String day(Person person, String site, String direction, long at) {
        if ("out".equals(direction)) {
            long latest = Long.MIN_VALUE;
            long wanted = siteDigest(site);
            ByteBuffer ins = ByteBuffer.wrap(person.clockIns);
            while (ins.hasRemaining()) {
                long atMs = ins.getLong();
                if (ins.getLong() == wanted && atMs < at && atMs > latest) {
                    latest = atMs;
                }
            }
            if (latest != Long.MIN_VALUE && at - latest < NIGHT_SHIFT_MS) {
                at = latest;
            }
        }
        return LocalDate.ofEpochDay(Math.floorDiv(at + 8 * 3_600_000L, DAY_MS)).toString();
    }

    // --- entry and exit -------------------------------------------------------------------------

    private void mayEnter(Person person, String siteId, String scanner) {
        Site site = sites.get(siteId);
        if (site == null) {
            throw new Rejected("site_unknown");
        }
        if (!site.status().equals("active")) {
            throw new Rejected("site_closed");
        }
        if (person.employer != null
                && site.participants().stream().noneMatch(p -> p.employer().equals(person.employer))) {
            throw new Rejected("employer_not_on_site");
        }
        if (scanner != null) {
            List<Participant> manages = confirmedFor(site, scanner);
            if (manages.isEmpty()) {
                throw new Rejected("project_manager_required");
            }
            boolean may = false;
            for (Participant participant : manages) {
                may |= participant.type().equals("general_contractor")
                        || participant.type().equals("professional_subcontractor")
                                && participant.employer().equals(person.employer);
            }
            if (!may) {
                throw new Rejected("general_contractor_required");
            }
        }
        if (person.assignment == null) {
            throw new Rejected("assignment_not_confirmed");
        }
        if (!siteId.equals(person.assignedSite)) {
            throw new Rejected("wrong_site");
        }
        if (person.presence != null) {
            throw new Rejected("already_present");
        }
    }

    private List<Event> process(Person person, Command command) {
        String site = command.data.get("site");
        if (!isSiteSide(site, staffSource(command.source, site), person.employer)) {
            throw new Rejected("not_authorized");
        }
        Person.Entry entry = person.entry;
        if (entry == null || !entry.id().equals(command.data.get("entry")) || !entry.site().equals(site)) {
            throw new Rejected("entry_not_pending");
        }
        mayEnter(person, site, null);
        person.entry = null;
        person.presence =
                new Person.Presence(entry.id(), entry.site(), entry.employer(), command.atMs);
        name(person, entry.id());
        return List.of(
                event(
                        "presence.started",
                        "entry", entry.id(), "site", entry.site(), "employer", entry.employer()));
    }

    private List<Event> exitRegister(Person person, Command command) {
        String site = mayShowOut(person, command);
        if (person.exitRegistered) {
            throw new Rejected("already_pending");
        }
        person.exitRegistered = true;
        return List.of(event("exit.registered", "site", site, "employer", person.employer));
    }

    private List<Event> exitConfirm(Person person, Command command, long nowMs) {
        mayShowOut(person, command);
        if (!person.exitRegistered) {
            throw new Rejected("exit_not_pending");
        }
        Person.Presence was = person.presence;
        List<Event> events = new ArrayList<>(2);
        events.add(
                event(
                        "presence.ended",
                        "entry", was.entry(), "site", was.site(), "employer", was.employer(),
                        "cause", "exit"));
        events.add(
                event(
                        "assignment.ended",
                        "assignment", person.assignment, "site", person.assignedSite,
                        "employer", person.employer, "cause", "exit"));
        person.tenures.removeIf(one -> one.toMs() < nowMs - PAST_MS);
        person.tenures.add(
                new Person.Tenure(
                        was.site(), was.employer(), was.sinceMs(),
                        Math.max(was.sinceMs(), command.atMs)));
        if (person.tenures.size() > TENURES_MAX) {
            person.tenures.remove(
                    person.tenures.stream()
                            .min(java.util.Comparator.comparingLong(Person.Tenure::toMs))
                            .get());
        }
        person.presence = null;
        person.exitRegistered = false;
        person.assignment = null;
        person.assignedSite = null;
        return events;
    }

    private String mayShowOut(Person person, Command command) {
        String site = command.data.get("site");
        String by = staffSource(command.source, site);
        List<Participant> named = namedFor(sites.get(site), by);
        if (!isOperator(site, by)
                && named.stream().noneMatch(p -> p.type().equals("general_contractor"))) {
            throw new Rejected(named.isEmpty() ? "operator_required" : "general_contractor_required");
        }
        if (person.presence == null || !person.presence.site().equals(site)) {
            throw new Rejected("not_present");
        }
        return site;
    }

    // --- who may --------------------------------------------------------------------------------

    private static String staffSource(String source, String site) {
        String prefix = "/sites/" + site + "/staff/";
        return source.startsWith(prefix) && source.length() > prefix.length()
                ? source.substring(prefix.length())
                : null;
    }

    private List<Participant> namedFor(Site site, String person) {
        Staff one = person == null ? null : staff.get(person);
        if (one == null || site == null) {
            return List.of();
        }
        List<Participant> found = new ArrayList<>(1);
        for (Participant participant : site.participants()) {
            if (person.equals(participant.project_manager())
                    && participant.employer().equals(one.employer())) {
                found.add(participant);
            }
        }
        return found;
    }

    private List<Participant> confirmedFor(Site site, String person) {
        Staff one = person == null ? null : staff.get(person);
        if (one == null || site == null || !site.site().equals(one.site())) {
            return List.of();
        }
        return namedFor(site, person);
    }

    private boolean isOperator(String site, String person) {
        Staff one = person == null ? null : staff.get(person);
        return one != null && one.operator() && site.equals(one.site());
    }

    private boolean isSiteSide(String siteId, String person, String employer) {
        Staff one = person == null ? null : staff.get(person);
        if (one == null) {
            return false;
        }
        Site site = sites.get(siteId);
        for (Participant participant : namedFor(site, person)) {
            if (participant.type().equals("general_contractor")
                    || participant.employer().equals(employer)) {
                return true;
            }
        }
        return isOperator(siteId, person)
                && one.present()
                && (one.employer().equals(employer)
                        || site != null
                                && site.participants().stream()
                                        .anyMatch(
                                                p -> p.type().equals("general_contractor")
                                                        && p.employer().equals(one.employer())));
    }

    // --- memory ---------------------------------------------------------------------------------

    private static int find(byte[] packed, byte[] digest, int record) {
        for (int at = 0; at < packed.length; at += record) {
            if (Arrays.equals(packed, at, at + digest.length, digest, 0, digest.length)) {
                return at;
            }
        }
        return -1;
    }

    private interface Time {
        long of(byte[] packed, int at);
    }

    private static byte[] since(byte[] packed, long oldest, Time time, int record) {
        ByteBuffer kept = ByteBuffer.allocate(packed.length);
        for (int at = 0; at < packed.length; at += record) {
            if (time.of(packed, at) >= oldest) {
                kept.put(packed, at, record);
            }
        }
        return Arrays.copyOf(kept.array(), kept.position());
    }

    private static int earliest(byte[] packed, Time time, int record) {
        int earliest = 0;
        for (int at = record; at < packed.length; at += record) {
            if (time.of(packed, at) < time.of(packed, earliest)) {
                earliest = at;
            }
        }
        return earliest;
    }

    private static byte[] without(byte[] packed, int at, int record) {
        System.arraycopy(packed, at + record, packed, at, packed.length - at - record);
        return Arrays.copyOf(packed, packed.length - record);
    }

    private static long seenTime(byte[] seen, int at) {
        return ByteBuffer.wrap(seen).getLong(at + 20) >>> 8;
    }

    private static long clockInTime(byte[] ins, int at) {
        return ByteBuffer.wrap(ins).getLong(at);
    }

    private static void remember(Person person, Command command, String code, long nowMs) {
        byte[] seen = person.seen;
        if (seen.length > 0 && seenTime(seen, 0) < nowMs - PAST_MS - DAY_MS) {
            person.seenFloorMs = Math.max(person.seenFloorMs, nowMs - PAST_MS - 1);
            seen = since(seen, nowMs - PAST_MS, Rules::seenTime, RECORD);
        }
        int end = seen.length;
        seen = Arrays.copyOf(seen, end + RECORD);
        ByteBuffer.wrap(seen, end, RECORD)
                .put(command.keyDigest)
                .put(command.contentDigest)
                .putLong(command.atMs << 8 | CODES.indexOf(code))
                .putInt(person.version);
        if (seen.length > SEEN_MAX * RECORD) {
            int earliest = earliest(seen, Rules::seenTime, RECORD);
            person.seenFloorMs = Math.max(person.seenFloorMs, seenTime(seen, earliest));
            seen = without(seen, earliest, RECORD);
        }
        person.seen = seen;
    }

    private boolean names(Person person, String id) {
        return find(person.named, digest(8, "", id), 8) >= 0 || id.equals(person.assignment);
    }

    void name(Person person, String id) {
        byte[] digest = digest(8, "", id);
        if (find(person.named, digest, 8) >= 0) {
            return;
        }
        int kept = Math.min(person.named.length, (NAMED_MAX - 1) * 8);
        byte[] named = new byte[kept + 8];
        System.arraycopy(person.named, person.named.length - kept, named, 0, kept);
        System.arraycopy(digest, 0, named, kept, 8);
        person.named = named;
    }

    private static void spend(Person person, long spent, long nowMs) {
        person.spentFloor = Math.max(person.spentFloor, Math.floorDiv(nowMs - PAST_MS, 60_000L) - 4);
        person.spentCodes.removeIf(one -> one >> 8 <= person.spentFloor);
        person.spentCodes.add(spent);
        if (person.spentCodes.size() > SPENT_MAX) {
            long lowest = java.util.Collections.min(person.spentCodes);
            person.spentCodes.remove(lowest);
            person.spentFloor = Math.max(person.spentFloor, lowest >> 8);
        }
    }

    /** An event; fields that are null are left out. */
    private static Event event(String type, String... fields) {
        Map<String, String> data = new LinkedHashMap<>(8);
        for (int i = 0; i < fields.length; i += 2) {
            if (fields[i + 1] != null) {
                data.put(fields[i], fields[i + 1]);
            }
        }
        return new Event(type, data);
    }
}
