//! Queue, form and order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::decode::KERNEL_FILE;
use crate::etl::Source;

fn header(time: u64, id: u16) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    // What the system leaves in the first words is of no use.
    header[..4].copy_from_slice(&[1, 2, 3, 4]);
    header[4..6].copy_from_slice(&0x41_u16.to_le_bytes());
    header[0x10..0x18].copy_from_slice(&time.to_le_bytes());
    header[0x18..0x28].copy_from_slice(&KERNEL_FILE.to_bytes());
    header[0x28..0x2a].copy_from_slice(&id.to_le_bytes());
    header
}

fn record(time: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(write(&mut out, &header(time, 12), std::iter::empty(), payload));
    out
}

#[test]
fn a_record_is_read_as_one_of_a_file() {
    let mut out = vec![0; 8];
    let sid = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
    let items = [(5, &[9; 40][..]), (2, &sid[..]), (13, &7_u64.to_le_bytes()[..])];
    assert!(write(&mut out, &header(99, 12), items.into_iter(), b"payload"));
    let (record, length) = Record::parse(&out[8..]).unwrap();
    assert_eq!(length, out.len() - 8);
    assert_eq!(record.key.source, Source::Manifest(KERNEL_FILE));
    assert_eq!((record.key.id, record.filetime, record.payload), (12, 99, &b"payload"[..]));
    assert_eq!((record.items.sid(), record.items.process_start_key()), (Some(&sid[..]), Some(7)));
    assert_eq!(record.items.iter().count(), 2, "the stack is left out");
    // Without items, and with what is too long for a record.
    let mut out = Vec::new();
    assert!(write(&mut out, &header(1, 1), std::iter::empty(), b""));
    assert_eq!(Record::parse(&out).unwrap().0.payload, b"");
    assert!(!write(&mut out, &header(1, 1), std::iter::empty(), &[0; 65_500]));
    assert_eq!(out.len(), HEADER_BYTES);
}

#[test]
fn a_full_queue_counts_by_time_and_never_waits() {
    let queue: Queue<u8> = Queue::new(200);
    for time in [5, 6, 9, 7] {
        queue.push(time, 96, |out| {
            out.extend([0; 96]);
            true
        });
    }
    queue.push(1, 8, |_| false);
    queue.post(1);
    assert!(queue.send(2));
    let batch = queue.take(Duration::ZERO);
    assert_eq!((batch.records.len(), batch.messages, batch.closed), (192, vec![1, 2], false));
    assert_eq!(batch.lost, Some(Lost { count: 3, times: (1, 9) }));
    assert_eq!(queue.counts(), (2, 3, 192));
    assert!(queue.take(Duration::ZERO).lost.is_none(), "told once");
    queue.close();
    assert!(!queue.send(3));
    queue.push(9, 1, |_| true);
    let batch = queue.take(Duration::from_secs(1000));
    assert!(batch.closed && batch.records.is_empty());
    assert_eq!(batch.lost.map(|lost| lost.count), Some(1));
}

fn times(order: &mut Order, now: Option<Instant>) -> Vec<u64> {
    std::iter::from_fn(|| order.pop(now)).map(|held| held.record().unwrap().filetime).collect()
}

#[test]
fn what_comes_within_the_hold_is_in_order() {
    let hold = Duration::from_secs(10);
    let mut order = Order::new(hold, 1 << 20);
    let begin = Instant::now();
    let push = |order: &mut Order, at: Duration, times: &[u64]| {
        let records: Vec<u8> = times.iter().flat_map(|time| record(*time, b"x")).collect();
        assert_eq!(order.push(Arc::new(records), begin + at), 0);
    };
    push(&mut order, Duration::ZERO, &[20, 10]);
    push(&mut order, Duration::from_secs(5), &[15, 30]);
    assert_eq!(order.due(), Some(begin + hold));
    assert!(times(&mut order, Some(begin + Duration::from_secs(9))).is_empty());
    // What is earlier than what is due comes along; what is later waits.
    assert_eq!(times(&mut order, Some(begin + hold)), [10, 15, 20]);
    push(&mut order, Duration::from_secs(11), &[25]);
    assert_eq!(times(&mut order, Some(begin + Duration::from_secs(15))), [25, 30]);
    // Too late.
    push(&mut order, Duration::from_secs(16), &[3]);
    assert_eq!(times(&mut order, None), [3]);
    assert_eq!((order.late(), order.due()), (1, None));
}

#[test]
fn memory_is_bounded_whatever_the_hold() {
    let mut order = Order::new(Duration::from_secs(1000), 10_000);
    let now = Instant::now();
    let mut popped = 0;
    for time in 0..1000 {
        order.push(Arc::new(record(time, &[0; 100])), now);
        popped += times(&mut order, Some(now)).len();
        assert!(1 + time as usize - popped <= 10_000 / 184 + 1);
    }
    assert!(popped > 900);
}

#[test]
fn the_same_record_counts_once() {
    let mut order = Order::new(Duration::ZERO, 1 << 20);
    let mut records = Vec::new();
    for (time, payload) in [(1, b"a"), (1, b"b"), (1, b"a"), (2, b"a"), (2, b"a"), (3, b"a")] {
        records.extend(record(time, payload));
    }
    records.extend([7; 16]);
    assert_eq!(order.push(Arc::new(records), Instant::now()), 1, "no record at the end");
    assert_eq!(times(&mut order, None), [1, 1, 2, 3]);
    assert_eq!(order.duplicates(), 2);
}
