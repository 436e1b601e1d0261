//! SIGKILL keeps the page cache, so a kill test cannot see a missing fsync. This one watches the system calls of the real
//! binary: between the request and its 2xx, everything written to the store's files must be synced (I2, mode `power`).
//! The negative control runs the same check in mode `process`, which syncs later, and must fail it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::daemon::{Daemon, Setup};
use crate::support::receiver::{Answer, Receiver};
use crate::support::servers;
use crate::support::whatsapp;

/// How many requests are watched. One could be lucky and share a sync with something else.
const REQUESTS: usize = 8;

mod real_strace {
    use super::*;

    #[tokio::test]
    async fn every_write_to_the_store_is_synced_before_the_2xx_leaves() {
        let Some(verdicts) = watch("power").await else { return };
        assert_eq!(verdicts, vec![Ok(()); REQUESTS]);
    }

    #[tokio::test]
    async fn the_same_check_fails_in_mode_process() {
        let Some(verdicts) = watch("process").await else { return };
        let unsynced = verdicts.iter().filter(|verdict| verdict.is_err()).count();
        // A background sync may by chance come just in time for one or two.
        assert!(unsynced >= REQUESTS / 2, "the check does not see a missing sync: {verdicts:?}");
    }
}

/// Runs the daemon under strace, posts messages one by one, and judges every request; `None` if tracing cannot be done here.
async fn watch(durability: &str) -> Option<Vec<Result<(), String>>> {
    if !can_trace() {
        servers::missing("strace (installed, and allowed to trace)");
        return None;
    }
    let receiver = Receiver::start().await;
    // Deliveries that never end write no decisions: what is written between request and answer is the admission.
    receiver.answer(Answer::Hang);
    let mut setup = Setup::whatsapp_to(&receiver.url());
    setup.store = format!("durability = \"{durability}\"");
    let mut daemon = Daemon::prepare(setup);
    let trace = daemon.folder.path().join("trace");
    let calls = "trace=openat,read,readv,recvfrom,recvmsg,write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync,sync_file_range";
    let words = ["strace", "--follow-forks", "--output", trace.to_str().unwrap(), "-yy", "-s", "48", "-e", calls];
    daemon.setup.under = words.map(str::to_owned).to_vec();
    daemon.launch();
    daemon.ready().await;
    for number in 0..REQUESTS {
        let body = whatsapp::body(&format!("wamid.traced.{number}"), number as u64, "is it durable?");
        let answer = daemon.post(&body).await.expect("the daemon answers");
        assert!(answer.success(), "{}", answer.start);
        // Outlasts what the previous request left to background work.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    daemon.signal_child("TERM");
    daemon.ended(Duration::from_secs(40)).await;
    let text = std::fs::read_to_string(&trace).unwrap();
    let verdicts = judge(&text, &daemon.data_dir());
    assert_eq!(verdicts.len(), REQUESTS, "the trace does not show {REQUESTS} requests and their answers");
    Some(verdicts)
}

fn can_trace() -> bool {
    Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success())
}

/// Walks the trace; one verdict per answered hook request. A call that strace shows in two halves (`unfinished`, `resumed`)
/// counts as begun at the first and done at the second.
fn judge(trace: &str, data: &Path) -> Vec<Result<(), String>> {
    let data = data.to_str().unwrap();
    let mut verdicts = Vec::new();
    // Files of the store with writes that no sync covers, and the syncs under way: thread → (file, writes it covers).
    let mut unsynced: BTreeMap<String, u64> = BTreeMap::new();
    let mut syncing: BTreeMap<String, (String, u64)> = BTreeMap::new();
    let mut written = 0;
    let mut open_request = false;
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let name = call.split('(').next().unwrap_or_default();
        let file = call.split(['<', '>']).nth(1).filter(|path| path.starts_with(data)).map(str::to_owned);
        match name {
            "read" | "readv" | "recvfrom" | "recvmsg" if call.contains("POST /hooks/") => {
                open_request = true;
                written = 0;
                unsynced.clear();
            }
            // The second half of a receive that began before the request arrived.
            _ if call.starts_with("<... re") && call.contains("POST /hooks/") => {
                open_request = true;
                written = 0;
                unsynced.clear();
            }
            "pwrite64" | "pwritev" | "write" | "writev" if file.is_some() => {
                *unsynced.entry(file.unwrap_or_default()).or_default() += 1;
                written += 1;
            }
            "fsync" | "fdatasync" => {
                let Some(file) = file else { continue };
                let covered = unsynced.get(&file).copied().unwrap_or(0);
                if call.contains("unfinished") {
                    syncing.insert(thread.to_owned(), (file, covered));
                } else if call.ends_with("= 0") {
                    cover(&mut unsynced, &file, covered);
                }
            }
            _ if call.starts_with("<... fsync resumed>") || call.starts_with("<... fdatasync resumed>") => {
                if let Some((file, covered)) = syncing.remove(thread).filter(|_| call.ends_with("= 0")) {
                    cover(&mut unsynced, &file, covered);
                }
            }
            "write" | "writev" | "sendto" | "sendmsg" if open_request && call.contains("HTTP/1.1 200") => {
                open_request = false;
                verdicts.push(match unsynced.iter().find(|(_, count)| **count > 0) {
                    _ if written == 0 => Err("nothing was written before the 2xx".to_owned()),
                    Some((file, count)) => Err(format!("{count} writes to {} not synced", file.rsplit('/').next().unwrap_or_default())),
                    None => Ok(()),
                });
            }
            _ => {}
        }
    }
    verdicts
}

/// A sync covers the writes that were there when it began.
fn cover(unsynced: &mut BTreeMap<String, u64>, file: &str, covered: u64) {
    if let Some(count) = unsynced.get_mut(file) {
        *count = count.saturating_sub(covered);
    }
}

#[test]
fn a_sync_that_returns_after_the_answer_does_not_count() {
    let trace = |last: [&str; 2]| {
        let lines = [
            r#"7 recvfrom(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "POST /hooks/shop HTTP/1.1"..., 8192, 0, NULL, NULL) = 500"#,
            r#"8 pwrite64(5</d/omnigate.db-wal>, "x", 1, 0) = 1"#,
            r#"8 fdatasync(5</d/omnigate.db-wal> <unfinished ...>"#,
            last[0],
            last[1],
        ];
        judge(&lines.join("\n"), Path::new("/d"))
    };
    let (returned, answered) =
        ("8 <... fdatasync resumed>) = 0", r#"7 writev(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{"HTTP/1.1 200 OK"}], 1) = 90"#);
    assert_eq!(trace([returned, answered]), vec![Ok(())]);
    assert_eq!(trace([answered, returned]), vec![Err("1 writes to omnigate.db-wal not synced".to_owned())]);
}
