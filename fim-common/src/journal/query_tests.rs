//! Finding events, with and without an index.

use std::fs;

use super::query::{Filter, Search, search};
use super::tests::event;
use super::*;
use crate::baseline::test_volume::tempdir;
use crate::event::actor::{Process, User};
use crate::event::{self, Action, Registry};
use crate::policy::Pattern;

/// 400 events in many segments, each different.
fn written() -> tempfile::TempDir {
    let directory = tempdir();
    let options = JournalOptions { segment_bytes: 20_000, segments: 1000, ..Default::default() };
    let mut journal = Journal::open(directory.path(), options).unwrap();
    for number in 0..400_u64 {
        let mut event = event(number + 1);
        event.timestamp = Timestamp::from_unix(1_700_000_000 + number as i64, 5);
        let file = event.file.as_mut().unwrap();
        file.path = format!("/srv/{}/\"quoted\" {}", number % 10, number);
        if number == 123 {
            event.event.kind = event::Kind::Alert;
        }
        event.event.action =
            if number.is_multiple_of(3) { Action::Deleted } else { Action::Updated };
        event.rule =
            Some(event::Rule { name: format!("rule {}", number % 7).into(), category: None });
        event.user = Some(
            User {
                id: Some((1000 + number % 5).to_string()),
                name: Some(format!("user{}", number % 5)),
                ..User::default()
            }
            .into(),
        );
        event.process = Some(
            Process {
                name: Some("sh".to_owned()),
                executable: Some(format!("/usr/bin/program{}", number % 4)),
                ..Process::default()
            }
            .into(),
        );
        journal.append(&event).unwrap();
    }
    drop(journal);
    directory
}

fn found(directory: &Path, filter: Filter) -> Vec<u64> {
    let mut numbers = Vec::new();
    let take = |line: &[u8]| {
        let event: Event = serde_json::from_slice(line)?;
        numbers.push(event.event.sequence - 1);
        Ok(true)
    };
    search(directory, &Search::new(filter), None, take).unwrap();
    numbers
}

fn expected(wanted: impl Fn(u64) -> bool) -> Vec<u64> {
    (0..400).filter(|number| wanted(*number)).collect()
}

fn all_filters(directory: &Path) {
    let at = |number: i64| Some(Timestamp::from_unix(1_700_000_000 + number, 5));
    let texts = |text: &str| vec![text.to_owned()];
    let path = |text: &str| Pattern::parse(text).unwrap();
    let default = Filter::default;
    assert_eq!(found(directory, default()), expected(|_| true));
    assert_eq!(found(directory, Filter { since: at(390), ..default() }), expected(|n| n >= 390));
    assert_eq!(found(directory, Filter { until: at(3), ..default() }), expected(|n| n < 3));
    let users = texts("user3");
    assert_eq!(found(directory, Filter { users, ..default() }), expected(|n| n % 5 == 3));
    let users = vec!["1001".to_owned(), "user2".to_owned()];
    assert_eq!(
        found(directory, Filter { users, ..default() }),
        expected(|n| [1, 2].contains(&(n % 5)))
    );
    for name in ["program2", "/usr/bin/program2"] {
        let processes = texts(name);
        assert_eq!(found(directory, Filter { processes, ..default() }), expected(|n| n % 4 == 2));
    }
    let actions = vec![Action::Deleted];
    assert_eq!(found(directory, Filter { actions, ..default() }), expected(|n| n % 3 == 0));
    let rules = texts("rule 6");
    assert_eq!(found(directory, Filter { rules, ..default() }), expected(|n| n % 7 == 6));
    assert!(found(directory, Filter { rules: texts("rule"), ..default() }).is_empty());
    let paths = path("/srv/4");
    assert_eq!(found(directory, Filter { paths, ..default() }), expected(|n| n % 10 == 4));
    let paths = path("/srv/*/?quoted? 77");
    assert_eq!(found(directory, Filter { paths, ..default() }), [77]);
    let paths = path("/srv/7/\"quoted\" 77");
    assert_eq!(found(directory, Filter { paths, users: texts("user2"), ..default() }), [77]);
    // Wherever it is.
    let paths = path("/**/\"quoted\" 399");
    assert_eq!(found(directory, Filter { paths, ..default() }), [399]);
    let paths = path("/**/\"quoted\" 39?");
    assert_eq!(found(directory, Filter { paths, ..default() }), expected(|n| n / 10 == 39));
    let paths = [path("/**/\"quoted\" 1"), path("/**")].concat();
    assert_eq!(found(directory, Filter { paths, ..default() }).len(), 400);
    assert!(found(directory, Filter { paths: path("/**/quoted"), ..default() }).is_empty());
    // By how the name begins or ends.
    for (text, wanted) in [
        ("/srv/7/\"quoted\" 7*", vec![7, 77]),
        ("/srv/*/\"quoted\" 12[0-4]", vec![120, 121, 122, 123, 124]),
        ("/**/\"q*d\" 398", vec![398]),
        ("/**/*ed\" 397", vec![397]),
        ("/srv/4/*.txt", vec![]),
    ] {
        assert_eq!(found(directory, Filter { paths: path(text), ..default() }), wanted, "{text}");
    }
    let paths = [path("/srv/1/\"quoted\" 11*"), path("/srv/2")].concat();
    assert_eq!(
        found(directory, Filter { paths, ..default() }),
        expected(|n| n % 10 == 2 || n == 11 || n == 111)
    );
    assert_eq!(found(directory, Filter { alerts: true, ..default() }), [123]);
}

