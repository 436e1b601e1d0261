//! The judgement: signatures and policy over the mail's bytes, with the answers of the DNS.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use futures_util::FutureExt;
use mail_auth::common::crypto::{Algorithm, CryptoError};
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::{DomainKey, VerifySignature};
use mail_auth::dkim::{DkimError, Signature};
use mail_auth::dmarc::Dmarc;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::hickory_resolver::TokioResolver;
use mail_auth::hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use mail_auth::hickory_resolver::net::runtime::TokioRuntimeProvider;
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::{
    AuthenticatedMessage, DkimOutput, DkimResult, DmarcResult, DnsError, DnssecStatus, Error, MessageAuthenticator, Parameters, RecordSet,
    ResolverCache, SpfOutput, SpfResult, Txt,
};

use crate::connector::mail::proof::{BodyHashes, Proof, Signed, ascii, choice, key_name, walk};
use crate::connector::mail::scan;
use crate::model::dns::{Answers, TxtAnswer};
use crate::model::time::Time;

/// Keys are taken away some days after their last use: that one is gone says nothing about a mail that came before.
const KEYS_KEPT_MS: i64 = 3 * 24 * 3600 * 1000;
/// Shortest RSA key (RFC 8301 §3.2).
const RSA_BITS_MIN: usize = 1024;

/// Judges a mail that came at `received_at` from an envelope sender of this domain (`None`: not known).
pub fn check(mail: &[u8], received_at: Time, return_domain: Option<&str>, answers: &Answers) -> Proof {
    let whole = mail.get(scan::header_start(mail)..).unwrap_or_default();
    AuthenticatedMessage::parse(whole).map_or_else(nothing, |message| judge(message, received_at, return_domain, answers))
}

/// The same of a mail whose body passed by: only its header is there.
pub fn check_passed(mail: &[u8], hashes: &BodyHashes, received_at: Time, return_domain: Option<&str>, answers: &Answers) -> Proof {
    let header = mail.get(scan::header_start(mail)..hashes.header_end).unwrap_or_default();
    let Some(mut message) = AuthenticatedMessage::parse(header) else { return nothing() };
    hashes.stand_in(&mut message);
    judge(message, received_at, return_domain, answers)
}

fn nothing() -> Proof {
    Proof { dkim: "none", dmarc: None, signatures: Vec::new(), left_out: 0, from: None }
}

fn judge(mut message: AuthenticatedMessage<'_>, received_at: Time, return_domain: Option<&str>, answers: &Answers) -> Proof {
    let from = match message.froms() {
        [one] => Some(one.clone()),
        _ => None,
    };
    let author = from.as_deref().and_then(|from| ascii(from.rsplit_once('@')?.1));
    let mut signatures = Vec::new();
    let left_out = prepare(&mut message, author.as_deref(), received_at, &mut signatures);
    let cache = Known::new(&message, author.as_deref(), return_domain, answers);
    let Some(authenticator) = AUTHENTICATOR.as_ref() else { return nothing() };
    let verify = authenticator.verify_dkim(Parameters::new(&message).with_txt_cache(&cache));
    // Every answer is in the cache, so it never waits.
    let outputs = verify.now_or_never().unwrap_or_default();
    signatures.extend(outputs.iter().map(|output| told(output, &cache)));
    let dmarc = match (&from, author) {
        (Some(_), Some(author)) => policy(authenticator, &message, &outputs, &author, return_domain, &cache),
        // RFC 9989 §5.3.1: with no author, or several, there is no one whose policy could apply.
        _ => Some("permerror"),
    };
    let late = answers.at.0.saturating_sub(received_at.0) > KEYS_KEPT_MS;
    let key_gone = signatures.iter().any(|one| matches!(one.why, Some("no_key" | "key_revoked")));
    let dmarc = dmarc.filter(|word| !(late && key_gone && *word == "fail"));
    Proof { dkim: best(&signatures), dmarc, signatures, left_out, from }
}

