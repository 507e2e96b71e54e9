//! Networks in CIDR form, as the fields of auth methods take them.

use std::net::IpAddr;

/// A network: an address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`. An address without a length is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let network = Self { address: address.parse().ok()?, bits: bits.parse().ok()? };
        let plain = bits.bytes().all(|byte| byte.is_ascii_digit());
        // An IPv4 network in IPv6 form is what it is, as an address in that form is.
        let mapped = network.address.is_ipv6() && network.address.to_canonical().is_ipv4() && (96..=128).contains(&network.bits);
        let network = if mapped { Self { address: network.address.to_canonical(), bits: network.bits - 96 } } else { network };
        (plain && network.bits <= network.width()).then_some(network)
    }

    /// Reads `10.0.0.0/8`, or an address alone.
    pub(super) fn parse_or_address(text: &str) -> Option<Self> {
        Self::parse(text).or_else(|| {
            let address: IpAddr = text.parse().ok()?;
            let network = Self { address: address.to_canonical(), bits: 0 };
            Some(Self { bits: network.width(), ..network })
        })
    }

    /// Whether the address is inside. IPv4 addresses in IPv6 form count as what they are.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => same_start(network.to_bits().into(), address.to_bits().into(), self.bits, 32),
            (IpAddr::V6(network), IpAddr::V6(address)) => same_start(network.to_bits(), address.to_bits(), self.bits, 128),
            _ => false,
        }
    }

    /// Whether every address of `other` is inside.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.bits >= self.bits && self.contains(other.address)
    }

    fn width(&self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }
}

/// As Vault shows bound networks: a single address without its length.
impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.bits == self.width() { write!(f, "{}", self.address) } else { write!(f, "{}/{}", self.address, self.bits) }
    }
}

/// Whether an address is in one of the networks; no networks at all allow every address. An unknown address is in none.
pub(super) fn allowed(networks: &[String], address: Option<IpAddr>) -> bool {
    let inside = |address| networks.iter().filter_map(|text| Network::parse_or_address(text)).any(|network| network.contains(address));
    networks.is_empty() || address.is_some_and(inside)
}

fn same_start(one: u128, other: u128, bits: u8, width: u8) -> bool {
    bits == 0 || (one ^ other) >> (width - bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_inside_when_its_leading_bits_agree() {
        let networks = |text: &str| vec![text.to_owned()];
        let at = |text: &str| Some(text.parse().unwrap());
        assert!(allowed(&networks("10.0.0.0/8"), at("10.255.1.2")) && !allowed(&networks("10.0.0.0/8"), at("11.0.0.1")));
        assert!(allowed(&networks("0.0.0.0/0"), at("8.8.8.8")) && !allowed(&networks("0.0.0.0/0"), at("::1")));
        assert!(allowed(&networks("2001:db8::/32"), at("2001:db8:1::1")) && allowed(&networks("127.0.0.1"), at("::ffff:127.0.0.1")));
        assert!(allowed(&networks("::ffff:10.0.0.0/104"), at("10.9.8.7")) && !allowed(&networks("::ffff:10.0.0.0/104"), at("11.0.0.1")));
        assert!(allowed(&[], None) && !allowed(&networks("10.0.0.0/8"), None) && !allowed(&networks("nonsense"), at("1.2.3.4")));
    }

    #[test]
    fn networks_are_read_strictly_and_shown_as_vault_does() {
        for bad in ["", "bad", "1.2.3.4", "1.2.3.4/33", "1.2.3/8", "::/129", "1.2.3.4/+8", "1.2.3.4/"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
        let shown = |text| Network::parse_or_address(text).unwrap().to_string();
        assert_eq!((shown("127.0.0.1/32"), shown("127.0.0.0/8"), shown("::1")), ("127.0.0.1".into(), "127.0.0.0/8".into(), "::1".into()));
        let outer = Network::parse("10.0.0.0/8").unwrap();
        assert!(outer.covers(&Network::parse("10.1.0.0/16").unwrap()) && !outer.covers(&Network::parse("0.0.0.0/0").unwrap()));
    }
}
