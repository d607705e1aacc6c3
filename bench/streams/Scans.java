import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.util.ByteArrayBuilder;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.cfg.CoercionAction;
import com.fasterxml.jackson.databind.cfg.CoercionInputShape;
import com.fasterxml.jackson.databind.type.LogicalType;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.OffsetDateTime;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The scan stream on Kafka Streams, exactly once (v2).
 *
 * <p>Arguments: brokers, prefix of the inputs, prefix of the outputs, store (rocksdb or memory),
 * threads, commit interval in ms, state directory, code key in hex, partitions, how long to wait
 * for records of an empty topic in ms.
 */
public final class Scans {
    private static final String STORE = "persons";
    private static final Map<String, String> EVENT_SINKS =
            Map.of(
                    "attendance.recorded", "attendance-records",
                    "entry.scanned", "presence-changes",
                    "entry.lapsed", "presence-changes",
                    "presence.started", "presence-changes",
                    "presence.ended", "presence-changes",
                    "exit.registered", "presence-changes",
                    "assignment.ended", "assignment-changes");
    private static final Map<String, String> HOMES =
            Map.of(
                    "scan.entry", "scan-events",
                    "scan.attendance", "scan-events",
                    "scan.checkin", "scan-events",
                    "entry.process", "entry-requests",
                    "exit.register", "exit-requests",
                    "exit.confirm", "exit-requests");
    private static final Map<String, Set<String>> FIELDS =
            Map.of(
                    "scan.entry", Set.of("site", "code", "scanner"),
                    "scan.attendance", Set.of("site", "code", "scanner", "direction"),
                    "scan.checkin", Set.of("site", "code", "direction"),
                    "entry.process", Set.of("site", "entry", "batch"),
                    "exit.register", Set.of("site", "batch"),
                    "exit.confirm", Set.of("site", "batch"));
    private static final Set<String> OPTIONAL = Set.of("direction", "batch");

    @JsonIgnoreProperties(ignoreUnknown = true)
    record Envelope(
            String specversion,
            String id,
            String source,
            String type,
            String time,
            String subject,
            Map<String, String> data) {}

    record Seed(
            String person,
            String employer,
            String site,
            String assignment,
            String entry,
            long since_ms,
            int version) {}

    private static ObjectMapper mapper() {
        ObjectMapper mapper = new ObjectMapper();
        mapper.coercionConfigFor(LogicalType.Textual)
                .setCoercion(CoercionInputShape.Integer, CoercionAction.Fail)
                .setCoercion(CoercionInputShape.Float, CoercionAction.Fail)
                .setCoercion(CoercionInputShape.Boolean, CoercionAction.Fail);
        return mapper;
    }

    /** Keeps a reference topic whole, parsed, beside its store. */
    private static final class Keep<T> implements Processor<String, byte[], Void, Void> {
        private final String store;
        private final Map<String, T> view;
        private final ObjectReader reader;
        private KeyValueStore<String, byte[]> kept;

        Keep(String store, Map<String, T> view, Class<T> type) {
            this.store = store;
            this.view = view;
            this.reader =
                    mapper().readerFor(type)
                            .without(
                                    com.fasterxml.jackson.databind.DeserializationFeature
                                            .FAIL_ON_UNKNOWN_PROPERTIES);
        }

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            kept = context.getStateStore(store);
        }

