//! Apache Kafka: a node of the real thing, from the libraries of its distribution, and its own client
//! as what reads from it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::backlog::{EVENTS, START, Seen};
use super::certificates::Certificates;
use super::program::Program;
use super::{Peer, metric, peers, start, survives, touch, wait_metric};
use crate::agent::free_address;
use crate::scratch::Scratch;

/// What the documentation tells people to run.
const TOPIC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kafka/topic.sh");
const PASSWORD: &str = "pass-word_1";

struct Kafka {
    broker: Program,
    reader: Program,
    libraries: PathBuf,
    scratch: PathBuf,
    plain: SocketAddr,
    /// By TLS with client certificates, and by TLS with passwords.
    mutual: u16,
    passwords: u16,
    read: PathBuf,
    seen: Seen,
    /// Of each record of the backlog: its partition, offset and `event.sequence`.
    records: Vec<(i32, i64, u64)>,
}

impl Kafka {
    fn new(peers: &Path, scratch: &Path) -> Self {
        let certificates = Certificates::new(scratch);
        let libraries = peers.join("kafka");
        let [plain, controller, mutual, passwords] = std::array::from_fn(|_| free_address());
        let pem = scratch.join("broker.pem");
        let (cert, key) = &certificates.server;
        let both = std::fs::read_to_string(key).unwrap() + &std::fs::read_to_string(cert).unwrap();
        std::fs::write(&pem, both).unwrap();
        let properties = scratch.join("server.properties");
        let jaas = "org.apache.kafka.common.security";
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.voters=1@{controller}\ncontroller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://{plain},CONTROLLER://{controller},MUTUAL://localhost:{},\
             PASSWORDS://localhost:{}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,MUTUAL:SSL,\
             PASSWORDS:SASL_SSL\n\
             ssl.keystore.type=PEM\nssl.keystore.location={}\n\
             ssl.truststore.type=PEM\nssl.truststore.location={}\n\
             listener.name.mutual.ssl.client.auth=required\n\
             sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN\n\
             listener.name.passwords.scram-sha-512.sasl.jaas.config={jaas}.scram.ScramLoginModule \
             required;\n\
             listener.name.passwords.scram-sha-256.sasl.jaas.config={jaas}.scram.ScramLoginModule \
             required;\n\
             listener.name.passwords.plain.sasl.jaas.config={jaas}.plain.PlainLoginModule required \
             user_agent=\"{PASSWORD}\";\n\
             log.dirs={}\nauto.create.topics.enable=false\noffsets.topic.replication.factor=1\n",
            mutual.port(),
            passwords.port(),
            pem.display(),
            certificates.ca.display(),
            scratch.join("kafka").display(),
        );
        std::fs::write(&properties, text).unwrap();
        let mut command = java(&libraries);
        command.arg("KafkaNode").arg(&properties);
        for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256"] {
            command.arg(format!("{mechanism}=[name=agent,password={PASSWORD}]"));
        }
        let broker = Program::new(&command, &scratch.join("kafka.log"));
        let read = scratch.join("kafka.read");
        let mut command = java(&libraries);
        command.arg("KafkaReader").arg(plain.to_string()).arg("fim-events").arg(&read);
        let reader = Program::new(&command, &scratch.join("reader.log"));
        let (mutual, passwords) = (mutual.port(), passwords.port());
        let scratch = scratch.to_owned();
        Self {
            broker,
            reader,
            libraries,
            scratch,
            plain,
            mutual,
            passwords,
            read,
            seen: Seen::default(),
            records: Vec::new(),
        }
    }

    fn start_broker(&mut self) {
        self.broker.start();
        self.broker.wait_for_port(self.plain);
    }

    /// As deploy/kafka/topic.sh makes it, but on one node; its configuration, as the broker has it.
    fn make_topic(&self, name: &str, more: &[&str]) -> String {
        // Kafka's script of this name does little else.
        let tool = self.scratch.join("kafka-topics.sh");
        let classes = classes(&self.libraries);
        let text = format!(
            "#!/bin/sh\nexec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
             -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp '{classes}' \
             org.apache.kafka.tools.TopicCommand \"$@\"\n"
        );
        std::fs::write(&tool, text).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", self.scratch.display(), std::env::var("PATH").unwrap());
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(program)
                .args(args)
                .env("PATH", &path)
                .envs([("TOPIC", name), ("REPLICAS", "1"), ("MIN_REPLICAS", "1")])
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
            text
        };
        let broker = self.plain.to_string();
        run(TOPIC, &[&[broker.as_str()], more].concat());
        let args = ["--bootstrap-server", &broker, "--describe", "--topic", name];
        run(tool.to_str().unwrap(), &args)
    }
}

