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
    assert!(matches!(ring.find(url, Some("k2"), NOW), Found::NotYet));
    assert!(ring.wanted(Time(NOW.0 + 59_999)).is_empty());
    let later = Time(NOW.0 + 60_000);
    assert_eq!(ring.wanted(later), [url]);
    ring.put(url, set.to_string().as_bytes(), later).unwrap();
    assert!(matches!(ring.find(url, Some("k2"), later), Found::None), "it was fetched for this one, and is not there");
    assert!(matches!(ring.find(url, Some("k2"), Time(later.0 + 60_000)), Found::NotYet), "it may be there by now");
    assert!(ring.put(url, b"<html>", NOW).is_err());
    assert!(matches!(ring.find(url, Some("k1"), NOW), Found::Key(_)), "a broken answer changes nothing");
    assert_eq!(ring.wanted(Time(NOW.0 + 13 * 3_600_000)), [url], "stale");
}

#[test]
fn a_key_that_is_new_comes_again_instead_of_being_refused_however_many_strangers_ask() {
    let (ring, url) = (KeyRing::default(), "https://keys.example.org/jwks");
    let set =
        |ids: &[&str]| json!({"keys": ids.iter().map(|id| json!({"kty": "RSA", "kid": id, "n": "AQAB", "e": "AQAB"})).collect::<Vec<_>>()});
    let put = |ids: &[&str], now: Time| ring.put(url, set(ids).to_string().as_bytes(), now).unwrap();
    ring.expect(url);
    assert_eq!(ring.wanted(NOW), [url]);
    put(&["old"], NOW);
    // The platform signs with another key a second later.
    let soon = Time(NOW.0 + 1_000);
    assert!(matches!(ring.find(url, Some("new"), soon), Found::NotYet));
    let mut fetches = 0;
    for step in 0..1_200_i64 {
        let now = Time(soon.0 + step * 100);
        let _ = ring.find(url, Some(&format!("nobody-{step}")), now);
        assert!(!matches!(ring.find(url, Some("new"), now), Found::None));
        if !ring.wanted(now).is_empty() {
            fetches += 1;
            put(&["old", "new"], now);
        }
    }
    assert_eq!(fetches, 2, "two minutes");
    assert!(matches!(ring.find(url, Some("new"), Time(soon.0 + 120_000)), Found::Key(_)));
    assert!(matches!(ring.find(url, Some(&"x".repeat(300)), Time(soon.0 + 999_000)), Found::None), "no name is that long");
}

#[test]
fn what_fails_is_asked_less_and_less_often_and_an_address_of_a_request_only_when_it_is_named_again() {
    let ring = KeyRing::default();
    let (known, named) = ("https://keys.example.org/jwks", "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem");
    ring.expect(known);
    assert!(matches!(ring.find(named, None, NOW), Found::NotYet));
    let (mut of_known, mut of_named) = (0, 0);
    for second in 0..600 {
        for url in ring.wanted(Time(NOW.0 + second * 1_000)) {
            *(if url == known { &mut of_known } else { &mut of_named }) += 1;
            ring.failed(&url);
        }
    }
    // 5, 10, 20, 40 seconds, then every minute.
    assert_eq!((of_known, of_named), (13, 1));
    assert!(matches!(ring.find(named, None, Time(NOW.0 + 600_000)), Found::NotYet));
    assert!(ring.wanted(Time(NOW.0 + 600_000)).contains(&named.to_owned()));
}

