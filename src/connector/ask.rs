//! Ask: one request to a channel's platform, with the token that it needs. A token that is no longer good is replaced, and the request made
//! once more; who asks never sees it. All I/O is done by the ports that are handed in.
//!
//! What must stay true: at most one more request; a token that was made just now and is refused, too, is a person's matter.

use secrecy::SecretString;

use crate::connector::call::answer::{Judged, Meaning, Rules};
use crate::connector::call::{Call, CallError};
use crate::model::codes::Code;
use crate::ports::clock::Clock;
use crate::ports::http::{Http, HttpAnswer, HttpError, HttpRequest};
use crate::ports::token::{AccessToken, TokenError, Wallet};

/// Who asks, and by what.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// Sends.
    pub http: &'a dyn Http,
    /// The channel's tokens.
    pub wallet: &'a Wallet,
    /// Time.
    pub clock: &'a dyn Clock,
}

/// What came of a request.
#[derive(Debug)]
pub struct Asked {
    /// The answer.
    pub answer: HttpAnswer,
    /// What it means.
    pub judged: Judged,
    /// Host and port that answered.
    pub place: String,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum Unasked {
    /// The request cannot be made.
    #[error("{0}")]
    Call(#[from] CallError),
    /// There is no token, or none that the platform takes.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// There is no answer.
    #[error("{0}")]
    Http(#[from] HttpError),
}

/// Whether an answer says that its token is no longer good: by a rule of the manifest, or 401 (RFC 6750 §3.1). 403 is a right that is
/// missing, which no other token has.
pub fn is_spent(judged: &Judged) -> bool {
    judged.meaning == Meaning::Refresh || (judged.meaning == Meaning::Denied && judged.status == 401)
}

/// What a token that was made just now and is refused means.
pub fn refused_afresh(place: &str, judged: &Judged) -> TokenError {
    let words = judged.words().map(|words| format!(": {words}")).unwrap_or_default();
    let detail = format!("{place} answers {} to a token that was made just now{words}", judged.status);
    TokenError::Person { code: Code::AuthFailed, detail }
}

impl Asker<'_> {
    /// The token that a call needs, if it needs one; not the one that was just refused.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn token(&self, call: &Call, refused: Option<&AccessToken>) -> Result<Option<AccessToken>, TokenError> {
        match call.token() {
            Some(name) => self.wallet.token(name, refused).await.map(Some),
            None => Ok(None),
        }
    }

    /// Asks. `render` makes the request of the call with the token that it is given.
    ///
    /// # Errors
    /// [`Unasked`].
    pub async fn ask(
        &self,
        call: &Call,
        rules: &Rules,
        mut render: impl FnMut(Option<&SecretString>) -> Result<HttpRequest, CallError> + Send,
    ) -> Result<Asked, Unasked> {
        let mut spent = None;
        loop {
            let token = self.token(call, spent.as_ref()).await?;
            let request = render(token.as_ref().map(|token| &token.secret))?;
            let place = request.place();
            let answer = self.http.send(request).await?;
            let judged = rules.judge(&answer, self.clock.now());
            match token.filter(|_| is_spent(&judged)) {
                Some(_) if spent.is_some() => return Err(refused_afresh(&place, &judged).into()),
                Some(token) => spent = Some(token),
                None => return Ok(Asked { answer, judged, place }),
            }
        }
    }
}
