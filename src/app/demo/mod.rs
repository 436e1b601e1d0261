//! Demo: the whole gateway in a temporary folder, with a small desk behind it and recorded traffic in front of it.
//!
//! Nothing is faked inside: the configuration is written as files and loaded as any other, webhooks go through the public listener,
//! mail through the IMAP engine, events through the store and the webhook destination.

mod desk;
mod mailbox;
mod traffic;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::app::gateway::{Gateway, StartError};
use crate::app::run;
use crate::config::load;
use crate::config::source::Disk;
use crate::ports::clock::Random;

/// Events the story ends with: 2 of Slack, 2 of WhatsApp, Telegram, the form, 2 mails.
const EVENTS_EXPECTED: u64 = 8;
/// Longest wait for them.
const STORY_TIME_MAX: Duration = Duration::from_secs(30);
/// Pause between two scenes, so that a person can follow.
const SCENE_PAUSE: Duration = Duration::from_millis(300);

/// How to play the demo.
#[derive(Debug, Clone, Copy, Default)]
pub struct DemoOptions {
    /// Go on after the story, until Ctrl-C.
    pub stay: bool,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DemoError(String);

impl From<StartError> for DemoError {
    fn from(error: StartError) -> Self {
        Self(error.to_string())
    }
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> DemoError {
    move |error| DemoError(format!("{what}: {error}"))
}

/// Plays the demo to its end, or until Ctrl-C.
///
/// # Errors
/// [`DemoError`] if something did not start, or not every event arrived.
pub async fn demo(options: DemoOptions) -> Result<(), DemoError> {
    let mut suffix = [0u8; 8];
    crate::app::system::SystemRandom::default().fill(&mut suffix);
    let folder = std::env::temp_dir().join(format!("omnigate-demo-{:016x}", u64::from_be_bytes(suffix)));
    std::fs::create_dir_all(folder.join("channels")).map_err(failed("demo folder"))?;
    let played = tokio::select! {
        played = play(&folder, options) => played,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    // The folder held nothing but the demo.
    let _ = std::fs::remove_dir_all(&folder);
    played
}

async fn play(folder: &Path, options: DemoOptions) -> Result<(), DemoError> {
    let secret = "whsec_ZGVtby1vbmx5LWRlbW8tb25seS1kZW1vLW9ubHkh";
    let (desk, desk_at) = desk::Desk::start(secret).await.map_err(failed("desk"))?;
    let mailbox = mailbox::Mailbox::start().await.map_err(failed("mailbox"))?;
    write_config(folder, secret, &format!("http://{desk_at}/events"), mailbox.address.port()).map_err(failed("demo configuration"))?;
    let loaded = load::load(&folder.join("omnigate.toml"), &Disk).map_err(|problems| DemoError(problems.to_string()))?;
    let broken = loaded.channel_problems();
    if !broken.is_empty() {
        return Err(DemoError(crate::connector::problem::render(&broken)));
    }
    let (key, token) = run::keys(&loaded).map_err(|error| DemoError(error.to_string()))?;
    let gateway = Gateway::start(loaded, key, token).await?;
    println!("omnigate demo: everything runs in {}", folder.display());
    println!("  hooks    http://{}/hooks/…", gateway.public);
    println!(
        "  metrics  http://{}/metrics   health /healthz /readyz   API /v1 (token in {})",
        gateway.private,
        folder.join("data/admin.token").display()
    );
    println!("  desk     http://{desk_at}/events  (verifies signatures, fails one delivery on purpose)\n");
    let told = tell(&gateway, &desk, &mailbox).await;
    if told.is_ok() {
        summary(&gateway).await?;
        if options.stay {
            println!("\nstill running: look at /metrics and the API; Ctrl-C ends it");
            std::future::pending::<()>().await;
        }
    }
    gateway.stop().await;
    told?;
    println!("\nnext: README.md shows how to point a channel at it; `omnigate run --config config/omnigate.toml` starts the daemon");
    Ok(())
}

/// Plays the story and waits until the desk has it all.
async fn tell(gateway: &Arc<Gateway>, desk: &Arc<desk::Desk>, mailbox: &mailbox::Mailbox) -> Result<(), DemoError> {
    let client = reqwest::Client::new();
    let clock = &gateway.parts.clock;
    // The first run of a mailbox starts from now: what is told is what arrives afterwards.
    wait_until(gateway, STORY_TIME_MAX, || running(gateway, "support-mail")).await?;
    for scene in traffic::story(clock.now().seconds()) {
        println!("▸ {}", scene.title);
        let mut request = client.post(format!("http://{}/hooks/{}", gateway.public, scene.hook)).body(scene.body);
        for (name, value) in scene.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| DemoError(format!("{}: {error}", scene.title)))?;
        println!("  gateway answers {}", answer.status().as_u16());
        clock.sleep(SCENE_PAUSE).await;
    }
    for mail in traffic::mails() {
        println!("▸ Mail: one arrives in the mailbox (IMAP IDLE)");
        mailbox.deliver(&mail);
        clock.sleep(SCENE_PAUSE * 2).await;
    }
    wait_until(gateway, STORY_TIME_MAX, || desk.taken() >= EVENTS_EXPECTED).await
}

fn running(gateway: &Gateway, channel: &str) -> bool {
    gateway.parts.board.read().get(channel).is_some_and(|status| status.state == "running")
}

async fn wait_until(gateway: &Gateway, at_most: Duration, done: impl Fn() -> bool) -> Result<(), DemoError> {
    let clock = &gateway.parts.clock;
    let end = clock.monotonic() + at_most;
    while !done() {
        if clock.monotonic() >= end {
            return Err(DemoError("the story did not come to its end in time".to_owned()));
        }
        clock.sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// What the ledger says.
async fn summary(gateway: &Gateway) -> Result<(), DemoError> {
    let totals = gateway.parts.store.totals().await.map_err(|error| DemoError(error.to_string()))?;
    let received: u64 = totals.received.values().sum();
    let fate = |word: &str| totals.fates.values().filter_map(|fates| fates.get(word)).sum::<u64>();
    let state = |word: &str| totals.deliveries.values().filter_map(|states| states.get(word)).sum::<u64>();
    println!("\nthe ledger says");
    println!(
        "  received {received} = published {} + duplicate {} + ignored {} + quarantined {} + pending {}",
        fate("published"),
        fate("duplicate"),
        fate("ignored"),
        fate("quarantined"),
        fate("pending")
    );
    println!(
        "  due {} = delivered {} + waiting {} + dead {}   (one delivery was refused once and made good)",
        totals.due.values().sum::<u64>(),
        state("delivered"),
        state("waiting"),
        state("dead")
    );
    Ok(())
}

fn write_config(folder: &Path, secret: &str, desk: &str, imap_port: u16) -> std::io::Result<()> {
    let main = format!(
        "[instance]\ndata_dir = \"data\"\n\n[server]\npublic = \"127.0.0.1:0\"\nprivate = \"127.0.0.1:0\"\n\n\
         [delivery]\nschedule = [\"0s\", \"1s\", \"2s\", \"5s\"]\n\n\
         [destination.desk]\nkind = \"webhook\"\nurl = \"{desk}\"\nsecret = {{ file = \"desk.secret\" }}\n\n\
         [[route]]\nto = [\"desk\"]\n"
    );
    std::fs::write(folder.join("omnigate.toml"), main)?;
    secret_file(folder, "desk.secret", secret)?;
    secret_file(folder, "slack.secret", traffic::SLACK_SECRET)?;
    secret_file(folder, "whatsapp.secret", traffic::WHATSAPP_SECRET)?;
    secret_file(folder, "telegram.secret", traffic::TELEGRAM_SECRET)?;
    secret_file(folder, "verify.secret", "demo-verify-token")?;
    secret_file(folder, "mail.secret", "demo")?;
    let channel = |name: &str, text: String| std::fs::write(folder.join("channels").join(name), text);
    channel("team-slack.toml", secrets("slack", &[("signing_secret", "slack.secret")]))?;
    channel("shop-whatsapp.toml", secrets("whatsapp", &[("app_secret", "whatsapp.secret"), ("verify_token", "verify.secret")]))?;
    channel("shop-telegram.toml", secrets("telegram", &[("secret_token", "telegram.secret")]))?;
    channel("contact-form.toml", "connector = \"webform\"\nverify = \"none\"\n".to_owned())?;
    let imap = format!(
        "{}\n[imap]\nhost = \"127.0.0.1\"\nport = {imap_port}\ntls = \"none\"\nuser = \"support@acme.example\"\n",
        secrets("imap", &[("password", "mail.secret")])
    );
    channel("support-mail.toml", imap)
}

fn secrets(connector: &str, secrets: &[(&str, &str)]) -> String {
    use std::fmt::Write;
    let mut text = format!("connector = \"{connector}\"\n\n[secrets]\n");
    for (name, file) in secrets {
        // Paths are relative to the file that names them.
        let _ = writeln!(text, "{name} = {{ file = \"../{file}\" }}");
    }
    text
}

fn secret_file(folder: &Path, name: &str, secret: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(folder.join(name))?;
    writeln!(file, "{secret}")
}
