//! Folders: the files of a connector, embedded in the binary or written by the admin.
//!
//! Files come in as bytes: whoever reads the admin's `connectors` directory (config, app) hands them over. A folder of the
//! admin replaces the embedded one of the same name whole, never file by file: half of one version beside half of another
//! would be a connector that nobody tested.

use std::borrow::Cow;
use std::collections::BTreeMap;

use include_dir::{Dir, include_dir};

use crate::connector::ticket::DESTINATION_FILE;

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/connectors");

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

/// The connectors embedded in the binary, by name.
pub fn embedded() -> BTreeMap<String, Folder> {
    let mut all = every();
    all.retain(|_, folder| folder.files.contains_key(MANIFEST_FILE));
    all
}

/// All folders embedded in the binary that are a connector, a ticket system or both. `lib` is neither.
pub fn every() -> BTreeMap<String, Folder> {
    let mut all = BTreeMap::new();
    for dir in EMBEDDED.dirs() {
        let name = dir.path().to_string_lossy().into_owned();
        let mut files = BTreeMap::new();
        collect(dir, &format!("{name}/"), &mut files);
        if files.contains_key(MANIFEST_FILE) || files.contains_key(DESTINATION_FILE) {
            all.insert(name.clone(), Folder { origin: format!("connectors/{name}"), name, files });
        }
    }
    all
}

/// The jq library that maps may be tried with at a desk.
pub fn desk_library() -> &'static str {
    EMBEDDED.get_file("lib/omnigate.jq").and_then(include_dir::File::contents_utf8).unwrap_or_default()
}

/// The embedded folders with the admin's in place of those of the same name.
pub fn merged(admin: impl IntoIterator<Item = Folder>) -> BTreeMap<String, Folder> {
    let mut all = every();
    all.extend(admin.into_iter().map(|folder| (folder.name.clone(), folder)));
    all
}

fn collect(dir: &'static Dir<'_>, prefix: &str, files: &mut Files) {
    for file in dir.files() {
        let path = file.path().to_string_lossy().replace('\\', "/");
        files.insert(path.strip_prefix(prefix).unwrap_or(&path).to_owned(), Cow::Borrowed(file.contents()));
    }
    for inner in dir.dirs() {
        collect(inner, prefix, files);
    }
}
