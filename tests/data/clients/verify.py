"""Verifies deliveries with the published standardwebhooks library, as a CRM developer would.

stdin: a JSON array of {"headers": {...}, "body": "..."}; argument: the secret. Prints how many verified; a changed body must not.
"""
import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

secret = Webhook(sys.argv[1])
deliveries = json.load(sys.stdin)
for delivery in deliveries:
    event = secret.verify(delivery["body"], delivery["headers"])
    assert event["id"] == delivery["headers"]["webhook-id"]
    try:
        secret.verify(delivery["body"] + " ", delivery["headers"])
        sys.exit("a changed body verified")
    except WebhookVerificationError:
        pass
print(len(deliveries))
