//! A hook: one callback URL, one connector, and the channels that share it.
//!
//! The pipeline calls in this order: [`Hook::body_bytes_max`], [`Hook::guard`], [`Hook::read`], and when the items are durable
//! [`Hook::answer`]. All of it is pure; only a request that went through the guard can be read.

mod build;
mod guard;
mod hide;
mod paths;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use std::sync::Arc;

use bytes::Bytes;
use secrecy::SecretString;

use crate::connector::load::Connector;
use crate::connector::manifest::{Answer, Respond};
use crate::connector::problem::Problem;
use crate::connector::reader::{ChannelSpec, Opened, Read, ReadContext, ReadLimits, Reader};
use crate::connector::subscribe::Grants;
use crate::connector::verify::{KeyRing, Kind};
use crate::logic::digest::Digester;
use crate::model::codes::Code;
use crate::model::dns::Answers;
use crate::model::raw::{RawHead, Via};
use crate::model::time::Time;
use crate::ports::intake::{HookAnswer, HookRequest};

/// What the guard decided.
#[derive(Debug)]
pub enum Guarded {
    /// Answer and forget: a handshake or probe (no code), or a refusal (its code is for the metric).
    Answer {
        /// The answer.
        answer: HookAnswer,
        /// Why it was refused.
        code: Option<Code>,
    },
    /// Authentic: keep the raw, then read it.
    Pass(Verified),
}

/// A request that went through the guard (or came out of the store, where only such requests are).
#[derive(Debug, Clone)]
pub struct Verified {
    head: RawHead,
    body: Bytes,
    /// What makes it the only one of its kind, where the platform proves that.
    once: Option<String>,
}

impl Verified {
    /// A raw of the store, read again by a better map. Only verified requests were ever admitted.
    pub fn from_store(head: RawHead, body: Bytes) -> Self {
        Self { head, body, once: None }
    }

    /// What to keep beside the body: sensitive headers are already left out.
    pub fn head(&self) -> &RawHead {
        &self.head
    }

    /// The raw bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// What became of a request, for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Durable (or a duplicate of something that is).
    Accepted,
    /// Durable, and every item was ignored.
    Ignored,
    /// Not taken, the platform is asked to come again after so many seconds.
    Overload {
        /// Seconds.
        retry_after: u32,
    },
}

/// One callback URL.
#[derive(Debug)]
pub struct Hook {
    /// Reads what passed the guard.
    reader: Reader,
    /// Its answers, with the settings in them.
    respond: Respond,
    /// How requests are verified; `None`: the channel file says `verify = "none"`.
    verify: Option<(Vec<Kind>, Vec<SecretString>)>,
    /// Keys that platforms publish; somebody with a network fills it.
    keys: Arc<KeyRing>,
    /// What its platform says of the subscription.
    grants: Arc<Grants>,
    /// How its payloads come: by webhook, but for a trial.
    via: Via,
    /// A trial without verification of what is verified in earnest: the input counts as authentic.
    trusted: bool,
}

impl Hook {
    /// Builds the hook `name`. Channels whose account is told by the payload share it.
    ///
    /// # Errors
    /// What is wrong with the channels: unknown settings or secrets, no secret to verify with, a broken map, the same account twice.
    pub fn build(
        name: &str,
        connector: Arc<Connector>,
        channels: Vec<ChannelSpec>,
        digester: Digester,
        limits: ReadLimits,
    ) -> Result<Self, Vec<Problem>> {
        build::build(name, connector, channels, digester, limits, false)
    }

    /// As [`Self::build`], but nothing that is missing matters: for `try` and fixtures.
    pub(crate) fn build_for_trial(
        connector: Arc<Connector>,
        channel: ChannelSpec,
        digester: Digester,
        limits: ReadLimits,
        must_verify: bool,
        via: Via,
    ) -> Result<Self, Vec<Problem>> {
        let name = channel.id.clone();
        let mut hook = build::build(&name, connector, vec![channel], digester, limits, true)?;
        hook.via = via;
        let proven_in_earnest = hook.reader.connector.manifest.secrets.values().any(|secret| !secret.optional);
        hook.trusted = !must_verify && proven_in_earnest;
        if must_verify && hook.verify.is_none() {
            // No secret, no proof: the first kind with nothing to prove it by refuses everything.
            let settings = hook.reader.settings.as_object().cloned().unwrap_or_default();
            let kinds = crate::connector::load::kinds(&hook.reader.connector.manifest, &settings).unwrap_or_default();
            hook.verify = (!kinds.is_empty()).then_some((kinds, Vec::new()));
        }
        Ok(hook)
    }

    /// Who we are at the platform.
    pub fn own(&self) -> &Arc<crate::connector::own::Own> {
        self.reader.own()
    }

    /// What its platform says of the subscription.
    pub fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    /// Its name, the last part of the URL.
    pub fn name(&self) -> &str {
        self.reader.name()
    }

    /// Keys that its platform publishes: what it knows, and what should be fetched for it.
    pub fn keys(&self) -> &Arc<KeyRing> {
        &self.keys
    }

    /// Largest body it takes.
    pub fn body_bytes_max(&self) -> usize {
        let own = self.reader.connector.manifest.webhook.as_ref().and_then(|webhook| webhook.body_bytes_max);
        own.unwrap_or(usize::MAX).min(self.reader.limits.body_bytes_max)
    }

    /// Handshakes, limits, signature: before anything is parsed.
    pub fn guard(&self, request: &HookRequest, now: Time) -> Guarded {
        guard::guard(self, request, now)
    }

    /// Decodes, maps and normalizes. Never fails: what cannot be read becomes a quarantined item.
    pub fn read(&self, verified: &Verified, context: &ReadContext) -> Read {
        self.read_opened(verified, self.open(verified), context, None)
    }

    /// Whether it checks by itself who vouches for the mails inside of its requests.
    pub fn verifies_senders(&self) -> bool {
        self.reader.verifies_senders()
    }

    /// The first half of [`Self::read`]: decodes and maps.
    pub fn open(&self, verified: &Verified) -> Opened {
        self.reader.open(self.via, &verified.head, &verified.body)
    }

    /// The names of the DNS that have to be looked up between the halves; none unless senders are to be checked.
    pub fn asks(&self, opened: &Opened, received_at: Time) -> Vec<String> {
        self.reader.asks(opened, received_at)
    }

    /// The second half of [`Self::read`].
    pub fn read_opened(&self, verified: &Verified, opened: Opened, context: &ReadContext, answers: Option<&Answers>) -> Read {
        let mut read = self.reader.read_opened(opened, context, answers);
        // It stands before what the map says: nobody proves that.
        read.delivery_key = verified.once.as_ref().map(|nonce| self.reader.delivery_key(nonce)).or(read.delivery_key);
        read
    }

    /// The answer once the fate of the request is known.
    pub fn answer(&self, verified: &Verified, outcome: Outcome) -> HookAnswer {
        guard::answer(self, verified, outcome)
    }
}

fn plain(answer: &Answer) -> HookAnswer {
    let headers = answer.content_type.iter().map(|kind| ("content-type".to_owned(), kind.clone())).collect();
    HookAnswer { status: answer.status, headers, body: Bytes::copy_from_slice(answer.body.as_bytes()) }
}