/// Takes out what is not looked at; tells what is wrong with it.
fn prepare(message: &mut AuthenticatedMessage<'_>, author: Option<&str>, received_at: Time, told: &mut Vec<Signed>) -> usize {
    let received_s = seconds(received_at);
    let mut wrong = |domain: &str, (result, why): (&'static str, &'static str)| {
        if told.len() < super::SIGNATURES_MAX {
            told.push(Signed { domain: domain.to_owned(), result, why: Some(why) });
        }
    };
    for error in std::mem::take(&mut message.errors) {
        if error.name.trim_ascii_end().eq_ignore_ascii_case(b"dkim-signature") {
            let judged = if error.header == Error::Dkim(DkimError::SignatureLength) {
                ("policy", "length_limited")
            } else {
                ("permerror", "unreadable")
            };
            wrong("", judged);
        }
    }
    let found = std::mem::take(&mut message.dkim_headers);
    for one in &found {
        if let Some(judged) = choice::refused(&one.header, one.value.len(), received_s) {
            wrong(&one.header.d, judged);
        }
    }
    let (chosen, left_out) = choice::choose(found, author, received_s, |one| (&one.header, one.value.len()));
    message.dkim_headers = chosen;
    for one in &mut message.dkim_headers {
        // Judged above by the time of receipt; reports and signatures by third parties are not ours to follow.
        one.header.x = 0;
        one.header.r = false;
        one.header.atps = None;
    }
    left_out
}

/// As signatures count.
pub fn seconds(time: Time) -> u64 {
    u64::try_from(time.0 / 1000).unwrap_or(0)
}

fn told(output: &DkimOutput<'_>, cache: &Known) -> Signed {
    let signature = output.signature();
    let short = signature.is_some_and(|one| one.a != Algorithm::Ed25519Sha256 && cache.bits(one).is_some_and(|bits| bits < RSA_BITS_MIN));
    let (result, why) = match output.result() {
        DkimResult::Pass => ("pass", None),
        _ if short => ("policy", Some("key_too_short")),
        DkimResult::TempError(_) => ("temperror", Some("dns")),
        DkimResult::None => ("none", None),
        DkimResult::Neutral(error) | DkimResult::Fail(error) | DkimResult::PermError(error) => match error {
            Error::Dkim(DkimError::FailedBodyHashMatch) => ("fail", Some("body_changed")),
            Error::Crypto(CryptoError::FailedVerification) => ("fail", Some("header_changed")),
            Error::Dkim(DkimError::RevokedPublicKey) => ("permerror", Some("key_revoked")),
            Error::Dns(DnsError::RecordNotFound(_)) => ("permerror", Some("no_key")),
            Error::Dkim(DkimError::FailedAuidMatch) => ("permerror", Some("identity_outside_domain")),
            _ => ("permerror", Some("key_unusable")),
        },
    };
    Signed { domain: signature.map(|one| one.d.clone()).unwrap_or_default(), result, why }
}

/// RFC 8601 has one result a signature; a mail has that of its best one.
fn best(signatures: &[Signed]) -> &'static str {
    let order = ["pass", "temperror", "fail", "policy", "permerror", "neutral"];
    order.into_iter().find(|word| signatures.iter().any(|one| one.result == *word)).unwrap_or("none")
}

/// The result of the author's policy; `None`: SPF would have to be known.
fn policy(
    authenticator: &MessageAuthenticator,
    message: &AuthenticatedMessage<'_>,
    outputs: &[DkimOutput<'_>],
    author: &str,
    return_domain: Option<&str>,
    cache: &Known,
) -> Option<&'static str> {
    // What SPF said is not known to us; an envelope sender of another organisation could not have helped in any case.
    let envelope = return_domain.unwrap_or(author);
    let spf = SpfOutput::new(envelope.to_owned()).with_result(SpfResult::TempError);
    let parameters = Parameters::new(DmarcParameters::new(message, outputs, envelope, &spf));
    let output = authenticator.verify_dmarc(parameters.with_txt_cache(cache).with_ipv4_cache(&Exists)).now_or_never()?;
    match (output.dmarc_record(), output.dkim_result(), output.spf_result()) {
        (_, DmarcResult::Pass, _) => Some("pass"),
        (_, DmarcResult::TempError(_), _) => Some("temperror"),
        (None, _, _) => Some("none"),
        (Some(_), _, DmarcResult::TempError(_)) => None,
        _ => Some("fail"),
    }
}

