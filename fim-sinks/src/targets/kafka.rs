//! Apache Kafka, through librdkafka: all replicas acknowledge (`acks=all`), and what librdkafka sends
//! again by itself is there once (idempotent producer). The key is the host, so that the events of one
//! are in one partition, in order.
//!
//! A batch is handed to librdkafka once, and then waited for: it knows better than we do which part of
//! it is on its way, and finds the way back to a broker by itself. That a broker is away is told
//! meanwhile ([`Failure::Waiting`]); the producer stays the same, and with it the numbers by which a
//! broker knows what it has already. Only a producer that cannot go on is replaced.

use std::future::Future as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use fim_common::config::sink::{Kafka as Config, KafkaCompression, Sasl, SaslMechanism};
use fim_common::config::sink::{Sink as SinkConfig, Tls};
use fim_common::journal::cursor::Position;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::item::Item;
use crate::net::http::read;
use crate::sink::{Answer, Failure, Pending, Sink};

/// What librdkafka may hold at least, in KiB.
const QUEUE_MIN: usize = 64 << 10;

pub(crate) struct Kafka {
    config: Config,
    timeout: Duration,
    /// What librdkafka is told of it.
    settings: Vec<(&'static str, String)>,
    producer: Option<FutureProducer<Context>>,
    /// What it has said.
    said: Arc<Said>,
    /// The batch that was handed over, in its order.
    flights: Vec<Flight>,
}

/// An event, handed over.
struct Flight {
    end: Position,
    /// Nothing was handed over beside it.
    is_alone: bool,
    state: State,
}

enum State {
    Flying(DeliveryFuture),
    Arrived,
    /// It is at fault, or what went with it.
    Refused(String),
    /// To be handed over again.
    Failed(String),
}

impl Kafka {
    pub(crate) fn new(kafka: &Config, sink: &SinkConfig) -> Self {
        Self {
            config: kafka.clone(),
            timeout: sink.timeout,
            settings: settings(kafka, sink),
            producer: None,
            said: Arc::default(),
            flights: Vec::new(),
        }
    }

    /// The producer, which is made where there is none. The password is read then.
    async fn producer(&mut self) -> Result<FutureProducer<Context>, Failure> {
        if let Some(producer) = &self.producer {
            return Ok(producer.clone());
        }
        let mut config = ClientConfig::new();
        for (key, value) in &self.settings {
            config.set(*key, value);
        }
        if let Some(Sasl { password, .. }) = &self.config.sasl {
            config.set("sasl.password", read(password).map_err(Failure::retry)?);
        }
        self.said = Arc::default();
        let context = Context(Arc::clone(&self.said));
        // It reads certificates, and looks for those of this host.
        let made = tokio::task::spawn_blocking(move || {
            FutureProducer::from_config_and_context(&config, context)
        });
        let producer: FutureProducer<Context> =
            made.await.map_err(Failure::retry)?.map_err(|error| {
                Failure::retry(match error {
                    KafkaError::ClientCreation(reason) => reason,
                    other => other.to_string(),
                })
            })?;
        self.producer = Some(producer.clone());
        Ok(producer)
    }

    async fn send(&mut self, items: &[Item]) -> Result<Answer, Failure> {
        let producer = self.producer().await?;
        let is_same = self.flights.len() == items.len()
            && self.flights.iter().zip(items).all(|(flight, item)| flight.end == item.end);
        if !is_same {
            self.said.forget();
            self.flights = self.hand_over(&producer, items);
        }
        let until = Instant::now() + self.timeout;
        for index in 0..items.len() {
            self.landed(&producer, index, until).await?;
        }
        // A broker refuses what came in one request as a whole: each by itself shows which is at
        // fault.
        for (index, item) in items.iter().enumerate() {
            let Some(flight) = self.flights.get_mut(index) else { continue };
            if matches!(flight.state, State::Refused(_)) && !flight.is_alone {
                *flight = hand_over(&producer, &self.config.topic, item, true);
                self.landed(&producer, index, until).await?;
            }
        }
        let mut answer = Answer::default();
        for (index, flight) in self.flights.drain(..).enumerate() {
            match flight.state {
                State::Arrived => {}
                State::Refused(reason) => answer.rejected.push((index, reason)),
                State::Failed(reason) => {
                    answer.again.push(index);
                    answer.reason = reason;
                }
                State::Flying(_) => answer.again.push(index),
            }
        }
        Ok(answer)
    }

