//! `[oauth]` of a channel: how it gets bearer tokens. Two providers are known by name; every other one by its addresses.

use std::time::Duration;

use url::Url;

use crate::config::read::{Reading, Section};

/// How tokens are got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OAuthGrant {
    /// By the consent of a person.
    RefreshToken,
    /// By the client's own secret.
    ClientCredentials,
    /// By the key of a service account.
    ServiceAccount,
}

/// `[oauth]`, with the presets of the provider filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth {
    /// How tokens are got.
    pub grant: OAuthGrant,
    /// The client; empty for service accounts.
    pub client_id: String,
    /// Where tokens are asked for; a service account's file may say it.
    pub token_url: Option<Url>,
    /// Where a log-in by code begins.
    pub device_url: Option<Url>,
    /// Where a log-in in the browser begins.
    pub authorize_url: Option<Url>,
    /// What is asked for, blank separated.
    pub scope: String,
    /// For whom a service account speaks, beside the user of the mailbox.
    pub subject: Option<String>,
    /// How long a consent lasts where the provider does not say.
    pub consent_valid: Option<Duration>,
}

/// Names of the secrets that `[oauth]` may need.
pub const SECRETS: [&str; 3] = ["client_secret", "refresh_token", "service_account"];

const MICROSOFT: &str = "https://login.microsoftonline.com";

/// Reads the section. What is wrong is in `reading`.
pub fn read(reading: &mut Reading<'_>, section: &Section) -> OAuth {
    let grant = match section.text("grant").as_deref() {
        Some("client_credentials") => OAuthGrant::ClientCredentials,
        Some("service_account") => OAuthGrant::ServiceAccount,
        _ => OAuthGrant::RefreshToken,
    };
    let provider = section.text("provider");
    let preset = match provider.as_deref() {
        Some("microsoft") => microsoft(reading, section, grant),
        Some("google") => google(),
        _ => Preset::default(),
    };
    let url = |key: &str, preset: Option<Url>| section.url(key).or(preset);
    let oauth = OAuth {
        grant,
        client_id: section.text("client_id").unwrap_or_default(),
        token_url: url("token_url", preset.token),
        device_url: url("device_url", preset.device),
        authorize_url: url("authorize_url", preset.authorize),
        scope: section.texts("scopes").filter(|scopes| !scopes.is_empty()).map_or(preset.scope, |scopes| scopes.join(" ")),
        subject: section.text("subject"),
        consent_valid: section.duration("consent_valid"),
    };
    check(reading, section, &oauth);
    oauth
}

#[derive(Default)]
struct Preset {
    token: Option<Url>,
    device: Option<Url>,
    authorize: Option<Url>,
    scope: String,
}

fn microsoft(reading: &mut Reading<'_>, section: &Section, grant: OAuthGrant) -> Preset {
    let tenant = section.text("tenant");
    let plain = |tenant: &String| tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    let Some(tenant) = tenant.filter(plain) else {
        let span = if section.written("tenant") { section.span("tenant") } else { section.span("provider") };
        reading.wrong(
            span,
            "`tenant` must be the id or the domain of your Microsoft tenant",
            Some("add `tenant = \"acme.example\"`".to_owned()),
        );
        return Preset::default();
    };
    let url = |path: &str| Url::parse(&format!("{MICROSOFT}/{tenant}/oauth2/v2.0/{path}")).ok();
    let scope = match grant {
        OAuthGrant::ClientCredentials => "https://outlook.office365.com/.default",
        _ => "https://outlook.office365.com/IMAP.AccessAsUser.All offline_access",
    };
    Preset { token: url("token"), device: url("devicecode"), authorize: url("authorize"), scope: scope.to_owned() }
}

fn google() -> Preset {
    let url = |text: &str| Url::parse(text).ok();
    Preset {
        token: url("https://oauth2.googleapis.com/token"),
        // Google's log-in by code does not give access to mail.
        device: None,
        // Without these two there is no refresh token at a second log-in.
        authorize: url("https://accounts.google.com/o/oauth2/v2/auth?access_type=offline&prompt=consent"),
        scope: "https://mail.google.com/".to_owned(),
    }
}

fn check(reading: &mut Reading<'_>, section: &Section, oauth: &OAuth) {
    let service = oauth.grant == OAuthGrant::ServiceAccount;
    if oauth.client_id.is_empty() && !service {
        let advice = Some("add `client_id = \"…\"`: the identity provider shows it where the application is registered".to_owned());
        reading.wrong(section.span.clone(), "`client_id` is missing in [oauth]", advice);
    }
    if oauth.token_url.is_none() && !service && section.text("provider").is_none() {
        let advice = Some("add `provider = \"microsoft\"` or \"google\", or the `token_url` of another one".to_owned());
        reading.wrong(section.span.clone(), "[oauth] does not say where tokens come from", advice);
    }
    if oauth.scope.is_empty() && !service && oauth.token_url.is_some() {
        let advice = Some("add `scopes = [\"…\"]`: what the identity provider calls the permission to read mail".to_owned());
        reading.wrong(section.span.clone(), "`scopes` is missing in [oauth]", advice);
    }
    for key in ["token_url", "device_url", "authorize_url"] {
        let bare = section.url(key).is_some_and(|url| url.scheme() != "https" && !is_loopback(&url));
        if bare {
            reading.wrong(section.span(key), format!("`{key}` must be https: secrets travel there"), None);
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
