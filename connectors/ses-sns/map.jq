# Amazon SNS: its message is JSON in a text; that of SES holds the mail, in base64 or as it is.

# SES's word for what it found out. Grey: there is nothing to be judged by.
def verdict: {PASS: "pass", FAIL: "fail", GRAY: "none", PROCESSING_FAILED: "temperror"}[.status // ""];

if .Type == "UnsubscribeConfirmation" then ignored("unsubscribed")
elif .Type != "Notification" then ignored("system")
else .MessageId as $delivery | .Message | fromjson
  | if .notificationType != "Received" then ignored("system")
    elif .content == null then ignored("too_large")
    else {kind: "mail", delivery_key: $delivery, to: [.receipt.recipients[]? | {address: "email:\(email_addr)"}],
        extra: {mail: .mail.messageId, spam: (.receipt.spamVerdict.status // null), virus: (.receipt.virusVerdict.status // null)},
        authentication: (.receipt | {spf: (.spfVerdict | verdict), dkim: (.dkimVerdict | verdict), dmarc: (.dmarcVerdict | verdict)})}
      + (if .receipt.action.encoding == "BASE64" then {mime_base64: .content} else {mime: .content} end) end
end
