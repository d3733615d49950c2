//! The log file header: the first record of a trace, and what it says of all others.

use super::bytes::{u32_at, u64_at};
use super::record::{PointerSize, Record};

/// Which clock gave the time stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The performance counter.
    Qpc,
    /// The system time: stamps are FILETIME already.
    System,
    /// The cycle counter of the CPU.
    Cycles,
}

impl Clock {
    /// Its name in statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qpc => "performance_counter",
            Self::System => "system_time",
            Self::Cycles => "cpu_cycles",
        }
    }
}

/// `TRACE_LOGFILE_HEADER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFileHeader {
    /// Bytes of a buffer in memory.
    pub buffer_size: u32,
    /// Major and minor version of Windows.
    pub version: (u8, u8),
    /// Build of Windows.
    pub build: u32,
    /// Processors of the machine.
    pub processors: u32,
    /// How wide pointers are.
    pub pointer_size: PointerSize,
    /// `EVENT_TRACE_…_MODE` flags.
    pub mode: u32,
    /// Buffers in the file, when the session was ended in order.
    pub buffers_written: u32,
    /// Events that were lost in the session.
    pub events_lost: u32,
    /// Buffers that were lost in the session.
    pub buffers_lost: u32,
    /// Begin of the trace, FILETIME.
    pub start: u64,
    /// End of the trace, FILETIME; 0: it was not ended in order.
    pub end: u64,
    /// Of the time stamps.
    pub clock: Clock,
    /// Ticks of the clock a second; never 0.
    pub frequency: u64,
    /// The stamp of the header's own record, which is that of `start`.
    pub start_ticks: u64,
}

const FLAG_CIRCULAR: u32 = 0x2;

impl LogFileHeader {
    /// From the first record of a trace; `None`: it is no such header.
    pub fn parse(record: &Record<'_>) -> Option<Self> {
        let payload = record.payload;
        // The two name pointers are as wide as those of the record; everything behind them moves.
        let (boot, least) = match record.pointer_size {
            PointerSize::Four => (240, 272),
            PointerSize::Eight => (248, 280),
        };
        if payload.len() < least {
            return None;
        }
        let version = u32_at(payload, 4)?.to_le_bytes();
        let pointer_size = match u32_at(payload, 44)? {
            4 => PointerSize::Four,
            8 => PointerSize::Eight,
            _ => record.pointer_size,
        };
        let start = u64_at(payload, boot + 16)?;
        let start_ticks = record.ticks?;
        let clock = match u32_at(payload, boot + 24)? {
            2 => Clock::System,
            3 => Clock::Cycles,
            1 => Clock::Qpc,
            // Not said: a stamp that is the start itself is system time.
            _ if start_ticks.abs_diff(start) < 864_000_000_000 => Clock::System,
            _ => Clock::Qpc,
        };
        let frequency = match clock {
            Clock::Qpc => u64_at(payload, boot + 8)?,
            Clock::System => 10_000_000,
            Clock::Cycles => u64::from(u32_at(payload, 52)?) * 1_000_000,
        };
        Some(Self {
            buffer_size: u32_at(payload, 0)?,
            version: (version[0], version[1]),
            build: u32_at(payload, 8)?,
            processors: u32_at(payload, 12)?,
            pointer_size,
            mode: u32_at(payload, 32)?,
            buffers_written: u32_at(payload, 36)?,
            events_lost: u32_at(payload, 48)?,
            buffers_lost: u32_at(payload, boot + 28)?,
            start,
            end: u64_at(payload, 16)?,
            clock,
            frequency: frequency.max(1),
            start_ticks,
        })
    }

    /// FILETIME of a time stamp. Absurd stamps are clamped, never an overflow.
    pub fn filetime(&self, ticks: u64) -> u64 {
        if self.clock == Clock::System {
            return ticks;
        }
        let passed = i128::from(ticks) - i128::from(self.start_ticks);
        // Towards minus infinity, so that order is kept around the start.
        let passed = (passed * 10_000_000).div_euclid(i128::from(self.frequency));
        u64::try_from((i128::from(self.start) + passed).max(0)).unwrap_or(u64::MAX)
    }

    /// The oldest buffers were overwritten by newer ones, as it was asked for.
    pub fn is_circular(&self) -> bool {
        self.mode & FLAG_CIRCULAR != 0
    }
}
