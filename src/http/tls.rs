//! TLS as everything that calls out speaks it: the system's roots (`SSL_CERT_FILE` holds for them too).

use std::sync::{Arc, OnceLock};

use rustls::{CertificateError, ClientConfig, RootCertStore};

/// With the system's roots, read once a process since it takes tens of milliseconds.
pub fn with_roots() -> ClientConfig {
    static WITH_ROOTS: OnceLock<ClientConfig> = OnceLock::new();
    let read = || {
        let mut store = RootCertStore::empty();
        // Certificates that cannot be read are left out: the rest still opens connections.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        with(store)
    };
    WITH_ROOTS.get_or_init(read).clone()
}

/// Trusts nobody: for plain http, where nothing needs to be read.
pub fn without_roots() -> ClientConfig {
    with(RootCertStore::empty())
}

fn with(store: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // The provider knows TLS 1.2 and 1.3, so the defaults cannot be refused.
    match ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions() {
        Ok(builder) => builder.with_root_certificates(store).with_no_client_auth(),
        Err(_) => ClientConfig::builder().with_root_certificates(store).with_no_client_auth(),
    }
}

/// Why a certificate is not believed, and the mend. `ca_file` names the key that tells whose certificates are; empty if there is none.
pub fn mistrust(why: &CertificateError, ca_file: &str) -> String {
    let mend = match why {
        CertificateError::UnknownIssuer if !ca_file.is_empty() => {
            format!("; nobody that is known issued it: if it is of your own authority, name that one's certificate in {ca_file}")
        }
        CertificateError::UnknownIssuer => "; nobody that is known issued it".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => "; is the host's name right?".to_owned(),
        _ => String::new(),
    };
    format!("the certificate is not trusted: {why}{mend}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mistrust_is_told_in_words_with_the_mend() {
        let unknown = mistrust(&CertificateError::UnknownIssuer, "ca_file");
        assert!(unknown.ends_with("name that one's certificate in ca_file"), "{unknown}");
        let expected = rustls::pki_types::ServerName::try_from("mail.example.org").map(|name| name.to_owned());
        let presented = vec!["DnsName(\"imap.example.org\")".to_owned()];
        let other = mistrust(&CertificateError::NotValidForNameContext { expected: expected.unwrap(), presented }, "");
        assert!(other.contains("not valid for name \"mail.example.org\"") && other.ends_with("is the host's name right?"), "{other}");
    }
}
