# Zalo: one event.

def files: [.attachments[]? | .payload.url as $url | select($url != null) | {url: $url, name: .payload.name,
  type: (if .type == "image" then "image/jpeg" elif .type == "audio" then "audio/mp4" elif .type == "video" then "video/mp4" else null end)}];

if (.event_name // "") | startswith("oa_send") then ignored("own_echo")
elif .event_name == "user_received_message" or .event_name == "user_seen_message" then ignored("receipt")
elif ((.event_name // "") | startswith("user_send") | not) or (.message.text == null and (.message | files) == []) then ignored("unsupported_kind")
else {
  kind: "message", account: .recipient.id, key: .message.msg_id, conversation: .sender.id, from: {address: "zalo:\(.sender.id)"},
  text: .message.text, attachments: (.message | files), in_reply_to: .message.quote_msg_id, sent_at: (.timestamp | time_ms), direct: true
} end