        @Override
        public void process(Record<String, byte[]> record) {
            kept.put(record.key(), record.value());
            if (record.value() == null) {
                view.remove(record.key());
                return;
            }
            try {
                view.put(record.key(), reader.readValue(record.value()));
            } catch (IOException error) {
                System.err.println("unreadable reference record: " + store);
            }
        }
    }

    /** The persons as they are before the stream begins. */
    private static final class Seeding implements Processor<String, byte[], String, byte[]> {
        private final ObjectReader reader = mapper().readerFor(Seed.class);
        private final Rules rules = new Rules(Map.of(), Map.of(), null);
        private KeyValueStore<String, Person> persons;

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            persons = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<String, byte[]> record) {
            Seed seed;
            try {
                seed = reader.readValue(record.value());
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            Person person = new Person();
            person.version = seed.version;
            person.nameTag = seed.person;
            person.birthDate = "1990-05-01";
            person.employer = seed.employer;
            person.assignment = seed.assignment;
            person.assignedSite = seed.site;
            rules.name(person, "offer-" + seed.person);
            rules.name(person, seed.assignment);
            if (seed.entry != null) {
                rules.name(person, seed.entry);
                person.presence =
                        new Person.Presence(seed.entry, seed.site, seed.employer, seed.since_ms);
            }
            persons.put(record.key(), person);
        }
    }

    private static final class Deciding implements Processor<String, byte[], String, byte[]> {
        private final ObjectReader reader = mapper().readerFor(Envelope.class);
        private final JsonFactory factory = new JsonFactory();
        private final Rules rules;
        private final String inputs;
        private final int partitions;
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, Person> persons;

        Deciding(Rules rules, String inputs, int partitions) {
            this.rules = rules;
            this.inputs = inputs;
            this.partitions = partitions;
        }

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            persons = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<String, byte[]> record) {
            RecordMetadata origin = context.recordMetadata().get();
            try {
                Rules.Command command = read(record, origin);
                Person before = persons.get(record.key());
                Rules.Decision decision =
                        rules.decide(before == null ? new Person() : before, command, record.timestamp());
                if (decision.person() != null) {
                    persons.put(record.key(), decision.person());
                }
                answer(record, origin, command, decision);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        private Rules.Command read(Record<String, byte[]> record, RecordMetadata origin)
                throws IOException {
            byte[] value = record.value();
            Envelope envelope = value.length > 65_536 ? null : reader.readValue(value);
            // The measured stream holds commands only: anything else ends the run.
            String home = envelope == null ? null : HOMES.get(envelope.type);
            byte[] key = record.key().getBytes(java.nio.charset.StandardCharsets.UTF_8);
            if (home == null
                    || !"1.0".equals(envelope.specversion)
                    || envelope.id == null || envelope.id.isEmpty() || envelope.id.length() > 128
                    || envelope.source == null || envelope.source.isEmpty()
                    || !origin.topic().equals(inputs + home)
                    || !record.key().equals(envelope.subject)
                    || !isPerson(envelope.subject)
                    || Utils.toPositive(Utils.murmur2(key)) % partitions != origin.partition()) {
                throw new IOException("not a command: " + origin);
            }
            Set<String> fields = FIELDS.get(envelope.type);
            for (Map.Entry<String, String> field : envelope.data.entrySet()) {
                if (!fields.contains(field.getKey()) || field.getValue() == null) {
                    throw new IOException("not the data of its type: " + origin);
                }
            }
            for (String field : fields) {
                String text = envelope.data.get(field);
                if (text == null ? !OPTIONAL.contains(field) : !fits(field, text)) {
                    throw new IOException("not the data of its type: " + origin);
                }
            }
            return new Rules.Command(
                    envelope.id,
                    envelope.source,
                    envelope.type,
                    envelope.time,
                    OffsetDateTime.parse(envelope.time).toInstant().toEpochMilli(),
                    envelope.subject,
                    envelope.data,
                    rules.digest(12, envelope.source, envelope.id),
                    rules.digest(8, envelope.type, envelope.data));
        }

        private static boolean fits(String field, String text) {
            return switch (field) {
                case "site" -> !text.isEmpty() && text.length() <= 64 && text.indexOf('/') < 0;
                case "scanner" -> isPerson(text);
                case "direction" -> text.equals("in") || text.equals("out");
                case "entry", "batch" -> !text.isEmpty() && text.length() <= 128;
                default -> true;
            };
        }

        private static boolean isPerson(String text) {
            if (text.length() != 32) {
                return false;
            }
            for (int i = 0; i < 32; i++) {
                char one = text.charAt(i);
                if ((one < '0' || one > '9') && (one < 'a' || one > 'f')) {
                    return false;
                }
            }
            return true;
        }

        private void answer(
                Record<String, byte[]> record,
                RecordMetadata origin,
                Rules.Command command,
                Rules.Decision decision)
                throws IOException {
            List<Rules.Event> events = decision.events();
            int first = decision.version() - events.size() + 1;
            for (int i = 0; i < events.size(); i++) {
                Rules.Event event = events.get(i);
                int version = first + i;
                byte[] value =
                        cloudEvent(
                                command.subject() + ":" + version,
                                event.type(),
                                command,
                                json -> {
                                    json.writeNumberField("version", version);
                                    json.writeStringField("command", command.id());
                                    for (Map.Entry<String, String> f : event.data().entrySet()) {
                                        json.writeStringField(f.getKey(), f.getValue());
                                    }
                                });
                context.forward(record.withValue(value), EVENT_SINKS.get(event.type()));
            }
            byte[] outcome =
                    cloudEvent(
                            origin.topic() + "/" + origin.partition() + "/" + origin.offset(),
                            "outcome",
                            command,
                            json -> {
                                json.writeStringField("command", command.id());
                                json.writeStringField("command_source", command.source());
                                json.writeStringField("command_type", command.type());
                                json.writeStringField("status", decision.status());
                                json.writeStringField("code", decision.code());
                                json.writeNumberField("version", decision.version());
                                json.writeArrayFieldStart("events");
                                for (int i = 0; i < events.size(); i++) {
                                    json.writeString(command.subject() + ":" + (first + i));
                                }
                                json.writeEndArray();
                                json.writeObjectFieldStart("origin");
                                json.writeStringField("topic", origin.topic());
                                json.writeNumberField("partition", origin.partition());
                                json.writeNumberField("offset", origin.offset());
                                json.writeEndObject();
                                json.writeNumberField("rules_version", 1);
                            });
            context.forward(record.withValue(outcome), "outcomes");
        }

        private interface Data {
            void write(JsonGenerator json) throws IOException;
        }

        private byte[] cloudEvent(String id, String type, Rules.Command command, Data data)
                throws IOException {
            ByteArrayBuilder bytes = new ByteArrayBuilder(512);
            try (JsonGenerator json = factory.createGenerator(bytes)) {
                json.writeStartObject();
                json.writeStringField("specversion", "1.0");
                json.writeStringField("id", id);
                json.writeStringField("source", "/realname");
                json.writeStringField("type", type);
                json.writeStringField("time", command.time());
                json.writeStringField("subject", command.subject());
                json.writeObjectFieldStart("data");
                data.write(json);
                json.writeEndObject();
                json.writeEndObject();
            }
            return bytes.toByteArray();
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        String brokers = arguments[0];
        String inputs = arguments[1];
        String outputs = arguments[2];
        boolean rocks = arguments[3].equals("rocksdb");
        byte[] key = HexFormat.of().parseHex(arguments[7]);
        int partitions = Integer.parseInt(arguments[8]);

        Map<String, Rules.Site> sites = new ConcurrentHashMap<>();
        Map<String, Rules.Staff> staff = new ConcurrentHashMap<>();
        var text = Serdes.String();
        var raw = Serdes.ByteArray();
        Topology topology = new Topology();
        topology.addGlobalStore(
                Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore("sites"), text, raw)
                        .withLoggingDisabled(),
                "sites-in", text.deserializer(), raw.deserializer(), inputs + "sites", "sites-keep",
                () -> new Keep<>("sites", sites, Rules.Site.class));
        topology.addGlobalStore(
                Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore("staff"), text, raw)
                        .withLoggingDisabled(),
                "staff-in", text.deserializer(), raw.deserializer(), inputs + "staff", "staff-keep",
                () -> new Keep<>("staff", staff, Rules.Staff.class));
        topology.addSource("seeds", text.deserializer(), raw.deserializer(), inputs + "seeds");
        topology.addSource(
                "commands", text.deserializer(), raw.deserializer(),
                inputs + "scan-events", inputs + "entry-requests", inputs + "exit-requests");
        topology.addProcessor("seeding", Seeding::new, "seeds");
        topology.addProcessor(
                "deciding",
                () -> new Deciding(new Rules(sites, staff, new Codes(1, key)), inputs, partitions),
                "commands");
        topology.addStateStore(
                Stores.keyValueStoreBuilder(
                                rocks
                                        ? Stores.persistentKeyValueStore(STORE)
                                        : Stores.inMemoryKeyValueStore(STORE),
                                text,
                                Person.SERDE)
                        .withCachingEnabled(),
                "seeding", "deciding");
        for (String sink :
                List.of("outcomes", "presence-changes", "attendance-records", "assignment-changes")) {
            topology.addSink(
                    sink, outputs + sink, text.serializer(), raw.serializer(), "deciding");
        }

        Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, outputs + "streams");
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, arguments[4]);
        properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, arguments[5]);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, arguments[6]);
        properties.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
        properties.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        properties.put(StreamsConfig.MAX_TASK_IDLE_MS_CONFIG, arguments[9]);
        properties.put(
                StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
        properties.put(
                StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG),
                Math.min(100, Integer.parseInt(arguments[5])));

        KafkaStreams streams = new KafkaStreams(topology, properties);
        CountDownLatch ended = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(
                error -> {
                    error.printStackTrace();
                    ended.countDown();
                    return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
                });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(java.time.Duration.ofSeconds(10));
            ended.countDown();
        }));
        streams.start();
        ended.await();
    }
}