    fn hand_over(&self, producer: &FutureProducer<Context>, items: &[Item]) -> Vec<Flight> {
        let mut full = None;
        let flight = |item: &Item| {
            if let Some(reason) = &full {
                let state = State::Failed(String::clone(reason));
                return Flight { end: item.end, is_alone: false, state };
            }
            let flight = hand_over(producer, &self.config.topic, item, items.len() == 1);
            // What is behind it must not overtake it.
            if let State::Failed(reason) = &flight.state {
                full = Some(reason.clone());
            }
            flight
        };
        items.iter().map(flight).collect()
    }

    /// Waits for the delivery report of one.
    async fn landed(
        &mut self,
        producer: &FutureProducer<Context>,
        index: usize,
        until: Instant,
    ) -> Result<(), Failure> {
        let said = Arc::clone(&self.said);
        let Some(flight) = self.flights.get_mut(index) else { return Ok(()) };
        let State::Flying(report) = &mut flight.state else { return Ok(()) };
        let told = said.notify.notified();
        let over = sleep_until(until);
        tokio::pin!(told, over);
        let report = std::future::poll_fn(|context| {
            // Reports first: what has arrived is no reason to complain.
            if let Poll::Ready(report) = std::pin::Pin::new(&mut *report).poll(context) {
                return Poll::Ready(Some(report));
            }
            let is_told = told.as_mut().poll(context).is_ready();
            match is_told || over.as_mut().poll(context).is_ready() {
                true => Poll::Ready(None),
                false => Poll::Pending,
            }
        });
        let state = match report.await {
            Some(Ok(Ok(_))) => State::Arrived,
            Some(Ok(Err((error, _)))) => judged(&error),
            Some(Err(_)) => State::Failed("the producer is gone".to_owned()),
            None => return Err(self.delayed(producer)),
        };
        flight.state = state;
        Ok(())
    }

    /// Why there is no report.
    fn delayed(&self, producer: &FutureProducer<Context>) -> Failure {
        if let Some((code, reason)) = producer.client().fatal_error() {
            return Failure::retry(format!("{code}: {reason}"));
        }
        let said = self.said.last();
        match said {
            // A certificate or a password that is replaced is read by a new producer only.
            Some((code, reason)) if is_of_identity(code) => Failure::retry(reason),
            Some((_, reason)) => Failure::Waiting { reason },
            None => {
                let seconds = self.timeout.as_secs();
                Failure::Waiting {
                    reason: format!("no acknowledgement within {seconds} s (timeout)"),
                }
            }
        }
    }
}

impl Sink for Kafka {
    fn deliver<'a>(&'a mut self, items: &'a [Item]) -> Pending<'a, Result<Answer, Failure>> {
        Box::pin(self.send(items))
    }

    fn reset(&mut self) {
        self.flights.clear();
        if let Some(producer) = self.producer.take() {
            // It waits for its threads. That nobody waits for it is meant.
            drop(tokio::task::spawn_blocking(move || drop(producer)));
        }
    }

    /// What is on its way stays on its way: see [`Failure::Waiting`].
    fn has_timeout(&self) -> bool {
        false
    }
}

fn hand_over(
    producer: &FutureProducer<Context>,
    topic: &str,
    item: &Item,
    is_alone: bool,
) -> Flight {
    let mut record = FutureRecord::<str, [u8]>::to(topic).payload(item.payload());
    if let Some(host) = &item.brief.host.name {
        record = record.key(host);
    }
    let milliseconds = i64::try_from(item.brief.timestamp.as_nanos() / 1_000_000);
    if let Ok(milliseconds) = milliseconds {
        record = record.timestamp(milliseconds);
    }
    match producer.send_result(record) {
        Ok(report) => Flight { end: item.end, is_alone, state: State::Flying(report) },
        // This is about it alone, whatever is beside it.
        Err((error, _)) => Flight { end: item.end, is_alone: true, state: judged(&error) },
    }
}

/// What an error says of the event. It is at fault when it is too large (10), when the broker finds
/// the record invalid (87), or its time too far from its own (32). All else is no fault of the event,
/// and can be mended: a topic that is not there, rights, replicas, room.
///
/// Source: Kafka protocol guide, "Error Codes".
fn judged(error: &KafkaError) -> State {
    let Some(code) = error.rdkafka_error_code() else { return State::Failed(error.to_string()) };
    match code {
        RDKafkaErrorCode::MessageSizeTooLarge
        | RDKafkaErrorCode::InvalidRecord
        | RDKafkaErrorCode::InvalidTimestamp => State::Refused(code.to_string()),
        _ => State::Failed(code.to_string()),
    }
}

/// Whether it is about who somebody is.
fn is_of_identity(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
    )
}

