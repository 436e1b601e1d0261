//! What the vectors of the platforms do not show: stale times, other algorithms, keys that change.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::connector::verify::hmac::Algorithm;
use crate::connector::verify::keys::Found;
use crate::connector::verify::{KeyRing, Kind, Presented, Proof, With};
use crate::model::time::Time;

const NOW: Time = Time(1_700_000_000_000);

fn kind(text: &str) -> Kind {
    Kind::parse(toml::from_str(text).unwrap()).unwrap()
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = Kind::parse(toml::from_str(text).unwrap()).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

fn proof(kind: &Kind, headers: &[(&str, &str)], body: &str, now: Time) -> Proof {
    let headers: Vec<(String, String)> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let presented = Presented { headers: &headers, url: "https://hooks.example.org/hooks/x", body: body.as_bytes() };
    let secrets = [SecretString::from("secret-with-enough-bytes")];
    kind.proves(&presented, With { secrets: &secrets, keys: &KeyRing::default(), now })
}

fn token(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let mac = Algorithm::Sha256.mac(b"secret-with-enough-bytes", signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
}

const JWT: &str =
    "kind = \"jwt\"\ntoken = { header = \"x-token\" }\nalgorithms = [\"HS256\"]\nsecret = \"s\"\nissuer = [\"me\"]\nleeway = \"1m\"\n";

#[test]
fn a_token_must_be_ours_alive_and_of_an_allowed_algorithm() {
    let check = kind(JWT);
    let hs = json!({"alg": "HS256"});
    let given = |header: &Value, claims: Value| proof(&check, &[("x-token", &token(header, &claims))], "", NOW);
    assert_eq!(given(&hs, json!({"iss": "me", "exp": 1_700_000_100})), Proof::Yes);
    assert_eq!(given(&hs, json!({"iss": "me", "exp": 1_699_999_900})), Proof::No, "expired");
    assert_eq!(given(&hs, json!({"iss": "me", "exp": 1_699_999_970})), Proof::Yes, "within the leeway");
    assert_eq!(given(&hs, json!({"iss": "me", "exp": 1_700_000_100, "nbf": 1_700_000_090})), Proof::No, "not yet");
    assert_eq!(given(&hs, json!({"iss": "me"})), Proof::No, "without an end");
    assert_eq!(given(&hs, json!({"iss": "you", "exp": 1_700_000_100})), Proof::No);
    assert_eq!(given(&json!({"alg": "none"}), json!({"iss": "me", "exp": 1_700_000_100})), Proof::No);
    assert_eq!(given(&json!({"alg": "HS512"}), json!({"iss": "me", "exp": 1_700_000_100})), Proof::No);
    assert_eq!(given(&json!({"alg": "HS256", "crit": ["x"]}), json!({"iss": "me", "exp": 1_700_000_100})), Proof::No);
    assert_eq!(proof(&check, &[("x-token", "a.b.c")], "", NOW), Proof::No);
    assert_eq!(proof(&check, &[("x-token", &"a".repeat(100_000))], "", NOW), Proof::No);
}

#[test]
fn parameters_that_would_prove_nothing_are_refused() {
    refused(&JWT.replace("HS256", "RS256"), "name a `secret` with HS algorithms");
    refused(&format!("{JWT}jwks = \"https://keys.example.org\"\n"), "name a `secret` with HS algorithms");
    refused(
        "kind = \"hash\"\nalgorithm = \"sha1\"\nsecret = \"s\"\nsigned = \"{body}\"\nsignature = { header = \"x\" }",
        "must hold {secret}",
    );
    refused("kind = \"static\"\nsecret = \"s\"\nheader = \"a\"\nquery = \"b\"", "exactly one");
    refused(
        "kind = \"ed25519\"\nsecret = \"s\"\nkey = \"hex\"\nsigned = \"{body}\"\nsignature = { header = \"x\" }\ntimestamp = { header = \"t\", tolerance = \"5m\" }",
        "would prove nothing",
    );
    assert!(!kind("kind = \"sns\"\ntopics = []").stands_alone());
    assert!(!kind("kind = \"jwt\"\ntoken = { header = \"a\" }\nalgorithms = [\"RS256\"]\njwks = \"https://k.example.org\"\nissuer = [\"i\"]\naudience = [\"\"]").stands_alone());
}

#[test]
fn a_stale_time_is_refused_at_the_limit_and_one_over() {
    let check = kind(
        "kind = \"hmac\"\nalgorithm = \"sha256\"\nsecret = \"s\"\nsigned = \"{ts}.{body}\"\nsignature = { header = \"sig\" }\ntimestamp = { header = \"t\", tolerance = \"5m\" }",
    );
    let mac = crate::connector::text::hex(&Algorithm::Sha256.mac(b"secret-with-enough-bytes", b"1700000000.hi"));
    let at = |ms: i64| proof(&check, &[("t", "1700000000"), ("sig", &mac)], "hi", Time(NOW.0 + ms));
    assert_eq!(at(300_000), Proof::Yes);
    assert_eq!(at(300_001), Proof::No);
    assert_eq!(at(-300_001), Proof::No);
    assert_eq!(proof(&check, &[("t", "soon"), ("sig", &mac)], "hi", NOW), Proof::No);
}

#[test]
fn a_ring_asks_once_and_again_only_after_a_while() {
    let ring = KeyRing::default();
    let url = "https://keys.example.org/jwks";
    assert!(matches!(ring.find(url, Some("k1"), NOW), Found::NotYet));
    assert_eq!(ring.wanted(NOW), [url]);
    assert!(ring.wanted(NOW).is_empty(), "asked already");
    assert_eq!(ring.wanted(Time(NOW.0 + 6_000)), [url], "the answer was lost");
    let set = json!({"keys": [{"kty": "RSA", "kid": "k1", "n": "AQAB", "e": "AQAB"}, {"kty": "oct", "kid": "k2", "k": "AA"}]});
    ring.put(url, set.to_string().as_bytes(), NOW).unwrap();
    assert!(matches!(ring.find(url, Some("k1"), NOW), Found::Key(_)));
    // A key nobody published: no reason to fetch at every request.
    assert!(matches!(ring.find(url, Some("k2"), NOW), Found::None));
    assert!(ring.wanted(Time(NOW.0 + 60_000)).is_empty());
    assert!(matches!(ring.find(url, Some("k2"), Time(NOW.0 + 300_000)), Found::NotYet));
    assert!(ring.put(url, b"<html>", NOW).is_err());
    assert!(matches!(ring.find(url, Some("k1"), NOW), Found::Key(_)), "a broken answer changes nothing");
    assert_eq!(ring.wanted(Time(NOW.0 + 13 * 3_600_000)), [url], "stale");
}

#[test]
fn addresses_that_strangers_name_are_bounded_and_judged() {
    let ring = KeyRing::default();
    for number in 0..100 {
        let _ = ring.find(&format!("https://sns.r{number}.amazonaws.com/x.pem"), None, NOW);
    }
    assert!(ring.wanted(NOW).len() <= 32);
    let amazons = |text: &str| crate::connector::verify::is_amazons(text, |path| path.ends_with(".pem"));
    assert!(amazons("https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem"));
    for other in [
        "http://sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/a.pem",
        "https://sns.eu-west-1.amazonaws.com.example.org/a.pem",
        "https://x@sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.a.b.amazonaws.com/a.pem",
        "https://s3.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com/a.txt",
    ] {
        assert!(!amazons(other), "{other}");
    }
}
