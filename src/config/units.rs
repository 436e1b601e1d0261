//! Units as people write them: durations, sizes, rates and networks. Parsing names what is allowed, nothing else is guessed.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// A rate: so many per span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many, at least 1.
    pub count: u32,
    /// In how long, at least a second.
    pub per: Duration,
}

impl Rate {
    /// Reads `50/s`, `20/min`, `1000/h`, `5000/d`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected a rate such as \"50/s\", \"20/min\" or \"1000/h\"".to_owned();
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let count: u32 = count.trim().parse().map_err(|_| wrong())?;
        let seconds = match unit.trim() {
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" | "hour" => 3_600,
            "d" | "day" => 86_400,
            _ => return Err(wrong()),
        };
        if count == 0 {
            return Err("a rate of 0 would never let anything through".to_owned());
        }
        Ok(Self { count, per: Duration::from_secs(seconds) })
    }

    /// Events per second.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / self.per.as_secs_f64()
    }

    /// The span between two, if they come evenly.
    pub fn interval(self) -> Duration {
        self.per / self.count.max(1)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            60 => "min",
            3_600 => "h",
            86_400 => "d",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// Reads `500ms`, `15s`, `5m`, `2h`, `14d`, also put together: `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as \"500ms\", \"15s\", \"5m\", \"2h\" or \"14d\"".to_owned();
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" | "min" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3_600).map(Duration::from_secs),
            "d" => number.checked_mul(86_400).map(Duration::from_secs),
            _ => return Err(wrong()),
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or("the duration is too long")?;
        rest = after.trim_start();
    }
    Ok(total)
}

/// Writes a duration in its largest whole unit: `90s`, `5m`, `14d`.
pub fn duration_text(span: Duration) -> String {
    let ms = span.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms >= size && ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") }
}

/// Reads `4 MiB`, `256KiB`, `1 GiB`, `512 B`, `2 MB` (MB is 1,000,000 bytes).
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || "expected a size such as \"512 KiB\", \"4 MiB\" or \"1 GiB\"".to_owned();
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit.trim() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(|| "the size is too large".to_owned())
}

/// Writes a size in its largest whole binary unit.
pub fn size_text(bytes: u64) -> String {
    for (unit, factor) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{} {unit}", bytes / factor);
        }
    }
    format!("{bytes} B")
}

/// A network: an address and how many of its first bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// The address.
    pub address: IpAddr,
    /// Leading bits that count.
    pub bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32` or a single address.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected an address or a network such as \"10.0.0.0/8\"".to_owned();
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| wrong())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits: u8 = match bits {
            Some(bits) => bits.trim().parse().map_err(|_| wrong())?,
            None => all,
        };
        if bits > all { Err(wrong()) } else { Ok(Self { address, bits }) }
    }

    /// Whether `peer` is in it. An IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, peer: IpAddr) -> bool {
        fn number(address: IpAddr) -> (u128, u32) {
            match address.to_canonical() {
                IpAddr::V4(four) => (u128::from(u32::from(four)), 32),
                IpAddr::V6(six) => (u128::from(six), 128),
            }
        }
        let (mine, width) = number(self.address);
        let (theirs, their_width) = number(peer);
        let shift = width.saturating_sub(u32::from(self.bits));
        width == their_width && mine.checked_shr(shift).unwrap_or(0) == theirs.checked_shr(shift).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("15").is_err() && duration("").is_err() && duration("5 weeks").is_err() && duration("-1s").is_err());
        assert!(duration("99999999999999999999d").is_err());
        assert_eq!(duration_text(Duration::from_secs(14 * 86_400)), "14d");
        assert_eq!(duration_text(Duration::from_secs(90)), "90s");
        assert_eq!(duration_text(Duration::ZERO), "0s");
    }

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!(size("4 MiB"), Ok(4 << 20));
        assert_eq!(size("2 MB"), Ok(2_000_000));
        assert!(size("4").is_err() && size("4 mib").is_err() && size("99999999999999 TiB").is_err());
        assert_eq!(size_text(64 << 20), "64 MiB");
    }

    #[test]
    fn rates_are_read_and_written() {
        let rate = Rate::parse("20/min").unwrap();
        assert_eq!((rate.count, rate.per.as_secs(), rate.to_string().as_str()), (20, 60, "20/min"));
        assert!(Rate::parse("0/s").is_err() && Rate::parse("20").is_err() && Rate::parse("1/week").is_err());
    }

    #[test]
    fn networks_contain_their_addresses() {
        let network = Network::parse("10.1.0.0/16").unwrap();
        assert!(network.contains("10.1.2.3".parse().unwrap()) && network.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!network.contains("10.2.0.1".parse().unwrap()) && !network.contains("::1".parse().unwrap()));
        assert!(Network::parse("10.0.0.0/33").is_err());
        assert!(Network::parse("0.0.0.0/0").unwrap().contains("8.8.8.8".parse().unwrap()));
    }
}
