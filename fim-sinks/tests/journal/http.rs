//! What answers of an HTTP server lead to. Real servers are in the end-to-end tests; this one says
//! what is hard to have them say.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use fim_common::config::{Config, to_toml};
use fim_common::journal::JournalOptions;

use crate::bench::{Bench, PATIENCE, event, events, sequence, sequences_so_far, sinks, wait};

/// A request: its head, and the events in it.
struct Request {
    head: String,
    body: String,
}

/// Answers each request with what `answer` says: status, further headers, body.
fn serve(answer: impl Fn(&Request) -> (u16, String) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.unwrap());
                while let Some(request) = read(&mut reader) {
                    let (status, rest) = answer(&request);
                    let text = format!("HTTP/1.1 {status} x\r\n{rest}");
                    reader.get_mut().write_all(text.as_bytes()).unwrap();
                }
            });
        }
    });
    address
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
    });
    let mut body = vec![0; length?.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    // That of OTLP is binary.
    Some(Request { head, body: String::from_utf8_lossy(&body).into_owned() })
}

fn empty(status: u16) -> (u16, String) {
    (status, "content-length: 0\r\n\r\n".to_owned())
}

/// The numbers of the events of NDJSON.
fn numbers(request: &Request) -> Vec<u64> {
    request.body.lines().map(sequence).collect()
}

