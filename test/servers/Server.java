// usage: java Server.java IP PORT

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Executors;

/** What node.mjs does, on the JDK's server: NIO selectors, and streams that ask how much is available. */
public class Server {
    public static void main(String[] args) throws IOException {
        System.setProperty("sun.net.httpserver.idleInterval", "300");
        System.setProperty("sun.net.httpserver.nodelay", "true");
        HttpServer server = HttpServer.create(new InetSocketAddress(args[0], Integer.parseInt(args[1])), 1024);
        server.createContext("/", Server::answer);
        server.setExecutor(Executors.newFixedThreadPool(32));
        server.start();
    }

    static byte[] filler(int length, int seed) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) bytes[i] = (byte) (seed + i * 7 + (i >> 8) * 13 + (i >> 16) * 31);
        return bytes;
    }

    static void answer(HttpExchange exchange) throws IOException {
        try (exchange) {
            Map<String, String> query = new HashMap<>();
            String raw = exchange.getRequestURI().getRawQuery();
            for (String pair : raw == null ? new String[0] : raw.split("&")) {
                String[] both = pair.split("=", 2);
                query.put(both[0], both.length == 2 ? both[1] : "");
            }
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            long length = 0;
            byte[] buffer = new byte[8192];
            InputStream in = exchange.getRequestBody();
            // available() is FIONREAD: it must not promise less than there is, nor more.
            in.available();
            for (int got = in.read(buffer); got >= 0; got = in.read(buffer)) {
                digest.update(buffer, 0, got);
                length += got;
            }
            StringBuilder echo = new StringBuilder();
            echo.append(exchange.getRequestMethod()).append(' ').append(exchange.getRequestURI());
            echo.append(' ').append(exchange.getProtocol()).append('\n');
            new TreeMap<>(exchange.getRequestHeaders())
                .forEach((name, values) -> values.forEach(value -> echo.append(name + ": " + value + "\n")));
            echo.append("\n" + length + " " + HexFormat.of().formatHex(digest.digest()) + "\n");
            int size = Integer.parseInt(query.getOrDefault("size", "0"));
            ByteArrayOutputStream whole = new ByteArrayOutputStream();
            whole.write(echo.toString().getBytes(StandardCharsets.ISO_8859_1));
            whole.write(filler(size, size & 255));
            byte[] body = whole.toByteArray();
            Thread.sleep(Integer.parseInt(query.getOrDefault("delay", "0")));

            int status = Integer.parseInt(query.getOrDefault("status", "200"));
            String framing = query.getOrDefault("framing", "length");
            exchange.getResponseHeaders().add("X-Server", "java");
            exchange.getResponseHeaders().add("Set-Cookie", "a=1");
            exchange.getResponseHeaders().add("Set-Cookie", "b=2");
            if (framing.equals("close")) exchange.getResponseHeaders().set("Connection", "close");
            boolean bodiless = status == 204 || status == 304 || exchange.getRequestMethod().equals("HEAD");
            exchange.sendResponseHeaders(status, bodiless ? -1 : framing.equals("length") ? body.length : 0);
            if (bodiless) return;
            int pieces = Integer.parseInt(query.getOrDefault("pieces", "1"));
            int step = (body.length + pieces - 1) / pieces;
            OutputStream out = exchange.getResponseBody();
            for (int at = 0; at < body.length; at += step) {
                out.write(body, at, Math.min(step, body.length - at));
                if (pieces > 1) {
                    out.flush();
                    Thread.sleep(1);
                }
            }
            out.close();
        } catch (Exception error) {
            throw new IOException(error);
        }
    }
}