#[test]
fn a_page_is_visited_until_it_answers_and_is_done_then() {
    let (ring, page) = (KeyRing::default(), "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription");
    assert!(!ring.visit(page) && !ring.visit(page));
    assert_eq!(ring.visits(NOW), [page]);
    assert!(ring.visits(NOW).is_empty(), "once at a time");
    ring.visited(page, false);
    assert_eq!(ring.visits(Time(NOW.0 + 5_000)), [page]);
    ring.visited(page, true);
    assert!(ring.visit(page) && ring.visits(Time(NOW.0 + 999_000)).is_empty());
    let after = KeyRing::default();
    after.succeed(&ring);
    assert!(after.visit(page), "a reload forgets nothing");
    // However many are asked for, some are remembered.
    for number in 0..100 {
        let _ = ring.visit(&format!("{page}&n={number}"));
    }
    assert_eq!(ring.visits(NOW).len(), 32);
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

#[test]
fn the_hash_that_stands_before_the_signature_is_used_if_it_is_listed() {
    let check = kind(
        "kind = \"hmac\"\nalgorithm = \"sha1\"\nsecret = \"s\"\nsignature = { header = \"x-hub-signature\" }\n\
         algorithm_from = { before = \"=\", values = { sha1 = \"sha1\", sha256 = \"sha256\", sha384 = \"sha384\", sha512 = \"sha512\" } }\n",
    );
    let signed = |algorithm: Algorithm| crate::connector::text::hex(&algorithm.mac(b"secret-with-enough-bytes", b"body"));
    let given = |text: String| proof(&check, &[("x-hub-signature", &text)], "body", NOW);
    let known = [("sha1", Algorithm::Sha1), ("sha256", Algorithm::Sha256), ("sha384", Algorithm::Sha384), ("sha512", Algorithm::Sha512)];
    for (name, algorithm) in known {
        assert_eq!(given(format!("{name}={}", signed(algorithm))), Proof::Yes, "{name}");
        assert_eq!(given(format!("{name}={}", signed(Algorithm::Md5))), Proof::No, "{name}, by another");
    }
    assert_eq!(given(format!("md5={}", signed(Algorithm::Md5))), Proof::No, "not listed");
    assert_eq!(given(signed(Algorithm::Sha1)), Proof::No, "unnamed");
    refused(
        "kind = \"hmac\"\nalgorithm = \"sha1\"\nsecret = \"s\"\nsignature = { header = \"x\" }\nalgorithm_from = { header = \"y\", values = {} }\n",
        "the word `after`",
    );
}

#[test]
fn what_makes_a_request_the_only_one_must_be_there() {
    let presented = |headers: &'static [(String, String)], body: &'static str| Presented { headers, url: "", body: body.as_bytes() };
    let form =
        kind("kind = \"hmac\"\nalgorithm = \"sha256\"\nsecret = \"s\"\nsignature = { form = \"sig\" }\nnonce = { form = \"token\" }\n");
    assert_eq!(form.nonce(&presented(&[], "token=t-1&sig=00")), Ok(Some("t-1".to_owned())));
    assert!(form.nonce(&presented(&[], "token=&sig=00")).is_err() && form.nonce(&presented(&[], "sig=00")).is_err());
    let check = kind(&format!("{JWT}nonce = \"jti\"\n"));
    let headers = |claims: Value| [("x-token".to_owned(), token(&json!({"alg": "HS256"}), &claims))];
    let with = headers(json!({"iss": "me", "exp": 1_700_000_100, "jti": "j-1"}));
    let without = headers(json!({"iss": "me", "exp": 1_700_000_100}));
    assert_eq!(check.nonce(&Presented { headers: &with, url: "", body: b"" }), Ok(Some("j-1".to_owned())));
    assert!(check.nonce(&Presented { headers: &without, url: "", body: b"" }).is_err());
    assert_eq!(kind(JWT).nonce(&Presented { headers: &without, url: "", body: b"" }), Ok(None));
}

#[test]
fn a_static_secret_may_be_for_some_requests_only() {
    let check = kind("kind = \"static\"\nsecret = \"s\"\njson = \"/token\"\nwhen = { json = \"/token\" }\n");
    let presented = |body: &'static str| Presented { headers: &[], url: "", body: body.as_bytes() };
    assert!(check.fits(&presented("{\"token\":\"x\"}")) && !check.fits(&presented("token=x")));
}

#[test]
fn a_new_ring_takes_over_what_the_old_one_knew() {
    let keys = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":"AAAA","y":"AAAA"}]}"#;
    let (old, new, same) = (KeyRing::default(), KeyRing::default(), KeyRing::default());
    for url in ["https://one.example.org", "https://two.example.org"] {
        old.put(url, keys.as_bytes(), NOW).unwrap();
    }
    new.expect("https://one.example.org");
    assert!(new.is_waiting());
    new.inherit(&old);
    same.succeed(&old);
    assert!(!new.is_waiting() && new.wanted(NOW).is_empty());
    let known = |ring: &KeyRing, url: &str| matches!(ring.find(url, Some("k"), NOW), Found::Key(_));
    assert!(known(&new, "https://one.example.org") && !known(&new, "https://two.example.org"));
    assert!(known(&same, "https://two.example.org"));
}
