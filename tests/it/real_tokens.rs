//! Logging in with bearer tokens at a real Dovecot, which shows them to an identity provider.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use omnigate::engines::imap::Login;
use omnigate::model::codes::Code;
use omnigate::model::mailbox::Sasl;
use omnigate::model::time::Time;
use omnigate::ports::BoxFuture;
use omnigate::ports::pull::{PullError, PullSource};
use omnigate::ports::token::{AccessToken, TokenError, TokenSource};

use crate::support::dovecot::Dovecot;
use crate::support::identity::Identity;
use crate::support::pulling::{settings, source};

/// Gives these tokens one after the other, a new one only when the last was refused.
struct Pile {
    tokens: Vec<&'static str>,
    given: AtomicU64,
}

impl Pile {
    fn of(tokens: &[&'static str]) -> Arc<Self> {
        Arc::new(Self { tokens: tokens.to_vec(), given: AtomicU64::new(0) })
    }
}

impl TokenSource for Pile {
    fn token<'a>(&'a self, refused: Option<&'a AccessToken>) -> BoxFuture<'a, Result<AccessToken, TokenError>> {
        let number = if refused.is_some() { self.given.fetch_add(1, Ordering::SeqCst) + 1 } else { self.given.load(Ordering::SeqCst) };
        let token = self.tokens[usize::try_from(number).unwrap().min(self.tokens.len() - 1)];
        Box::pin(async move { Ok(AccessToken { secret: token.to_owned().into(), number }) })
    }
    fn consent_ends(&self) -> BoxFuture<'_, Option<Time>> {
        Box::pin(async { None })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_mechanisms_log_in_and_a_refused_token_is_replaced_once() {
    let identity = Identity::start("ana").await;
    let Some(dovecot) = Dovecot::start_with_tokens(identity.address) else { return };
    identity.book().access.insert("good".to_owned(), "ana".to_owned());
    identity.book().access.insert("bobs".to_owned(), "bob".to_owned());
    for sasl in [None, Some(Sasl::XOAuth2), Some(Sasl::OAuthBearer)] {
        let probe = |tokens: &[&'static str]| {
            let pile = Pile::of(tokens);
            let mut with = settings(dovecot.port, "ana");
            with.login = Login::Token { source: pile.clone(), sasl };
            async move { (source(with).probe().await, pile.given.load(Ordering::SeqCst)) }
        };
        let (good, given) = probe(&["good"]).await;
        assert_eq!((good.map(|_| ()), given), (Ok(()), 0), "{sasl:?}");
        let (revoked, given) = probe(&["revoked", "good"]).await;
        assert_eq!((revoked.map(|_| ()), given), (Ok(()), 1), "{sasl:?}: a revoked token is replaced");
        for bad in [["revoked", "revoked-too"], ["bobs", "bobs"]] {
            let (refused, given) = probe(&bad).await;
            let Err(PullError::Person { code: Code::AuthFailed, detail }) = refused else { panic!("{sasl:?} {bad:?}: {refused:?}") };
            assert_eq!(given, 1, "{sasl:?}: tried once more and no more");
            assert!(!detail.contains("revoked") && !detail.contains("bobs") && !detail.contains("ana"), "I7: {detail}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_tokens_is_told() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut with = settings(dovecot.port, "ana");
    with.login = Login::Token { source: Pile::of(&["good"]), sasl: None };
    let refused = source(with).probe().await;
    let Err(PullError::Person { code: Code::Protocol, detail }) = refused else { panic!("{refused:?}") };
    assert!(detail.contains("takes no tokens"), "{detail}");
}
