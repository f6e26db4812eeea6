// Signs and sends one request to the Cage API with the JDK's own classes (Java 17 and later).
//
//     java SignRequest.java --url http://127.0.0.1:8420 --key-id KEY_ID --key-file key.pem \
//         --body '{"network": "btc"}' POST /v1/players/player-1/addresses
//
// The signature is RFC 9421 with Ed25519. Nothing of this file is needed in your own program but
// `sign`: send exactly the method, URL and body that you signed. A retry is signed anew.

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.SecureRandom;
import java.security.Signature;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;

public final class SignRequest {
    private static final Duration TIMEOUT = Duration.ofSeconds(30);
    private static final SecureRandom RANDOM = new SecureRandom();

    /**
     * The headers to send beside Host. `target` is path and query as they go over the wire;
     * `idempotencyKey` is null where none is sent.
     */
    static Map<String, String> sign(
            String method,
            String authority,
            String target,
            byte[] body,
            String keyId,
            PrivateKey key,
            String idempotencyKey)
            throws GeneralSecurityException {
        int mark = target.indexOf('?');
        Map<String, String> covered = new LinkedHashMap<>();
        covered.put("@method", method);
        covered.put("@authority", authority.toLowerCase(Locale.ROOT));
        covered.put("@path", mark < 0 ? target : target.substring(0, mark));
        covered.put("@query", mark < 0 ? "?" : target.substring(mark));
        Map<String, String> headers = new LinkedHashMap<>();
        if (idempotencyKey != null) {
            headers.put("Idempotency-Key", idempotencyKey);
            covered.put("idempotency-key", idempotencyKey);
        }
        if (body.length > 0) {
            byte[] hash = MessageDigest.getInstance("SHA-256").digest(body);
            String digest = "sha-256=:" + Base64.getEncoder().encodeToString(hash) + ":"; // RFC 9530
            headers.put("Content-Type", "application/json");
            headers.put("Content-Digest", digest);
            covered.put("content-digest", digest);
        }
        String names = covered.keySet().stream()
                .map(name -> "\"" + name + "\"")
                .collect(Collectors.joining(" "));
        String parameters = "(" + names + ");created=" + Instant.now().getEpochSecond()
                + ";nonce=\"" + random() + "\";keyid=\"" + keyId + "\";alg=\"ed25519\"";
        List<String> lines = new ArrayList<>();
        covered.forEach((name, value) -> lines.add("\"" + name + "\": " + value));
        lines.add("\"@signature-params\": " + parameters);
        Signature signer = Signature.getInstance("Ed25519");
        signer.initSign(key);
        signer.update(String.join("\n", lines).getBytes(StandardCharsets.US_ASCII));
        String signature = Base64.getEncoder().encodeToString(signer.sign());
        headers.put("Signature-Input", "sig1=" + parameters);
        headers.put("Signature", "sig1=:" + signature + ":");
        return headers;
    }

    private static String random() {
        byte[] raw = new byte[16];
        RANDOM.nextBytes(raw);
        return HexFormat.of().formatHex(raw);
    }

    private static PrivateKey readKey(String file) throws IOException, GeneralSecurityException {
        String text = Files.readString(Path.of(file)).replaceAll("-----[A-Z ]+-----|\\s", "");
        return KeyFactory.getInstance("Ed25519")
                .generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(text)));
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = new HashMap<>();
        List<String> names = new ArrayList<>();
        for (int i = 0; i < arguments.length; i++) {
            if (arguments[i].startsWith("--") && i + 1 < arguments.length) {
                options.put(arguments[i].substring(2), arguments[++i]);
            } else {
                names.add(arguments[i]);
            }
        }
        if (!options.keySet().containsAll(List.of("url", "key-id", "key-file")) || names.size() != 2) {
            System.err.println("usage: --url URL --key-id ID --key-file PEM [--body JSON] METHOD TARGET");
            System.exit(2);
        }
        String method = names.get(0).toUpperCase(Locale.ROOT);
        String target = names.get(1);
        byte[] body = options.getOrDefault("body", "").getBytes(StandardCharsets.UTF_8);
        String idempotencyKey = options.get("idempotency-key");
        if (idempotencyKey == null && method.equals("POST")) {
            idempotencyKey = random();
        }
        URI base = URI.create(options.get("url"));
        Map<String, String> headers = sign(
                method, base.getAuthority(), target, body, options.get("key-id"),
                readKey(options.get("key-file")), idempotencyKey);
        HttpRequest.Builder request = HttpRequest.newBuilder()
                .uri(URI.create(options.get("url").replaceAll("/+$", "") + target))
                .timeout(TIMEOUT)
                .method(method, body.length > 0
                        ? HttpRequest.BodyPublishers.ofByteArray(body)
                        : HttpRequest.BodyPublishers.noBody());
        headers.forEach(request::header);
        HttpClient client = HttpClient.newBuilder()
                .version(HttpClient.Version.HTTP_1_1)
                .connectTimeout(TIMEOUT)
                .followRedirects(HttpClient.Redirect.NEVER)
                .build();
        HttpResponse<String> answer =
                client.send(request.build(), HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.body());
        System.exit(answer.statusCode() < 400 ? 0 : 1);
    }
}
