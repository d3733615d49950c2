use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::object;

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, content).unwrap();
    (directory, path)
}

#[test]
fn known_answers() {
    let million = vec![b'a'; 1_000_000];
    let cases: [(&[u8], &str); 3] = [
        (b"", EMPTY),
        (b"abc", ABC),
        (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ];
    for (bytes, expected) in cases {
        let (_directory, path) = file(bytes);
        let id = object::stat(&path).unwrap().id();
        let outcome = content(&path, id, 10_000_000);
        assert_eq!(outcome.state, HashState::Exact);
        assert_eq!(outcome.sha256.as_deref(), Some(expected));
        assert_eq!(outcome.bytes, bytes.len() as u64);
        assert_eq!(outcome.after.unwrap().size, Some(bytes.len() as u64));
        assert!(outcome.seconds > 0.0);
    }
}

#[test]
fn identity_decides() {
    let (directory, path) = file(b"abc");
    let id = object::stat(&path).unwrap().id().unwrap();
    let cases = [
        (None, HashState::Exact),
        (Some(id), HashState::Exact),
        (Some(ObjectId { device: 0, ..id }), HashState::Exact),
        (Some(ObjectId { inode: id.inode + 1, ..id }), HashState::Gone),
        (Some(ObjectId { device: id.device + 1, ..id }), HashState::Gone),
    ];
    for (expected, state) in cases {
        let outcome = content(&path, expected, 100);
        assert_eq!(outcome.state, state, "{expected:?}");
        assert_eq!(outcome.sha256.is_some(), state == HashState::Exact);
    }
    // What is no file says nothing of the file that had its name.
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    let own = object::stat(&link).unwrap().id();
    assert_eq!(content(&link, Some(id), 100).state, HashState::Gone);
    assert_eq!(content(&link, own, 100).state, HashState::Skipped);
}

#[test]
fn what_has_no_hash_says_why() {
    let (directory, path) = file(b"abcd");
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    let cases = [
        (path.clone(), 3, HashState::TooLarge),
        (directory.path().join("none"), 100, HashState::Gone),
        (path.join("below-a-file"), 100, HashState::Gone),
        (link, 100, HashState::Skipped),
        (fifo, 100, HashState::Skipped),
        (directory.path().to_owned(), 100, HashState::Skipped),
    ];
    for (path, limit, state) in cases {
        let outcome = content(&path, None, limit);
        assert_eq!(outcome.state, state, "{}", path.display());
        assert_eq!((outcome.sha256, outcome.bytes), (None, 0));
    }
}

/// Rewrites a file of one letter with the next one, by writes of `part` bytes, and hashes it
/// meanwhile: two exact hashes of the same version must be the same.
fn rewritten_while_hashed(directory: &Path, part: usize) {
    const SIZE: usize = 1 << 20;
    let path = directory.join("file");
    fs::write(&path, vec![b'a'; SIZE]).unwrap();
    let write = |letter: u8| {
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let content = vec![letter; part];
        for _ in 0..SIZE / part {
            file.write_all(&content).unwrap();
        }
    };
    let stop = AtomicBool::new(false);
    let mut versions = std::collections::HashMap::new();
    let whole = [b'a', b'b', b'c'].map(|letter| hex(&Sha256::digest(vec![letter; SIZE])));
    let (mut exact, mut raced, mut wrong) = (0, 0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                b"bca".iter().copied().for_each(write);
            }
        });
        while exact + raced < 150 {
            let outcome = content(&path, None, u64::MAX);
            let version = outcome.after.and_then(|after| after.ctime);
            match outcome.sha256 {
                Some(hash) => {
                    exact += 1;
                    let known = versions.entry(version).or_insert_with(|| hash.clone());
                    // Between single writes of everything there is no mixture.
                    let torn = part == SIZE && !whole.contains(&hash);
                    wrong += usize::from(*known != hash || torn);
                }
                None => raced += usize::from(outcome.state == HashState::Raced),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{} by {part}: exact {exact}, raced {raced}", directory.display());
    assert_eq!(wrong, 0, "of {exact} exact ones");
    let last = content(&path, None, u64::MAX);
    assert_eq!(last.state, HashState::Exact, "nobody writes any more");
    assert_eq!(last.sha256.as_ref(), whole.first());
}

#[test]
fn a_file_that_is_rewritten_has_no_exact_wrong_hash() {
    // One write(2) that is going on for long, and many short ones; on disk and in memory.
    for part in [1 << 20, 4096] {
        rewritten_while_hashed(tempfile::tempdir().unwrap().path(), part);
        rewritten_while_hashed(crate::baseline::test_volume::tempdir().path(), part);
    }
}

#[test]
fn no_more_than_the_limit_is_read_from_a_growing_file() {
    let (_directory, path) = file(&[0; 1000]);
    let handle = Handle::open_content(&path).unwrap();
    let stat = handle.stat().unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&[0; 100_000]).unwrap();
    let mut bytes = 0;
    let cancel = AtomicBool::new(false);
    let reading = Reading::until(&cancel);
    let outcome = once(&handle, stat, 1000, &mut [0; 256], reading, &mut bytes, None);
    assert_eq!(outcome.state, HashState::Raced);
    assert_eq!(bytes, 1000);
}

