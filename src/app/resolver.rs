//! The DNS behind its port: the resolvers of the system, or those that the configuration names. Answers are kept as long as their
//! owners allow, in a bounded cache.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mail_auth::hickory_resolver::TokioResolver;
use mail_auth::hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use mail_auth::hickory_resolver::net::runtime::TokioRuntimeProvider;
use mail_auth::hickory_resolver::net::{DnsError, NetError};
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::hickory_resolver::proto::rr::{Name, RData};
use mail_auth::hickory_resolver::system_conf::read_system_conf;

use crate::model::dns::TxtAnswer;
use crate::ports::BoxFuture;
use crate::ports::dns::Dns;

/// Answers that are kept.
const CACHE_ENTRIES: u64 = 4096;
/// Longest that a record is kept, whatever its owner says: keys are changed.
const KEEP_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest that "there is none" is kept.
const KEEP_NONE_MAX: Duration = Duration::from_secs(15 * 60);
/// Records of one answer, and bytes of them, that are looked at.
const RECORDS_MAX: usize = 32;
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// The resolver.
pub struct SystemDns {
    resolver: TokioResolver,
}

impl SystemDns {
    /// Over these resolvers; none: those of the system. A question is asked twice within `bound`.
    ///
    /// # Errors
    /// One line: why the system's resolvers cannot be known.
    pub fn new(resolvers: &[SocketAddr], bound: Duration) -> Result<Self, String> {
        let failed = |error: NetError| format!("the resolvers of the system cannot be read: {error}");
        let (config, mut options) = if resolvers.is_empty() {
            read_system_conf().map_err(failed)?
        } else {
            (ResolverConfig::from_name_servers(resolvers.iter().map(server).collect()), ResolverOpts::default())
        };
        options.timeout = bound / 2;
        options.attempts = 1;
        options.cache_size = CACHE_ENTRIES;
        options.use_hosts_file = ResolveHosts::Never;
        options.positive_max_ttl = Some(KEEP_MAX);
        options.negative_max_ttl = Some(KEEP_NONE_MAX);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        // Plain DNS only, so nobody's certificate is ever asked for.
        let tls = tls.map_err(|error| error.to_string())?.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).with_tls_config(tls).build().map_err(failed)?;
        Ok(Self { resolver })
    }
}

fn server(at: &SocketAddr) -> NameServerConfig {
    let ip: IpAddr = at.ip();
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = at.port();
        connection
    };
    NameServerConfig::new(ip, true, vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())])
}

impl Dns for SystemDns {
    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, TxtAnswer> {
        Box::pin(async move {
            // With the dot at its end it is whole: the system's search list is for other names.
            let Ok(name) = Name::from_str_relaxed(format!("{name}.")) else { return TxtAnswer::Nothing };
            match self.resolver.txt_lookup(name).await {
                Ok(found) => {
                    let texts = found.answers().iter().filter_map(|record| match &record.data {
                        RData::TXT(txt) => Some(txt.txt_data.concat()),
                        _ => None,
                    });
                    TxtAnswer::Records(texts.filter(|text| text.len() <= RECORD_BYTES_MAX).take(RECORDS_MAX).collect())
                }
                Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                    if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
                {
                    TxtAnswer::Nothing
                }
                Err(_) => TxtAnswer::Unknown,
            }
        })
    }
}
