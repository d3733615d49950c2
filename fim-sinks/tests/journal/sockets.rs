//! Syslog over sockets whose other end this test holds. A real receiver is in the end-to-end tests.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::{UnixDatagram, UnixListener};

use fim_common::journal::JournalOptions;

use crate::bench::{Bench, PATIENCE, event, events, sequence, sinks};

/// The event in a message.
fn message(bytes: &[u8]) -> (String, u64) {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let at = text.find("] {").unwrap_or_else(|| panic!("no RFC 5424: {text}"));
    let (header, event) = text.split_at(at + 2);
    (header.to_owned(), sequence(event))
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_are_messages_and_one_that_is_too_large_is_parked() {
    let mut bench = Bench::new(JournalOptions::default());
    let socket = UnixDatagram::bind(bench.path("log")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let text = "[[sink]]\nname='a'\ntype='syslog'\nurl='unix://{}/log'\nfacility='audit'\n\
                app_name='x'\nbatch_wait_ms=0";
    let running = bench.start(&sinks(&bench, text));
    // More than a socket of this host takes at once.
    bench.write([event("/a", 75), event(&"/x".repeat(1 << 20), 1), event("/b", 0)]);
    let mut buffer = vec![0; 1 << 16];
    let mut receive = || {
        let length = socket.recv(&mut buffer).unwrap();
        message(&buffer[..length])
    };
    let (header, first) = receive();
    assert!(header.starts_with("<107>1 20") && header.contains(" - x "), "{header}");
    assert!(header.ends_with(" created [meta sequenceId=\"1\"] "), "{header}");
    assert_eq!((first, receive().1), (1, 3));
    bench.wait_metric("parked_total", "a", |count| count == 1.0).await;
    running.stop(PATIENCE).await;
    assert_eq!(bench.metric("sent_total", "a"), 0.0, "nobody said that they have arrived");
    let parked = std::fs::read_to_string(bench.path("sinks/a.parked.jsonl")).unwrap();
    let parked: serde_json::Value = serde_json::from_str(&parked).unwrap();
    assert_eq!(parked["event"]["event"]["sequence"], 2);
    assert!(parked["reason"].as_str().unwrap().contains("too long"), "{}", parked["reason"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_took_and_lost_is_sent_again() {
    let mut bench = Bench::new(JournalOptions::default());
    let listener = UnixListener::bind(bench.path("log")).unwrap();
    let text = "[[sink]]\nname='a'\ntype='syslog'\nurl='unix://{}/log'\nbatch_wait_ms=0";
    let running = bench.start(&sinks(&bench, text));
    bench.write(events(10));
    // It accepts, has all of it in its memory, and dies.
    let (stream, _) = listener.accept().unwrap();
    assert_eq!(BufReader::new(stream).lines().take(10).map_while(Result::ok).count(), 10);
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    bench.write(events(5));
    bench.wait_metric("retried_total", "a", |count| count >= 10.0).await;
    running.stop(PATIENCE).await;
    assert_eq!(bench.metric("sent_total", "a"), 15.0, "what was lost is not counted");
    let all = reader.join().unwrap();
    let lines = all.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    assert_eq!(lines.map(|line| message(line).1).collect::<Vec<_>>(), (1..=15).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_takes_and_breaks_off_is_down_and_has_nothing() {
    let mut bench = Bench::new(JournalOptions::default());
    let listener = UnixListener::bind(bench.path("log")).unwrap();
    let text = "[[sink]]\nname='a'\ntype='syslog'\nurl='unix://{}/log'\nbatch_wait_ms=0\n\
                max_retry_wait=1";
    let running = bench.start(&sinks(&bench, text));
    bench.write(events(10));
    // As one does over TLS that wants another certificate.
    for _ in 0..4 {
        let (stream, _) = listener.accept().unwrap();
        assert_eq!(BufReader::new(stream).lines().take(10).map_while(Result::ok).count(), 10);
    }
    let (stream, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert_eq!(lines.by_ref().take(10).map_while(Result::ok).count(), 10);
    assert_eq!((bench.metric("sent_total", "a"), bench.metric("up", "a")), (0.0, 0.0));
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).count());
    bench.wait_metric("up", "a", |up| up == 1.0).await;
    running.stop(PATIENCE).await;
    assert_eq!((rest.join().unwrap(), bench.metric("sent_total", "a")), (0, 10.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_is_not_to_get_needs_no_receiver() {
    let mut bench = Bench::new(JournalOptions::default());
    let text = "[[sink]]\nname='a'\ntype='syslog'\nurl='unix://{}/nobody'\nbatch_wait_ms=0\n\
                kinds=['alert']";
    let running = bench.start(&sinks(&bench, text));
    bench.write(events(10));
    bench.wait_metric("filtered_total", "a", |count| count == 10.0).await;
    running.stop(PATIENCE).await;
    assert_eq!(bench.metric("failed_total", "a"), 0.0);
    // Nothing of the journal is kept for it.
    let running = bench.start(&sinks(&bench, text));
    bench.write(events(1));
    bench.wait_metric("filtered_total", "a", |count| count >= 11.0).await;
    running.stop(PATIENCE).await;
    assert_eq!(bench.metric("filtered_total", "a"), 11.0);
}
