# WeChat Official Account: one message or event in XML, plain or unsealed.

def files: if .MsgType == "image" then [{id: .MediaId, url: .PicUrl, type: "image/jpeg"}]
  elif .MsgType == "voice" then [{id: .MediaId, type: "audio/amr"}]
  elif .MsgType == "video" or .MsgType == "shortvideo" then [{id: .MediaId, type: "video/mp4"}]
  else [] end;

def words: if .MsgType == "text" then .Content
  elif .MsgType == "voice" then .Recognition
  elif .MsgType == "location" then "\(.Label // "") \(.Location_X), \(.Location_Y)"
  elif .MsgType == "link" then [.Title, .Description, .Url] | map(select(. != null and . != "")) | join("\n")
  else null end;

.xml
| if .MsgType == "event" then ignored("event")
  elif words == null and files == [] then ignored("unsupported_kind")
  else {
    kind: "message", account: .ToUserName, key: .MsgId, conversation: .FromUserName, from: {address: "wechat:\(.FromUserName)"},
    text: words, attachments: files, sent_at: (.CreateTime | time_s), direct: true
  } end
