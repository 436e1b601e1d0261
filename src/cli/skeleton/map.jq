# One payload in, any number of drafts out, in the payload's order. A def for each kind of event, one dispatch at the end.
# Try it: omnigate try NAME --file fixtures/text_message/payload.json --skip-verify

def message: {
  kind: "message",
  key: .id,
  delivery_key: .id,
  conversation: .user.id,
  from: {address: "NAME:\(.user.id)", name: .user.name},
  text: .text,
  direct: true
};

if .type == "message" then message
else ignored("not_a_message") end
