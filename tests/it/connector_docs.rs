//! `docs/connectors.md`: what each connector carries, taken from its manifest and from what its fixtures become, so that it cannot say
//! more than is tested. `BLESS=1 cargo test --test it connector_docs` writes it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use omnigate::connector::fixtures::{self, Report};
use omnigate::connector::folder::Folder;
use omnigate::connector::jq::Limits;
use omnigate::connector::load::Connector;
use omnigate::connector::manifest::{Family, Manifest, Unit};
use omnigate::model::event::{AttachmentState, Body, Direction};

use crate::connectors::folders;
use crate::docs::check_generated;

const HEAD: &str = "\
<!-- Made from the connectors and their fixtures by tests/it/connector_docs.rs: BLESS=1 cargo test --test it connector_docs -->

# Connectors

What each carries today. A mark stands where a fixture of the connector shows it; an empty cell says that nothing of the kind is known to the
connector, or that its platform tells nothing of the kind. `omnigate connector show NAME` has the set-up of each.

| column | |
|---|---|
| comes by | the ways that messages come by |
| one conversation | a `thread`, a `person` (or chat), or each `item` by itself |
| kinds | `message.kind` of what people say |
| edits, deletes, reactions | `message.edited`, `message.deleted`, `reaction.added` and `reaction.removed` |
| answers | messages name what they answer |
| files | `held`: they come along and are kept; `fetched`: a recipe fetches them; `named`: they are listed, not fetched |
| more | `rating` (`feedback`), `call`, `our side` (what staff writes on the platform, outbound), `receipts` (of what was sent; counted, not published) |
| proven by | how requests are verified; by a script of yours where the gateway does not ask the platform itself |
| fixtures | cases, and how many of them prove a signature or refuse one |
";

/// The facts of one connector.
#[derive(Default)]
struct Facts {
    kinds: BTreeSet<String>,
    edits: bool,
    deletes: bool,
    reactions: bool,
    answers: bool,
    files: BTreeSet<&'static str>,
    more: BTreeSet<&'static str>,
}

fn facts(manifest: &Manifest, report: &Report) -> Facts {
    let mut facts = Facts::default();
    let mut file = |state: AttachmentState| {
        facts.files.insert(match state {
            AttachmentState::Stored => "held",
            _ if manifest.media.is_empty() => "named",
            _ => "fetched",
        });
    };
    for event in report.cases.iter().flat_map(|case| &case.events) {
        match &event.body {
            Body::MessageCreated(created) => {
                let message = &created.message;
                facts.kinds.insert(message.kind.clone());
                facts.answers |= message.in_reply_to.is_some();
                message.attachments.iter().for_each(|attachment| file(attachment.state));
                let more = [
                    ("rating", message.feedback.is_some()),
                    ("call", message.call.is_some()),
                    ("our side", message.direction == Direction::Outbound),
                ];
                facts.more.extend(more.into_iter().filter(|(_, there)| *there).map(|(name, _)| name));
            }
            Body::MessageEdited(_) => facts.edits = true,
            Body::MessageDeleted(_) => facts.deletes = true,
            Body::ReactionAdded(_) | Body::ReactionRemoved(_) => facts.reactions = true,
            _ => {}
        }
    }
    if report.reached.kinds_and_codes.contains("status") {
        facts.more.insert("receipts");
    }
    facts
}

/// How requests are verified: kinds and hashes.
fn proofs(manifest: &Manifest) -> String {
    let tables = manifest.webhook.iter().filter_map(|webhook| webhook.verify.as_ref()).flat_map(|verify| verify.all());
    let one = |table: &toml::Table| {
        let text = |name: &str| table.get(name).and_then(toml::Value::as_str).filter(|text| !text.starts_with('{'));
        let algorithms = table.get("algorithms").and_then(toml::Value::as_array).into_iter().flatten().filter_map(toml::Value::as_str);
        let hash = text("algorithm").map(str::to_owned).unwrap_or_else(|| algorithms.collect::<Vec<_>>().join("/"));
        format!("{} {hash}", text("kind").unwrap_or_default()).trim().to_owned()
    };
    let all: BTreeSet<String> = tables.map(one).collect();
    all.into_iter().collect::<Vec<_>>().join(", ")
}

fn row(manifest: &Manifest, report: &Report) -> String {
    let facts = facts(manifest, report);
    let mark = |there: bool| if there { "✓" } else { "" }.to_owned();
    let words = |words: &BTreeSet<&'static str>| words.iter().copied().collect::<Vec<_>>().join(", ");
    let unit = match manifest.unit {
        Unit::Thread => "thread",
        Unit::Sender => "person",
        Unit::Item => "item",
    };
    let modes: Vec<&str> = manifest.modes().into_iter().map(|mode| mode.as_str()).collect();
    let cells = [
        format!("{} (`{}`)", manifest.title, manifest.name),
        modes.join(", "),
        unit.to_owned(),
        facts.kinds.iter().cloned().collect::<Vec<_>>().join(", "),
        mark(facts.edits),
        mark(facts.deletes),
        mark(facts.reactions),
        mark(facts.answers),
        words(&facts.files),
        words(&facts.more),
        proofs(manifest),
        format!("{} ({} + {})", report.cases.len(), report.reached.proven, report.reached.refused),
    ];
    format!("| {} |\n", cells.join(" | "))
}

/// What the connector's own page says is missing, as one paragraph.
fn gaps(folder: &Folder) -> String {
    let readme = folder.text("README.md").unwrap_or_default();
    let (_, after) = readme.split_once("\n## Known gaps\n").unwrap_or_else(|| panic!("{} states no known gaps", folder.name));
    let text = after.split("\n## ").next().unwrap_or_default();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!text.is_empty(), "{} states no known gaps", folder.name);
    text
}

fn title(family: Family) -> &'static str {
    match family {
        Family::TeamChat => "Team chat",
        Family::Messenger => "Messengers",
        Family::Telephony => "Telephony",
        Family::Social => "Social media",
        Family::Reviews => "Reviews",
        Family::Community => "Communities and feeds",
        Family::Forms => "Forms, help desks, surveys",
        Family::Mail => "Mail",
    }
}

fn document() -> String {
    let mut families: BTreeMap<Family, (String, String)> = BTreeMap::new();
    let mut folders = folders();
    folders.sort_by(|one, other| one.name.cmp(&other.name));
    for folder in folders {
        let gaps = gaps(&folder);
        let report = fixtures::run(folder.clone()).unwrap();
        let connector = Arc::new(Connector::load(folder, Limits::default()).unwrap());
        let manifest = &connector.manifest;
        let family = manifest.family.unwrap_or_else(|| panic!("{} belongs to no family", manifest.name));
        let (rows, notes) = families.entry(family).or_default();
        rows.push_str(&row(manifest, &report));
        notes.push_str(&format!("- **{}**: {gaps}\n", manifest.title));
    }
    let mut out = HEAD.to_owned();
    for (family, (rows, notes)) in families {
        out.push_str(&format!("\n## {}\n\n", title(family)));
        out.push_str("| connector | comes by | one conversation | kinds | edits | deletes | reactions | answers | files | more | proven by | fixtures |\n");
        out.push_str("|---|---|---|---|---|---|---|---|---|---|---|---|\n");
        out.push_str(&rows);
        out.push_str(&format!("\nLimits and gaps:\n\n{notes}"));
    }
    out
}

#[test]
fn table_of_connectors_is_made_from_their_manifests_and_fixtures() {
    check_generated("docs/connectors.md", &document());
}
