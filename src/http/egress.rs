//! The egress guard (`strict_egress`): names are resolved once, every address is judged by [`crate::logic::egress`], and the
//! connection goes to a judged address. Judging inside the resolver is what defeats DNS rebinding.

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::logic::egress::refused;

/// All addresses of a name are refused. Says nothing about what was found, since the text may reach a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("refused address")]
pub struct RefusedAddress;

/// Resolves names through the system and leaves out refused addresses.
#[derive(Debug, Clone, Copy)]
pub struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let addresses = allowed(found)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The addresses that are not refused.
///
/// # Errors
/// [`RefusedAddress`] if none is left.
pub fn allowed(addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, RefusedAddress> {
    let left: Vec<SocketAddr> = addresses.into_iter().filter(|address| !refused(address.ip())).collect();
    if left.is_empty() { Err(RefusedAddress) } else { Ok(left) }
}

/// Whether the host of a URL is a literal address that is refused: no resolver sees those.
pub fn literal_refused(host: &url::Host<&str>) -> bool {
    match host {
        url::Host::Ipv4(v4) => refused(IpAddr::V4(*v4)),
        url::Host::Ipv6(v6) => refused(IpAddr::V6(*v6)),
        url::Host::Domain(_) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_notation_of_a_literal_address_is_judged() {
        // The URL parser turns all of these into an address before we see it.
        for text in ["https://127.0.0.1/", "https://0x7f.1/", "https://2130706433/", "https://[::ffff:10.0.0.1]/", "https://0177.0.0.1/"] {
            assert!(literal_refused(&url::Url::parse(text).unwrap().host().unwrap()), "{text}");
        }
        assert!(!literal_refused(&url::Url::parse("https://1.1.1.1/").unwrap().host().unwrap()));
    }

    #[test]
    fn a_name_with_public_and_private_addresses_leads_to_the_public_ones() {
        let both = vec!["10.0.0.1:0".parse().unwrap(), "1.1.1.1:0".parse().unwrap()];
        assert_eq!(allowed(both).unwrap(), vec!["1.1.1.1:0".parse().unwrap()]);
        assert_eq!(allowed(vec!["10.0.0.1:0".parse().unwrap()]), Err(RefusedAddress));
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_refused() {
        let error = GuardedResolver.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(error.downcast_ref::<RefusedAddress>().is_some());
    }
}
