<?php
// Signs and sends one request to the Cage API with PHP 8.1 and its sodium extension.
//
//     php sign_request.php --url=http://127.0.0.1:8420 --key-id=KEY_ID --key-file=key.pem \
//         --body='{"network": "btc"}' POST /v1/players/player-1/addresses
//
// The signature is RFC 9421 with Ed25519. Nothing of this file is needed in your own program but
// `secret_key` and `sign`: send exactly the method, URL and body that you signed. A retry is signed
// anew.

declare(strict_types=1);

const TIMEOUT_SECONDS = 30;
// RFC 8410: what stands before the 32 bytes of an Ed25519 key in PKCS 8.
const PKCS8_HEAD = "302e020100300506032b657004220420";

/** The key of a PEM file as sodium takes it. */
function secret_key(string $file): string
{
    $pem = file_get_contents($file);
    if ($pem === false || !preg_match('/-----BEGIN PRIVATE KEY-----(.+)-----END/s', $pem, $found)) {
        throw new RuntimeException('the key file holds no private key');
    }
    $der = base64_decode(preg_replace('/\s+/', '', $found[1]), true);
    if ($der === false || strlen($der) !== 48 || bin2hex(substr($der, 0, 16)) !== PKCS8_HEAD) {
        throw new RuntimeException('the key file holds no Ed25519 key');
    }
    return sodium_crypto_sign_secretkey(sodium_crypto_sign_seed_keypair(substr($der, 16)));
}

/**
 * The headers to send beside Host. $target is path and query as they go over the wire.
 *
 * @return array<string, string>
 */
function sign(
    string $method,
    string $authority,
    string $target,
    string $body,
    string $keyId,
    string $key,
    ?string $idempotencyKey = null
): array {
    $mark = strpos($target, '?');
    $covered = [
        '@method' => $method,
        '@authority' => strtolower($authority),
        '@path' => $mark === false ? $target : substr($target, 0, $mark),
        '@query' => $mark === false ? '?' : substr($target, $mark),
    ];
    $headers = [];
    if ($idempotencyKey !== null) {
        $headers['Idempotency-Key'] = $covered['idempotency-key'] = $idempotencyKey;
    }
    if ($body !== '') {
        $digest = 'sha-256=:' . base64_encode(hash('sha256', $body, true)) . ':'; // RFC 9530
        $headers['Content-Type'] = 'application/json';
        $headers['Content-Digest'] = $covered['content-digest'] = $digest;
    }
    $names = implode(' ', array_map(fn (string $name): string => "\"$name\"", array_keys($covered)));
    $parameters = sprintf(
        '(%s);created=%d;nonce="%s";keyid="%s";alg="ed25519"',
        $names,
        time(),
        bin2hex(random_bytes(16)),
        $keyId
    );
    $lines = [];
    foreach ($covered as $name => $value) {
        $lines[] = "\"$name\": $value";
    }
    $lines[] = "\"@signature-params\": $parameters";
    $signature = sodium_crypto_sign_detached(implode("\n", $lines), $key);
    $headers['Signature-Input'] = "sig1=$parameters";
    $headers['Signature'] = 'sig1=:' . base64_encode($signature) . ':';
    return $headers;
}

function main(array $arguments): int
{
    $options = getopt('', ['url:', 'key-id:', 'key-file:', 'body:', 'idempotency-key:'], $rest);
    $names = array_slice($arguments, $rest);
    if (!isset($options['url'], $options['key-id'], $options['key-file']) || count($names) !== 2) {
        fwrite(STDERR, "usage: --url=URL --key-id=ID --key-file=PEM [--body=JSON] METHOD TARGET\n");
        return 2;
    }
    [$method, $target] = [strtoupper($names[0]), $names[1]];
    $parts = parse_url($options['url']);
    $authority = $parts['host'] . (isset($parts['port']) ? ":{$parts['port']}" : '');
    $body = $options['body'] ?? '';
    $idempotencyKey = $options['idempotency-key'] ?? null;
    if ($idempotencyKey === null && $method === 'POST') {
        $idempotencyKey = bin2hex(random_bytes(16));
    }
    $key = secret_key($options['key-file']);
    $headers = sign($method, $authority, $target, $body, $options['key-id'], $key, $idempotencyKey);
    $lines = [];
    foreach ($headers as $name => $value) {
        $lines[] = "$name: $value";
    }
    $context = stream_context_create(['http' => [
        'method' => $method,
        'header' => $lines,
        'content' => $body,
        'timeout' => TIMEOUT_SECONDS,
        'follow_location' => 0,
        'ignore_errors' => true, // the body of an error answer is worth reading
    ]]);
    $answer = file_get_contents(rtrim($options['url'], '/') . $target, false, $context);
    if ($answer === false) {
        return 1;
    }
    echo $answer, "\n";
    $status = (int) explode(' ', $http_response_header[0])[1];
    return $status < 400 ? 0 : 1;
}

if (realpath($_SERVER['SCRIPT_FILENAME']) === __FILE__) {
    exit(main($argv));
}
