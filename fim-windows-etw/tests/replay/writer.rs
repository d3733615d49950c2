//! Writes event traces as ETW does, to read them back: 32 and 64 bits, compressed or not, with each
//! clock, one row of buffers for each processor.

use std::collections::HashMap;

use fim_windows_etw::decode::{FIELDS, Field, Kind, Provider, table};
use fim_windows_etw::etl::{Clock, EventKey, PointerSize, Source};
use serde_json::Value;

/// Begin of each trace, FILETIME.
pub const START: u64 = 134_360_063_000_000_000;
/// The stamp that stands for it.
const START_TICKS: u64 = 5_000_000_000;

pub struct Options {
    pub pointer: PointerSize,
    pub clock: Clock,
    pub compressed: bool,
    pub lost: (u32, u32),
}

impl Default for Options {
    fn default() -> Self {
        Self { pointer: PointerSize::Eight, clock: Clock::Qpc, compressed: false, lost: (0, 0) }
    }
}

/// One event to be written.
#[derive(Clone, Default)]
pub struct Written {
    pub pid: u32,
    pub tid: u32,
    /// FILETIME.
    pub time: u64,
    /// Extended items: type and data.
    pub items: Vec<(u16, Vec<u8>)>,
    pub payload: Vec<u8>,
}

const BUFFER: usize = 8192;
const HEADER: usize = 72;

pub struct Writer {
    options: Options,
    /// Of each processor: what it has filled, and what it is filling.
    processors: Vec<(Vec<Vec<u8>>, Vec<u8>)>,
}

impl Writer {
    pub fn new(options: Options, processors: usize) -> Self {
        Self { options, processors: vec![(Vec::new(), Vec::new()); processors] }
    }

    fn frequency(&self) -> u64 {
        match self.options.clock {
            Clock::Qpc => 3_579_545,
            Clock::System => 10_000_000,
            Clock::Cycles => 2_400 * 1_000_000,
        }
    }

    fn ticks(&self, time: u64) -> u64 {
        match self.options.clock {
            Clock::System => time,
            _ => {
                let passed = i128::from(time) - i128::from(START);
                // Upwards, so that reading gives the time back.
                let scaled = passed * i128::from(self.frequency());
                let ticks =
                    scaled.div_euclid(10_000_000) + i128::from(scaled.rem_euclid(10_000_000) > 0);
                u64::try_from(i128::from(START_TICKS) + ticks).unwrap()
            }
        }
    }

    fn record(&mut self, processor: usize, mut record: Vec<u8>) {
        record.resize(record.len().next_multiple_of(8), 0);
        let (full, current) = &mut self.processors[processor];
        if HEADER + current.len() + record.len() > BUFFER {
            full.push(std::mem::take(current));
        }
        current.extend(record);
    }

    /// Writes an event into a processor's buffer.
    pub fn event(&mut self, processor: usize, key: EventKey, event: &Written) {
        let Source::Manifest(guid) = key.source else { panic!("{key:?}") };
        let mut body = Vec::new();
        for (number, (kind, data)) in event.items.iter().enumerate() {
            let size = (8 + data.len()).next_multiple_of(8);
            let more = u16::from(number + 1 < event.items.len());
            for field in [size as u16, *kind, more, data.len() as u16] {
                body.extend(field.to_le_bytes());
            }
            body.extend(data);
            body.resize(body.len().next_multiple_of(8), 0);
        }
        body.extend(&event.payload);
        let kind = if self.options.pointer == PointerSize::Four { 0x12 } else { 0x13 };
        let mut record = Vec::new();
        record.extend(((0x50 + body.len()) as u16).to_le_bytes());
        record.extend([kind, 0xc0]);
        record.extend(u16::from(!event.items.is_empty()).to_le_bytes());
        record.extend([0; 2]);
        record.extend(event.tid.to_le_bytes());
        record.extend(event.pid.to_le_bytes());
        record.extend(self.ticks(event.time).to_le_bytes());
        record.extend(guid.to_bytes());
        record.extend(key.id.to_le_bytes());
        record.extend([key.version, 16, 4, 0]);
        record.resize(0x50, 0);
        record.extend(body);
        self.record(processor, record);
    }

