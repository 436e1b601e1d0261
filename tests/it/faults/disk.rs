//! A disk that fills up under the store, and a restore from backup.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::faults::{PATIENCE, all_is_well, ledger, message, post_all, receiver_and_setup};
use crate::support::daemon::Daemon;
use crate::support::receiver::{Answer, Receiver};
use crate::support::{servers, whatsapp};

/// A small file system of its own, gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={mebibytes}m");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(at).output().ok()?;
        output.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

#[tokio::test]
async fn full_disk_turns_senders_away_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), 48) else {
        return servers::missing("the right to mount a tmpfs (root)");
    };
    let (receiver, mut setup) = receiver_and_setup().await;
    setup.data_dir = Some(disk.0.join("data"));
    setup.store = "free_min = \"8 MiB\"".to_owned();
    // Nothing is delivered while the disk fills up: what was taken then must survive it.
    receiver.answer(Answer::status(500));
    let mut daemon = Daemon::start(setup).await;
    post_all(&daemon, 1, 0..5).await;

    // Below `free_min`: admissions stop, the platform is asked to come again.
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; 30 << 20]).unwrap();
    let taken = until_refused(&daemon).await;
    // Not a byte left: still an answer, still alive.
    fill(&disk.0.join("rest"));
    let answer = daemon.post(&message(0, 9)).await.expect("an answer");
    assert_eq!(answer.status(), 503);
    // Decisions go on as far as they can be written; a delivery that cannot be recorded is made again later, not lost.
    receiver.answer(Answer::Take);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The process dies on the full disk.
    daemon.kill();

    std::fs::remove_file(&ballast).unwrap();
    std::fs::remove_file(disk.0.join("rest")).unwrap();
    daemon.launch();
    daemon.ready().await;
    // The platform comes again with what was refused.
    daemon.post_until_taken(&message(0, 9)).await;
    all_is_well(&daemon, &receiver, 5 + taken + 1).await;
    assert_eq!(ledger(&daemon, "&fate=published").await.len(), 5 + taken + 1);
    drop(daemon);
}

/// Posts until the daemon says 503 with `Retry-After`; returns how many it took before.
async fn until_refused(daemon: &Daemon) -> usize {
    let from = Instant::now();
    let text = "a".repeat(3000);
    let mut taken = 0;
    while from.elapsed() < PATIENCE {
        let body = whatsapp::body(&format!("wamid.fill.{taken}"), taken as u64 % 20, &text);
        let answer = daemon.post(&body).await.expect("an answer");
        match answer.status() {
            200 => taken += 1,
            503 => {
                assert!(answer.header("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()), "{:?}", answer.headers);
                return taken;
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    panic!("{taken} taken, never refused");
}

/// Writes until nothing fits any more.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

#[tokio::test]
async fn restored_from_backup_the_same_message_has_the_same_key_and_known_ones_stay_known() {
    let (before, mut setup) = receiver_and_setup().await;
    let mut daemon = Daemon::start(setup.clone()).await;
    post_all(&daemon, 1, 0..5).await;
    all_is_well(&daemon, &before, 5).await;
    let backup = daemon.folder.path().join("backup");
    let (status, _, errors) = daemon.command(&["backup", backup.to_str().unwrap()]);
    assert!(status.success(), "{errors}");
    // These are lost with the machine; the platform still has them.
    post_all(&daemon, 1, 5..8).await;
    all_is_well(&daemon, &before, 8).await;
    daemon.kill();

    let after = Receiver::start().await;
    setup.rest = setup.rest.replace(&before.url(), &after.url());
    let mut restored = Daemon::prepare(setup);
    std::fs::copy(daemon.folder.path().join("instance.key"), restored.folder.path().join("instance.key")).unwrap();
    let (status, _, errors) = restored.command(&["restore", backup.to_str().unwrap()]);
    assert!(status.success(), "{errors}");
    restored.launch();
    restored.ready().await;
    post_all(&restored, 1, 0..8).await;
    after.wait_for("the lost ones", PATIENCE, |book| book.taken().len() >= 3).await;
    restored.settled(PATIENCE).await.identities_hold();
    assert_eq!(ledger(&restored, "&fate=duplicate").await.len(), 5, "the first five are known");

    let keys = |receiver: &Receiver| -> std::collections::BTreeMap<String, String> {
        let book = receiver.book();
        book.taken().iter().map(|it| (it.text("/message/external_id").to_owned(), it.text("/message/key").to_owned())).collect()
    };
    let (old, new) = (keys(&before), keys(&after));
    assert_eq!(new.len(), 3);
    assert!(new.iter().all(|(id, key)| old.get(id) == Some(key)), "{old:#?} {new:#?}");
}
