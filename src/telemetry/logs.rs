//! Logs: one line an event on stderr, text or JSON. Standard output belongs to commands.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A level that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log level `{level}`: {detail}")]
pub struct LevelError {
    level: String,
    detail: String,
}

/// Crates that write credentials, tokens or content below `info`: their level is capped whatever is asked for (I7). `async_imap` and
/// `imap_proto` write LOGIN lines at `trace`, `hyper` and `h2` write header values, `rustls` writes key material's neighbourhood.
const CAPPED: [&str; 9] = ["async_imap", "imap_proto", "hyper", "hyper_util", "h2", "reqwest", "rustls", "tungstenite", "html5ever"];

/// The filter for `level`: `error`, `warn`, `info`, `debug`, `trace`, `off`, or directives such as `info,omnigate::pipeline=debug`.
///
/// # Errors
/// [`LevelError`] if it cannot be read.
pub fn filter(level: &str) -> Result<EnvFilter, LevelError> {
    let wrong = |detail: String| LevelError { level: level.to_owned(), detail };
    // A bare word that is no level would silently be read as the name of a crate.
    let bare = !level.contains(['=', ',']);
    if bare && !["error", "warn", "info", "debug", "trace", "off"].contains(&level) {
        return Err(wrong("expected error, warn, info, debug, trace, off, or a list like `info,omnigate::pipeline=debug`".to_owned()));
    }
    // A more specific directive of the admin for a capped crate is dropped, or it would win over the cap.
    let asked: Vec<&str> =
        level.split(',').filter(|directive| !CAPPED.iter().any(|name| directive.trim_start().starts_with(name))).collect();
    let mut filter = EnvFilter::builder().parse(asked.join(",")).map_err(|problem| wrong(problem.to_string()))?;
    for name in CAPPED {
        let cap = if level == "error" || level == "off" { level } else { "info" };
        if let Ok(directive) = format!("{name}={cap}").parse() {
            filter = filter.add_directive(directive);
        }
    }
    Ok(filter)
}

/// Sets the process's subscriber. Calling it again changes nothing.
///
/// # Errors
/// [`LevelError`] if the level cannot be read.
pub fn init(level: &str, format: LogFormat) -> Result<(), LevelError> {
    let filter = filter(level)?;
    let colour = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    // A second call (a test, an embedding program) keeps the first subscriber.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_that_write_credentials_are_capped() {
        for level in ["trace", "debug,async_imap=trace", "trace,imap_proto::parser=trace"] {
            let text = filter(level).map(|filter| filter.to_string()).unwrap_or_default();
            assert!(text.contains("async_imap=info") && text.contains("imap_proto=info") && !text.contains("async_imap=trace"), "{text}");
            assert!(!text.contains("imap_proto::parser"), "{text}");
        }
    }

    #[test]
    fn an_unknown_level_is_refused() {
        assert!(filter("loud").is_err());
    }
}
