//! The instance key and the admin token: made at the first run, mode 0600, never overwritten.
//!
//! What must stay true: a key that exists is never replaced, whatever goes wrong while reading it; two daemons that start at once agree on
//! one; a file is there whole or not at all (temporary file, fsync, link, fsync of the folder).

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine;
use secrecy::SecretString;

use crate::config::secrets::error_text;
use crate::config::settings::SecretPlace;
use crate::config::source::Source;
use crate::logic::digest::INSTANCE_KEY_BYTES;
use crate::ports::clock::Random;

/// Bytes of randomness in an admin token.
const TOKEN_BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is not there and was not to be made.
    #[error("{what}: {place} is missing")]
    Missing {
        /// `instance key` or `admin token`.
        what: &'static str,
        /// Variable or file.
        place: String,
    },
    /// It is there and cannot be used.
    #[error("{what}: {place}: {detail}")]
    Unusable {
        /// `instance key` or `admin token`.
        what: &'static str,
        /// Variable or file.
        place: String,
        /// Why.
        detail: String,
    },
}

/// The instance key; several while rotating.
pub struct InstanceKey {
    keys: Vec<[u8; INSTANCE_KEY_BYTES]>,
}

impl std::fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InstanceKey({} keys)", self.keys.len())
    }
}

impl InstanceKey {
    /// A key for tests and demos.
    pub fn of(key: [u8; INSTANCE_KEY_BYTES]) -> Self {
        Self { keys: vec![key] }
    }

    /// The key that is used for everything new.
    pub fn current(&self) -> &[u8; INSTANCE_KEY_BYTES] {
        const NONE: &[u8; INSTANCE_KEY_BYTES] = &[0; INSTANCE_KEY_BYTES];
        // Both constructors give at least one key.
        self.keys.first().unwrap_or(NONE)
    }

    /// All keys, the current one first: what was made with an older one is still recognised.
    pub fn all(&self) -> &[[u8; INSTANCE_KEY_BYTES]] {
        &self.keys
    }

    /// Names the current key without telling it: for backups.
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        let digest = Sha256::new().chain_update(b"omnigate key fingerprint v1").chain_update(self.current()).finalize();
        hex(digest.get(..8).unwrap_or_default())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let keys: Result<Vec<_>, String> = lines(text).map(parse_key).collect();
        let keys = keys?;
        if keys.is_empty() { Err("there is no key in it".to_owned()) } else { Ok(Self { keys }) }
    }
}

/// A secret, and whether it was made just now.
#[derive(Debug)]
pub struct Made<T> {
    /// The secret.
    pub secret: T,
    /// The file that was made: tell the operator to back it up.
    pub new_file: Option<PathBuf>,
}

/// Reads the instance key; makes it with `random` if its file is missing. Without `random` (a store exists already: its key must
/// not be replaced by another) a missing file is an error.
pub fn instance_key(place: &SecretPlace, source: &dyn Source, random: Option<&dyn Random>) -> Result<Made<InstanceKey>, KeyError> {
    let head = "# The instance key of omnigate. Back it up apart from the store; keep it secret.\n\
                # While rotating: one key a line, the current one first.\n";
    let (text, new_file) = read_or_make("instance key", place, source, random, head)?;
    match InstanceKey::parse(&text) {
        Ok(secret) => Ok(Made { secret, new_file }),
        Err(detail) => Err(KeyError::Unusable { what: "instance key", place: place_text(place), detail }),
    }
}

/// Reads the bearer token of the admin API; makes it with `random` if its file is missing.
pub fn admin_token(place: &SecretPlace, source: &dyn Source, random: Option<&dyn Random>) -> Result<Made<SecretString>, KeyError> {
    let what = "admin token";
    let (text, new_file) = read_or_make(what, place, source, random, "# Bearer token of omnigate's admin API.\n")?;
    let token = lines(&text).next().unwrap_or_default().to_owned();
    let usable = token.len() >= 16 && token.bytes().all(|byte| byte.is_ascii_graphic());
    if usable {
        Ok(Made { secret: SecretString::from(token), new_file })
    } else {
        let detail = "a token has at least 16 visible ASCII characters".to_owned();
        Err(KeyError::Unusable { what, place: place_text(place), detail })
    }
}

fn read_or_make(
    what: &'static str,
    place: &SecretPlace,
    source: &dyn Source,
    random: Option<&dyn Random>,
    head: &str,
) -> Result<(String, Option<PathBuf>), KeyError> {
    let shown = place_text(place);
    let unusable = |error: &io::Error| KeyError::Unusable { what, place: shown.clone(), detail: error_text(error) };
    let path = match place {
        SecretPlace::Env(variable) => {
            let value = source.env(variable).map(|text| (text, None));
            return value.ok_or(KeyError::Missing { what, place: shown });
        }
        SecretPlace::File(path) => path,
    };
    let mut new_file = None;
    let bytes = match (source.read(path), random) {
        (Err(error), Some(random)) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0u8; TOKEN_BYTES];
            random.fill(&mut bytes);
            if write_new(path, &format!("{head}{}\n", hex(&bytes))).map_err(|error| unusable(&error))? {
                new_file = Some(path.clone());
            }
            // Whoever was first has written the key that counts.
            source.read(path).map_err(|error| unusable(&error))?
        }
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => return Err(KeyError::Missing { what, place: shown }),
        (read, _) => read.map_err(|error| unusable(&error))?,
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok((text, new_file)),
        Err(_) => Err(KeyError::Unusable { what, place: shown, detail: "not UTF-8".to_owned() }),
    }
}

