//! Back: the way back of a ticket system as a connector of its own, so that hooks, polls, maps and fixtures are those of all channels.
//! Its map is `back/map.jq`, its fixtures are below `back/fixtures`.

use crate::connector::folder::Folder;
use crate::connector::jq::Limits;
use crate::connector::load::Connector;
use crate::connector::manifest::{Family, Manifest, Unit};
use crate::connector::problem::Problem;
use crate::connector::ticket::{BackSpec, DESTINATION_FILE, TicketManifest};

/// Where its map and fixtures are in the folder.
const BACK: &str = "back/";

/// Loads the way back of a ticket system.
pub(super) fn load(folder: &Folder, manifest: &TicketManifest, back: &BackSpec, limits: Limits) -> Result<Connector, Vec<Problem>> {
    let file = folder.place(DESTINATION_FILE);
    let head = [("name", &manifest.name), ("title", &manifest.title), ("about", &manifest.about)];
    let head: toml::Table = head.into_iter().map(|(key, text)| (key.to_owned(), toml::Value::from(text.as_str()))).collect();
    // What a way back does not say is as in a connector that does not say it.
    let mut described: Manifest = head.try_into().map_err(|error: toml::de::Error| vec![Problem::whole(&file, error.to_string())])?;
    described.family = Some(Family::Forms);
    described.unit = Unit::Item;
    // Its keys are not those of a channel of the same platform.
    described.namespace = Some(format!("ticket/{}", manifest.name));
    described.codes = back.codes.clone();
    described.hosts = manifest.hosts.clone();
    described.settings = manifest.settings.clone();
    described.secrets = manifest.secrets.clone();
    described.auth = manifest.auth.clone();
    described.whoami = back.whoami.clone();
    described.webhook = back.webhook.clone();
    described.poll = back.poll.clone();
    described.limits = back.limits.clone();
    described.media = back.media.clone();
    described.is_back = true;
    let problems = described.check(&file);
    if !problems.is_empty() {
        return Err(problems);
    }
    let inner = |(path, bytes): (&String, &std::borrow::Cow<'static, [u8]>)| Some((path.strip_prefix(BACK)?.to_owned(), bytes.clone()));
    let files = folder.files.iter().filter_map(inner).collect();
    let folder = Folder { name: folder.name.clone(), origin: folder.place("back"), files };
    Connector::of(folder, file, described, limits)
}
