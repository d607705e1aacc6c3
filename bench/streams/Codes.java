import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** Verifies the codes that are scanned, of one key. Not thread-safe. */
final class Codes {
    record Code(boolean ofPerson, int keyId, long step, String id) {}

    private static final String PREFIX = "RN:";
    private static final int HEADER = 6;
    private static final int TAG = 16;
    private static final long MINUTE_MS = 60_000;
    private static final long DAY_MS = 86_400_000;
    private static final byte[] VALUE_OF = new byte[128];

    static {
        java.util.Arrays.fill(VALUE_OF, (byte) -1);
        String alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        for (int i = 0; i < 32; i++) {
            VALUE_OF[alphabet.charAt(i)] = (byte) i;
        }
    }

    private static final int SITE_CODES_KNOWN_MAX = 4_096;

    private final int keyId;
    private final Mac mac;

    /** Verified before: all day everybody at a site scans the same one. */
    private final Map<String, Code> knownSiteCodes = new HashMap<>();

    Codes(int keyId, byte[] key) {
        this.keyId = keyId;
        try {
            mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error);
        }
    }

    /** The code, or null when it is none of ours. The window is not judged. */
    Code parse(String text) {
        Code known = knownSiteCodes.get(text);
        if (known != null) {
            return known;
        }
        if (!text.startsWith(PREFIX) || text.length() > 450) {
            return null;
        }
        byte[] body = base32(text, PREFIX.length());
        if (body == null || body.length <= HEADER + TAG || (body[1] & 0xFF) != keyId) {
            return null;
        }
        int signed = body.length - TAG;
        mac.update(body, 0, signed);
        byte[] tag = java.util.Arrays.copyOf(mac.doFinal(), TAG);
        if (!MessageDigest.isEqual(tag, java.util.Arrays.copyOfRange(body, signed, body.length))) {
            return null;
        }
        long step = ByteBuffer.wrap(body).getInt(2) & 0xFFFFFFFFL;
        if (body[0] == 1) {
            if (signed - HEADER != 16) {
                return null;
            }
            return new Code(true, keyId, step, HexFormat.of().formatHex(body, HEADER, signed));
        }
        if (body[0] == 2) {
            String site = new String(body, HEADER, signed - HEADER, StandardCharsets.UTF_8);
            Code code = new Code(false, keyId, step, site);
            if (knownSiteCodes.size() >= SITE_CODES_KNOWN_MAX) {
                knownSiteCodes.clear();
            }
            knownSiteCodes.put(text, code);
            return code;
        }
        return null;
    }

    static boolean inWindow(Code code, long atMs) {
        long step = Math.floorDiv(atMs, code.ofPerson ? MINUTE_MS : DAY_MS);
        if (code.ofPerson) {
            return code.step - 1 <= step && step <= code.step + 2;
        }
        return code.step <= step && step <= code.step + 1;
    }

    private static byte[] base32(String text, int from) {
        int digits = text.length() - from;
        int spare = 5 * digits % 8;
        if (spare >= 5) {
            return null;
        }
        byte[] out = new byte[5 * digits / 8];
        int at = 0;
        int bits = 0;
        int window = 0;
        for (int i = from; i < text.length(); i++) {
            char character = text.charAt(i);
            int value = character < 128 ? VALUE_OF[character] : -1;
            if (value < 0) {
                return null;
            }
            window = window << 5 | value;
            bits += 5;
            if (bits >= 8) {
                bits -= 8;
                out[at++] = (byte) (window >> bits);
                window &= (1 << bits) - 1;
            }
        }
        return window == 0 ? out : null;
    }
}
