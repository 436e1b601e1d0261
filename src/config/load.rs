//! Load: from files to [`Loaded`], with all problems at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::config::problems::Problems;
use crate::config::settings::{ChannelFile, Config, FailedChannel};
use crate::config::source::Source;
use crate::connector::problem::Problem;

/// Everything the files say.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The main file.
    pub config: Arc<Config>,
    /// Channels by id; a broken one is there with its problems.
    pub channels: BTreeMap<String, Result<Arc<ChannelFile>, FailedChannel>>,
    /// What a person should look at though it works.
    pub warnings: Vec<Problem>,
}

/// Reads the main file and the channel files. `Err`: the main file cannot be used; all its problems.
pub fn load(file: &Path, _source: &dyn Source) -> Result<Loaded, Problems> {
    Err(Problems(vec![Problem::whole(&file.display().to_string(), "not yet")]))
}

/// What a reload has to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Ids of channels that are new, changed (also from or to failed), gone.
    pub channels: Changes,
    /// Names of destinations that are new, changed, gone.
    pub destinations: Changes,
    /// Routes differ.
    pub routes: bool,
    /// Something differs that only a restart takes up (listeners, store, limits).
    pub restart: bool,
}

/// Names by what happened to them, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New.
    pub added: Vec<String>,
    /// Changed.
    pub changed: Vec<String>,
    /// Gone.
    pub removed: Vec<String>,
}
