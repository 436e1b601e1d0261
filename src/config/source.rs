//! Source: the only way by which configuration reaches files and environment, so that checking is pure and testable.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Largest file that is read as configuration: a mistaken path must not fill the memory (I6).
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Files and environment.
pub trait Source: Send + Sync {
    /// The content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Paths of the files in a folder, sorted.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Paths of the folders in a folder, sorted.
    fn folders(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether others than the owner may read the file.
    fn open_to_others(&self, path: &Path) -> bool;

    /// An environment variable; `None` if unset or not UTF-8.
    fn env(&self, name: &str) -> Option<String>;
}

/// The real files and environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Source for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if read as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 MiB"));
        }
        Ok(bytes)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        entries(folder, Path::is_file)
    }

    fn folders(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        entries(folder, Path::is_dir)
    }

    fn open_to_others(&self, path: &Path) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::metadata(path).is_ok_and(|facts| facts.permissions().mode() & 0o077 != 0)
        }
        #[cfg(not(unix))]
        {
            let _ = path;
            false
        }
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

fn entries(folder: &Path, wanted: fn(&Path) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if wanted(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The real files, with every variable set: where what is read needs no secrets, or is an example.
#[derive(Debug, Clone, Copy, Default)]
pub struct EveryVariableSet;

impl Source for EveryVariableSet {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Disk.read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Disk.list(folder)
    }

    fn folders(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Disk.folders(folder)
    }

    fn open_to_others(&self, _: &Path) -> bool {
        false
    }

    fn env(&self, name: &str) -> Option<String> {
        // The stand-in has the form of a webhook secret, the only form that is checked while reading.
        Disk.env(name).or_else(|| Some("whsec_bm90LXNldC1hbmQtbm90LW5lZWRlZC1oZXJl".to_owned()))
    }
}

/// Files and environment in memory: for tests and for set-ups that are put together in the process.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Contents by path.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Environment.
    pub env: BTreeMap<String, String>,
}

impl Memory {
    /// With one more file.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), content.into());
        self
    }

    /// With one more variable.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl Source for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let found: Vec<PathBuf> = self.files.keys().filter(|path| path.parent() == Some(folder)).cloned().collect();
        if found.is_empty() { Err(io::Error::from(io::ErrorKind::NotFound)) } else { Ok(found) }
    }

    fn folders(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let below = self.files.keys().filter_map(|path| path.strip_prefix(folder).ok().filter(|rest| rest.components().count() > 1));
        let mut found: Vec<PathBuf> = below.filter_map(|rest| rest.iter().next().map(|first| folder.join(first))).collect();
        found.dedup();
        Ok(found)
    }

    fn open_to_others(&self, _: &Path) -> bool {
        false
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }
}