fn sink(address: SocketAddr, kind: &str, more: &str) -> String {
    format!(
        "[[sink]]\nname='a'\ntype='{kind}'\nurl='http://{address}'\ncompression='none'\n\
         batch_wait_ms=0\nmax_retry_wait=1\n{more}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_that_is_refused_the_one_at_fault_is_parked() {
    let mut bench = Bench::new(JournalOptions::default());
    let taken = Arc::new(Mutex::new(Vec::new()));
    let address = serve({
        let taken = Arc::clone(&taken);
        move |request| {
            let numbers = numbers(request);
            if numbers.iter().any(|number| [37, 38, 90].contains(number)) {
                return empty(if numbers.len() > 1 { 413 } else { 400 });
            }
            taken.lock().unwrap().extend(numbers);
            empty(204)
        }
    });
    bench.write(events(100));
    let running = bench.start(&sinks(&bench, &sink(address, "http", "")));
    bench.wait_metric("sent_total", "a", |count| count == 97.0).await;
    bench.wait_metric("lag_events", "a", |lag| lag == 0.0).await;
    running.stop(PATIENCE).await;
    let expected: Vec<u64> = (1..=100).filter(|number| ![37, 38, 90].contains(number)).collect();
    assert_eq!(*taken.lock().unwrap(), expected, "each once, in order");
    assert_eq!(bench.metric("parked_total", "a"), 3.0);
    let parked = std::fs::read_to_string(bench.path("sinks/a.parked.jsonl")).unwrap();
    let parked = parked.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["reason"].as_str().unwrap().contains("HTTP 400"), "{line}");
        line["event"]["event"]["sequence"].as_u64().unwrap()
    });
    assert_eq!(parked.collect::<Vec<_>>(), [37, 38, 90]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_or_forbids_it_loses_and_parks_nothing() {
    let mut bench = Bench::new(JournalOptions::default());
    let count = Arc::new(Mutex::new((0, Vec::new())));
    let address = serve({
        let count = Arc::clone(&count);
        move |request| {
            let mut count = count.lock().unwrap();
            count.0 += 1;
            match count.0 {
                1 => empty(401),
                2 => (429, "retry-after: 0\r\ncontent-length: 0\r\n\r\n".to_owned()),
                3 => empty(503),
                4 => empty(302),
                5 => empty(404),
                _ => {
                    count.1.extend(numbers(request));
                    empty(200)
                }
            }
        }
    });
    bench.write(events(10));
    let running = bench.start(&sinks(&bench, &sink(address, "http", "")));
    bench.wait_metric("sent_total", "a", |count| count == 10.0).await;
    running.stop(PATIENCE).await;
    assert_eq!(count.lock().unwrap().1, (1..=10).collect::<Vec<_>>());
    assert_eq!(bench.metric("failed_total", "a"), 5.0);
    assert_eq!(
        (bench.metric("retried_total", "a"), bench.metric("parked_total", "a")),
        (50.0, 0.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_no_answer_of_a_collector() {
    let mut bench = Bench::new(JournalOptions::default());
    let count = Arc::new(Mutex::new(0));
    let address = serve({
        let count = Arc::clone(&count);
        move |_| {
            let mut count = count.lock().unwrap();
            *count += 1;
            match *count {
                1 => (
                    200,
                    "content-type: Text/HTML; charset=utf-8\r\ncontent-length: 6\r\n\r\n<html>"
                        .into(),
                ),
                _ => empty(200),
            }
        }
    });
    bench.write(events(10));
    let more = "protocol='http'";
    let running = bench.start(&sinks(&bench, &sink(address, "otlp", more)));
    bench.wait_metric("sent_total", "a", |count| count == 10.0).await;
    running.stop(PATIENCE).await;
    assert_eq!(*count.lock().unwrap(), 2, "sent again");
    assert_eq!((bench.metric("failed_total", "a"), bench.metric("parked_total", "a")), (1.0, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_of_parked_events_stops_the_sink_and_loses_nothing() {
    let mut bench = Bench::new(JournalOptions::default());
    let address = serve(|_| empty(400));
    let out = bench.path("out");
    bench.write(events(3));
    let text = sink(address, "http", "max_parked_bytes = 0");
    let running = bench.start(&sinks(&bench, &text));
    bench.wait_metric("failed_total", "a", |count| count >= 2.0).await;
    bench.wait_metric("lag_events", "a", |lag| lag == 3.0).await;
    running.stop(std::time::Duration::ZERO).await;
    assert_eq!(bench.metric("parked_total", "a"), 0.0);
    // The same sink, sent elsewhere: it is still at the first event.
    let bench = bench.restarted(JournalOptions::default());
    let running = bench
        .start(&sinks(&bench, "[[sink]]\nname='a'\ntype='file'\npath='{}/out'\nbatch_wait_ms=0"));
    wait("all", || (sequences_so_far(&out).len() == 3).then_some(())).await;
    running.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_bulk_request_only_what_was_busy_is_sent_again() {
    let mut bench = Bench::new(JournalOptions::default());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let address = serve({
        let asked = Arc::clone(&asked);
        move |request| {
            assert!(request.head.starts_with("POST /_bulk "), "{}", request.head);
            let lines: Vec<&str> = request.body.lines().collect();
            let mut asked = asked.lock().unwrap();
            let first = asked.is_empty();
            let items: Vec<String> = lines
                .chunks(2)
                .map(|pair| {
                    assert!(pair[0].starts_with("{\"create\":{\"_index\":\"x\",\"_id\":\""));
                    let number = sequence(pair[1]);
                    asked.push(number);
                    let status = match number {
                        2 if first => 429,
                        3 => 409,
                        4 => 400,
                        5 if first => 403,
                        _ => 201,
                    };
                    format!("{{\"create\":{{\"status\":{status},\"error\":{{\"type\":\"t\"}}}}}}")
                })
                .collect();
            let body = format!("{{\"errors\":true,\"items\":[{}]}}", items.join(","));
            (200, format!("content-length: {}\r\n\r\n{body}", body.len()))
        }
    });
    bench.write(events(6));
    let running = bench.start(&sinks(&bench, &sink(address, "elasticsearch", "index='x'")));
    bench.wait_metric("sent_total", "a", |count| count == 5.0).await;
    bench.wait_metric("parked_total", "a", |count| count == 1.0).await;
    running.stop(PATIENCE).await;
    assert_eq!(*asked.lock().unwrap(), [1, 2, 3, 4, 5, 6, 2, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_splunk_that_is_wrong_parks_nothing() {
    let mut bench = Bench::new(JournalOptions::default());
    let count = Arc::new(Mutex::new(0));
    let address = serve({
        let count = Arc::clone(&count);
        move |request| {
            *count.lock().unwrap() += 1;
            let lines = request.body.lines().count();
            let bad = request.body.contains("/bad");
            let (status, code) = match *count.lock().unwrap() {
                1 => (403, 4),
                // The data channel is missing: an answer 400 that is not about events.
                2 => (400, 10),
                _ if bad && lines == 1 => (400, 13),
                _ if bad => (400, 6),
                _ => (200, 0),
            };
            let body = format!("{{\"text\":\"x\",\"code\":{code}}}");
            (status, format!("content-length: {}\r\n\r\n{body}", body.len()))
        }
    });
    bench.write([event("/a", 1), event("/bad", 1), event("/c", 1)]);
    let running = bench.start(&sinks(&bench, &sink(address, "splunk", "")));
    bench.wait_metric("sent_total", "a", |count| count == 2.0).await;
    bench.wait_metric("parked_total", "a", |count| count == 1.0).await;
    running.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_shown_nowhere() {
    const SECRET: &str = "s3cr3t-0123456789";
    let mut bench = Bench::new(JournalOptions::default());
    let file = bench.path("token");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let heads = Arc::new(Mutex::new(String::new()));
    let address = serve({
        let heads = Arc::clone(&heads);
        move |request| {
            heads.lock().unwrap().push_str(&request.head);
            empty(200)
        }
    });
    let text = sink(address, "http", &format!("token_file={file:?}"));
    let config = Config::parse(&text, Path::new("f.toml")).unwrap();
    let shown = to_toml(&config, &|path| path.to_owned(), &|_| None);
    assert!(shown.contains("token_file") && !shown.contains(SECRET), "{shown}");
    assert!(!format!("{config:?}").contains(SECRET));
    let running = bench.start(&config.sinks);
    bench.write(events(1));
    bench.wait_metric("sent_total", "a", |count| count == 1.0).await;
    // It is read again each time.
    std::fs::write(&file, "another").unwrap();
    bench.write(events(1));
    bench.wait_metric("sent_total", "a", |count| count == 2.0).await;
    // One that is not there is named by its file.
    std::fs::remove_file(&file).unwrap();
    bench.write(events(1));
    bench.wait_metric("failed_total", "a", |count| count >= 1.0).await;
    std::fs::write(&file, SECRET).unwrap();
    bench.wait_metric("sent_total", "a", |count| count == 3.0).await;
    running.stop(PATIENCE).await;
    let heads = heads.lock().unwrap().to_lowercase();
    assert_eq!(heads.matches(&format!("authorization: bearer {SECRET}\r\n")).count(), 2, "{heads}");
    assert!(heads.contains("authorization: bearer another\r\n"), "{heads}");
}
