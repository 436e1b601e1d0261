//! Keys that platforms publish, over the whole road: a hook whose requests are signed tokens, and a key server on a bad day. No request is refused for a
//! key that is not here yet, strangers cost no fetches, and a server that hangs delays its own hook only (I6, I8).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Setup};
use crate::support::http1::{self, Message};
use crate::support::platform::{Answer, Platform, said};
use crate::support::receiver::Receiver;

const PATIENCE: Duration = Duration::from_secs(60);
const ISSUER: &str = "https://issuer.example.org";
const MAP: &str = r#"{kind: "message", key: .id, from: {address: "chat:ana"}, conversation: "ana", text: .id}"#;

/// A key of the platform.
struct Signer {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self { id, pair: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap() }
    }

    /// As a key set holds it (RFC 7517).
    fn published(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..])})
    }

    fn token(&self, audience: &str) -> String {
        self.token_of(self.id, audience)
    }

    /// Under any key id.
    fn token_of(&self, id: &str, audience: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(&json!({"alg": "ES256", "kid": id}));
        let signed = format!("{head}.{}", part(&json!({"iss": ISSUER, "aud": audience, "exp": now + 600})));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

fn set(signers: &[&Signer]) -> Value {
    json!({"keys": signers.iter().map(|signer| signer.published()).collect::<Vec<_>>()})
}

/// A connector and a channel of this name, whose keys are at this path of the server.
fn with_hook(setup: &mut Setup, name: &str, keys: &Platform) {
    let manifest = format!(
        "name = \"{name}\"\ntitle = \"Chat\"\nabout = \"For tests.\"\nverified_senders = true\n[settings.audience]\ntype = \"text\"\ndefault = \"\"\n\
         help = \"Whom tokens are for.\"\n[webhook]\ndecode = \"json\"\n[webhook.verify]\nkind = \"jwt\"\ntoken = {{ header = \"Authorization\" }}\n\
         prefix = \"Bearer \"\nalgorithms = [\"ES256\"]\njwks = \"http://{}/{name}\"\nissuer = [\"{ISSUER}\"]\naudience = [\"{{setting:audience}}\"]\n",
        keys.address
    );
    setup.connector(name, &manifest, MAP);
    setup.channels.insert(name.to_owned(), format!("connector = \"{name}\"\n[settings]\naudience = \"gate\"\n"));
}

async fn call(daemon: &Daemon, hook: &str, token: &str, id: &str) -> Message {
    let authorization = format!("Bearer {token}");
    let headers = [("content-type", "application/json"), ("authorization", authorization.as_str())];
    http1::once(daemon.public, "POST", &format!("/hooks/{hook}"), &headers, json!({"id": id}).to_string().as_bytes()).await.unwrap()
}

/// Comes again until it is taken, as the answer asks; anything but "come again" before that is a loss.
async fn until_taken(daemon: &Daemon, hook: &str, signer: &Signer, id: &str) -> u32 {
    let from = Instant::now();
    let mut again = 0;
    loop {
        let answer = call(daemon, hook, &signer.token("gate"), id).await;
        if answer.success() {
            return again;
        }
        assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("2")), "{hook}");
        assert!(from.elapsed() < PATIENCE + Duration::from_secs(25), "{hook} never took it\n{}", daemon.log_end(30));
        again += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn fetches(keys: &Platform, path: &str) -> usize {
    keys.targets().iter().filter(|target| *target == path).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_servers_that_hang_lie_or_drown_us_delay_their_own_hooks_only_and_refuse_nobody() {
    let signer = Arc::new(Signer::new("k1"));
    let good = set(&[&signer]);
    let well = Arc::new(Mutex::new(false));
    let (mended, answer) = (well.clone(), good.clone());
    let keys = Platform::start(move |target| match target {
        _ if *mended.lock().unwrap() => said(&answer),
        "/aa-hangs" => Answer::Stall,
        "/bb-cut" => Answer::Cut,
        "/cc-page" => Answer::Plain(200, Vec::new(), "<html>please log in</html>".to_owned()),
        "/dd-empty" => said(&json!({"keys": []})),
        // The right keys behind a megabyte of others.
        "/ee-huge" => Answer::Plain(200, Vec::new(), format!("{{\"more\": \"{}\", \"keys\": []}}", "x".repeat(1 << 20))),
        "/ff-down" => Answer::Plain(503, Vec::new(), answer.to_string()),
        "/gg-elsewhere" => Answer::Plain(302, vec![("location", "/zz-good".to_owned())], String::new()),
        _ => said(&answer),
    })
    .await;
    let receiver = Receiver::start().await;
    let mut setup = Setup::all_to(&receiver.url());
    let bad = ["aa-hangs", "bb-cut", "cc-page", "dd-empty", "ee-huge", "ff-down", "gg-elsewhere"];
    bad.iter().chain(&["zz-good"]).for_each(|name| with_hook(&mut setup, name, &keys));
    let daemon = Daemon::start(setup).await;

    assert_eq!(until_taken(&daemon, "zz-good", &signer, "good 1").await, 0, "its keys were here before its first request");
    for hook in bad {
        let answer = call(&daemon, hook, &signer.token("gate"), "lost?").await;
        assert_eq!((answer.status(), answer.header("retry-after"), answer.text().as_str()), (503, Some("2"), ""), "{hook}");
        // What is not for us is refused whether the keys are here or not.
        assert_eq!(call(&daemon, hook, &signer.token("others"), "no").await.status(), 401, "{hook}");
    }
    // While one hangs, and hangs again, the hooks beside it go on; so does one that starts anew.
    assert_eq!(until_taken(&daemon, "zz-good", &signer, "good 2").await, 0);
    *well.lock().unwrap() = true;
    for hook in bad {
        assert!(until_taken(&daemon, hook, &signer, &format!("{hook} 1")).await < 300);
    }
    let counted: BTreeMap<&str, usize> = bad.iter().map(|hook| (*hook, fetches(&keys, &format!("/{hook}")))).collect();
    assert!(counted.values().all(|count| (2..=8).contains(count)), "{counted:?}");
    receiver.wait_for("what was taken", PATIENCE, |book| book.taken().len() >= 2 + bad.len()).await;
    daemon.settled(PATIENCE).await.identities_hold();
    assert_eq!(receiver.taken(), 2 + bad.len());
    assert!(!daemon.log_text().contains("please log in"), "what strangers answer is not written down");
    receiver.no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_cost_one_fetch_a_minute_a_new_key_is_learnt_and_known_ones_outlive_reloads_and_a_dead_server() {
    let (old, new, stranger) = (Signer::new("old"), Signer::new("new"), Signer::new("stranger"));
    let first = set(&[&old]);
    let keys = Platform::start(move |_| said(&first)).await;
    let receiver = Receiver::start().await;
    let mut setup = Setup::all_to(&receiver.url());
    with_hook(&mut setup, "bot", &keys);
    let mut daemon = Daemon::start(setup).await;
    assert_eq!(until_taken(&daemon, "bot", &old, "by the old key").await, 0);
    assert_eq!(fetches(&keys, "/bot"), 1);
    // Somebody else's signature under a known name, a token for others.
    assert_eq!(call(&daemon, "bot", &stranger.token_of("old", "gate"), "forged").await.status(), 401);
    assert_eq!(call(&daemon, "bot", &stranger.token("others"), "astray").await.status(), 401);

    // The platform changes its key, and strangers come under two hundred names.
    let second = set(&[&old, &new]);
    keys.now(move |_| said(&second));
    assert_eq!(call(&daemon, "bot", &new.token("gate"), "by the new key").await.status(), 503, "not refused");
    for number in 0..200 {
        let answer = call(&daemon, "bot", &stranger.token_of(&format!("name-{number}"), "gate"), "flood").await;
        assert!([401, 503].contains(&answer.status()), "{}", answer.start);
    }
    assert_eq!(call(&daemon, "bot", &old.token("gate"), "by the old key, in the flood").await.status(), 200);
    assert!(until_taken(&daemon, "bot", &new, "by the new key").await > 0);
    assert_eq!(fetches(&keys, "/bot"), 2, "one for all of them");
    assert_eq!(call(&daemon, "bot", &stranger.token_of("name-1", "gate"), "flood").await.status(), 401, "asked for, and not there");

    // Nobody answers any more: what is known stays known over a reload.
    keys.now(|_| Answer::Stall);
    let changed = daemon.setup.channels["bot"].clone() + "\n[labels]\nbrand = \"acme\"\n";
    daemon.setup.channels.insert("bot".to_owned(), changed);
    daemon.write_config();
    let reloaded = daemon.admin("POST", "/v1/reload", &Value::Null).await;
    assert!(reloaded.success(), "{} {}", reloaded.start, reloaded.text());
    assert_eq!(until_taken(&daemon, "bot", &new, "after the reload").await, 0);
    assert_eq!(fetches(&keys, "/bot"), 2);

    receiver.wait_for("what was taken", PATIENCE, |book| book.taken().len() >= 4).await;
    let scrape = daemon.settled(PATIENCE).await;
    scrape.identities_hold();
    assert_eq!(scrape.sum("omnigate_items_received_total", &[("channel", "bot")]), 4, "what is not proven leaves no trace");
    let labels = receiver.book().events().iter().map(|event| event["data"]["channel"]["labels"].clone()).collect::<Vec<_>>();
    assert_eq!((labels.len(), labels.last().unwrap()), (4, &json!({"brand": "acme"})));
    receiver.no_complaints();
}