/// Writes a file that must not exist; false if it does. On disk when it returns.
fn write_new(path: &Path, text: &str) -> io::Result<bool> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The folder of the key is usually the data folder, made here first: it is for this user alone.
    let mut maker = std::fs::DirBuilder::new();
    maker.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut maker, 0o700);
    maker.create(folder)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("secret");
    let temporary = folder.join(format!(".{name}.{}.{:?}", std::process::id(), std::thread::current().id()));
    let written = write_private(&temporary, text);
    // A link, unlike a rename, fails if another process was first.
    let linked = written.and_then(|()| match std::fs::hard_link(&temporary, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // Some network and FUSE file systems have no links.
        Err(_) if !path.exists() => std::fs::rename(&temporary, path).map(|()| true),
        Err(_) => Ok(false),
    });
    let _ = std::fs::remove_file(&temporary);
    let made = linked?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(made)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn place_text(place: &SecretPlace) -> String {
    match place {
        SecretPlace::Env(variable) => format!("environment variable {variable}"),
        SecretPlace::File(path) => path.display().to_string(),
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// 64 hex digits, or 32 bytes in base64.
fn parse_key(line: &str) -> Result<[u8; INSTANCE_KEY_BYTES], String> {
    let wrong = || format!("a key is {INSTANCE_KEY_BYTES} bytes as hex digits or base64, one a line");
    let bytes = if line.len() == INSTANCE_KEY_BYTES * 2 && line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let digit = |place: usize| line.get(place..place + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        (0..INSTANCE_KEY_BYTES).map(|place| digit(place * 2)).collect::<Option<Vec<u8>>>().ok_or_else(wrong)?
    } else {
        base64::engine::general_purpose::STANDARD.decode(line).map_err(|_| wrong())?
    };
    bytes.try_into().map_err(|_| wrong())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::config::source::{Disk, Memory};

    struct Counting(std::sync::atomic::AtomicU8);
    impl Random for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    #[test]
    fn key_is_made_once_private_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let place = SecretPlace::File(folder.path().join("data/instance.key"));
        let random = Counting(7.into());
        let first = instance_key(&place, &Disk, Some(&random)).unwrap();
        let second = instance_key(&place, &Disk, Some(&random)).unwrap();
        assert_eq!(first.secret.current(), &[7; 32]);
        assert_eq!(second.secret.current(), &[7; 32]);
        assert!(first.new_file.is_some() && second.new_file.is_none());
        assert_eq!(std::fs::read_dir(folder.path().join("data")).unwrap().count(), 1, "no temporary file stays");
        #[cfg(unix)]
        assert!(!Disk.open_to_others(&folder.path().join("data/instance.key")));
    }

    #[test]
    fn key_of_an_existing_store_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let place = SecretPlace::File(folder.path().join("instance.key"));
        assert!(matches!(instance_key(&place, &Disk, None), Err(KeyError::Missing { .. })));
        std::fs::write(folder.path().join("instance.key"), "").unwrap();
        let random = Counting(1.into());
        assert!(matches!(instance_key(&place, &Disk, Some(&random)), Err(KeyError::Unusable { .. })));
        assert_eq!(std::fs::read(folder.path().join("instance.key")).unwrap(), b"");
    }

    #[test]
    fn two_that_start_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let place = SecretPlace::File(folder.path().join("instance.key"));
        let random = Counting(1.into());
        let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let start = || *instance_key(&place, &Disk, Some(&random)).unwrap().secret.current();
            let running: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| key == &keys[0]));
    }

    #[test]
    fn several_keys_while_rotating() {
        let text = format!("# comment\n{}\n{}\n", "ab".repeat(32), base64::engine::general_purpose::STANDARD.encode([1u8; 32]));
        let source = Memory::default().var("KEY", &text);
        let key = instance_key(&SecretPlace::Env("KEY".into()), &source, None).unwrap().secret;
        assert_eq!((key.current(), key.all().len()), (&[0xab; 32], 2));
        assert!(!format!("{key:?}").contains("ab"));
    }

    #[test]
    fn short_key_and_token_are_refused() {
        let source = Memory::default().var("KEY", "abc").var("TOKEN", "short");
        assert!(instance_key(&SecretPlace::Env("KEY".into()), &source, None).is_err());
        assert!(admin_token(&SecretPlace::Env("TOKEN".into()), &source, None).is_err());
    }
}
