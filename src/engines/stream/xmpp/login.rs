//! From a host to a bound session: TCP, the stream, STARTTLS, SASL, the resource (RFC 6120).
//!
//! What must stay true: before TLS nothing the server says is kept; PLAIN goes over TLS or loopback only.

use std::time::Duration;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::engines::stream::StreamSettings;
use crate::engines::stream::connect::{person, unreached};
use crate::engines::stream::irc::place;
use crate::engines::stream::talk::Say;
use crate::engines::stream::wire::{Cutter, News, Wire};
use crate::engines::stream::xmpp::sasl::{self, Hash, Scram};
use crate::http::dial::{self, Duplex};
use crate::model::codes::Code;
use crate::ports::clock::Random;
use crate::ports::pull::PullError;

/// Each answer of the log-in.
const STEP_WITHIN: Duration = Duration::from_secs(20);
/// Parts of a stream before the one that is waited for.
const PARTS_MAX: usize = 20;
/// Hosts that are tried one after the other, each named by the one before.
const HOSTS_MAX: usize = 3;
/// Conditions of a failed log-in that pass by themselves (RFC 6120 §6.5); any other is a person's matter.
const PASSING: &[&str] = &["temporary-auth-failure", "aborted"];

/// A bound session.
pub struct Bound {
    /// The connection.
    pub wire: Wire,
    /// Our full address.
    pub jid: String,
    /// Host and port.
    pub place: String,
}

/// Who logs in where.
struct Login<'a> {
    user: &'a str,
    domain: &'a str,
    password: SecretString,
    place: String,
    host: String,
    max: usize,
    random: &'a dyn Random,
}

/// Why a log-in came to nothing.
enum Unbound {
    /// As said.
    Failed(PullError),
    /// Another host has the account (RFC 6120 §4.9.3.19).
    Elsewhere(String),
}

impl From<PullError> for Unbound {
    fn from(error: PullError) -> Self {
        Self::Failed(error)
    }
}

/// Connects and logs in, where need be at the host that the first one names: it must prove to be of the same domain, as every one.
pub async fn login(settings: &StreamSettings) -> Result<Bound, PullError> {
    let mut elsewhere = None;
    for _ in 0..HOSTS_MAX {
        match at(settings, elsewhere.as_deref()).await {
            Ok(bound) => return Ok(bound),
            Err(Unbound::Failed(error)) => return Err(error),
            Err(Unbound::Elsewhere(host)) => elsewhere = Some(host),
        }
    }
    Err(PullError::lost(Code::Unreachable, "one host of the server names the next (see-other-host), again and again".to_owned()))
}

async fn at(settings: &StreamSettings, elsewhere: Option<&str>) -> Result<Bound, Unbound> {
    let text = |name: &str| settings.settings.get(name).and_then(Value::as_str).unwrap_or_default();
    let jid = text("jid").split('/').next().unwrap_or_default();
    let (user, domain) = jid
        .split_once('@')
        .filter(|(user, domain)| !user.is_empty() && !domain.is_empty())
        .ok_or_else(|| person(Code::ChannelConfig, "[settings] jid is no address such as help@example.org"))?;
    let tls = text("tls");
    let server = Some(text("server")).filter(|server| !server.is_empty()).unwrap_or(domain);
    let (host, port) = place(elsewhere.unwrap_or(server), if tls == "direct" { 5223 } else { 5222 })?;
    let password = settings.secrets.get("password").and_then(|values| values.first()).cloned();
    let password = password.ok_or_else(|| person(Code::AuthFailed, "[secrets] password is missing"))?;
    let place = format!("{host}:{port}");
    let login = Login { user, domain, password, place: place.clone(), host, max: settings.plan.frame_bytes_max, random: &*settings.random };
    let tcp = dial::tcp(&login.host, port, false).await.map_err(unreached)?;
    let mut stream: Box<dyn Duplex> = Box::new(tcp);
    let mut secured = tls == "direct";
    if secured {
        stream = Box::new(dial::secure(stream, domain, &place).await.map_err(unreached)?);
    }
    let mut wire = Wire::Plain(stream, Cutter::stanzas(login.max));
    let mut features = login.open(&mut wire).await?;
    if tls == "starttls" {
        if !features.contains("<starttls") {
            return Err(person(Code::Tls, &format!("{place} offers no STARTTLS")).into());
        }
        let answer = login.ask(&mut wire, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "").await?;
        if !answer.starts_with("<proceed") {
            return Err(person(Code::Tls, &format!("{place} refuses STARTTLS")).into());
        }
        // What is in the buffer was said before TLS, and goes with it.
        let Wire::Plain(bare, _) = wire else { return Err(person(Code::Invariant, "no plain connection").into()) };
        let stream: Box<dyn Duplex> = Box::new(dial::secure(bare, domain, &place).await.map_err(unreached)?);
        (wire, secured) = (Wire::Plain(stream, Cutter::stanzas(login.max)), true);
        features = login.open(&mut wire).await?;
    }
    let loopback = login.host == "localhost" || login.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if !secured && !loopback {
        return Err(person(Code::Tls, &format!("{place}: a log-in without TLS; set tls = \"starttls\" or \"direct\"")).into());
    }
    login.authenticate(&mut wire, &features).await?;
    login.open(&mut wire).await?;
    let resource = login.nonce().chars().take(8).collect::<String>();
    let bind = format!(
        "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>omnigate-{resource}</resource></bind></iq>"
    );
    let bound = login.ask(&mut wire, &bind, "<iq").await?;
    let jid = inner(&bound, "jid").ok_or_else(|| login.refused("the session is not bound"))?.to_owned();
    Ok(Bound { wire, jid, place })
}

