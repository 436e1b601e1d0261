//! Connectors whose API is behind tokens, the whole way: the token is got as the platform wants it, the page is asked for, the message is
//! delivered; and what is sent to a platform is what its API expects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Setup};
use crate::support::http1;
use crate::support::token_api::{Ask, TokenApi};

/// A platform: how it gives its token, and what it answers to who has one.
struct Platform {
    connector: &'static str,
    /// Lines of `[settings]`; `API` stands for where the platform is.
    settings: &'static str,
    /// Secrets by name.
    secrets: Vec<(&'static str, String)>,
    /// Whether a request for a token is right, and the answer.
    token: fn(&Ask) -> Option<Value>,
    /// Whether a token is right.
    good: fn(&str) -> bool,
    /// The answer to a path (without its query).
    pages: Vec<(&'static str, Value)>,
    /// What must stand in the request of each of these.
    asked: Vec<&'static str>,
    texts: Vec<&'static str>,
}

pub fn rsa_key_file(folder: &std::path::Path) -> Option<String> {
    let pem = folder.join("key.pem");
    let made = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", pem.to_str().unwrap()])
        .output();
    if made.is_err() {
        crate::support::servers::missing("openssl");
        return None;
    }
    let file = json!({
        "type": "service_account", "client_email": "gate@project.example", "private_key_id": "k1",
        "private_key": std::fs::read_to_string(pem).unwrap(),
    });
    Some(file.to_string())
}

fn form(ask: &Ask) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(ask.body.as_bytes()).into_owned().collect()
}

pub fn claims(token: &str) -> (Value, Value) {
    let parts: Vec<&str> = token.split('.').collect();
    let read = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    (read(parts[0]), read(parts[1]))
}

/// An OAuth 2 client that shows itself in a header and refreshes.
fn by_basic(ask: &Ask, path: &str) -> Option<Value> {
    let basic = format!("Basic {}", STANDARD.encode("client-1:client-secret"));
    let fields = form(ask);
    let right = ask.path() == path && ask.headers.get("authorization") == Some(&basic) && fields["grant_type"] == "refresh_token";
    (right && fields["refresh_token"].starts_with("refresh-"))
        .then(|| json!({"access_token": "good", "expires_in": 7200, "refresh_token": "refresh-2"}))
}

/// A service account's assertion.
fn by_assertion(ask: &Ask, scope: &str) -> Option<Value> {
    let fields = form(ask);
    let (head, claims) = claims(fields.get("assertion")?);
    let right = head["alg"] == "RS256" && claims["iss"] == "gate@project.example" && claims["scope"] == scope;
    (right && ask.path() == "/token").then(|| json!({"access_token": "good", "expires_in": 3599}))
}

fn is_good(token: &str) -> bool {
    token == "good"
}

/// Returns what was asked: method and target of each request.
async fn whole_way(platform: Platform) -> Vec<String> {
    let Platform { connector, settings, secrets, token, good, pages, asked, texts } = platform;
    let api = TokenApi::start(move |ask| {
        if let Some(page) = pages.iter().find(|(path, _)| *path == ask.path()) {
            // One that has ended in the middle is another matter: `token_roads`.
            return if good(ask.bearer()) { (200, page.1.clone()) } else { (401, json!({"error": "invalid_token"})) };
        }
        match token(ask) {
            Some(granted) => (200, granted),
            None => (400, json!({"error": "invalid_client"})),
        }
    })
    .await;
    let mut channel = format!("connector = \"{connector}\"\nmode = \"poll\"\naccount = \"acme\"\nfirst_run = \"backfill\"\n[settings]\n");
    channel.push_str(&settings.replace("API", &api.url()));
    channel.push_str("[secrets]\n");
    let mut setup = Setup {
        rest: "[destination.archive]\nkind = \"file\"\npath = \"events.ndjson\"\n[[route]]\nto = [\"archive\"]\nhistoric = true\n\
               direction = \"any\"\n"
            .to_owned(),
        ..Setup::default()
    };
    for (name, value) in secrets {
        channel.push_str(&format!("{name} = {{ env = \"SECRET_{}\" }}\n", name.to_uppercase()));
        setup.env.insert(format!("SECRET_{}", name.to_uppercase()), value);
    }
    setup.channels.insert("desk".to_owned(), channel);
    let daemon = Daemon::start(setup).await;
    let from = Instant::now();
    loop {
        let found = said(&daemon);
        if texts.iter().all(|text| found.iter().any(|said| said == text)) {
            break;
        }
        let asked: Vec<String> = api.asked().iter().map(|ask| format!("{} {}", ask.method, ask.target)).collect();
        assert!(from.elapsed() < Duration::from_secs(40), "{connector}: {found:?}\n{asked:#?}\n{}", daemon.log_end(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let shown: Vec<String> = api.asked().iter().map(|ask| format!("{} {} {:?}", ask.method, ask.target, ask.headers)).collect();
    for part in asked {
        assert!(shown.iter().any(|line| line.contains(part)), "{connector}: {part} in {shown:#?}");
    }
    assert_eq!(daemon.get("/v1/status").await["channels"]["desk"]["state"], "running");
    api.asked().iter().map(|ask| format!("{} {}", ask.method, ask.target)).collect()
}

fn said(daemon: &Daemon) -> Vec<String> {
    let text = std::fs::read_to_string(daemon.folder.path().join("events.ndjson")).unwrap_or_default();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter_map(|event| event["data"]["message"]["text"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reddit_is_asked_with_a_token_of_the_account() {
    whole_way(Platform {
        connector: "reddit",
        settings: "api = \"API\"\nlogin = \"API\"\nuser = \"acme\"\nclient_id = \"client-1\"\n",
        secrets: vec![("client_secret", "client-secret".to_owned()), ("refresh_token", "refresh-1".to_owned())],
        token: |ask| by_basic(ask, "/api/v1/access_token"),
        good: is_good,
        pages: vec![
            ("/api/v1/me", json!({"name": "acme"})),
            ("/message/inbox", json!({"kind": "Listing", "data": {"after": null, "children": [
                {"kind": "t1", "data": {"name": "t1_a", "author": "zoe", "body": "u/acme help", "created_utc": 1_700_000_000.0, "edited": false,
                    "parent_id": "t3_x", "subreddit": "acme", "context": "/r/acme/comments/x/_/a/?context=3"}}
            ]}})),
        ],
        asked: vec!["linux:omnigate:1 (by /u/acme)", "mark=false"],
        texts: vec!["u/acme help"],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x_is_asked_with_a_token_of_the_account() {
    whole_way(Platform {
        connector: "x",
        settings: "api = \"API\"\nlogin = \"API\"\nuser_id = \"111\"\nclient_id = \"client-1\"\ndms = true\n",
        secrets: vec![("client_secret", "client-secret".to_owned()), ("refresh_token", "refresh-1".to_owned())],
        token: |ask| by_basic(ask, "/2/oauth2/token"),
        good: is_good,
        pages: vec![
            (
                "/2/users/111/mentions",
                json!({"data": [{"id": "1000", "author_id": "222", "conversation_id": "1000", "text": "@acme hello",
                "edit_history_tweet_ids": ["1000"], "created_at": "2023-11-14T22:13:20.000Z"}],
                "includes": {"users": [{"id": "222", "name": "Zoe", "username": "zoe"}]}, "meta": {"result_count": 1}}),
            ),
            (
                "/2/dm_events",
                json!({"data": [{"id": "901", "event_type": "MessageCreate", "text": "hi", "sender_id": "222",
                "dm_conversation_id": "111-222", "created_at": "2023-11-14T22:13:20.000Z"}], "meta": {"result_count": 1}}),
            ),
        ],
        asked: vec!["tweet.fields=attachments%2Cauthor_id", "event_types=MessageCreate"],
        texts: vec!["@acme hello", "hi"],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bluesky_is_asked_within_a_session() {
    whole_way(Platform {
        connector: "bluesky",
        settings: "pds = \"API\"\nhandle = \"acme.example\"\nchats = true\n",
        secrets: vec![("app_password", "app-password".to_owned())],
        token: |ask| {
            let body: Value = serde_json::from_str(&ask.body).ok()?;
            let right = body == json!({"identifier": "acme.example", "password": "app-password"});
            (right && ask.path() == "/xrpc/com.atproto.server.createSession").then(|| json!({"accessJwt": "good", "refreshJwt": "next"}))
        },
        good: is_good,
        pages: vec![
            ("/xrpc/com.atproto.server.getSession", json!({"did": "did:plc:acme", "handle": "acme.example"})),
            ("/xrpc/app.bsky.notification.listNotifications", json!({"notifications": [{"uri": "at://did:plc:zoe/app.bsky.feed.post/1",
                "cid": "bafy1", "author": {"did": "did:plc:zoe", "handle": "zoe.example"}, "reason": "mention",
                "record": {"text": "@acme.example broken", "createdAt": "2023-11-14T22:13:19.000Z"}, "indexedAt": "2023-11-14T22:13:20.000Z"}]})),
            ("/xrpc/chat.bsky.convo.getLog", json!({"cursor": "1", "logs": [{"$type": "chat.bsky.convo.defs#logCreateMessage", "rev": "1",
                "convoId": "c", "message": {"id": "m1", "text": "in private", "sender": {"did": "did:plc:zoe"},
                "sentAt": "2023-11-14T22:13:20.000Z"}}]})),
        ],
        asked: vec!["reasons=mention&reasons=reply&reasons=quote&limit=100", "did:web:api.bsky.chat#bsky_chat"],
        texts: vec!["@acme.example broken", "in private"],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_business_is_asked_with_the_consent_of_the_owner() {
    whole_way(Platform {
        connector: "google-business",
        settings: "api = \"API\"\ntokens = \"API\"\nlogin = \"API\"\nclient_id = \"client-1\"\naccount_id = \"1\"\nlocations = [\"2\", \"3\"]\n",
        secrets: vec![("client_secret", "client-secret".to_owned()), ("refresh_token", "refresh-1".to_owned())],
        token: |ask| {
            let fields = form(ask);
            let right = fields["client_id"] == "client-1" && fields["client_secret"] == "client-secret" && fields["refresh_token"] == "refresh-1";
            // Google does not rotate.
            (right && ask.path() == "/token").then(|| json!({"access_token": "good", "expires_in": 3599}))
        },
        good: is_good,
        pages: vec![
            ("/v4/accounts/1/locations/2/reviews", json!({"reviews": [{"name": "accounts/1/locations/2/reviews/R1", "reviewId": "R1",
                "reviewer": {"displayName": "Zoe"}, "starRating": "TWO", "comment": "Slow", "createTime": "2023-11-14T22:13:20.000Z",
                "updateTime": "2023-11-14T22:13:20.000Z"}]})),
            ("/v4/accounts/1/locations/3/reviews", json!({})),
        ],
        asked: vec!["locations/3/reviews", "orderBy=updateTime+desc"],
        texts: vec!["Slow"],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_play_is_asked_by_a_service_account() {
    let folder = tempfile::tempdir().unwrap();
    let Some(key) = rsa_key_file(folder.path()) else { return };
    whole_way(Platform {
        connector: "google-play",
        settings: "api = \"API\"\ntokens = \"API\"\npackage = \"com.acme.app\"\n",
        secrets: vec![("service_account", key)],
        token: |ask| by_assertion(ask, "https://www.googleapis.com/auth/androidpublisher"),
        good: is_good,
        pages: vec![(
            "/androidpublisher/v3/applications/com.acme.app/reviews",
            json!({"reviews": [{"reviewId": "gp:1", "authorName": "Zoe",
            "comments": [{"userComment": {"text": "Crashes on start", "lastModified": {"seconds": "1700000000"}, "starRating": 1}}]}]}),
        )],
        asked: vec!["maxResults=100"],
        texts: vec!["Crashes on start"],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_forms_is_asked_by_a_service_account_for_its_form_once_a_page() {
    const SCOPES: &str = "https://www.googleapis.com/auth/forms.body.readonly https://www.googleapis.com/auth/forms.responses.readonly \
                          https://www.googleapis.com/auth/drive.readonly";
    let folder = tempfile::tempdir().unwrap();
    let Some(key) = rsa_key_file(folder.path()) else { return };
    let response = |id: &str, said: &str| {
        json!({"responseId": id, "createTime": "2023-11-14T22:13:20.000Z", "lastSubmittedTime": "2023-11-14T22:13:20.000Z", "answers": {
            "0a1": {"questionId": "0a1", "textAnswers": {"answers": [{"value": said}]}},
            "0a2": {"questionId": "0a2", "fileUploadAnswers": {"answers": [{"fileId": "drive-1", "fileName": "a.png", "mimeType": "image/png"}]}}}})
    };
    let asked = whole_way(Platform {
        connector: "google-forms",
        settings: "api = \"API\"\ntokens = \"API\"\ndrive = \"API\"\nform = \"gf1\"\n",
        secrets: vec![("service_account", key)],
        token: |ask| by_assertion(ask, SCOPES),
        good: is_good,
        pages: vec![
            ("/v1/forms/gf1/responses", json!({"responses": [response("r1", "Slow"), response("r2", "Fine"), response("r3", "Good")]})),
            (
                "/v1/forms/gf1",
                json!({"formId": "gf1", "info": {"title": "How was it?"}, "items": [
                {"title": "Tell us", "questionItem": {"question": {"questionId": "0a1", "textQuestion": {}}}},
                {"title": "Picture", "questionItem": {"question": {"questionId": "0a2", "fileUploadQuestion": {}}}}]}),
            ),
            ("/drive/v3/files/drive-1", json!("a file")),
        ],
        asked: vec!["filter=timestamp", "/drive/v3/files/drive-1?alt=media"],
        texts: vec!["Tell us: Slow\nPicture: a.png", "Tell us: Fine\nPicture: a.png", "Tell us: Good\nPicture: a.png"],
    })
    .await;
    let count = |target: &str| asked.iter().filter(|line| line.ends_with(target)).count();
    assert_eq!(count("/v1/forms/gf1"), 1, "{asked:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_store_is_asked_with_a_token_that_we_sign() {
    let pair = rcgen::KeyPair::generate().unwrap();
    whole_way(Platform {
        connector: "app-store",
        settings: "api = \"API\"\napp = \"42\"\nissuer_id = \"issuer-1\"\nkey_id = \"K1\"\n",
        secrets: vec![("private_key", pair.serialize_pem())],
        token: |_| None,
        good: |token| {
            let (head, claims) = claims(token);
            let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
            head == json!({"alg": "ES256", "typ": "JWT", "kid": "K1"})
                && claims["iss"] == "issuer-1"
                && claims["aud"] == "appstoreconnect-v1"
                && life <= 1200
        },
        pages: vec![(
            "/v1/apps/42/customerReviews",
            json!({"data": [{"type": "customerReviews", "id": "AR1", "attributes": {"rating": 1,
            "title": "Crash", "body": "on start", "reviewerNickname": "zoe", "createdDate": "2023-11-14T14:13:20-08:00"}}], "links": {}}),
        )],
        asked: vec!["include=response", "sort=-createdDate"],
        texts: vec!["Crash\n\non start"],
    })
    .await;
}

/// Files beside a hook: what is fetched, and with which token.
async fn file_of_a_hook(connector: &str, settings: &str, secret: (&str, String), api: Arc<TokenApi>, body: Value, path: &str) {
    let channel = format!(
        "connector = \"{connector}\"\naccount = \"acme\"\nverify = \"none\"\n[settings]\n{}[secrets]\n{} = {{ env = \"SECRET\" }}\n",
        settings.replace("API", &api.url()),
        secret.0
    );
    let setup = Setup {
        rest: "[destination.archive]\nkind = \"file\"\npath = \"events.ndjson\"\n[[route]]\nto = [\"archive\"]\n".to_owned(),
        channels: BTreeMap::from([("desk".to_owned(), channel)]),
        env: BTreeMap::from([("SECRET".to_owned(), secret.1)]),
        ..Setup::default()
    };
    let daemon = Daemon::start(setup).await;
    let headers = [("content-type", "application/json")];
    let status = http1::once(daemon.public, "POST", "/hooks/desk", &headers, body.to_string().as_bytes()).await.unwrap().status();
    assert_eq!(status, 200, "{}", daemon.log_end(20));
    let from = Instant::now();
    loop {
        let text = std::fs::read_to_string(daemon.folder.path().join("events.ndjson")).unwrap_or_default();
        let stored = text.lines().any(|line| line.contains("\"state\":\"stored\""));
        if stored {
            break;
        }
        let asked: Vec<String> = api.asked().iter().map(|ask| format!("{} {}", ask.method, ask.target)).collect();
        assert!(from.elapsed() < Duration::from_secs(40), "{connector}: {text}\n{asked:#?}\n{}", daemon.log_end(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(api.asked().iter().any(|ask| ask.path() == path && ask.bearer() == "good"));
}

#[tokio::test(flavor = "multi_thread")]
async fn google_chat_hands_over_files_to_the_service_account_of_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let Some(key) = rsa_key_file(folder.path()) else { return };
    let api = TokenApi::start(|ask| match ask.path() {
        "/token" => by_assertion(ask, "https://www.googleapis.com/auth/chat.bot").map_or((400, json!({})), |granted| (200, granted)),
        _ if is_good(ask.bearer()) => (200, Value::from("\u{89}PNG")),
        _ => (401, json!({})),
    })
    .await;
    let body = json!({"type": "MESSAGE", "space": {"name": "spaces/D", "spaceType": "DIRECT_MESSAGE"}, "message": {
        "name": "spaces/D/messages/m1", "sender": {"name": "users/1", "type": "HUMAN", "displayName": "Zoe"}, "text": "see",
        "createTime": "2023-11-14T22:13:20Z", "thread": {"name": "spaces/D/threads/t"}, "space": {"name": "spaces/D"},
        "attachment": [{"contentName": "a.png", "contentType": "image/png", "attachmentDataRef": {"resourceName": "spaces/D/files/f1"}}]}});
    let settings = "api = \"API\"\ntokens = \"API\"\n";
    file_of_a_hook("google-chat", settings, ("service_account", key), Arc::new(api), body, "/v1/media/spaces/D/files/f1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn teams_hands_over_pictures_to_the_bot() {
    let api = TokenApi::start(|ask| match ask.path() {
        "/tenant-1/oauth2/v2.0/token" => {
            let fields = form(ask);
            let right = fields["grant_type"] == "client_credentials" && fields["scope"] == "https://api.botframework.com/.default";
            let right = right && fields["client_id"] == "app-1" && fields["client_secret"] == "bot-secret";
            if right { (200, json!({"access_token": "good", "expires_in": 3599})) } else { (401, json!({"error": "invalid_client"})) }
        }
        _ if is_good(ask.bearer()) => (200, Value::from("\u{89}PNG")),
        _ => (401, json!({})),
    })
    .await;
    let body = json!({"type": "message", "id": "1", "timestamp": "2023-11-14T22:13:20Z", "serviceUrl": "https://smba.example.net/",
        "channelId": "msteams", "from": {"id": "29:zoe", "name": "Zoe"}, "recipient": {"id": "28:bot"}, "text": "see",
        "conversation": {"id": "a:1", "conversationType": "personal"},
        "attachments": [{"contentType": "image/png", "contentUrl": format!("{}/v3/attachments/1/views/original", api.url())}]});
    let settings = "app_id = \"app-1\"\ntenant = \"tenant-1\"\nlogin = \"API\"\npictures = \"API\"\n";
    let secret = ("client_secret", "bot-secret".to_owned());
    file_of_a_hook("teams", settings, secret, Arc::new(api), body, "/v3/attachments/1/views/original").await;
}