    /// Writes a classic event of the kernel.
    pub fn kernel(&mut self, processor: usize, hook: u16, version: u16, event: &Written) {
        let kind = if self.options.pointer == PointerSize::Four { 1 } else { 2 };
        let mut record = Vec::new();
        record.extend(version.to_le_bytes());
        record.extend([kind, 0xc0]);
        record.extend(((0x20 + event.payload.len()) as u16).to_le_bytes());
        record.extend(hook.to_le_bytes());
        record.extend(event.tid.to_le_bytes());
        record.extend(event.pid.to_le_bytes());
        record.extend(self.ticks(event.time).to_le_bytes());
        record.resize(0x20, 0);
        record.extend(&event.payload);
        self.record(processor, record);
    }

    /// The log file header, which is the first record.
    fn header(&self, buffers: usize) -> Vec<u8> {
        let four = self.options.pointer == PointerSize::Four;
        let mut payload = Vec::new();
        let u32s = |payload: &mut Vec<u8>, values: &[u32]| {
            values.iter().for_each(|value| payload.extend(value.to_le_bytes()));
        };
        u32s(&mut payload, &[BUFFER as u32, 10 | 5 << 16, 26200, 4]);
        payload.extend((START + 60 * 10_000_000).to_le_bytes());
        u32s(&mut payload, &[156_250, 0, 1, buffers as u32, 1]);
        u32s(&mut payload, &[if four { 4 } else { 8 }, self.options.lost.0, 2_400]);
        payload.resize(if four { 240 } else { 248 }, 0);
        payload.extend(START.to_le_bytes());
        payload.extend(3_579_545u64.to_le_bytes());
        payload.extend(START.to_le_bytes());
        let clock = match self.options.clock {
            Clock::Qpc => 1,
            Clock::System => 2,
            Clock::Cycles => 3,
        };
        u32s(&mut payload, &[clock, self.options.lost.1]);
        payload.extend([0; 8]);
        let mut record = Vec::new();
        record.extend(2u16.to_le_bytes());
        record.extend([if four { 1 } else { 2 }, 0xc0]);
        record.extend(((0x20 + payload.len()) as u16).to_le_bytes());
        record.extend([0; 10]);
        record.extend(self.ticks(START).to_le_bytes());
        record.resize(0x20, 0);
        record.extend(payload);
        record
    }

    /// The file.
    pub fn finish(mut self) -> Vec<u8> {
        let count = 1 + self
            .processors
            .iter()
            .map(|(full, current)| full.len() + usize::from(!current.is_empty()))
            .sum::<usize>();
        let mut file = Vec::new();
        buffer(&mut file, 0, &self.header(count), false);
        let mut rows: Vec<Vec<Vec<u8>>> = Vec::new();
        for (full, current) in std::mem::take(&mut self.processors) {
            let mut row = full;
            if !current.is_empty() {
                row.push(current);
            }
            rows.push(row);
        }
        // The buffers of one processor first, then those of the next.
        for (processor, row) in rows.into_iter().enumerate() {
            for body in row {
                buffer(&mut file, processor as u16, &body, self.options.compressed);
            }
        }
        file
    }
}

fn buffer(file: &mut Vec<u8>, processor: u16, body: &[u8], compressed: bool) {
    let packed = if compressed { compress(body) } else { body.to_vec() };
    let size = if compressed { HEADER + packed.len() } else { BUFFER };
    let filled = HEADER + body.len();
    let begin = file.len();
    file.extend((size as u32).to_le_bytes());
    file.extend((filled as u32).to_le_bytes());
    file.resize(begin + 0x28, 0);
    file.extend(processor.to_le_bytes());
    file.extend(33u16.to_le_bytes());
    file.extend(3u32.to_le_bytes());
    file.extend((filled as u32).to_le_bytes());
    file.extend((if compressed { 0x61u16 } else { 0x21 }).to_le_bytes());
    file.resize(begin + HEADER, 0);
    file.extend(packed);
    file.resize(begin + size, 0xff);
}

