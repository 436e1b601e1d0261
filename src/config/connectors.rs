//! Connectors as configured: the embedded folders, and the admin's in place of those of the same name; loaded when first asked for.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::config::settings::{ChannelFile, Config, Mapping};
use crate::config::source::Source;
use crate::connector::folder::{self, Files, Folder, MANIFEST_FILE};
use crate::connector::jq::Limits;
use crate::connector::load::Connector;
use crate::connector::problem::{Problem, did_you_mean};
use crate::connector::ticket::{DESTINATION_FILE, TicketSystem};

/// Deepest folder inside a connector's folder (`fixtures/<case>/file` is 2).
const FOLDER_DEPTH_MAX: usize = 4;
/// Most files of one connector.
const FOLDER_FILES_MAX: usize = 5_000;

/// All connectors that channels may use.
pub struct Connectors {
    names: BTreeSet<String>,
    desks: BTreeSet<String>,
    admins: BTreeMap<String, Folder>,
    limits: Limits,
    loaded: BTreeMap<String, Result<Arc<Connector>, Vec<Problem>>>,
    backs: BTreeMap<String, Result<Arc<Connector>, Vec<Problem>>>,
}

impl Connectors {
    /// Those of a configuration.
    pub fn of(config: &Config, source: &dyn Source) -> Self {
        Self::read(&config.connectors_dir, limits(&config.mapping), source)
    }

    /// Those embedded in the binary.
    pub fn embedded() -> Self {
        Self::among(BTreeMap::new(), Limits::default())
    }

    /// The embedded ones and those below `dir`, which may be missing.
    pub fn read(dir: &Path, limits: Limits, source: &dyn Source) -> Self {
        let admins = source.folders(dir).unwrap_or_default().into_iter().filter_map(|path| {
            let folder = read_folder(&path, source);
            folder.filter(|folder| folder.files.contains_key(MANIFEST_FILE) || folder.files.contains_key(DESTINATION_FILE))
        });
        Self::among(admins.map(|folder| (folder.name.clone(), folder)).collect(), limits)
    }

    fn among(admins: BTreeMap<String, Folder>, limits: Limits) -> Self {
        let (mut names, mut desks) = (BTreeSet::new(), BTreeSet::new());
        for packed in folder::packed().filter(|packed| !admins.contains_key(packed.name)) {
            names.extend(packed.connector.then(|| packed.name.to_owned()));
            desks.extend(packed.desk.then(|| packed.name.to_owned()));
        }
        for (name, folder) in &admins {
            names.extend(folder.files.contains_key(MANIFEST_FILE).then(|| name.clone()));
            desks.extend(folder.files.contains_key(DESTINATION_FILE).then(|| name.clone()));
        }
        Self { names, desks, admins, limits, loaded: BTreeMap::new(), backs: BTreeMap::new() }
    }

    /// Names of the ticket systems, sorted.
    pub fn desks(&self) -> impl Iterator<Item = &str> {
        self.desks.iter().map(String::as_str)
    }

    /// The files of a connector, a ticket system or both.
    pub fn any_folder(&self, name: &str) -> Option<Cow<'_, Folder>> {
        match self.admins.get(name) {
            Some(folder) => Some(Cow::Borrowed(folder)),
            None => folder::packed().find(|packed| packed.name == name).map(|packed| Cow::Owned(packed.folder())),
        }
    }

    /// A ticket system, loaded. `None`: there is no such one.
    pub fn desk(&self, name: &str) -> Option<Result<Arc<TicketSystem>, Vec<Problem>>> {
        TicketSystem::load(&*self.any_folder(name)?, self.limits).map(|loaded| loaded.map(Arc::new))
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The files of one.
    pub fn folder(&self, name: &str) -> Option<Cow<'_, Folder>> {
        self.any_folder(name).filter(|folder| folder.files.contains_key(MANIFEST_FILE))
    }

    /// One, loaded. `None`: there is no such connector.
    pub fn get(&mut self, name: &str) -> Option<Result<Arc<Connector>, Vec<Problem>>> {
        if !self.loaded.contains_key(name) {
            let folder = self.folder(name)?.into_owned();
            self.loaded.insert(name.to_owned(), Connector::load(folder, self.limits).map(Arc::new));
        }
        self.loaded.get(name).cloned()
    }

    /// That of a channel: also of the way back from a ticket system.
    pub fn of_channel(&mut self, channel: &ChannelFile) -> Option<Result<Arc<Connector>, Vec<Problem>>> {
        if channel.back.is_none() { self.get(&channel.connector) } else { self.back(&channel.connector) }
    }

    /// The way back from a ticket system, loaded. `None`: there is no such system, or nothing comes back from it.
    pub fn back(&mut self, name: &str) -> Option<Result<Arc<Connector>, Vec<Problem>>> {
        if !self.backs.contains_key(name) {
            let back = match self.desk(name)? {
                Ok(system) => Ok(system.back.clone()?),
                Err(problems) => Err(problems),
            };
            self.backs.insert(name.to_owned(), back);
        }
        self.backs.get(name).cloned()
    }

    /// What a mistaken name was probably meant to be.
    pub fn suggestion(&self, name: &str) -> Option<String> {
        did_you_mean(name, self.names()).map(|near| format!("did you mean \"{near}\"?"))
    }
}

/// The budget of maps, as the connector room takes it.
pub fn limits(mapping: &Mapping) -> Limits {
    Limits { fuel: mapping.fuel, outputs_max: mapping.items_max, depth_max: mapping.depth_max, output_bytes_max: mapping.output_bytes_max }
}

/// Reads one folder with everything below it. A file that cannot be read is left out: loading says what is missing.
pub fn read_folder(path: &Path, source: &dyn Source) -> Option<Folder> {
    let name = path.file_name().and_then(|name| name.to_str())?.to_owned();
    let mut files = BTreeMap::new();
    collect(path, "", FOLDER_DEPTH_MAX, source, &mut files);
    Some(Folder { name, origin: path.display().to_string(), files })
}

fn collect(path: &Path, prefix: &str, depth: usize, source: &dyn Source, files: &mut Files) {
    let named = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(|name| format!("{prefix}{name}"));
    for file in source.list(path).unwrap_or_default() {
        if files.len() < FOLDER_FILES_MAX
            && let (Some(name), Ok(bytes)) = (named(&file), source.read(&file))
        {
            files.insert(name, bytes.into());
        }
    }
    if depth > 0 {
        for folder in source.folders(path).unwrap_or_default() {
            if let Some(name) = named(&folder) {
                collect(&folder, &format!("{name}/"), depth - 1, source, files);
            }
        }
    }
}
