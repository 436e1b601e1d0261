//! A connector, loaded: manifest checked, map compiled, fixtures at hand.

use crate::connector::folder::Folder;
use crate::connector::jq::{Filter, Limits};
use crate::connector::manifest::Manifest;
use crate::connector::problem::Problem;

/// A connector that is ready for channels.
#[derive(Debug)]
pub struct Connector {
    /// What its `connector.toml` says.
    pub manifest: Manifest,
    /// Its `map.jq`; `None` where the channel file brings the map, or the payload is mail.
    pub map: Option<Filter>,
    /// Its files.
    pub folder: Folder,
    /// Budget of its map.
    pub limits: Limits,
}

impl Connector {
    /// Loads a folder: everything that is wrong with it at once.
    ///
    /// # Errors
    /// The problems of its files.
    pub fn load(folder: Folder, limits: Limits) -> Result<Self, Vec<Problem>> {
        let _ = limits;
        Err(vec![Problem::whole(&folder.origin, "not written yet")])
    }
}
