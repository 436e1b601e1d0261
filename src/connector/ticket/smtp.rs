//! Smtp: what a destination is given that sends entries as letters. Read by `config`, used by `destinations::smtp`.

use secrecy::SecretString;

use crate::connector::ticket::compose::Forms;
use crate::ports::destination::SmtpTls;

/// What a mail destination is given.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the way is protected.
    pub tls: SmtpTls,
    /// A certificate authority beside the system's, PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// User and password.
    pub login: Option<(String, SecretString)>,
    /// Our address: envelope sender, and the author where we write on the customer's behalf. Its domain is that of Message-IDs.
    pub from: String,
    /// Where the letters go.
    pub to: String,
    /// The author is the customer's own address, and we are the Sender.
    pub as_customer: bool,
    /// DKIM: selector, and RSA key in PEM.
    pub dkim: Option<(String, SecretString)>,
    /// Events that are no messages.
    pub forms: Forms,
    /// Domain of the addresses that contacts without a mail address get.
    pub contact_domain: String,
}
