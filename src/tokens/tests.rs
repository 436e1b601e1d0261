//! What a source does with words of a token endpoint; the rest is shown against an identity provider in `tests/it`.
#![allow(clippy::unwrap_used)]

use super::*;

fn said(word: &str, consent: bool) -> TokenError {
    let url = Url::parse("https://login.example.org/tenant/token").unwrap();
    explain(Refused::Said { word: word.to_owned(), detail: Some("AADSTS1".to_owned()) }, &url, consent)
}

#[test]
fn trouble_of_the_provider_is_told_from_a_lost_consent_and_a_wrong_client() {
    let code = |error: &TokenError| match error {
        TokenError::Later { code, .. } => (false, *code),
        TokenError::Person { code, .. } => (true, *code),
    };
    for (word, consent, expected) in [
        ("temporarily_unavailable", true, (false, Code::Unreachable)),
        ("server_error", false, (false, Code::Unreachable)),
        ("slow_down", true, (false, Code::Throttled)),
        ("invalid_grant", true, (true, Code::ConsentExpired)),
        ("interaction_required", true, (true, Code::ConsentExpired)),
        ("invalid_grant", false, (true, Code::AuthFailed)),
        ("invalid_client", true, (true, Code::AuthFailed)),
        ("unheard_of", true, (true, Code::AuthFailed)),
    ] {
        assert_eq!(code(&said(word, consent)), expected, "{word}");
    }
    let text = said("invalid_client", false).to_string();
    assert_eq!(text, "identity provider login.example.org:443: invalid_client (AADSTS1)", "neither path nor tenant");
}
