import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serializer;

/** A person's state: what the rules of the scan stream need, and the parts they leave alone. */
final class Person {
    record Entry(String id, String site, String employer) {}

    record Presence(String entry, String site, String employer, long sinceMs) {}

    record Tenure(String site, String employer, long fromMs, long toMs) {}

    int version;
    String nameTag;
    String birthDate;
    String employer;
    String assignment;
    String assignedSite;
    boolean exitRegistered;
    Entry entry;
    Presence presence;
    List<Tenure> tenures = new ArrayList<>(0);
    List<Long> spentCodes = new ArrayList<>(2);
    long spentFloor = -1;

    /** Packed: the time and the digest of the site, eight bytes each. */
    byte[] clockIns = new byte[0];

    byte[] named = new byte[0];
    byte[] seen = new byte[0];
    long seenFloorMs;

    byte[] encode() {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(256 + clockIns.length + seen.length);
        try {
            DataOutputStream out = new DataOutputStream(bytes);
            out.writeByte(1);
            out.writeInt(version);
            text(out, nameTag);
            text(out, birthDate);
            text(out, employer);
            text(out, assignment);
            text(out, assignedSite);
            out.writeBoolean(exitRegistered);
            out.writeBoolean(entry != null);
            if (entry != null) {
                text(out, entry.id);
                text(out, entry.site);
                text(out, entry.employer);
            }
            out.writeBoolean(presence != null);
            if (presence != null) {
                text(out, presence.entry);
                text(out, presence.site);
                text(out, presence.employer);
                out.writeLong(presence.sinceMs);
            }
            out.writeByte(tenures.size());
            for (Tenure tenure : tenures) {
                text(out, tenure.site);
                text(out, tenure.employer);
                out.writeLong(tenure.fromMs);
                out.writeLong(tenure.toMs);
            }
            out.writeByte(spentCodes.size());
            for (long spent : spentCodes) {
                out.writeLong(spent);
            }
            out.writeLong(spentFloor);
            out.writeShort(clockIns.length);
            out.write(clockIns);
            out.writeShort(named.length);
            out.write(named);
            out.writeShort(seen.length);
            out.write(seen);
            out.writeLong(seenFloorMs);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return bytes.toByteArray();
    }

    static Person decode(byte[] bytes) {
        Person person = new Person();
        try {
            DataInputStream in = new DataInputStream(new ByteArrayInputStream(bytes));
            if (in.readByte() != 1) {
                throw new IOException("not a person");
            }
            person.version = in.readInt();
            person.nameTag = text(in);
            person.birthDate = text(in);
            person.employer = text(in);
            person.assignment = text(in);
            person.assignedSite = text(in);
            person.exitRegistered = in.readBoolean();
            if (in.readBoolean()) {
                person.entry = new Entry(text(in), text(in), text(in));
            }
            if (in.readBoolean()) {
                person.presence = new Presence(text(in), text(in), text(in), in.readLong());
            }
            for (int left = in.readByte(); left > 0; left--) {
                person.tenures.add(new Tenure(text(in), text(in), in.readLong(), in.readLong()));
            }
            for (int left = in.readByte(); left > 0; left--) {
                person.spentCodes.add(in.readLong());
            }
            person.spentFloor = in.readLong();
            person.clockIns = in.readNBytes(in.readUnsignedShort());
            person.named = in.readNBytes(in.readUnsignedShort());
            person.seen = in.readNBytes(in.readUnsignedShort());
            person.seenFloorMs = in.readLong();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return person;
    }

    private static void text(DataOutputStream out, String text) throws IOException {
        out.writeUTF(text == null ? "" : text);
    }

    private static String text(DataInputStream in) throws IOException {
        String text = in.readUTF();
        return text.isEmpty() ? null : text;
    }

    static final Serde<Person> SERDE =
            new Serde<>() {
                @Override
                public Serializer<Person> serializer() {
                    return (topic, person) -> person == null ? null : person.encode();
                }

                @Override
                public Deserializer<Person> deserializer() {
                    return (topic, bytes) -> bytes == null ? null : decode(bytes);
                }
            };
}
