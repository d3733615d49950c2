//! Recorded traces. They are no part of this repository: they lie beside it, or where
//! `FIM_ETL_DIR` says.

use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The folder with the recorded traces; `None`, and says so: they are not there.
pub fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("FIM_ETL_DIR").map(PathBuf::from);
    let beside = || {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().map(|above| above.join("shared/etl")).find(|folder| folder.is_dir())
    };
    let found = named.or_else(beside);
    if found.is_none() {
        println!(
            "skipped: no recorded traces; FIM_ETL_DIR is not set, and there is no shared/etl \
             beside the repository"
        );
    }
    found
}

/// The only file in a zip archive, which is compressed by deflate or not at all.
pub fn unzipped(archive: &Path, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(archive).unwrap();
    let u16_at = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    // The central directory has the sizes; the headers of the files may not.
    let end = bytes.windows(4).rposition(|w| w == b"PK\x05\x06").unwrap();
    let mut entry = u32_at(end + 16);
    loop {
        assert_eq!(&bytes[entry..entry + 4], b"PK\x01\x02", "no {name} in the archive");
        let (length, extra, comment) = (u16_at(entry + 28), u16_at(entry + 30), u16_at(entry + 32));
        if &bytes[entry + 46..entry + 46 + length] == name.as_bytes() {
            break;
        }
        entry += 46 + length + extra + comment;
    }
    let (packed, local) = (u32_at(entry + 20), u32_at(entry + 42));
    let begin = local + 30 + u16_at(local + 26) + u16_at(local + 28);
    let content = &bytes[begin..begin + packed];
    let mut out = Vec::new();
    match u16_at(entry + 10) {
        0 => out.extend(content),
        8 => {
            flate2::read::DeflateDecoder::new(content).read_to_end(&mut out).unwrap();
        }
        method => panic!("compressed by method {method}"),
    }
    out
}
