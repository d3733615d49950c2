// Paths as they are on Unix, where sinks are.
#![cfg(unix)]

use std::path::Path;

use super::raw::SECTIONS;
use super::sink::{Sink, Target};
use super::{Config, Error, Problem, to_toml};

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, Path::new("f.toml"))
}

fn sinks(text: &str) -> Vec<Sink> {
    parse(text).unwrap_or_else(|error| panic!("{text}\n{error}")).sinks
}

/// The least that each type wants.
const LEAST: &[(&str, &str)] = &[
    ("file", "path = '/var/log/fim.jsonl'"),
    ("stdout", ""),
    ("syslog", "url = 'tls://log.example.org'"),
    ("elasticsearch", "url = 'http://search'\nindex = 'logs-fim-default'"),
    ("splunk", "url = 'http://splunk'"),
    ("http", "url = 'http://hook/path?query'"),
    ("otlp", "url = 'http://collector'"),
    ("kafka", "url = 'tcp://broker'\ntopic = 'fim-events'"),
];

/// All that each type can have.
const MOST: &[(&str, &str)] = &[
    ("file", "path = '/a b'"),
    ("stdout", "format = 'ecs'"),
    (
        "syslog",
        "url = 'tls://[::1]:7000'\nfacility = 'audit'\napp_name = 'x'\nca_file = '/ca'\n\
         cert_file = '/cert'\nkey_file = '/key'\nserver_name = 'n'",
    ),
    (
        "elasticsearch",
        "url = 'https://h:1/base'\nindex = 'x'\ncompression = 'none'\nusername = 'u'\n\
         password_file = '/p'\nca_file = '/ca'\ncert_file = '/cert'\nkey_file = '/key'",
    ),
    ("elasticsearch", "url = 'https://h'\nindex = 'x'\nusername = 'u'\npassword_env = 'P'"),
    ("splunk", "url = 'https://h'\nindex = 'x'\nsource_type = 'y'\ntoken_file = '/t'"),
    ("http", "url = 'https://[::1]/'\ntoken_env = 'T'"),
    ("otlp", "url = 'https://h:4317'\nprotocol = 'grpc'"),
    (
        "kafka",
        "url = 'tls://k1:1,[::1]:2, k3'\ntopic = 'a.B_c-1'\ncompression = 'lz4'\nusername = 'u'\n\
         password_file = '/p'\nmechanism = 'plain'\nca_file = '/ca'\ncert_file = '/cert'\n\
         key_file = '/key'",
    ),
    (
        "kafka",
        "url = 'tcp://k1:1'\ntopic = 'a'\nusername = 'u'\npassword_env = 'P'\n\
         mechanism = 'scram-sha-256'\nformat = 'ocsf'",
    ),
    ("syslog", "url = 'unix:///dev/log'\nformat = 'cef'"),
    ("syslog", "url = 'tcp://10.0.0.1'"),
];

const COMMON: &str = "min_severity = 'high'\nkinds = ['alert', 'state']\nstart = 'newest'\n\
    batch_events = 1\nbatch_bytes = '4KiB'\nbatch_wait_ms = 0\nmax_events_per_second = 0\n\
    timeout = 1\nmax_retry_wait = 3600\nmax_parked_bytes = 0\n";

