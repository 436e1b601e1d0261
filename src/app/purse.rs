//! Purse: the tokens that a look at a channel uses, and what is said of each. What only one process may use up is used while the store is
//! ours, or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::app::alone::OneToken;
use crate::app::look::nobody;
use crate::app::system::SystemRandom;
use crate::app::tokens::{Forget, Tokens};
use crate::connector::kit::ChannelKit;
use crate::connector::token::{TokenKind, TokenPlan};
use crate::logic::digest::{Digester, INSTANCE_KEY_BYTES};
use crate::ports::clock::Clock;
use crate::ports::token::TokenSource;

/// Of one channel.
pub struct Purse {
    /// The channel.
    pub kit: Arc<ChannelKit>,
    /// Tokens that were had.
    pub sources: BTreeMap<String, Arc<dyn TokenSource>>,
    /// How many there should be.
    pub wanted: usize,
    /// Those that only one process may use up.
    pub kept: Vec<Arc<TokenPlan>>,
    /// What is said of each: whether it can be used, and a line.
    pub rows: Vec<(bool, String)>,
}

impl Purse {
    /// Empty.
    pub fn of(kit: &Arc<ChannelKit>) -> Self {
        Self { kit: kit.clone(), sources: BTreeMap::new(), wanted: 0, kept: Vec::new(), rows: Vec::new() }
    }

    /// Gets the tokens that use up nothing. A session is one of its own, so that the daemon's goes on.
    pub async fn fill(&mut self, looking: &Tokens, clock: &Arc<dyn Clock>) {
        let kit = self.kit.clone();
        for plan in kit.connector.tokens.values().filter(|plan| plan.is_given(&kit.settings, &kit.secrets)) {
            self.wanted += 1;
            match plan.kind {
                TokenKind::OAuth2(_) | TokenKind::LongLived(_) => self.kept.push(plan.clone()),
                TokenKind::ClientCredentials(_) | TokenKind::JwtBearer(_) => self.take(plan, looking).await,
                TokenKind::Session(_) => {
                    let (digester, random) = (Digester::new(&[0; INSTANCE_KEY_BYTES]), Arc::new(SystemRandom::default()));
                    self.take(plan, &Tokens::new(Arc::new(Forget), digester, Arc::default(), clock.clone(), random)).await;
                }
            }
        }
    }

    /// Gets those that are kept, while the store is ours.
    pub async fn redeem(&mut self, tokens: &Tokens) {
        for plan in std::mem::take(&mut self.kept) {
            self.take(&plan, tokens).await;
        }
    }

    /// Says what can be said of those that are kept, without trying them.
    pub async fn leave(&mut self, looking: &Tokens, why: &str) {
        for plan in std::mem::take(&mut self.kept) {
            let row = match looking.described(&self.kit, &plan) {
                Err(why) => (false, why),
                Ok(source) => match (source.has_consent().await, source.consent_ends().await) {
                    (Ok(true), Some(ends)) => (true, format!("[auth.{}] is good until {ends}; not tried: {why}", plan.name)),
                    (Ok(true), None) => (true, format!("[auth.{}] has its token; not tried: {why}", plan.name)),
                    (Ok(false), _) if matches!(plan.kind, TokenKind::LongLived(_)) => {
                        (true, format!("[auth.{}] not tried: {why}", plan.name))
                    }
                    (Ok(false), _) => (false, nobody(&self.kit.channel)),
                    (Err(error), _) => (false, error.to_string()),
                },
            };
            self.rows.push(row);
        }
    }

    async fn take(&mut self, plan: &Arc<TokenPlan>, tokens: &Tokens) {
        let name = &plan.name;
        let source = match tokens.described(&self.kit, plan) {
            Ok(source) => source,
            Err(why) => return self.rows.push((false, why)),
        };
        match source.token(None).await {
            Ok(token) => {
                self.rows.push((true, format!("[auth.{name}] has a token")));
                self.sources.insert(name.clone(), Arc::new(OneToken(token)));
            }
            Err(error) => self.rows.push((false, format!("{}: [auth.{name}]: {error}", error.code()))),
        }
    }
}
