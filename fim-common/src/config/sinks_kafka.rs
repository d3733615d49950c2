//! The checks of `[[sink]]` with `type = "kafka"`.

use std::ops::Range;

use toml::Spanned;

use super::sink::{Kafka, KafkaCompression, Peer, Sasl, SaslMechanism, Tls};
use super::sinks::peer;
use super::validate::Check;

/// What such a sink has, besides certificates.
pub(super) const KEYS: &[&str] =
    &["url", "topic", "mechanism", "compression", "username", "password_file", "password_env"];

/// What is said of it.
pub(super) struct Written {
    pub(super) url: Option<Spanned<String>>,
    pub(super) topic: Option<Spanned<String>>,
    pub(super) mechanism: Option<Spanned<String>>,
    pub(super) compression: Option<Spanned<String>>,
    pub(super) username: Option<Spanned<String>>,
    pub(super) password: [Option<Spanned<String>>; 2],
}

impl Check<'_> {
    pub(super) fn kafka(
        &mut self,
        written: Written,
        tls: Tls,
        span: &Range<usize>,
    ) -> Option<Kafka> {
        let Written { url, topic, mechanism, compression, username, password } = written;
        let Some(url) = url else {
            let message = "the sink has no url; add url = \"tls://broker:9093\"";
            self.problem(span.clone(), message);
            return None;
        };
        let Some(topic) = topic else {
            self.problem(span.clone(), "the sink has no topic; add topic = \"fim-events\"");
            return None;
        };
        if !is_topic(topic.get_ref()) {
            let message = format!(
                "{:?} is no name of a topic: 1 to 249 letters, digits, '.', '_', '-'",
                topic.get_ref()
            );
            self.problem(topic.span(), message);
        }
        let Some((is_tls, brokers)) = brokers(url.get_ref()) else {
            let message = format!(
                "{:?} is no list of brokers; as in \"tls://host1:9093,host2:9093\", \
                 \"tcp://host:9092\"",
                url.get_ref()
            );
            self.problem(url.span(), message);
            return None;
        };
        if !is_tls && tls != Tls::default() {
            self.problem(url.span(), "without tls:// there is no use for certificates");
        }
        let mechanism_span = mechanism.as_ref().map(Spanned::span);
        let mechanism = self.named(mechanism, SaslMechanism::default(), &SaslMechanism::ALL);
        let sasl = match (username, self.secret(password)) {
            (Some(username), Some(password)) => {
                if mechanism == SaslMechanism::Plain && !is_tls {
                    let message = "without tls:// the password could be read on its way; use a SCRAM mechanism";
                    self.problem(mechanism_span.unwrap_or_else(|| span.clone()), message);
                }
                Some(Sasl { mechanism, username: username.into_inner(), password })
            }
            (None, None) => {
                if let Some(span) = mechanism_span {
                    self.problem(span, "a sink without username has no mechanism");
                }
                None
            }
            _ => {
                let message = "username goes with password_file or password_env";
                self.problem(span.clone(), message);
                None
            }
        };
        Some(Kafka {
            brokers,
            tls: is_tls.then_some(tls),
            topic: topic.into_inner(),
            sasl,
            compression: self.named(
                compression,
                KafkaCompression::default(),
                &KafkaCompression::ALL,
            ),
        })
    }
}

/// What Kafka says of names (`org.apache.kafka.common.internals.Topic`).
fn is_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && !matches!(name, "." | "..")
}

/// Whether it is by TLS, and to which brokers.
fn brokers(url: &str) -> Option<(bool, Vec<Peer>)> {
    let (scheme, hosts) = url.split_once("://")?;
    let (is_tls, default_port) = match scheme {
        "tls" => (true, 9093),
        "tcp" => (false, 9092),
        _ => return None,
    };
    let broker = |host: &str| peer(&format!("{scheme}://{}", host.trim()), default_port);
    let brokers: Option<Vec<Peer>> = hosts.trim_end_matches('/').split(',').map(broker).collect();
    Some((is_tls, brokers?))
}
