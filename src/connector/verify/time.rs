//! The signed time of a request.

use serde::Deserialize;

use crate::connector::manifest::duration;
use crate::connector::verify::place::{Place, Presented};
use crate::connector::verify::template::Template;
use crate::model::time::Time;

/// Unix milliseconds from here on (see the rule for `auto`): 10^12 is 2001 in ms and the year 33658 in s.
const MS_FROM: i64 = 1_000_000_000_000;

/// The signed time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timestamp {
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
    /// Its unit.
    #[serde(default)]
    pub unit: TimeUnit,
    /// How far it may be off: `5m`, or `none`.
    pub tolerance: Tolerance,
}

/// Unit of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Seconds.
    #[default]
    S,
    /// Milliseconds.
    Ms,
    /// Milliseconds from 10^12 on.
    Auto,
    /// RFC 3339.
    Iso,
}

/// How far a time may be off, ms; `None`: any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Tolerance(pub Option<i64>);

impl TryFrom<String> for Tolerance {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let length = duration(&text).ok_or("expected a duration such as `5m`, or `none`")?;
        Ok(Self(i64::try_from(length.as_millis()).ok()))
    }
}

impl Timestamp {
    /// Where it is.
    pub fn place(&self) -> Place {
        Place {
            header: self.header.clone(),
            form: self.form.clone(),
            json: self.json.clone(),
            query: self.query.clone(),
            ..Place::default()
        }
    }

    /// Whether it names one place and is part of what is signed.
    ///
    /// # Errors
    /// What is wrong.
    pub fn signed_in(&self, template: &Template) -> Result<(), String> {
        self.place().single()?;
        if template.names(&self.place()) { Ok(()) } else { Err("the timestamp is not part of `signed`: it would prove nothing".to_owned()) }
    }

    /// The time of a request as it is written, if it is fresh.
    pub fn of(&self, request: &Presented<'_>, now: Time) -> Option<String> {
        let given = request.at(&self.place())?.into_owned();
        self.fresh(&given, now)?.then_some(given)
    }

    fn fresh(&self, given: &str, now: Time) -> Option<bool> {
        let number = || given.trim().parse::<i64>().ok();
        let at = match self.unit {
            TimeUnit::S => number()?.checked_mul(1000)?,
            TimeUnit::Ms => number()?,
            TimeUnit::Auto => number().and_then(|number| if number.abs() < MS_FROM { number.checked_mul(1000) } else { Some(number) })?,
            TimeUnit::Iso => Time::parse(given.trim())?.0,
        };
        Some(self.tolerance.0.is_none_or(|tolerance| now.0.abs_diff(at) <= tolerance.unsigned_abs()))
    }
}