#[test]
fn each_filter_finds_what_is_there_with_and_without_an_index() {
    let directory = written();
    let all = segments(directory.path()).unwrap();
    assert!(all.len() > 10);
    all_filters(directory.path());
    let indices: Vec<_> = all.iter().filter(|path| index::path(path).exists()).collect();
    assert_eq!(indices.len() + 1, all.len(), "of each closed segment");
    // Damaged, of another segment, or gone: made anew, and never believed.
    fs::write(index::path(&all[0]), b"nonsense").unwrap();
    fs::copy(index::path(&all[2]), index::path(&all[1])).unwrap();
    fs::remove_file(index::path(&all[3])).unwrap();
    assert!(index::read(&all[0]).is_none() && index::read(&all[1]).is_none());
    all_filters(directory.path());
    assert!(index::read(&all[0]).is_some() && index::read(&all[1]).is_some());
    // A segment that was changed since has another one.
    let text = fs::read_to_string(&all[5]).unwrap().replace("user3", "user9");
    fs::write(&all[5], text).unwrap();
    assert!(index::read(&all[5]).is_none());
    let users = vec!["user9".to_owned()];
    assert!(!found(directory.path(), Filter { users, ..Filter::default() }).is_empty());
}

#[test]
fn what_is_gathered_is_what_the_lines_have() {
    let directory = written();
    let all = segments(directory.path()).unwrap();
    // A thread that is behind leaves some out.
    let mut compared = 0;
    for path in &all[..all.len() - 1] {
        let Some(gathered) = index::read(path) else { continue };
        assert_eq!(gathered, index::build(path).unwrap(), "{}", path.display());
        compared += 1;
    }
    assert!(compared > 0);
    // Of a segment that another run began, some lines were not seen.
    let options = JournalOptions { segment_bytes: 8192, ..Default::default() };
    let mut journal = Journal::open(directory.path(), options).unwrap();
    let last = journal.path().to_owned();
    for number in 1..=20 {
        journal.append(&event(number)).unwrap();
    }
    journal.flush().unwrap();
    assert_ne!(journal.path(), last);
    drop(journal);
    let index = index::read(&last).unwrap();
    assert_eq!(index, index::build(&last).unwrap());
    let blocks: u64 = index.iter().map(|block| block.length).sum();
    assert_eq!(blocks, fs::metadata(&last).unwrap().len());
}

#[test]
fn paths_of_windows_are_found_however_they_are_spelt() {
    let directory = tempdir();
    let options = JournalOptions { segment_bytes: 8192, ..Default::default() };
    let mut journal = Journal::open(directory.path(), options).unwrap();
    for number in 0..40 {
        let mut event = event(number + 1);
        if number % 2 == 0 {
            let file = event.file.as_mut().unwrap();
            file.path = format!("C:\\Windows\\System32\\Driver{number}.SYS");
        } else {
            event.file = None;
            let path = format!("HKLM\\SOFTWARE\\Key {number}\\Value");
            event.registry = Some(Box::new(Registry { path, ..Registry::default() }));
        }
        journal.append(&event).unwrap();
    }
    drop(journal);
    assert!(segments(directory.path()).unwrap().len() > 2);
    let found = |text: &str| {
        let paths = Pattern::parse_windows(text).unwrap();
        found(directory.path(), Filter { paths, ..Filter::default() })
    };
    assert_eq!(found("c:/windows/system32/driver4.sys"), [4]);
    assert_eq!(found("C:\\Windows\\*\\driver1?.sys"), [10, 12, 14, 16, 18]);
    assert_eq!(found("/**/driver30.SYS"), [30]);
    assert_eq!(found("C:\\WINDOWS").len(), 20);
    assert_eq!(found("HKLM\\Software\\Key 7"), [7]);
    assert_eq!(found("HKLM\\Software\\*\\value").len(), 20);
    assert!(found("C:\\Win").is_empty() && found("HKLM\\Software\\Key").is_empty());
}

#[test]
fn an_index_leaves_most_blocks_out() {
    let directory = tempdir();
    let options = JournalOptions { segment_bytes: 3 << 20, ..Default::default() };
    let mut journal = Journal::open(directory.path(), options).unwrap();
    for number in 1..=10_000 {
        let mut event = event(number);
        let file = event.file.as_mut().unwrap();
        file.path = format!("/srv/{number}");
        journal.append(&event).unwrap();
    }
    let path = segments(directory.path()).unwrap().remove(0);
    drop(journal);
    let blocks = index::read(&path).or_else(|| index::build(&path).ok()).unwrap();
    assert!(blocks.len() > 10, "{}", blocks.len());
    let may = |path: &str| {
        let term = index::Term::Path(path.as_bytes()).hash();
        blocks.iter().filter(|block| block.may_have(term)).count()
    };
    assert_eq!(may("/srv"), blocks.len());
    let may_begin = |name: &str| {
        let term = index::start(name.as_bytes()).unwrap().hash();
        blocks.iter().filter(|block| block.may_have(term)).count()
    };
    assert!(may_begin("1234") <= 2 && may_begin("12") > 0, "{}", may_begin("1234"));
    assert_eq!(may("/srv/1000"), 1);
    let wrong: usize = (0..1000).map(|number| may(&format!("/nowhere/{number}"))).sum();
    assert!(
        wrong * 25 < blocks.len() * 1000,
        "{wrong} of {} are read in vain",
        blocks.len() * 1000
    );
}

#[test]
fn a_line_across_the_parts_is_found_once() {
    let directory = tempdir();
    let mut journal = Journal::open(directory.path(), JournalOptions::default()).unwrap();
    for number in 1..=3 {
        let mut event = event(number);
        event.fim.message = Some("x".repeat(3 << 20));
        journal.append(&event).unwrap();
    }
    drop(journal);
    assert_eq!(found(directory.path(), Filter::default()), [0, 1, 2]);
}
