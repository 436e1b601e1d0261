//! Folders: the files of a connector, embedded in the binary or written by the admin.
//!
//! Files come in as bytes: whoever reads the admin's `connectors` directory (config, app) hands them over. A folder of the
//! admin replaces the embedded one of the same name whole, never file by file: half of one version beside half of another
//! would be a connector that nobody tested.
//!
//! The embedded ones are packed by `build.rs`. What nobody asks for is not looked at: it would be in memory from then on.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::connector::ticket::DESTINATION_FILE;

/// For each folder: its name, where its piece of the pack begins, the length of the list of its files there, and which of
/// `connector.toml` and `destination.toml` are among them.
static INDEX: &str = include_str!(concat!(env!("OUT_DIR"), "/connectors.index"));
/// For each folder: a list of its files with their lengths, then their bytes.
static PACK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/connectors.pack"));
/// The folder of the jq library: it is no connector.
const LIBRARY: &str = "lib";

/// The file that makes a folder a connector.
pub const MANIFEST_FILE: &str = "connector.toml";
/// The mapping.
pub const MAP_FILE: &str = "map.jq";

/// Files of a folder: paths inside of it (forward slashes) and their bytes. What is embedded is read where it lies: most of it are
/// fixtures, which a daemon never looks at.
pub type Files = BTreeMap<String, Cow<'static, [u8]>>;

/// The files of one connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Name of the folder, and of the connector.
    pub name: String,
    /// Where it is, for problems: `connectors/slack`, or the admin's path.
    pub origin: String,
    /// Its files.
    pub files: Files,
}

impl Folder {
    /// The file as text, if it is there and UTF-8.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The path of a file as the admin would open it.
    pub fn place(&self, path: &str) -> String {
        format!("{}/{path}", self.origin)
    }
}

/// A folder of the pack, as the index tells it.
pub struct Packed {
    /// Its name.
    pub name: &'static str,
    /// It is a connector.
    pub connector: bool,
    /// It is a ticket system.
    pub desk: bool,
    at: usize,
    list: usize,
}

impl Packed {
    fn of(line: &'static str) -> Option<Self> {
        let mut fields = line.split('\t');
        let (name, at, list) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let (mut connector, mut desk) = (false, false);
        for file in fields {
            connector |= file == MANIFEST_FILE;
            desk |= file == DESTINATION_FILE;
        }
        Some(Self { name, connector, desk, at, list })
    }

    /// Its files.
    pub fn folder(&self) -> Folder {
        Folder { name: self.name.to_owned(), origin: format!("connectors/{}", self.name), files: self.files().unwrap_or_default() }
    }

    fn files(&self) -> Option<Files> {
        let mut at = self.at + self.list;
        let list = std::str::from_utf8(PACK.get(self.at..at)?).ok()?;
        let mut files = Files::new();
        for line in list.lines() {
            let (path, length) = line.split_once('\t')?;
            let end = at + length.parse::<usize>().ok()?;
            files.insert(path.to_owned(), Cow::Borrowed(PACK.get(at..end)?));
            at = end;
        }
        Some(files)
    }
}

/// The embedded folders that are a connector, a ticket system or both, by name.
pub fn packed() -> impl Iterator<Item = Packed> {
    INDEX.lines().filter_map(Packed::of).filter(|packed| packed.connector || packed.desk)
}

/// The connectors embedded in the binary, by name.
pub fn embedded() -> BTreeMap<String, Folder> {
    packed().filter(|packed| packed.connector).map(|packed| (packed.name.to_owned(), packed.folder())).collect()
}

/// All folders embedded in the binary that are a connector, a ticket system or both. `lib` is neither.
pub fn every() -> BTreeMap<String, Folder> {
    packed().map(|packed| (packed.name.to_owned(), packed.folder())).collect()
}

/// The jq library that maps may be tried with at a desk.
pub fn desk_library() -> &'static str {
    let library = INDEX.lines().filter_map(Packed::of).find(|packed| packed.name == LIBRARY);
    let file = library.and_then(|library| library.files()?.remove("omnigate.jq"));
    match file {
        Some(Cow::Borrowed(bytes)) => std::str::from_utf8(bytes).unwrap_or_default(),
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_pack_holds_what_the_folders_hold() {
        let all = every();
        assert!(all["slack"].files.keys().filter(|path| path.starts_with("fixtures/")).count() > 3, "folders inside of folders");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors");
        let on_disk = std::fs::read_dir(&root).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
        assert_eq!(all.len() + 1, on_disk, "all but the library");
        for (name, folder) in &all {
            for (path, bytes) in &folder.files {
                assert_eq!(std::fs::read(root.join(name).join(path)).unwrap(), **bytes, "{name}/{path}");
            }
            let manifest = root.join(name).join(MANIFEST_FILE).is_file();
            assert_eq!(folder.files.contains_key(MANIFEST_FILE), manifest, "{name}");
        }
        assert_eq!(desk_library(), std::fs::read_to_string(root.join("lib/omnigate.jq")).unwrap());
    }
}