fn settings(kafka: &Config, sink: &SinkConfig) -> Vec<(&'static str, String)> {
    let brokers: Vec<String> = kafka.brokers.iter().map(ToString::to_string).collect();
    let milliseconds = |time: Duration, most: u128| time.as_millis().min(most).to_string();
    let protocol = match (&kafka.tls, &kafka.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    let compression = match kafka.compression {
        KafkaCompression::None => "none",
        KafkaCompression::Gzip => "gzip",
        KafkaCompression::Lz4 => "lz4",
    };
    // One batch at a time is handed over; as OCSF an event may be some times as long.
    let kilobytes = (sink.batch.bytes / 1024 * 8).max(QUEUE_MIN);
    let mut settings = vec![
        ("bootstrap.servers", brokers.join(",")),
        ("client.id", "fim".to_owned()),
        ("security.protocol", protocol.to_owned()),
        ("enable.idempotence", "true".to_owned()),
        ("acks", "all".to_owned()),
        ("compression.type", compression.to_owned()),
        // As Kafka's own clients do it, so that others find the partition of a host.
        ("partitioner", "murmur2_random".to_owned()),
        ("queue.buffering.max.messages", (sink.batch.events + 1).to_string()),
        ("queue.buffering.max.kbytes", kilobytes.to_string()),
        // A batch is handed over at once: there is nothing to wait for.
        ("linger.ms", "1".to_owned()),
        // The journal keeps it, so it is never given up.
        ("message.timeout.ms", "0".to_owned()),
        ("socket.timeout.ms", milliseconds(sink.timeout, 300_000)),
        ("socket.connection.setup.timeout.ms", milliseconds(sink.timeout, 300_000)),
        ("socket.keepalive.enable", "true".to_owned()),
        // That there is no such topic is to be said before that it takes long.
        ("topic.metadata.propagation.max.ms", milliseconds(sink.timeout / 2, 30_000)),
        ("reconnect.backoff.max.ms", milliseconds(sink.max_retry_wait, 3_600_000)),
        ("log.connection.close", "false".to_owned()),
    ];
    if let Some(Tls { ca_file, identity, .. }) = &kafka.tls {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        // Those of this host, wherever its distribution has them.
        let ca = ca_file.as_deref().map_or_else(|| "probe".to_owned(), text);
        settings.push(("ssl.ca.location", ca));
        settings.push(("ssl.endpoint.identification.algorithm", "https".to_owned()));
        if let Some((certificate, key)) = identity {
            settings.push(("ssl.certificate.location", text(certificate)));
            settings.push(("ssl.key.location", text(key)));
        }
    }
    if let Some(Sasl { mechanism, username, .. }) = &kafka.sasl {
        let mechanism = match mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        settings.push(("sasl.mechanism", mechanism.to_owned()));
        settings.push(("sasl.username", username.clone()));
    }
    settings
}

/// What librdkafka tells by itself, besides delivery reports.
#[derive(Default)]
struct Said {
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
    /// Told when no broker can be reached, or the producer cannot go on.
    notify: Notify,
}

impl Said {
    fn last(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was said before this batch is not about it.
    fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let told = self.notify.notified();
        tokio::pin!(told);
        // Takes what waits there, if anything does.
        told.as_mut().enable();
    }
}

struct Context(Arc<Said>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
                tracing::trace!(facility, message, "librdkafka");
            }
            // What matters of it is told as an error too, with the name of the sink.
            _ => tracing::debug!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_all = code == RDKafkaErrorCode::AllBrokersDown;
        // Why one of them cannot be reached says more than that none can.
        if !is_all || last.is_none() {
            *last = Some((code, reason.to_owned()));
        }
        drop(last);
        if is_all || code == RDKafkaErrorCode::Fatal {
            self.0.notify.notify_one();
        }
    }
}
