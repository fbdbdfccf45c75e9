// Verifies answers of a coordinator with npm's http-message-signatures. In: exchanges as JSON. Out: how many held, and
// how many changed ones were refused. Exits with an error where one that was not changed does not hold.
"use strict";
const crypto = require("crypto");
const { httpbis, createVerifier } = require("http-message-signatures");

const statement = JSON.parse(require("fs").readFileSync(0, "utf8"));
const prefix = Buffer.from("302a300506032b6570032100", "hex"); // an Ed25519 key's SubjectPublicKeyInfo before its bytes
const key = crypto.createPublicKey({
  key: Buffer.concat([prefix, Buffer.from(statement.public_key, "base64")]),
  format: "der",
  type: "spki",
});

async function holds(answer, request) {
  const config = {
    keyLookup: async () => ({ algs: ["ed25519"], verify: createVerifier(key, "ed25519") }),
    requiredParams: ["created", "keyid", "tag"],
    requiredFields: ["@status", "content-digest", "content-type", "@method", "@path", "@query", "signature"],
    tolerance: 60,
  };
  return (await httpbis.verifyMessage(config, answer, request)) === true;
}

async function main() {
  let verified = 0;
  let refused = 0;
  for (const { answer, request, body } of statement.exchanges) {
    const digest = `sha-256=:${crypto.createHash("sha256").update(body).digest("base64")}:`;
    if (answer.headers["content-digest"] !== digest) throw new Error("the digest is not that of the body");
    if (!(await holds(answer, request))) throw new Error(`an answer with status ${answer.status} does not hold`);
    verified += 1;
    const digests = (message) => ({ ...message.headers, "content-digest": "sha-256=:AAAA:" });
    for (const [changedAnswer, changedRequest] of [
      [{ ...answer, status: answer.status + 1 }, request],
      [{ ...answer, headers: digests(answer) }, request],
      [answer, { ...request, url: request.url + "x" }],
      [answer, { ...request, headers: digests(request) }],
    ]) {
      if (await holds(changedAnswer, changedRequest)) throw new Error("a changed answer holds");
      refused += 1;
    }
  }
  process.stdout.write(JSON.stringify({ verified, refused_when_changed: refused }));
}

main();
