//! From `omnigate run` to ready with 100 channels, and `omnigate check` of the same configuration.
//!
//! `cargo bench --bench start -- --runs 9`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::time::Instant;

use support::daemon::{Daemon, Setup};
use support::{Goal, Spread, argument, heading, row};

fn main() {
    support::block_on(async {
        let (runs, channels) = (argument("--runs", 9), argument("--channels", 100));
        heading(&format!("start: {channels} channels, {runs} runs"));
        let mut setup = Setup::whatsapp_to("http://127.0.0.1:9/");
        let whatsapp = setup.channels["shop"].clone();
        for number in 1..channels {
            let account = whatsapp.replace("PN1", &format!("PN1{number:03}"));
            setup.channels.insert(format!("shop{number:03}"), account);
        }
        let mut daemon = Daemon::prepare(setup);
        let (mut ready, mut check) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let from = Instant::now();
            daemon.launch();
            daemon.ready().await;
            ready.push(from.elapsed().as_secs_f64() * 1e3);
            daemon.kill();
            let from = Instant::now();
            let (status, out, errors) = daemon.command(&["check"]);
            check.push(from.elapsed().as_secs_f64() * 1e3);
            assert!(status.success(), "{out}{errors}");
        }
        row("start to ready", Spread::of(ready), "ms", Some((Goal::AtMost, 300.0)));
        row("check", Spread::of(check), "ms", Some((Goal::AtMost, 100.0)));
    });
}