#[test]
fn cancelled() {
    let (_directory, path) = file(&[0; 1000]);
    let outcome = content_until(&path, None, u64::MAX, &AtomicBool::new(true));
    assert_eq!((outcome.state, outcome.sha256), (HashState::Skipped, None));
}

#[tokio::test]
async fn the_pool_answers_every_job_and_counts_it() {
    let directory = tempfile::tempdir().unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&done);
    let pool = HashPool::new(PoolOptions {
        threads: 3,
        queue: 4,
        done: Some(Box::new(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        })),
    })
    .unwrap();
    let mut outcomes = Vec::new();
    for number in 0..200_u32 {
        let path = directory.path().join(number.to_string());
        // Fresh files, each changed within the current tick.
        fs::write(&path, number.to_le_bytes()).unwrap();
        let expected = object::stat(&path).unwrap().id();
        outcomes.push(
            pool.submit(Job { path, expected, limit: 100, compare: None, aside: None }).await,
        );
    }
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let outcome = outcome.await.unwrap();
        assert_eq!(outcome.state, HashState::Exact);
        let expected = hex(&Sha256::digest((number as u32).to_le_bytes()));
        assert_eq!(outcome.sha256, Some(expected));
    }
    assert_eq!(done.load(Ordering::SeqCst), 200);
    assert_eq!(pool.depth(), 0);
}

/// `done` holds the only hashing thread until the test lets it go.
#[tokio::test]
async fn a_full_queue_refuses_and_a_dropped_pool_says_so() {
    let (_directory, path) = file(b"abc");
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let (entered, inside) = std::sync::mpsc::channel::<()>();
    let pool = HashPool::new(PoolOptions {
        threads: 1,
        queue: 2,
        done: Some(Box::new(move |_| {
            entered.send(()).unwrap();
            let _ = held.lock().unwrap().recv();
        })),
    })
    .unwrap();
    let job = || Job { path: path.clone(), expected: None, limit: 100, compare: None, aside: None };
    let first = pool.try_submit(job()).unwrap();
    inside.recv().unwrap();
    let second = pool.try_submit(job()).unwrap();
    let third = pool.try_submit(job()).unwrap();
    assert_eq!(pool.depth(), 2);
    assert!(matches!(pool.try_submit(job()), Err(QueueFull)));
    drop(release);
    let answers = std::thread::spawn(move || drop(pool));
    assert_eq!(first.await.unwrap().sha256.as_deref(), Some(ABC));
    answers.join().unwrap();
    // Either was hashed before the pool noticed, or was discarded: never left without an answer.
    for outcome in [second, third] {
        if let Ok(outcome) = outcome.await {
            assert!(matches!(outcome.state, HashState::Exact | HashState::Skipped));
        }
    }
}

#[test]
fn the_rate_is_measured() {
    let rate = rate(Duration::from_millis(5));
    println!("{:.2} GB/s, SHA instructions: {}", rate / 1e9, hardware());
    assert!(rate > 1e6);
}