/// Plain LZ77 ([MS-XCA] 2.3), with the nearest match that begins alike.
pub fn compress(input: &[u8]) -> Vec<u8> {
    let mut output = vec![0; 4];
    let (mut flags_at, mut flags, mut bit) = (0, 0u32, 32);
    let mut half: Option<usize> = None;
    let mut seen: HashMap<[u8; 3], usize> = HashMap::new();
    let mut at = 0;
    while at < input.len() {
        if bit == 0 {
            output[flags_at..flags_at + 4].copy_from_slice(&flags.to_le_bytes());
            flags_at = output.len();
            output.extend([0; 4]);
            (flags, bit) = (0, 32);
        }
        bit -= 1;
        let begin: Option<[u8; 3]> = input.get(at..at + 3).map(|b| b.try_into().unwrap());
        let from = begin.and_then(|begin| seen.insert(begin, at)).filter(|f| at - f <= 8192);
        let Some(from) = from else {
            output.push(input[at]);
            at += 1;
            continue;
        };
        flags |= 1 << bit;
        let length = (0..).take_while(|n| input.get(at + n) == Some(&input[from + n])).count();
        let length = length.min(60_000);
        let distance = at - from - 1;
        let short = (length - 3).min(7);
        output.extend(((distance << 3 | short) as u16).to_le_bytes());
        if short == 7 {
            let rest = length - 10;
            let nibble = rest.min(15) as u8;
            match half.take() {
                Some(place) => output[place] |= nibble << 4,
                None => {
                    half = Some(output.len());
                    output.push(nibble);
                }
            }
            if nibble == 15 {
                match rest - 15 {
                    byte @ 0..255 => output.push(byte as u8),
                    _ => {
                        output.push(255);
                        output.extend(((length - 3) as u16).to_le_bytes());
                    }
                }
            }
        }
        at += length;
    }
    // What is not used of the last flags says "match", at which the input ends.
    if bit > 0 {
        flags |= (1u64 << bit).wrapping_sub(1) as u32;
    }
    output[flags_at..flags_at + 4].copy_from_slice(&flags.to_le_bytes());
    output
}

/// The payload of an event by its manifest's table, of values by name; what is not named is zero or
/// empty. A SID is a text, as are bytes in hexadecimal.
pub fn payload(key: EventKey, values: &HashMap<String, Value>, pointer: PointerSize) -> Vec<u8> {
    let provider = Provider::of(key.source).unwrap();
    let layout = table::find(provider.table(), key.id, key.version)
        .unwrap_or_else(|| panic!("no layout for {key:?}"));
    let mut out = Vec::new();
    for field in layout.fields {
        let (name, kind) = FIELDS[*field as usize];
        // The manifest calls it FilePath in some events.
        let value = values
            .get(name)
            .or_else(|| (*field == Field::Name).then(|| values.get("FilePath")).flatten());
        let number = value.and_then(Value::as_u64).unwrap_or(0);
        let text = value.and_then(Value::as_str).unwrap_or("");
        match kind {
            Kind::Pointer if pointer == PointerSize::Four => {
                out.extend((number as u32).to_le_bytes());
            }
            Kind::Pointer | Kind::U64 => out.extend(number.to_le_bytes()),
            Kind::U32 => out.extend((number as u32).to_le_bytes()),
            Kind::Wide => out.extend(wide(text)),
            Kind::Ansi => out.extend(text.bytes().chain([0])),
            Kind::Sid => out.extend(sid(if text.is_empty() { "S-1-16-8192" } else { text })),
            Kind::ClassicSid if text.is_empty() => out.extend([0; 4]),
            Kind::ClassicSid => {
                out.extend(vec![1; 2 * pointer.bytes()]);
                out.extend(sid(text));
            }
            Kind::Binary => {
                let bytes: Vec<u8> = (0..text.len() / 2)
                    .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
                    .collect();
                out.extend((bytes.len() as u16).to_le_bytes());
                out.extend(bytes);
            }
        }
    }
    out
}

/// UTF-16 with its NUL.
pub fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// The bytes of a SID.
pub fn sid(text: &str) -> Vec<u8> {
    let mut parts = text.split('-').skip(2).map(|part| part.parse::<u64>().unwrap());
    let authority = parts.next().unwrap().to_be_bytes();
    let numbers: Vec<u64> = parts.collect();
    let mut bytes = vec![1, numbers.len() as u8];
    bytes.extend(&authority[2..]);
    numbers.iter().for_each(|number| bytes.extend((*number as u32).to_le_bytes()));
    bytes
}
