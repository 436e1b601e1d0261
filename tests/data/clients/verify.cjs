// Verifies deliveries with the published standardwebhooks library, as a CRM developer would.
// stdin: a JSON array of {"headers": {...}, "body": "..."}; argument: the secret. Prints how many verified; a changed body must not.
const { createRequire } = require("node:module");
const { join } = require("node:path");
const { readFileSync } = require("node:fs");
const { Webhook } = createRequire(join(process.cwd(), "package.json"))("standardwebhooks");

const secret = new Webhook(process.argv[2]);
const deliveries = JSON.parse(readFileSync(0, "utf8"));
for (const { headers, body } of deliveries) {
  const event = secret.verify(body, headers);
  if (event.id !== headers["webhook-id"]) throw new Error("webhook-id is not the event's id");
  let refused = false;
  try {
    secret.verify(body + " ", headers);
  } catch {
    refused = true;
  }
  if (!refused) throw new Error("a changed body verified");
}
console.log(deliveries.length);
