# Google Chat: an event of an app, in the classic form or that of an add-on (.chat.messagePayload).

def person: {address: "google-chat:\(.name)", name: .displayName, avatar_url: .avatarUrl,
  also: [.email | email_addr | values | "email:\(.)"]};

def files: [.attachment[]? | {id: (.attachmentDataRef.resourceName // .name), name: .contentName, type: .contentType}];

def words: (.argumentText // .text // "") | gsub("^\\s+|\\s+$"; "") | if . == "" then null else . end;

def said($space): if .sender.type == "BOT" then ignored("bot") else {
  kind: "message", key: .name, conversation: ($space.name // .space.name), in_reply_to: .quotedMessageMetadata.name,
  thread: (if $space.spaceType == "DIRECT_MESSAGE" then null else .thread.name end), from: (.sender | person), text: words,
  attachments: files, sent_at: .createTime, direct: ($space.spaceType == "DIRECT_MESSAGE" or $space.type == "DM")
} end;

if .type == "MESSAGE" and .message then .space as $space | .message | said($space)
elif .chat.messagePayload.message then .chat.messagePayload | .space as $space | .message | said($space)
else ignored("system") end
