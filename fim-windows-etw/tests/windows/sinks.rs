//! Sinks on Windows: what the journal has reaches a file, syslog over TCP, and a receiver of HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::agent::Agent;

/// What came in, by any connection.
type Received = Arc<Mutex<String>>;

/// Takes connections until the test ends, each with `take`.
fn receiver(take: fn(TcpStream, &Received)) -> (u16, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Received::default();
    let into = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let into = Arc::clone(&into);
            std::thread::spawn(move || take(stream, &into));
        }
    });
    (port, received)
}

fn syslog(mut stream: TcpStream, received: &Received) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        received.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}

/// HTTP/1.1, as much of it as a sink needs.
fn http(stream: TcpStream, received: &Received) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        received.lock().unwrap().push_str(&String::from_utf8_lossy(&body));
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        reader.get_mut().write_all(answer).unwrap();
    }
}

#[test]
fn events_reach_each_sink() {
    let directory = tempfile::tempdir().unwrap();
    let watched = directory.path().join("Watched");
    std::fs::create_dir(&watched).unwrap();
    let file = directory.path().join("out.jsonl");
    let ((syslog_port, by_syslog), (http_port, by_http)) = (receiver(syslog), receiver(http));
    let config = directory.path().join("fim.toml");
    let text = format!(
        "[[rule]]\nname = 'r'\npaths = ['{}']\n\
         [[sink]]\nname = 'file'\ntype = 'file'\npath = '{}'\n\
         [[sink]]\nname = 'syslog'\ntype = 'syslog'\nurl = 'tcp://127.0.0.1:{syslog_port}'\n\
         [[sink]]\nname = 'http'\ntype = 'http'\nurl = 'http://127.0.0.1:{http_port}'\n\
         compression = 'none'\n",
        watched.display(),
        file.display(),
    );
    std::fs::write(&config, text).unwrap();
    let agent = Agent::start(&config, &directory.path().join("state"));
    std::fs::write(watched.join("Seen.txt"), "x").unwrap();
    agent.event("created", "Seen.txt");
    // Whoever rotates a file renames it: the name is opened again.
    agent.wait(|_| file.is_file().then_some(()));
    std::fs::rename(&file, directory.path().join("old.jsonl")).unwrap();
    std::fs::write(watched.join("Later.txt"), "x").unwrap();
    agent.event("created", "Later.txt");
    let has = |text: &str| text.contains("Later.txt") && text.contains("\"created\"");
    agent.wait(|_| {
        let by_file = std::fs::read_to_string(&file).unwrap_or_default();
        let all = has(&by_file) && has(&by_syslog.lock().unwrap()) && has(&by_http.lock().unwrap());
        all.then_some(())
    });
    agent.stop();
    let by_file = std::fs::read_to_string(&file).unwrap();
    let last: serde_json::Value = serde_json::from_str(by_file.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"]["action"], "agent_stopped");
    let begun = std::fs::read_to_string(directory.path().join("old.jsonl")).unwrap();
    assert!(begun.contains("agent_started"), "{begun}");
}
