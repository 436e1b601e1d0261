//! Recipes: what is refused at load, and what their small parts give.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use serde_json::json;

use crate::connector::call::Filling;
use crate::connector::jq::Limits;
use crate::connector::load::scope;
use crate::connector::manifest::Manifest;
use crate::connector::media::{Recipe, RecipeSpec};
use crate::connector::problem::render;
use crate::model::event::{Attachment, AttachmentState};
use crate::model::id::AttachmentId;
use crate::model::item::FetchOrder;
use crate::model::time::Time;

const HEAD: &str = r#"
name = "x"
title = "X"
about = "For tests."
hosts = ["api.example.org"]
[webhook]
decode = "json"
[settings.api]
type = "url"
help = "Base."
[secrets.token]
help = "Token."
[auth.bot]
kind = "bearer"
secret = "token"
"#;

fn compile(recipe: &str) -> Result<Recipe, String> {
    let manifest = Manifest::parse("connector.toml", HEAD).unwrap_or_else(|problems| panic!("{}", render(&problems)));
    let spec: RecipeSpec = toml::from_str(recipe).map_err(|error| error.message().to_owned())?;
    Recipe::compile("default", &spec, &scope("connector.toml", &manifest, Limits::default())).map_err(|problems| render(&problems))
}

#[track_caller]
fn refused(recipe: &str, expected: &str) {
    let shown = compile(recipe).err().unwrap_or_default();
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn what_is_wrong_with_a_recipe_is_told_at_load() {
    refused("fetch = []", "[media.default]: `fetch` needs one to 4 requests");
    refused("fetch = [{ request = { get = \"{attachment.uri}\" } }]", "did you mean `url`?");
    refused("fetch = [{ request = { get = \"{step.link}\" } }]", "nothing gives `{step.link}`");
    refused("fetch = [{ request = { get = \"{attachment.url}\" }, take = { url = \".url\" } }]", "nothing can be taken from it");
    refused("fetch = [{ request = { get = \"{attachment.url}\", auth = \"bott\" } }]", "[media.default.fetch.1]: [auth.bott] is missing");
    refused("expires = \"soon\"\nfetch = [{ request = { get = \"{attachment.url}\" } }]", "expires: `soon` is not a duration");
    refused("let = { a = \".[\" }\nfetch = [{ request = { get = \"{attachment.url}\" } }]", "in the jq of `a`");
    refused("fetch = [{ request = { get = \"{attachment.url}\" } }]\nretry = 5", "unknown field `retry`");
    refused("fetch = [{ request = { get = \"{attachment.url}\" } }]\nverify_sha256 = \"{step.hash}\"", "nothing gives `{step.hash}`");
}

#[test]
fn values_made_before_the_first_request_fill_it_and_a_hash_is_read_in_both_writings() {
    let recipe = compile(
        "let = { server = '.attachment.url | ltrimstr(\"mxc://\") | split(\"/\") | .[0]', hash = '.attachment.id' }\n\
         fetch = [{ request = { get = \"{settings.api}/download/{step.server}\", auth = \"bot\" } }]\nverify_sha256 = \"{step.hash}\"",
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(recipe.steps[0].call.secrets(), ["token"]);
    let order = |id: &str| FetchOrder {
        recipe: "default".to_owned(),
        account: "a".to_owned(),
        id: Some(id.to_owned()),
        url: Some("mxc://example.org/abc".to_owned()),
        message: None,
        until: Time(0),
    };
    let public = Attachment {
        id: AttachmentId(1),
        name: None,
        media_type: "image/png".to_owned(),
        bytes: None,
        sha256: None,
        inline: false,
        content_id: None,
        state: AttachmentState::Pending,
        reason: None,
        url: None,
        content: None,
    };
    let secrets = BTreeMap::from([("token".to_owned(), vec!["t".into()])]);
    let hashes = ["E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="];
    for id in hashes {
        let context = recipe.context(&order(id), &public, &json!({"api": "http://127.0.0.1:9"})).unwrap();
        let with = Filling { context: &context, secrets: &secrets, token: None, files: &[] };
        let request = recipe.steps[0].call.render(&with).unwrap();
        assert_eq!(request.url.as_str(), "http://127.0.0.1:9/download/example.org");
        assert_eq!(recipe.sha256(&with).as_deref(), Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    }
}

#[test]
fn a_log_in_page_is_no_file_but_a_page_that_was_sent_is_one() {
    let recipe = compile("fetch = [{ request = { get = \"{attachment.url}\" } }]\nrefuse_type = [\"text/html\"]").unwrap();
    assert!(recipe.refuses("text/html; charset=utf-8", "image/png"));
    assert!(!recipe.refuses("text/html", "text/html"));
    assert!(!recipe.refuses("image/png", "image/png"));
}
