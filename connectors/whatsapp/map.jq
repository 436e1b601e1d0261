# WhatsApp Cloud API: entries, changes, and in each change messages and statuses. Every element of all three levels is read.

# A person is known by a phone number, by a user id, or by both; the contacts beside the messages bring the name.
def sender($value): .from as $phone | .from_user_id as $user
  | first(($value.contacts // [])[] | select((.wa_id != null and .wa_id == $phone) or (.user_id != null and .user_id == $user))) // {}
  | {address: "whatsapp:\($phone // $user)", name: .profile.name,
     also: [($phone | phone_e164 | values | "tel:\(.)"), (if $phone then $user // .user_id | values | "whatsapp:\(.)" else empty end)]};

def media: .image // .video // .audio // .document // .sticker;

def files: [media | values | {id, type: .mime_type, name: .filename}];

def place: [.name, .address, "\(.latitude), \(.longitude)"] | map(select(. != null)) | join("\n");

def card: [.name.formatted_name, (.phones[]?.phone), (.emails[]?.email)] | map(select(. != null)) | join(" ");

def words:
  if .type == "text" then .text.body
  elif .type == "button" then .button.text
  elif .type == "interactive" then .interactive | .button_reply.title // .list_reply.title // .nfm_reply.body
  elif .type == "location" then .location | place
  elif .type == "contacts" then [.contacts[] | card] | join("\n")
  elif .type == "order" then [.order.text, (.order.product_items[]? | "\(.quantity) x \(.product_retailer_id)")] | map(select(. != null)) | join("\n")
  else media.caption end;

def content($value; $text; $files): {
  kind: "message",
  account: $value.metadata.phone_number_id,
  key: .id,
  text: $text,
  attachments: $files,
  in_reply_to: .context.id,
  sent_at: (.timestamp | time_auto),
  extra: ({group_id, payload: .button.payload, reply_id: (.interactive | .button_reply.id // .list_reply.id),
    flow: .interactive.nfm_reply.response_json, forwarded: (if .context.forwarded then true else null end),
    voice: (if .audio.voice then true else null end),
    # The advertisement or post that the conversation was begun from.
    referral: (.referral | if isobject then {source_url, source_type, source_id, headline, body} else null end)})
};

def inbound($value; $text; $files): content($value; $text; $files) + {
  conversation: (.group_id // .from // .from_user_id),
  from: sender($value),
  to: [{address: "whatsapp:\($value.metadata.display_phone_number | digits)"}],
  direct: (.group_id == null)
};

def reaction($value): {
  kind: "reaction", account: $value.metadata.phone_number_id, key: .reaction.message_id,
  from: sender($value), emoji: (.reaction.emoji | if . == "" then null else . end),
  added: ((.reaction.emoji // "") != ""), sent_at: (.timestamp | time_auto)
};

def message($value):
  if .type == "reaction" then reaction($value)
  elif .type == "system" then ignored("system")
  else words as $text | files as $files
    | if $text == null and $files == [] then ignored("unsupported_kind") else inbound($value; $text; $files) end end;

# Staff who write in the WhatsApp app of the same number.
def outbound($value): content($value; words; files) + {
  conversation: .to, direction: "outbound",
  from: {address: "whatsapp:\(.from | digits)"}, to: [{address: "whatsapp:\(.to)"}]
};

def status($value): {
  kind: "status", account: $value.metadata.phone_number_id, key: .id, state: .status,
  error: (.errors[0]?.code), sent_at: (.timestamp | time_auto)
};

def change: .value as $value
  | if .field == "messages" then
      if ($value.messages // []) + ($value.statuses // []) == [] then ignored("unsupported_kind")
      else ($value.messages[]? | message($value)), ($value.statuses[]? | status($value)) end
    elif .field == "smb_message_echoes" then $value.message_echoes[]? | outbound($value)
    elif .field == "history" then ignored("history")
    elif .field == "standby" then ignored("standby")
    else ignored("unsupported_field") end;

[.entry[]?.changes[]?] | if . == [] then ignored("empty") else .[] | change end
