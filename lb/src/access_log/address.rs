//! Addresses of clients, written by hand: each line has one, and `Display` costs more than the rest of the line.
//!
//! Invariant: the text is that of `Display`.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use super::plain::hex;
use super::spell::number;

/// The decimal digits of each byte with a dot behind them, and their length with the dot.
static OCTETS: [([u8; 4], u8); 256] = octets();

const fn octets() -> [([u8; 4], u8); 256] {
    let mut table = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let skipped = if octet < 10 {
            2
        } else if octet < 100 {
            1
        } else {
            0
        };
        let mut place = skipped;
        while place < 3 {
            table[octet].0[place - skipped] = b'0' + digits[place] as u8;
            place += 1;
        }
        table[octet].1 = (4 - skipped) as u8;
        octet += 1;
    }
    table
}

/// An IP address with its port: `192.0.2.1:80` or `[2001:db8::1]:80`.
pub(super) fn with_port(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => v4(out, *address.ip()),
        // Rare: the scope is an interface on the local link.
        SocketAddr::V6(address) if address.scope_id() != 0 => return drop(write!(out, "{address}")),
        SocketAddr::V6(address) => {
            out.push(b'[');
            v6(out, *address.ip());
            out.push(b']');
        }
    }
    out.push(b':');
    number(out, address.port().into());
}

pub(super) fn ip(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => v4(out, address),
        IpAddr::V6(address) => v6(out, address),
    }
}

fn v4(out: &mut Vec<u8>, address: Ipv4Addr) {
    let (mut text, mut end) = ([0; 16], 0);
    for octet in address.octets() {
        let (digits, length) = OCTETS[usize::from(octet)];
        text[end..end + 4].copy_from_slice(&digits);
        end += usize::from(length);
    }
    out.extend_from_slice(&text[..end - 1]);
}

/// RFC 5952, section 4: the first longest run of two or more zeros becomes `::`.
fn v6(out: &mut Vec<u8>, address: Ipv6Addr) {
    if let Some(mapped) = address.to_ipv4_mapped() {
        out.extend_from_slice(b"::ffff:");
        return v4(out, mapped);
    }
    let segments = address.segments();
    let gap = longest_zeros(&segments);
    for (place, segment) in segments.into_iter().enumerate() {
        if gap.contains(&place) {
            if place == gap.start {
                out.extend_from_slice(b"::");
            }
            continue;
        }
        if place > 0 && place != gap.end {
            out.push(b':');
        }
        let [high, low] = segment.to_be_bytes().map(hex);
        let zeros = (segment.leading_zeros() as usize / 4).min(3);
        out.extend_from_slice(&[high[0], high[1], low[0], low[1]][zeros..]);
    }
}

/// The first longest run of two or more zeros; empty if there is none.
fn longest_zeros(segments: &[u16; 8]) -> Range<usize> {
    let (mut longest, mut begin) = (0..0, 0);
    for (place, segment) in segments.iter().enumerate() {
        if *segment != 0 {
            begin = place + 1;
        } else if place + 1 - begin > longest.len().max(1) {
            longest = begin..place + 1;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    fn check(address: SocketAddr) {
        let mut out = Vec::new();
        with_port(&mut out, address);
        out.push(b' ');
        ip(&mut out, address.ip());
        assert_eq!(String::from_utf8(out).unwrap(), format!("{address} {}", address.ip()));
    }

    #[test]
    fn every_octet_and_port_is_spelt_as_the_standard_library_does() {
        for octet in 0..=255 {
            check((Ipv4Addr::new(octet, 255 - octet, 0, octet), u16::from(octet) * 257).into());
        }
        for port in [0, 9, 10, 99, 100, 999, 1000, 9999, 10_000, 65_535] {
            check((Ipv4Addr::LOCALHOST, port).into());
        }
    }

    #[test]
    fn runs_of_zeros_become_a_gap_wherever_they_are() {
        let mut random = fastrand::Rng::with_seed(815);
        for zeros in 0..=255_u8 {
            for _ in 0..40 {
                let segments: [u16; 8] = std::array::from_fn(|place| match zeros >> place & 1 {
                    1 => 0,
                    _ => random.u16(1..) >> random.u32(..13),
                });
                check((segments, 80).into());
            }
        }
        for text in
            ["[::ffff:10.1.2.3]:9", "[::10.1.2.3]:9", "[::ffff:0:1]:9", "[64:ff9b::10.0.0.1]:9", "[fe80::1%3]:80"]
        {
            check(text.parse().unwrap());
        }
        check(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 7, 3).into());
    }
}
