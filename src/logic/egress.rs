//! Which addresses a URL from outside may lead to: public unicast only. The list is the one of the well-known webhook senders
//! plus the IANA special-purpose registries (RFC 6890); IPv4 inside IPv6 is judged as IPv4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether connecting to `address` is refused: private, loopback, link-local (cloud metadata), shared, multicast,
/// documentation, benchmarking, reserved, or a transition prefix that leads to any of them.
pub fn refused(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => refused_v4(v4),
        IpAddr::V6(v6) => refused_v6(v6),
    }
}

fn refused_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        // RFC 6598: shared address space of carriers.
        || (a == 100 && (64..128).contains(&b))
        // RFC 6890 §2.1: protocol assignments.
        || (a == 192 && b == 0 && c == 0)
        // RFC 7526: deprecated 6to4 relays.
        || (a == 192 && b == 88 && c == 99)
        // RFC 2544: benchmarking.
        || (a == 198 && (18..20).contains(&b))
        // RFC 1112 §4: reserved.
        || a >= 240
}

fn refused_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, ..] = address.segments();
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_unique_local()
        || address.is_unicast_link_local()
        // Deprecated site-local, RFC 3879.
        || (a & 0xffc0) == 0xfec0
        // IPv4-compatible, RFC 4291 §2.5.5.1: `::a.b.c.d`.
        || (a == 0 && b == 0 && c == 0 && d == 0)
        // RFC 6052, RFC 8215: NAT64 can lead to any IPv4 address.
        || (a == 0x64 && b == 0xff9b)
        // RFC 6666: discard only.
        || (a == 0x100 && b == 0 && c == 0 && d == 0)
        // RFC 2928: 2001::/23 protocol assignments, Teredo among them; RFC 3849, RFC 9637: documentation.
        || (a == 0x2001 && b < 0x200)
        || (a == 0x2001 && b == 0xdb8)
        || (a == 0x3fff && b < 0x1000)
        // RFC 3056: 6to4 can lead to any IPv4 address.
        || a == 0x2002
        // RFC 9602: SRv6 SIDs.
        || a == 0x5f00
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn special_addresses_are_refused_in_every_notation() {
        for text in [
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "239.1.1.1",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.9",
            "198.18.0.1",
            "198.19.255.255",
            "192.0.0.8",
            "192.88.99.1",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "5f00::1",
            "2001::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
        ] {
            assert!(refused(text.parse().unwrap()), "{text} is let through");
        }
    }

    #[test]
    fn public_addresses_are_let_through() {
        for text in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "198.20.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "2001:4860::8888",
            "::ffff:8.8.8.8",
        ] {
            assert!(!refused(text.parse().unwrap()), "{text} is refused");
        }
    }
}
