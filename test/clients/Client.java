import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.security.MessageDigest;
import java.util.HexFormat;

/**
 * Java's HttpURLConnection: blocking sockets, and a keep-alive stream that trusts available(). The JDK reads no JSON, so
 * clients.ts writes a line of words for each connection, tab-separated, and one for each request. See protocol.ts.
 */
public class Client {
    public static void main(String[] args) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        String origin = "";
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split("\t", -1);
            if (words[0].equals("connection")) origin = words[1];
            else System.out.println(send(origin, words));
        }
    }

    static byte[] filler(int length, int seed) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) bytes[i] = (byte) (seed + i * 7 + (i >> 8) * 13 + (i >> 16) * 31);
        return bytes;
    }

    /** words: request, id, method, target, framing or "none", size, seed, pause, splits, then names and values */
    static String send(String origin, String[] words) {
        String id = words[1];
        try {
            HttpURLConnection connection = (HttpURLConnection) new URL(origin + words[3]).openConnection();
            connection.setRequestMethod(words[2]);
            connection.setInstanceFollowRedirects(false);
            connection.setReadTimeout(20000);
            for (int i = 9; i + 1 < words.length; i += 2) connection.addRequestProperty(words[i], words[i + 1]);
            if (!words[4].equals("none")) write(connection, words);
            return receive(connection, id);
        } catch (Exception error) {
            return "{\"id\":" + id + ",\"error\":" + quote(error.getClass().getSimpleName() + ": " + error.getMessage()) + "}";
        }
    }

    static void write(HttpURLConnection connection, String[] words) throws Exception {
        byte[] body = filler(Integer.parseInt(words[5]), Integer.parseInt(words[6]));
        if (words[4].equals("chunked")) connection.setChunkedStreamingMode(4096);
        else connection.setFixedLengthStreamingMode(body.length);
        connection.setDoOutput(true);
        try (OutputStream out = connection.getOutputStream()) {
            int at = 0;
            for (String split : words[8].isEmpty() ? new String[0] : words[8].split(",")) {
                int size = Integer.parseInt(split);
                out.write(body, at, size);
                out.flush();
                at += size;
                Thread.sleep(Integer.parseInt(words[7]));
            }
            out.write(body, at, body.length - at);
        }
    }

    static String receive(HttpURLConnection connection, String id) throws Exception {
        int status = connection.getResponseCode();
        InputStream stream = status >= 400 ? connection.getErrorStream() : connection.getInputStream();
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        long length = 0;
        if (stream != null) {
            try (stream) {
                byte[] buffer = new byte[8192];
                for (int got = stream.read(buffer); got >= 0; got = stream.read(buffer)) {
                    digest.update(buffer, 0, got);
                    length += got;
                }
            }
        }
        StringBuilder headers = new StringBuilder();
        for (int i = 1; connection.getHeaderField(i) != null; i++) {
            if (i > 1) headers.append(',');
            headers.append('[').append(quote(connection.getHeaderFieldKey(i))).append(',');
            headers.append(quote(connection.getHeaderField(i))).append(']');
        }
        String reason = connection.getResponseMessage();
        return "{\"id\":" + id + ",\"status\":" + status + ",\"reason\":" + quote(reason == null ? "" : reason)
            + ",\"headers\":[" + headers + "],\"length\":" + length
            + ",\"sha256\":\"" + HexFormat.of().formatHex(digest.digest()) + "\"}";
    }

    static String quote(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 32 || c > 126) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }
}