impl Login<'_> {
    /// Opens the stream; gives its features.
    async fn open(&self, wire: &mut Wire) -> Result<String, Unbound> {
        if let Wire::Plain(_, cutter) = wire {
            cutter.restart();
        }
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
            escaped(self.domain)
        );
        self.ask(wire, &header, "<stream:features").await
    }

    /// Says something and waits for the part that begins so.
    async fn ask(&self, wire: &mut Wire, text: &str, begins: &str) -> Result<String, Unbound> {
        wire.say(Say::Text(text.to_owned())).await.map_err(|detail| self.lost(&detail))?;
        for _ in 0..PARTS_MAX {
            let news = tokio::time::timeout(STEP_WITHIN, wire.next()).await;
            let news = news.map_err(|_| self.lost("no answer"))?.map_err(|detail| self.lost(&detail))?;
            match news {
                News::Frame(part) => {
                    let part = self.text(&part)?;
                    if part.starts_with("<stream:error") {
                        let why = error_name(&part);
                        let other = inner(&part, "see-other-host").filter(|host| why == "see-other-host" && !host.is_empty());
                        return Err(other.map_or_else(|| self.lost(&why).into(), |host| Unbound::Elsewhere(host.to_owned())));
                    }
                    if part.starts_with("</") {
                        return Err(self.lost("the stream was closed").into());
                    }
                    if part.starts_with(begins) {
                        return Ok(part);
                    }
                }
                News::Alive => {}
                News::Closed { .. } => return Err(self.lost("the connection was closed").into()),
            }
        }
        Err(self.lost("something else is answered").into())
    }

    fn text(&self, part: &Bytes) -> Result<String, PullError> {
        String::from_utf8(part.to_vec()).map_err(|_| self.lost("not UTF-8"))
    }

    async fn authenticate(&self, wire: &mut Wire, features: &str) -> Result<(), Unbound> {
        let offers = |name: &str| features.contains(&format!("<mechanism>{name}</mechanism>"));
        let auth = |name: &str, first: &str| format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{name}'>{first}</auth>");
        let hash = [("SCRAM-SHA-256", Hash::Sha256), ("SCRAM-SHA-1", Hash::Sha1)].into_iter().find(|(name, _)| offers(name));
        let Some((name, hash)) = hash else {
            if !offers("PLAIN") {
                return Err(person(Code::AuthFailed, &format!("{} offers neither SCRAM nor PLAIN", self.place)).into());
            }
            let answer = self.ask(wire, &auth("PLAIN", &sasl::plain(self.user, self.password.expose_secret())), "").await?;
            return if answer.starts_with("<success") { Ok(()) } else { Err(self.refused(&error_name(&answer)).into()) };
        };
        let (mut scram, first) = Scram::begin(hash, self.user, &self.nonce());
        let challenge = self.ask(wire, &auth(name, &first), "").await?;
        if !challenge.starts_with("<challenge") {
            return Err(self.refused(&error_name(&challenge)).into());
        }
        let answer = inner(&challenge, "challenge").and_then(|text| scram.answer(text, self.password.expose_secret()));
        let answer = answer.ok_or_else(|| self.refused("its challenge makes no sense"))?;
        let response = format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{answer}</response>");
        let success = self.ask(wire, &response, "").await?;
        if !success.starts_with("<success") {
            return Err(self.refused(&error_name(&success)).into());
        }
        // Who does not prove to know the password is not the server we have an account at.
        if !inner(&success, "success").is_some_and(|text| scram.is_proven(text)) {
            return Err(self.refused("the server does not prove that it knows the password").into());
        }
        Ok(())
    }

    fn nonce(&self) -> String {
        let mut bytes = [0; 18];
        self.random.fill(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn lost(&self, detail: &str) -> PullError {
        PullError::Lost { code: Code::Unreachable, detail: format!("{}: {detail}", self.place), after: None }
    }

    fn refused(&self, why: &str) -> PullError {
        if PASSING.contains(&why) {
            return self.lost(&format!("the log-in: {why}"));
        }
        person(Code::AuthFailed, &format!("{} refuses the log-in: {why}", self.place))
    }
}

/// The text of the first element of this name; no other way to it than its tags.
pub fn inner<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = stanza.split_once(&format!("<{name}"))?;
    let (_, rest) = rest.split_once('>')?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// The name of the condition inside of an error: letters and dashes only.
pub fn error_name(stanza: &str) -> String {
    let found = stanza.split('<').skip(2).find(|tag| !tag.starts_with(['/', '!']) && !tag.starts_with("error") && !tag.starts_with("text"));
    found.unwrap_or("failure").chars().take_while(|char| char.is_ascii_alphanumeric() || *char == '-').take(60).collect()
}

/// Text as it may stand in an attribute or between tags.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            other if other.is_control() => {}
            other => out.push(other),
        }
    }
    out
}
