//! Prepare: what a ticket system must have for us — login, rights, queue, custom fields — looked at one by one, and made where its API
//! allows.

use serde_json::{Value, json};

use crate::connector::call::answer::Meaning;
use crate::connector::ticket::TicketCheck;
use crate::destinations::ticket::TicketDesk;
use crate::ports::destination::DeliverError;
use crate::ports::ticket::Prepared;

impl TicketDesk {
    /// Looks at everything; with `make`, makes what is missing.
    pub(super) async fn look(&self, make: bool) -> Result<Vec<Prepared>, DeliverError> {
        let context = json!({ "settings": self.options.settings });
        let mut found = Vec::new();
        for check in &self.options.system.checks {
            if !check.look.is_made(&context).unwrap_or(true) {
                continue;
            }
            let (mut seen, refused) = self.see(check, &context).await?;
            if refused && found.is_empty() {
                // Who is not let in sees nothing else either.
                return Ok(vec![seen]);
            }
            let makes = check.make.as_ref().filter(|call| call.is_made(&context).unwrap_or(false));
            if let (false, true, Some(call)) = (seen.ok, make, makes) {
                match self.call(call, &context, &[]).await {
                    Ok(_) => {
                        (seen, _) = self.see(check, &context).await?;
                        seen.made = seen.ok;
                    }
                    Err(trouble) => seen.line = format!("could not be made: {}", trouble.error),
                }
            }
            found.push(seen);
        }
        Ok(found)
    }

    /// What a check finds, and whether the look itself was refused.
    async fn see(&self, check: &TicketCheck, context: &Value) -> Result<(Prepared, bool), DeliverError> {
        let prepared = |ok: bool, line: String| (Prepared { what: check.what.clone(), ok, made: false, line }, false);
        let missing = || {
            let makes = check.make.as_ref().is_some_and(|call| call.is_made(context).unwrap_or(false));
            let make = makes.then_some("`omnigate destination prepare` makes it");
            let ways: Vec<&str> = make.into_iter().chain(check.advice.as_deref()).collect();
            if ways.is_empty() { "missing".to_owned() } else { format!("missing; {}", ways.join(", or ")) }
        };
        let judged = match self.call(&check.look, context, &[]).await {
            Ok(judged) => judged,
            Err(trouble) => {
                return match trouble.meaning {
                    Some(Meaning::Missing | Meaning::Never) => Ok(prepared(false, missing())),
                    Some(Meaning::Denied | Meaning::Refresh) => {
                        // Where the system itself did not answer, what the folder advises is not it.
                        let answered = matches!(trouble.error, DeliverError::Denied { status: Some(_), .. });
                        let advice = check.advice.as_deref().filter(|_| answered).map(|advice| format!("; {advice}")).unwrap_or_default();
                        let (seen, _) = prepared(false, format!("refused: {}{advice}", trouble.error.detail()));
                        Ok((seen, true))
                    }
                    _ => Err(trouble.error),
                };
            }
        };
        Ok(match check.look.take(&judged, context) {
            Ok(Value::Null | Value::Bool(false)) => prepared(false, missing()),
            Ok(Value::String(line)) => prepared(true, line),
            Ok(_) => prepared(true, "there".to_owned()),
            Err(error) => prepared(false, format!("its answer cannot be read: {error}")),
        })
    }
}
