//! `static`: something in the request is equal to a secret.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::Digest;

use crate::connector::verify::place::{Place, Presented};
use crate::connector::verify::{With, same};

/// Something in the request is equal to a secret.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticCheck {
    /// Name of the secret.
    pub secret: String,
    /// A header.
    #[serde(default)]
    pub header: Option<String>,
    /// A field of an urlencoded body.
    #[serde(default)]
    pub form: Option<String>,
    /// A place in a JSON body.
    #[serde(default)]
    pub json: Option<String>,
    /// A parameter of the query.
    #[serde(default)]
    pub query: Option<String>,
    /// Basic credentials: `user:password` as one text.
    #[serde(default)]
    pub basic: bool,
    /// Text before it, such as `Bearer `.
    #[serde(default)]
    pub prefix: String,
    /// Only for requests that have this.
    #[serde(default)]
    pub when: Option<Place>,
}

impl StaticCheck {
    /// Where it is.
    pub fn place(&self) -> Place {
        Place {
            header: self.header.clone(),
            form: self.form.clone(),
            json: self.json.clone(),
            query: self.query.clone(),
            xml: None,
            basic: self.basic,
        }
    }

    /// Whether its parameters fit each other.
    ///
    /// # Errors
    /// What is wrong.
    pub fn valid(&self) -> Result<(), String> {
        self.place().single()
    }

    /// Whether any secret is what the request says.
    pub fn proves(&self, request: &Presented<'_>, with: With<'_>) -> Option<bool> {
        let given = request.at(&self.place())?;
        let given = given.strip_prefix(&self.prefix)?;
        // Hashes of both: their length is no secret, so comparing takes the same time whatever was given.
        let hash = sha2::Sha256::digest(given.as_bytes());
        let equal = |secret: &SecretString| {
            let secret = secret.expose_secret();
            !secret.is_empty() && same(&hash, &sha2::Sha256::digest(secret.as_bytes()))
        };
        Some(with.secrets.iter().fold(false, |found, secret| found | equal(secret)))
    }
}
