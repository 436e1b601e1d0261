//! TLS as everything that calls out speaks it: the system's roots (`SSL_CERT_FILE` holds for them too).

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};

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
