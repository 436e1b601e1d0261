//! Programs that a test needs and a machine may lack. `tests/run.sh` installs them all and says so; a plain `cargo test` on a
//! machine without them passes, loudly.

/// Says that a test cannot run for want of `what`. Fails it where everything should be installed.
#[track_caller]
pub fn missing(what: &str) {
    let required = std::env::var("OMNIGATE_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
    assert!(!required, "needs {what}, and OMNIGATE_REQUIRE_SERVERS=1 says that everything is there");
    eprintln!("SKIPPED: needs {what}; tests/run.sh installs it");
}