fn classes(libraries: &Path) -> String {
    format!("{0}:{0}/*", libraries.display())
}

fn java(libraries: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    command.arg("-cp").arg(classes(libraries));
    command
}

impl Peer for Kafka {
    fn start(&mut self) {
        self.start_broker();
        if self.reader.pid().is_none() {
            let made = self.make_topic("fim-events", &[]);
            // What the arithmetic of the documentation is about.
            for expected in [
                "PartitionCount: 24",
                "message.timestamp.type=LogAppendTime",
                "retention.ms=604800000",
                "retention.bytes=21474836480",
                "segment.bytes=268435456",
                "max.message.bytes=1048588",
                "cleanup.policy=delete",
            ] {
                assert!(made.contains(expected), "no {expected} in\n{made}");
            }
            self.reader.start();
        }
    }

    fn kill(&mut self) {
        self.broker.kill();
    }

    fn seen(&mut self) -> &Seen {
        let records = &mut self.records;
        self.seen.grown(&self.read, |seen, line| {
            let mut parts = line.splitn(4, '\t');
            let mut part = || parts.next().unwrap_or_else(|| panic!("no record: {line}"));
            let (partition, offset, key, value) = (part(), part(), part(), part());
            let event: serde_json::Value = serde_json::from_str(value).unwrap();
            assert_eq!(event["host"]["name"], key, "the key is the host");
            if event["agent"]["ephemeral_id"] == START {
                let number = event["event"]["sequence"].as_u64().unwrap();
                records.push((partition.parse().unwrap(), offset.parse().unwrap(), number));
            }
            seen.event(&event);
        });
        &self.seen
    }

    fn log(&self) -> String {
        format!("{}\n{}", self.broker.log(), self.reader.log())
    }
}

/// Nothing is missing, nothing is there twice, and all of one host is in order, although the broker was
/// killed with requests on their way.
#[test]
fn each_event_is_there_once_and_in_order() {
    let Some(directory) = peers("sinks::kafka") else { return };
    let scratch = Scratch::new("sinks-kafka");
    let mut peer = Kafka::new(&directory, scratch.path());
    let sink =
        format!("type = \"kafka\"\nurl = \"tcp://{}\"\ntopic = \"fim-events\"\n", peer.plain);
    survives(&scratch, &mut peer, &sink);
    let partition = peer.records[0].0;
    for (index, (of, _, number)) in peer.records.iter().enumerate() {
        assert_eq!(*of, partition, "one host, one partition");
        assert_eq!(*number, index as u64 + 1, "twice, or out of order");
    }
    assert_eq!(peer.records.len(), EVENTS);
}

