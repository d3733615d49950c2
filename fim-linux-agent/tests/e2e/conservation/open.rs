//! More open at once than the programs in the kernel remember.

use std::fs;

use super::Bench;
use crate::environment::{Backend, alone, backend, is_ready, skip};
use crate::event::{path_text, sha256};
use crate::operator::content::Content;
use crate::operator::{Hold, Op, Operator, Raw};

/// More than the map of open descriptions has room for.
const MANY: u32 = 65_536 + 100;

/// The close of a file for which there was no room is told all the same: of a mapping on tmpfs nothing
/// else tells.
#[test]
fn more_open_files_than_are_remembered() {
    if !is_ready("conservation::open") {
        return;
    }
    if backend() != Backend::Bpf {
        return skip("conservation::open", "fanotify remembers no open files");
    }
    let _alone = alone();
    let (first, second) = (b"stored before\n".to_vec(), b"stored behind\n".to_vec());
    let bench = Bench::start("open", "ring_bytes = \"64MiB\"", true, |watched| {
        for name in ["many", "file"] {
            fs::write(watched.join(name), "old content  \n").unwrap();
        }
    });
    let path = bench.watched.join("file");
    let store = Content::StoreTwice {
        path: Raw::from(&path),
        first: first.clone(),
        second: second.clone(),
        beside: Some((Raw::from(&bench.watched.join("many")), MANY)),
    };
    let mut running = Operator::new(Op::Content(store)).hold(Hold::BeforeClose).start();
    let report = running.report();
    let told = |bytes: &[u8]| {
        let (path, hash) = (path_text(&path), sha256(bytes));
        let event = bench.agent.stream.wait_below(&bench.watched, |event| {
            event.path() == path && event.text("file.hash.sha256") == Some(&hash)
        });
        let event = event.unwrap_or_else(|error| panic!("{error}\n{}", bench.agent.log()));
        assert_eq!(event.action(), "updated", "{event}");
        assert_eq!(event.number("process.pid"), Some(report.pid.into()), "{event}");
    };
    told(&first);
    running.finish();
    told(&second);
    bench.agent.stop();
}
