//! Paths below a hook: `/hooks/acme-matrix/_matrix/app/v1/transactions/17`, where a platform adds its own to the address it was given.

use crate::connector::manifest::{SubPath, Webhook};

/// Which of a connector's paths a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Called<'a> {
    /// The hook itself.
    Hook,
    /// A path below it.
    Below(&'a SubPath),
    /// A path that the connector does not know.
    Unknown,
}

/// Which path `target` (path and query as requested) is.
pub(super) fn called<'a>(webhook: &'a Webhook, target: &str) -> Called<'a> {
    let path = target.split('?').next().unwrap_or_default();
    let below = path.strip_prefix("/hooks/").and_then(|rest| rest.split_once('/'));
    match below {
        None => Called::Hook,
        Some((_, rest)) => webhook.paths.iter().find(|known| fits(&known.at, rest)).map_or(Called::Unknown, Called::Below),
    }
}

/// Whether a path is written as `pattern`; `{name}` stands for one part of it.
fn fits(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.trim_start_matches('/').split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if (one.starts_with('{') && !other.is_empty()) || one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_one_part_for_a_name_and_nothing_else() {
        let pattern = "/_matrix/app/v1/transactions/{txn}";
        assert!(fits(pattern, "_matrix/app/v1/transactions/17"));
        for other in [
            "",
            "_matrix/app/v1/transactions/",
            "_matrix/app/v1/transactions/1/2",
            "_matrix/app/v2/transactions/17",
            "/_matrix/app/v1/transactions/1",
        ] {
            assert!(!fits(pattern, other), "{other}");
        }
    }
}