#[test]
fn what_is_wrong_is_told_and_what_is_at_fault_is_parked() {
    let Some(directory) = peers("sinks::kafka") else { return };
    let scratch = Scratch::new("sinks-kafka-faults");
    let mut peer = Kafka::new(&directory, scratch.path());
    peer.start_broker();
    peer.make_topic("fim-events", &[]);
    peer.make_topic("small", &["--config", "max.message.bytes=9000"]);
    let (right, wrong) = (scratch.path().join("right"), scratch.path().join("wrong"));
    std::fs::write(&right, format!("{PASSWORD}\n")).unwrap();
    std::fs::write(&wrong, "guessed").unwrap();
    let own = |name: &str| scratch.path().join(name);
    let ca = format!("ca_file = {:?}", own("ca.pem"));
    let client =
        format!("{ca}\ncert_file = {:?}\nkey_file = {:?}", own("client.pem"), own("client.key"));
    let stranger = format!(
        "{ca}\ncert_file = {:?}\nkey_file = {:?}",
        own("stranger.pem"),
        own("stranger.key")
    );
    let by_password = |mechanism: &str, file: &Path| {
        format!("{ca}\nusername = \"agent\"\nmechanism = \"{mechanism}\"\npassword_file = {file:?}")
    };
    let plain = format!("tcp://{}", peer.plain);
    let mutual = format!("tls://localhost:{}", peer.mutual);
    let passwords = format!("tls://localhost:{}", peer.passwords);
    let mut sinks = String::new();
    for (name, url, topic, more) in [
        ("late", &plain, "late", ""),
        ("small", &plain, "small", "compression = \"none\""),
        ("client", &mutual, "fim-events", client.as_str()),
        ("stranger", &mutual, "fim-events", &stranger),
        ("nobody", &mutual, "fim-events", &ca),
        // Whom it talks to it does not know.
        ("doubtful", &mutual, "fim-events", ""),
        ("sha512", &passwords, "fim-events", &by_password("scram-sha-512", &right)),
        ("sha256", &passwords, "fim-events", &by_password("scram-sha-256", &right)),
        ("plain", &passwords, "fim-events", &by_password("plain", &right)),
        ("wrong", &passwords, "fim-events", &by_password("scram-sha-512", &wrong)),
    ] {
        write!(
            sinks,
            "[[sink]]\nname = \"{name}\"\ntype = \"kafka\"\nurl = \"{url}\"\ntopic = \"{topic}\"\n\
             start = \"newest\"\nbatch_wait_ms = 0\ntimeout = 6\nmax_retry_wait = 1\n{more}\n"
        )
        .unwrap();
    }
    let (agent, watched) = start(&scratch, &sinks);
    for sink in ["client", "sha512", "sha256", "plain", "small"] {
        wait_metric(&agent, "sent_total", sink, |count| count >= 1.0);
    }
    for sink in ["stranger", "nobody", "doubtful", "wrong", "late"] {
        wait_metric(&agent, "failed_total", sink, |count| count >= 1.0);
        assert_eq!(metric(&agent, "sent_total", sink), 0.0, "{sink}\n{}", agent.log());
        assert_eq!(metric(&agent, "parked_total", sink), 0.0, "{sink}\n{}", agent.log());
    }
    // A password that is mended is read.
    std::fs::copy(&right, &wrong).unwrap();
    wait_metric(&agent, "sent_total", "wrong", |count| count >= 1.0);
    // So is a topic that is made.
    let log = agent.log();
    assert!(log.contains("UnknownTopic") || log.contains("Unknown topic"), "{log}");
    peer.make_topic("late", &[]);
    wait_metric(&agent, "sent_total", "late", |count| count >= 1.0);
    // What no broker takes: one that is too large for the topic, with others around it.
    let mut deep = watched.clone();
    for _ in 0..13 {
        deep.push("d".repeat(250));
    }
    std::fs::create_dir_all(&deep).unwrap();
    touch(&watched.join("before"));
    touch(&deep.join("f"));
    let last = watched.join("after");
    touch(&last);
    let told = agent.stream.wait_below(&last, |event| event.action() == "created");
    told.unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    wait_metric(&agent, "parked_total", "small", |count| count >= 1.0);
    wait_metric(&agent, "lag_events", "small", |lag| lag < 3.0);
    let parked = agent.setup.state_dir.join("sinks/small.parked.jsonl");
    let parked = std::fs::read_to_string(parked).unwrap();
    for line in parked.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["reason"].as_str().unwrap().contains("size"), "{}", line["reason"]);
        let event = line["event"].to_string();
        assert!(event.len() > 8000, "parked although it fits: {event}");
    }
    assert_eq!(metric(&agent, "parked_total", "client"), 0.0);
    agent.stop();
}
