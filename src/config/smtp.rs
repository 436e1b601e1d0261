//! Mail destinations: `[destination.x] kind = "smtp"`.

use crate::config::read::{Reading, Section};
use crate::config::secrets::error_text;
use crate::connector::ticket::compose::Forms;
use crate::connector::ticket::smtp::SmtpSettings;
use crate::ports::destination::SmtpTls;

/// Reads what a mail destination is given; what is wrong is in `reading`.
pub fn read(reading: &mut Reading<'_>, section: &Section) -> Option<SmtpSettings> {
    let tls = match section.text("tls").as_deref() {
        Some("implicit") => SmtpTls::Implicit,
        Some("none") => SmtpTls::None,
        _ => SmtpTls::StartTls,
    };
    let (host, from, to) =
        (section.text("host").filter(|_| section.written("host")), address(reading, section, "from"), address(reading, section, "to"));
    let (user, password) = (section.text("user").filter(|_| section.written("user")), secret(section, "password"));
    pair(reading, section, "user", "password");
    pair(reading, section, "dkim_selector", "dkim_key");
    let local =
        host.as_deref().is_some_and(|host| host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()));
    if tls == SmtpTls::None && !local {
        if user.is_some() {
            let advice = Some("use \"starttls\" or \"implicit\"".to_owned());
            reading.wrong(section.span("tls"), "without TLS the password would travel readable", advice);
        } else {
            reading.warn(section.span("tls"), "mails would travel unencrypted", "use \"starttls\" beyond this machine");
        }
    }
    let ca_pem = section.path("ca_file").and_then(|path| match reading.source.read(&path) {
        Ok(pem) => Some(pem),
        Err(error) => {
            reading.wrong(section.span("ca_file"), format!("`ca_file` cannot be read: {}", error_text(&error)), None);
            None
        }
    });
    let is = |key: &str, word: &str| section.text(key).as_deref() == Some(word);
    Some(SmtpSettings {
        host: host?,
        port: section.integer("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(587),
        tls,
        ca_pem,
        login: user.zip(password),
        from: from?,
        to: to?,
        as_customer: is("as", "customer"),
        dkim: section.text("dkim_selector").filter(|_| section.written("dkim_selector")).zip(secret(section, "dkim_key")),
        forms: Forms { edits: is("edits", "note"), deletions: is("deletions", "note"), reactions: is("reactions", "note") },
        contact_domain: section.text("contact_domain").unwrap_or_default(),
    })
}

fn secret(section: &Section, key: &str) -> Option<secrecy::SecretString> {
    section.secrets(key).and_then(|secrets| secrets.into_iter().next())
}

fn address(reading: &mut Reading<'_>, section: &Section, key: &str) -> Option<String> {
    let text = section.text(key).filter(|_| section.written(key))?;
    if text.parse::<lettre::Address>().is_err() {
        reading.wrong(section.span(key), format!("`{key}` must be a mail address such as \"support@example.org\""), None);
        return None;
    }
    Some(text)
}

/// Two keys that mean something only together.
fn pair(reading: &mut Reading<'_>, section: &Section, one: &str, other: &str) {
    for (key, missing) in [(one, other), (other, one)] {
        if section.written(key) && !section.written(missing) {
            reading.wrong(section.key_span(key), format!("`{key}` needs `{missing}` beside it"), None);
        }
    }
}
