//! Which addresses are public: the IANA special-purpose address registries (RFC 6890) from the side that is safe.
//!
//! For IPv4 what is listed here is not public; for IPv6 only global unicast (2000::/3) is, without what is listed here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is one that anybody on the Internet can reach.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Prefixes that are not public, with their lengths.
const V4: [([u8; 4], u32); 15] = [
    ([0, 0, 0, 0], 8),       // this network
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // shared by carriers
    ([127, 0, 0, 0], 8),     // loopback
    ([169, 254, 0, 0], 16),  // link-local, the metadata services of clouds among them
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocol assignments
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 88, 99, 0], 24),  // 6to4 relays
    ([192, 168, 0, 0], 16),  // private
    ([198, 18, 0, 0], 15),   // benchmarks
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, and broadcast
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    !V4.iter().any(|(prefix, len)| (bits ^ u32::from_be_bytes(*prefix)) >> (32 - len) == 0)
}

/// Of global unicast, what is not public; and what carries an IPv4 address, which then decides.
const V6: [(u128, u32); 5] = [
    (0x2001_0000 << 96, 23),      // protocol assignments, Teredo and ORCHID among them
    (0x2001_0db8 << 96, 32),      // documentation
    (0x2002 << 112, 16),          // 6to4: its relays may lead anywhere
    (0x3fff << 112, 20),          // documentation
    (0x2620_004f_8000 << 80, 48), // AS112 sinks
];

/// NAT64's well-known prefix, behind which stands an IPv4 address (RFC 6052).
const NAT64: u128 = 0x0064_ff9b << 96;

fn is_public_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    if (bits ^ NAT64) >> 32 == 0 {
        return u32::try_from(bits & u128::from(u32::MAX))
            .is_ok_and(|low| is_public_v4(Ipv4Addr::from_bits(low)));
    }
    bits >> 125 == 0b001 && !V6.iter().any(|(prefix, len)| (bits ^ prefix) >> (128 - len) == 0)
}

#[cfg(test)]
mod tests {
    use super::is_public;

    fn public(text: &str) -> bool {
        is_public(text.parse().expect("is an address"))
    }

    #[test]
    fn what_is_public_ends_exactly_where_a_special_block_begins() {
        for (inside, outside) in [
            (["0.0.0.0", "0.255.255.255"], ["1.0.0.0", "1.0.0.0"]),
            (["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
            (["100.64.0.0", "100.127.255.255"], ["100.63.255.255", "100.128.0.0"]),
            (["127.0.0.0", "127.255.255.255"], ["126.255.255.255", "128.0.0.0"]),
            (["169.254.0.0", "169.254.169.254"], ["169.253.255.255", "169.255.0.0"]),
            (["172.16.0.0", "172.31.255.255"], ["172.15.255.255", "172.32.0.0"]),
            (["192.168.0.0", "192.168.255.255"], ["192.167.255.255", "192.169.0.0"]),
            (["198.18.0.0", "198.19.255.255"], ["198.17.255.255", "198.20.0.0"]),
            (["224.0.0.0", "255.255.255.255"], ["223.255.255.255", "223.255.255.255"]),
            (["2001:db8::", "2001:db8:ffff::"], ["2001:db7:ffff::", "2001:db9::"]),
            (["2002::", "2002:ffff::"], ["2003::", "2003::"]),
            (["1fff:ffff::", "4000::"], ["2a00::1", "2606:4700::1111"]),
        ] {
            assert!(!inside.into_iter().any(public), "{inside:?}");
            assert!(outside.into_iter().all(public), "{outside:?}");
        }
    }

    #[test]
    fn an_address_in_another_does_not_hide() {
        for hidden in [
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1",
            "::127.0.0.1",
            "2002:7f00:1::",
            "2001::1",
        ] {
            assert!(!public(hidden), "{hidden}");
        }
        for shown in ["::ffff:93.184.215.14", "64:ff9b::93.184.215.14"] {
            assert!(public(shown), "{shown}");
        }
        for own in ["::", "::1", "fe80::1", "fec0::1", "fc00::1", "fdff::1", "ff02::1", "100::1"] {
            assert!(!public(own), "{own}");
        }
    }
}
