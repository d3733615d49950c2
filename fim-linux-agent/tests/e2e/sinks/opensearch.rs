//! OpenSearch: a node of the real thing, from the libraries of its distribution.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::backlog::{EVENTS, START, Seen};
use super::program::Program;
use super::{Peer, metric, peers, start, survives, wait_metric};
use crate::agent::free_address;
use crate::scratch::Scratch;

/// The template that the documentation tells people to use.
const TEMPLATE: &str = include_str!("../../../../deploy/opensearch/index-template.json");

struct OpenSearch {
    program: Program,
    address: SocketAddr,
    seen: Seen,
    highest: u64,
}

impl OpenSearch {
    fn new(peers: &Path, scratch: &Path) -> Self {
        let (address, transport) = (free_address(), free_address());
        let home = scratch.join("opensearch");
        std::fs::create_dir_all(home.join("config")).unwrap();
        let libraries = peers.join("opensearch");
        let mut command = Command::new("java");
        command
            .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{0}:{0}/*", libraries.display()))
            .arg("OpenSearchNode")
            .arg(&home)
            .args([address.port().to_string(), transport.port().to_string()]);
        let program = Program::new(&command, &scratch.join("opensearch.log"));
        Self { program, address, seen: Seen::default(), highest: 0 }
    }

    fn post(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        request(self.address, method, path, body)
    }

    /// What a search finds; `None`: it does not answer now.
    fn search(&self, query: &Value) -> Option<Vec<Value>> {
        let body = json!({
            "size": 10_000, "query": query, "sort": [{"event.sequence": "asc"}],
            "_source": ["event.sequence", "event.action", "agent.ephemeral_id", "file.path"],
        });
        let found = self.post("POST", "/logs-fim-default/_search", &body).ok()?;
        let hits = found["hits"]["hits"].as_array()?;
        Some(hits.iter().map(|hit| hit["_source"].clone()).collect())
    }
}

/// A request whose answer is JSON.
fn request(address: SocketAddr, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(super::PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    serde_json::from_str(body).map_err(std::io::Error::other)
}

impl Peer for OpenSearch {
    fn start(&mut self) {
        self.program.start();
        let address = self.address;
        let path = "/_cluster/health?wait_for_no_initializing_shards=true&timeout=30s";
        self.program.wait("a cluster", || {
            let health = request(address, "GET", path, &Value::Null);
            health.is_ok_and(|health| health["timed_out"] == false)
        });
        let template: Value = serde_json::from_str(TEMPLATE).unwrap();
        let made = self.post("PUT", "/_index_template/fim", &template).unwrap();
        assert_eq!(made["acknowledged"], true, "{made}");
    }

    fn kill(&mut self) {
        self.program.kill();
    }

    fn seen(&mut self) -> &Seen {
        let _ = self.post("POST", "/logs-fim-default/_refresh", &Value::Null);
        let of_backlog = json!({"term": {"agent.ephemeral_id": START}});
        loop {
            let range = json!({"range": {"event.sequence": {"gt": self.highest}}});
            let query = json!({"bool": {"filter": [of_backlog, range]}});
            let Some(found) = self.search(&query) else { return &self.seen };
            for event in &found {
                self.highest = self.highest.max(event["event"]["sequence"].as_u64().unwrap());
                self.seen.event(event);
            }
            if found.is_empty() {
                break;
            }
        }
        // What was refused for a moment comes later than what is behind it.
        let missing = self.seen.missing();
        let terms = json!({"terms": {"event.sequence": missing}});
        let filters = [
            json!({"bool": {"filter": [of_backlog, terms]}}),
            json!({"bool": {"must_not": [of_backlog]}}),
        ];
        for query in filters {
            for event in self.search(&query).unwrap_or_default() {
                self.seen.event(&event);
            }
        }
        &self.seen
    }

    fn log(&self) -> String {
        self.program.log()
    }
}

#[test]
fn bulk_makes_no_document_twice() {
    let Some(directory) = peers("sinks::opensearch") else { return };
    let scratch = Scratch::new("sinks-opensearch");
    let mut peer = OpenSearch::new(&directory, scratch.path());
    let url = format!("http://{}", peer.address);
    let sink = format!("type = \"elasticsearch\"\nurl = {url:?}\nindex = \"logs-fim-default\"\n");
    survives(&scratch, &mut peer, &sink);
    peer.start();
    let query = json!({"query": {"term": {"agent.ephemeral_id": START}}});
    let _ = peer.post("POST", "/logs-fim-default/_refresh", &Value::Null);
    let count = peer.post("POST", "/logs-fim-default/_count", &query).unwrap();
    assert_eq!(count["count"], EVENTS, "{count}");
}

/// What somebody does who has the documentation and nothing else.
#[test]
fn the_first_steps_of_the_documentation() {
    const PAGE: &str = include_str!("../../../../docs/first-steps.md");
    let Some(directory) = peers("sinks::opensearch") else { return };
    let scratch = Scratch::new("sinks-first-steps");
    let mut peer = OpenSearch::new(&directory, scratch.path());
    peer.start();
    let address = peer.address.to_string();
    let page = PAGE.replace("127.0.0.1:9200", &address);
    let block = |language: &str, what: &str| -> String {
        let mut blocks = page.split("```").skip(1).step_by(2);
        let is_it = |block: &&str| block.starts_with(language) && block.contains(what);
        let block = blocks.find(is_it).expect("it is in the page");
        block.split_once('\n').expect("a line with the language").1.to_owned()
    };
    let run = |script: &str| -> Value {
        let output = Command::new("sh")
            .args(["-ec", script])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}\n{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let answers = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        answers.last().expect("an answer").unwrap()
    };
    assert_eq!(run(&block("sh", "_index_template"))["acknowledged"], true);
    let (agent, watched) = start(&scratch, &block("toml", "[[sink]]"));
    wait_metric(&agent, "sent_total", "search", |count| count >= EVENTS as f64);
    let path = watched.join("first");
    super::touch(&path);
    let query = block("sh", "_search");
    agent.until("the event is found", || {
        let source = &run(&query)["hits"]["hits"][0]["_source"];
        source["file"]["path"] == path.to_str().unwrap()
            && source["process"]["command_line"].is_string()
            && source["user"]["name"].is_string()
    });
    agent.stop();
}

#[test]
fn what_a_mapping_refuses_is_parked_and_the_rest_arrives() {
    let Some(directory) = peers("sinks::opensearch") else { return };
    let scratch = Scratch::new("sinks-mapping");
    let mut peer = OpenSearch::new(&directory, scratch.path());
    peer.start();
    // An index that takes a text for a number: an alert's action does not fit.
    let mapping = json!({"mappings": {"dynamic": false, "properties": {
        "event": {"properties": {"sequence": {"type": "long"}, "severity": {"type": "byte"},
            "kind": {"type": "keyword"}, "action": {"type": "keyword"}}},
        "rule": {"properties": {"name": {"type": "long"}}}}}});
    let made = peer.post("PUT", "/strict", &mapping).unwrap();
    assert_eq!(made["acknowledged"], true, "{made}");
    let sink = format!(
        "[[sink]]\nname = \"peer\"\ntype = \"elasticsearch\"\nurl = \"http://{}\"\n\
         index = \"strict\"\nstart = \"newest\"\nbatch_wait_ms = 0\n",
        peer.address
    );
    let (agent, watched) = start(&scratch, &sink);
    wait_metric(&agent, "sent_total", "peer", |count| count >= 1.0);
    // Its event names a rule.
    super::touch(&watched.join("a"));
    wait_metric(&agent, "parked_total", "peer", |count| count >= 1.0);
    let sent = metric(&agent, "sent_total", "peer");
    // A heartbeat does not, and comes behind it.
    wait_metric(&agent, "sent_total", "peer", |count| count > sent);
    let parked = agent.setup.state_dir.join("sinks/peer.parked.jsonl");
    let parked = std::fs::read_to_string(parked).unwrap();
    assert!(parked.contains("mapper_parsing_exception"), "{parked}");
    assert!(parked.contains("\"name\":\"w\""), "{parked}");
    agent.stop();
}

/// The template is for all that an agent can say: nothing of it is refused.
#[test]
fn each_kind_of_event_fits_the_template() {
    let Some(directory) = peers("sinks::opensearch") else { return };
    let scratch = Scratch::new("sinks-kinds");
    let mut peer = OpenSearch::new(&directory, scratch.path());
    peer.start();
    let sink = format!(
        "[[sink]]\nname = \"peer\"\ntype = \"elasticsearch\"\nurl = \"http://{}\"\n\
         index = \"logs-fim-default\"\nbatch_wait_ms = 0\n",
        peer.address
    );
    let (agent, watched) = super::formats::start(&scratch, &sink);
    super::touch(&watched.join("a"));
    let told = agent.stream.wait_below(&watched.join("a"), |event| event.action() == "created");
    told.unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    agent.stop();
    let journal = agent.journal();
    super::formats::assert_all_kinds(&journal);
    let parked = agent.setup.state_dir.join("sinks/peer.parked.jsonl");
    let parked = std::fs::read_to_string(parked).unwrap_or_default();
    let first: String = parked.chars().take(1000).collect();
    assert!(parked.is_empty(), "{} refused: {first}", parked.lines().count());
    let _ = peer.post("POST", "/logs-fim-default/_refresh", &Value::Null);
    let count = peer.post("POST", "/logs-fim-default/_count", &Value::Null).unwrap();
    assert_eq!(count["count"], journal.len(), "{count}");
}