#[test]
fn what_is_in_force_reads_back_the_same() {
    for (kind, keys) in LEAST.iter().chain(MOST) {
        for common in ["", COMMON] {
            let text = format!("[[sink]]\nname = 'a'\ntype = '{kind}'\n{keys}\n{common}");
            let config = parse(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
            let shown = to_toml(&config, &|path| path.to_owned(), &|_| None);
            assert_eq!(parse(&shown).unwrap().sinks, config.sinks, "{shown}");
        }
    }
}

/// Each default in the reference is what is in force without the key.
#[test]
fn the_reference_tells_the_truth() {
    let section = SECTIONS.iter().find(|section| section.title == "[[sink]]").unwrap();
    for (kind, least) in LEAST {
        let start = format!("[[sink]]\nname = 'a'\ntype = '{kind}'\n{least}\n");
        for field in section.fields.iter().filter(|field| !field.default.is_empty()) {
            let text = format!("{start}{} = {}\n", field.key, field.default);
            match parse(&text) {
                Ok(config) => assert_eq!(config.sinks, sinks(&start), "{text}"),
                // Of other types.
                Err(error) => assert!(error.to_string().contains(" has no "), "{text}\n{error}"),
            }
        }
    }
    let all: Vec<&str> = MOST.iter().chain(LEAST).map(|(_, keys)| *keys).collect();
    let all = format!("{}\nname =\ntype =\n{COMMON}", all.join("\n"));
    for field in section.fields {
        let key = format!("{} =", field.key);
        assert!(all.lines().any(|line| line.starts_with(&key)), "no test says {key}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let problems = |text: &str| match parse(text) {
        Err(Error::Invalid { problems }) => {
            problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
        }
        other => panic!("{text}: {other:?}"),
    };
    for (sink, line, wanted) in [
        ("type = 'stdout'", 1, "the sink has no name"),
        ("name = 'a b'\ntype = 'stdout'", 2, "1 to 48 letters"),
        ("name = 'a'", 1, "the sink has no type"),
        ("name = 'a'\ntype = 'pigeon'", 3, "type \"pigeon\" is unknown; allowed: \"file\""),
        ("name = 'a'\ntype = 'file'", 1, "the sink has no path"),
        ("name = 'a'\ntype = 'file'\npath = 'x'", 4, "not an absolute path"),
        ("name = 'a'\ntype = 'stdout'\npath = '/x'", 4, "of type \"stdout\" has no path"),
        ("name = 'a'\ntype = 'syslog'", 1, "the sink has no url"),
        ("name = 'a'\ntype = 'syslog'\nurl = 'udp://h'", 4, "no receiver of syslog"),
        ("name = 'a'\ntype = 'syslog'\nurl = 'tcp://h:0'", 4, "no receiver of syslog"),
        ("name = 'a'\ntype = 'syslog'\nurl = 'tcp://u:p@h'", 4, "no receiver of syslog"),
        ("name = 'a'\ntype = 'syslog'\nurl = 'tcp://h'\nca_file = '/x'", 4, "without tls://"),
        ("name = 'a'\ntype = 'syslog'\nurl = 'tls://h'\nkey_file = '/x'", 1, "together only"),
        ("name = 'a'\ntype = 'syslog'\nurl = 'tcp://h'\nfacility = 'x'", 5, "\"x\" is unknown"),
        ("name = 'a'\ntype = 'http'", 1, "the sink has no url"),
        ("name = 'a'\ntype = 'http'\nurl = 'ftp://h'", 4, "is no address"),
        ("name = 'a'\ntype = 'http'\nurl = 'http://u:p@h'", 4, "is no address"),
        ("name = 'a'\ntype = 'http'\nurl = 'http://h'\nca_file = '/x'", 4, "without https://"),
        ("name = 'a'\ntype = 'http'\nurl = 'http://h'\nusername = 'u'", 1, "either username"),
        ("name = 'a'\ntype = 'http'\nurl = 'http://h'\nindex = 'u'", 5, "has no index"),
        ("name = 'a'\ntype = 'elasticsearch'\nurl = 'http://h'", 1, "the sink has no index"),
        (
            "name = 'a'\ntype = 'elasticsearch'\nurl = 'http://h'\nindex = 'A'",
            5,
            "is no name of an index",
        ),
        (
            "name = 'a'\ntype = 'splunk'\nurl = 'http://h'\ntoken_env = 'a'\ntoken_file = '/b'",
            5,
            "in a file already",
        ),
        ("name = 'a'\ntype = 'kafka'\ntopic = 'x'", 1, "the sink has no url"),
        ("name = 'a'\ntype = 'kafka'\nurl = 'tcp://h'", 1, "the sink has no topic"),
        ("name = 'a'\ntype = 'kafka'\nurl = 'tcp://h'\ntopic = 'a b'", 5, "no name of a topic"),
        ("name = 'a'\ntype = 'kafka'\nurl = 'tcp://h,'\ntopic = 'a'", 4, "no list of brokers"),
        ("name = 'a'\ntype = 'kafka'\nurl = 'http://h'\ntopic = 'a'", 4, "no list of brokers"),
        (
            "name = 'a'\ntype = 'kafka'\nurl = 'tcp://h'\ntopic = 'a'\nca_file = '/x'",
            4,
            "without tls://",
        ),
        (
            "name = 'a'\ntype = 'kafka'\nurl = 'tcp://h'\ntopic = 'a'\nusername = 'u'\n\
             password_file = '/p'\nmechanism = 'plain'",
            8,
            "could be read on its way",
        ),
        (
            "name = 'a'\ntype = 'kafka'\nurl = 'tcp://h'\ntopic = 'a'\nusername = 'u'",
            1,
            "username goes with",
        ),
        (
            "name = 'a'\ntype = 'kafka'\nurl = 'tls://h'\ntopic = 'a'\nserver_name = 'u'",
            6,
            "has no server_name",
        ),
        (
            "name = 'a'\ntype = 'elasticsearch'\nurl = 'http://h'\nindex = 'a'\nformat = 'cef'",
            6,
            "takes JSON",
        ),
        ("name = 'a'\ntype = 'stdout'\nkinds = ['x']", 4, "kind \"x\" is unknown"),
        ("name = 'a'\ntype = 'stdout'\nformat = 'xml'", 4, "\"xml\" is unknown"),
        ("name = 'a'\ntype = 'stdout'\nbatch_events = 0", 4, "out of range"),
        (
            "name = 'a'\ntype = 'stdout'\n[[sink]]\nname = 'a'\ntype = 'file'\npath = '/x'",
            4,
            "two sinks have the name \"a\"",
        ),
        (
            "name = 'a'\ntype = 'stdout'\n[[sink]]\nname = 'b'\ntype = 'stdout'",
            4,
            "taken by the sink at line 1",
        ),
    ] {
        let said = problems(&format!("[[sink]]\n{sink}\n"));
        assert!(said.contains(wanted), "{sink}\n{said}");
        assert!(said.starts_with(&format!("f.toml:{line}:")), "{sink}\n{said}");
    }
    assert!(matches!(sinks("[[sink]]\nname='a'\ntype='stdout'")[0].target, Target::Stdout));
}
