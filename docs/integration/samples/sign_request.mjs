// Signs and sends one request to the Cage API with Node's own modules (Node 18 and later).
//
//     node sign_request.mjs --url http://127.0.0.1:8420 --key-id KEY_ID --key-file key.pem \
//         POST /v1/players/player-1/addresses --body '{"network": "btc"}'
//
// The signature is RFC 9421 with Ed25519. Nothing of this file is needed in your own program but
// `sign`: send exactly the method, URL and body that you signed. A retry is signed anew.

import { createHash, createPrivateKey, randomBytes, randomUUID, sign as signBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

const TIMEOUT_MS = 30_000;

/** The headers to send beside Host. `target` is path and query as they go over the wire. */
export function sign({ method, authority, target, body, keyId, key, idempotencyKey }) {
  const mark = target.indexOf("?");
  const path = mark < 0 ? target : target.slice(0, mark);
  const query = mark < 0 ? "?" : target.slice(mark);
  const covered = [
    ["@method", method],
    ["@authority", authority.toLowerCase()],
    ["@path", path],
    ["@query", query],
  ];
  const headers = {};
  if (idempotencyKey !== undefined) {
    headers["Idempotency-Key"] = idempotencyKey;
    covered.push(["idempotency-key", idempotencyKey]);
  }
  if (body.length > 0) {
    headers["Content-Type"] = "application/json";
    const digest = `sha-256=:${createHash("sha256").update(body).digest("base64")}:`; // RFC 9530
    headers["Content-Digest"] = digest;
    covered.push(["content-digest", digest]);
  }
  const names = covered.map(([name]) => `"${name}"`).join(" ");
  const created = Math.floor(Date.now() / 1000);
  const nonce = randomBytes(16).toString("hex");
  const parameters = `(${names});created=${created};nonce="${nonce}";keyid="${keyId}";alg="ed25519"`;
  const lines = covered.map(([name, value]) => `"${name}": ${value}`);
  const base = [...lines, `"@signature-params": ${parameters}`].join("\n");
  const signature = signBytes(null, Buffer.from(base, "ascii"), key).toString("base64");
  headers["Signature-Input"] = `sig1=${parameters}`;
  headers["Signature"] = `sig1=:${signature}:`;
  return headers;
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      url: { type: "string" },
      "key-id": { type: "string" },
      "key-file": { type: "string" },
      body: { type: "string", default: "" },
      "idempotency-key": { type: "string" },
    },
  });
  const [method, target] = positionals;
  if (!values.url || !values["key-id"] || !values["key-file"] || !method || !target) {
    console.error("usage: --url URL --key-id ID --key-file PEM METHOD TARGET [--body JSON]");
    return 2;
  }
  const body = Buffer.from(values.body, "utf-8");
  const headers = sign({
    method: method.toUpperCase(),
    authority: new URL(values.url).host,
    target,
    body,
    keyId: values["key-id"],
    key: createPrivateKey(readFileSync(values["key-file"])),
    idempotencyKey:
      values["idempotency-key"] ?? (method.toUpperCase() === "POST" ? randomUUID() : undefined),
  });
  const answer = await fetch(values.url.replace(/\/+$/, "") + target, {
    method: method.toUpperCase(),
    headers,
    body: body.length > 0 ? body : undefined,
    redirect: "error",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  console.log(await answer.text());
  return answer.ok ? 0 : 1;
}

if (process.argv[1] && import.meta.url === new URL(`file://${process.argv[1]}`).href) {
  process.exitCode = await main();
}