/// The library looks names up by a resolver of its own. This one has no servers and is never asked: [`Known`] has all answers.
static AUTHENTICATOR: LazyLock<Option<MessageAuthenticator>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let mut options = ResolverOpts::default();
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    let resolver = TokioResolver::builder_with_config(ResolverConfig::from_name_servers(Vec::new()), TokioRuntimeProvider::default())
        .with_options(options)
        .with_tls_config(tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
    resolver.build().ok().map(MessageAuthenticator)
});

/// The answers, as the library asks for them.
struct Known {
    txt: HashMap<Box<str>, Txt>,
}

impl Known {
    fn new(message: &AuthenticatedMessage<'_>, author: Option<&str>, return_domain: Option<&str>, answers: &Answers) -> Self {
        let mut txt = HashMap::new();
        for one in &message.dkim_headers {
            let Some(name) = key_name(&one.header.s, &one.header.d) else { continue };
            txt.insert(asked(&one.header.domain_key()), record::<DomainKey>(answers.txt(&name)));
        }
        let signers = message.dkim_headers.iter().filter_map(|one| ascii(&one.header.d));
        let domains = author.map(str::to_owned).into_iter().chain(return_domain.and_then(ascii)).chain(signers);
        for name in domains.flat_map(|domain| walk(&domain)) {
            let answer = answers.txt(&name);
            // RFC 9989 §4.10: several records at one name are none.
            let several =
                matches!(answer, TxtAnswer::Records(records) if records.iter().filter(|text| text.starts_with(b"v=DMARC1")).count() > 1);
            txt.insert(asked(&name), record::<Dmarc>(if several { &TxtAnswer::Nothing } else { answer }));
        }
        Self { txt }
    }

    /// Length of a signature's key.
    fn bits(&self, signature: &Signature) -> Option<usize> {
        match self.txt.get(&*asked(&signature.domain_key())) {
            Some(Txt::DomainKey(key)) => Some(key.p.public_key_bits()),
            _ => None,
        }
    }
}

/// A name in the form in which the library asks.
fn asked(name: &str) -> Box<str> {
    let mut name = name.to_lowercase();
    if !name.ends_with('.') {
        name.push('.');
    }
    name.into_boxed_str()
}

/// The first record that can be read.
fn record<T: TxtRecordParser + Into<Txt>>(answer: &TxtAnswer) -> Txt {
    let records = match answer {
        TxtAnswer::Unknown => return Txt::Error(Error::Dns(DnsError::Resolver("no answer".to_owned()))),
        TxtAnswer::Nothing => return Txt::Error(Error::Dns(DnsError::RecordNotFound(ResponseCode::NXDomain))),
        TxtAnswer::Records(records) => records,
    };
    let mut found = Err(Error::Dns(DnsError::InvalidRecordType));
    for text in records {
        found = T::parse(text);
        if found.is_ok() {
            break;
        }
    }
    found.into()
}

impl ResolverCache<Box<str>, Txt> for Known {
    fn get<Q: Hash + Eq + ?Sized>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
    {
        // What was not asked for is not known, and must not be asked for now.
        let unknown = || Txt::Error(Error::Dns(DnsError::Resolver("not asked".to_owned())));
        Some(self.txt.get(name).cloned().unwrap_or_else(unknown))
    }

    fn remove<Q: Hash + Eq + ?Sized>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: std::time::Instant) {}
}

/// Whether an author's domain exists decides only which policy is asked for, not whether it passes.
struct Exists;

impl ResolverCache<Box<str>, RecordSet<Ipv4Addr>> for Exists {
    fn get<Q: Hash + Eq + ?Sized>(&self, _: &Q) -> Option<RecordSet<Ipv4Addr>>
    where
        Box<str>: Borrow<Q>,
    {
        Some(RecordSet { rrset: Arc::new([]), dnssec_status: DnssecStatus::Indeterminate })
    }

    fn remove<Q: Hash + Eq + ?Sized>(&self, _: &Q) -> Option<RecordSet<Ipv4Addr>>
    where
        Box<str>: Borrow<Q>,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: RecordSet<Ipv4Addr>, _: std::time::Instant) {}
}
