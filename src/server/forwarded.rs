//! Who is asking: the peer of the connection, or the client that trusted proxies name.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::HeaderMap;

/// Says whether an address is one of our proxies.
pub type TrustedProxy = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Most entries of `X-Forwarded-For` that are read, from its end.
const HOPS_MAX: usize = 32;

/// The client's address. `X-Forwarded-For` is read from its end, because only what our own proxies appended can be believed: the first
/// address from the right that is no proxy of ours is the client. Without a trusted peer the header is not looked at.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxy) -> IpAddr {
    let peer = peer.to_canonical();
    if !trusted(peer) {
        return peer;
    }
    let lines: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    let mut client = peer;
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')).take(HOPS_MAX) {
        let Some(address) = address(hop.trim()) else { return client };
        client = address;
        if !trusted(address) {
            break;
        }
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Some(socket.ip().to_canonical());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn check(peer: &str, lines: &[&str], expected: &str) {
        let trusted: TrustedProxy = Arc::new(|address| address.to_string().starts_with("10."));
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        assert_eq!(client(peer.parse().unwrap(), &headers, &trusted), expected.parse::<IpAddr>().unwrap());
    }

    #[test]
    fn the_last_untrusted_hop_is_the_client() {
        check("10.0.0.1", &["198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.0.0.2"], "198.51.100.7");
        check("10.0.0.1", &["203.0.113.9", "198.51.100.7:443"], "198.51.100.7");
        check("::ffff:10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1");
    }

    #[test]
    fn the_header_of_a_stranger_is_not_believed() {
        check("198.51.100.7", &["10.0.0.9", "203.0.113.9"], "198.51.100.7");
    }

    #[test]
    fn what_cannot_be_read_ends_the_walk() {
        check("10.0.0.1", &["203.0.113.9, unknown"], "10.0.0.1");
        check("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &[], "10.0.0.1");
    }
}
