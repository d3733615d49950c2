use std::future::pending;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use super::*;

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new().unwrap())
}

/// Status line and headers, and the body.
fn request(address: SocketAddr, head: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{head} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

/// A server on a port of its own, and the runtime it lives in.
fn server(metrics: Arc<Metrics>, health: Arc<Health>) -> (SocketAddr, tokio::runtime::Runtime) {
    server_for(metrics, health, Access::default())
}

fn server_for(
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    access: Access,
) -> (SocketAddr, tokio::runtime::Runtime) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(serve(listener, metrics, health, Arc::new(access), pending()));
    (address, runtime)
}

#[test]
fn names_and_labels_are_those_of_the_contract() {
    let metrics = metrics();
    metrics.event(Action::AttributesModified, Some(Provider::Bpf), Outcome::Failure);
    metrics.event(Action::AgentStarted, None, Outcome::Success);
    let counts = HookCounts { seen: 10, filtered: 6, submitted: 3, lost: 1, error: 0 };
    metrics.set_kernel_operations("vfs_unlink", counts);
    metrics.dropped("decode", "bad_length", 2);
    metrics.set_dropped("queue", "full", 3);
    metrics.set_dropped("queue", "full", 4);
    let mut ledger = Counts::default();
    ledger.set(Stage::Taken, 9);
    ledger.set(Stage::Told, 8);
    metrics.set_ledger(&ledger);
    metrics.canary("rename", "/srv", Duration::from_millis(3));
    metrics.canary_missed("unlink", "/");
    metrics.gap();
    metrics.event_delay(Duration::from_millis(3));
    metrics.hashed(Duration::from_millis(2), 4096);
    metrics.set_baseline_objects(7);
    metrics.set_queue_depth("hash", 5);
    metrics.set_hook_armed("vfs_unlink", true);
    metrics.set_hook_armed("vfs_rename", false);
    metrics.set_backend("fanotify");
    metrics.set_backend("bpf");
    let text = metrics.encode().unwrap();
    for line in [
        r#"fim_events_total{action="attributes_modified",outcome="failure",provider="bpf"} 1"#,
        r#"fim_events_total{action="agent_started",outcome="success",provider="agent"} 1"#,
        r#"fim_kernel_operations_total{hook="vfs_unlink",result="seen"} 10"#,
        r#"fim_kernel_operations_total{hook="vfs_unlink",result="filtered"} 6"#,
        r#"fim_kernel_operations_total{hook="vfs_unlink",result="submitted"} 3"#,
        r#"fim_kernel_operations_total{hook="vfs_unlink",result="lost"} 1"#,
        r#"fim_kernel_operations_total{hook="vfs_unlink",result="error"} 0"#,
        r#"fim_events_dropped_total{reason="bad_length",stage="decode"} 2"#,
        r#"fim_events_dropped_total{reason="full",stage="queue"} 4"#,
        r#"fim_ledger_operations_total{stage="taken"} 9"#,
        r#"fim_ledger_imbalance{identity="pipeline"} 1"#,
        r#"fim_ledger_imbalance{identity="kernel"} 0"#,
        r#"fim_canary_seconds_count{fs="/srv",operation="rename"} 1"#,
        r#"fim_canary_missed_total{fs="/srv",operation="rename"} 0"#,
        r#"fim_canary_missed_total{fs="/",operation="unlink"} 1"#,
        "fim_gaps_total 1",
        r#"fim_event_delay_seconds_bucket{le="0.0025"} 0"#,
        r#"fim_event_delay_seconds_bucket{le="0.005"} 1"#,
        "fim_event_delay_seconds_count 1",
        "fim_hash_seconds_count 1",
        "fim_hash_bytes_total 4096",
        "fim_baseline_objects 7",
        r#"fim_queue_depth{queue="hash"} 5"#,
        r#"fim_hook_armed{hook="vfs_unlink"} 1"#,
        r#"fim_hook_armed{hook="vfs_rename"} 0"#,
        r#"fim_backend_info{backend="bpf"} 1"#,
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains(r#"backend="fanotify""#));
    assert!(text.contains(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")), "{text}");
    #[cfg(target_os = "linux")]
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(text.contains(name), "{name}");
    }
}

#[test]
fn counts_of_the_kernel_are_set_and_may_begin_anew() {
    let metrics = metrics();
    let seen = |count| {
        metrics.set_kernel_operations("h", HookCounts { seen: count, ..HookCounts::default() });
        metrics.kernel_operations.with_label_values(&["h", "seen"]).get()
    };
    assert_eq!([5, 5, 8, 2, 3].map(seen), [5, 5, 8, 2, 3]);
}

#[test]
fn the_pages() {
    let (metrics, health) = (metrics(), Arc::new(Health::starting()));
    metrics.gap();
    let (address, _runtime) = server(Arc::clone(&metrics), Arc::clone(&health));

    let (head, body) = request(address, "GET /metrics?x=1");
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\nfim_gaps_total 1\n"), "{body}");

    assert!(request(address, "GET /livez").0.starts_with("http/1.1 200"));
    let (head, body) = request(address, "GET /healthz");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert_eq!(body, "start: not everything is armed yet\n");
    health.started();
    let (head, body) = request(address, "GET /healthz");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "ok\n");
    health.failed("journal", "no space left");
    health.failed("bpf", "detached");
    assert_eq!(request(address, "GET /healthz").1, "bpf: detached\njournal: no space left\n");
    health.recovered("journal");
    health.recovered("bpf");
    assert_eq!(health.problems(), None);

    for (line, status) in [
        ("GET /", "404"),
        ("GET /metrics/", "404"),
        ("POST /nothing", "404"),
        ("POST /metrics", "405"),
        ("DELETE /healthz", "405"),
    ] {
        let (head, _) = request(address, line);
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{line}: {head}");
        assert_eq!(head.contains("allow: get, head"), status == "405", "{line}: {head}");
    }
    let (head, body) = request(address, "HEAD /metrics");
    assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}\n{body}");
}

#[test]
fn the_pages_are_for_those_with_the_password() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "open sesame\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = crate::config::Config::default().metrics;
    let config = crate::config::Metrics { login: Some(("prometheus".to_owned(), file)), ..config };
    let health = Arc::new(Health::starting());
    let (address, _runtime) = server_for(metrics(), health, Access::new(&config).unwrap());
    for path in ["/metrics", "/healthz", "/"] {
        let (head, body) = request(address, &format!("GET {path}"));
        assert!(head.starts_with("http/1.1 401"), "{path}: {head}");
        assert!(head.contains("www-authenticate: basic"), "{path}: {head}");
        assert!(!body.contains("fim_"), "{body}");
    }
    let mut stream = TcpStream::connect(address).unwrap();
    // printf 'prometheus:open sesame' | base64
    let login = "Authorization: Basic cHJvbWV0aGV1czpvcGVuIHNlc2FtZQ==";
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n{login}\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(response.contains("fim_build_info"), "{response}");
}

#[test]
fn idle_clients_do_not_stop_it_for_others() {
    let (address, _runtime) = server(metrics(), Arc::new(Health::starting()));
    let _idle: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(request(address, "GET /metrics").0.starts_with("http/1.1 200"));
}

#[test]
fn it_ends_when_told() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    stop.send(()).unwrap();
    let shutdown = async {
        let _ = stopped.await;
    };
    runtime
        .block_on(serve(
            listener,
            metrics(),
            Arc::new(Health::starting()),
            Arc::default(),
            shutdown,
        ))
        .unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_port_that_cannot_be_had_is_named() {
    let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_addr().unwrap();
    let error = bind(address).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    // TEST-NET-1 of RFC 5737 is nobody's address.
    let error = bind("192.0.2.1:9977".parse().unwrap()).unwrap_err();
    assert!(matches!(error, BindError::NotAvailable(_)), "{error}");
}
