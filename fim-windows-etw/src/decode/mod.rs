//! From a record's payload to what it says: pure, for every id and version that matters, by the
//! tables of the manifests ([`table`]).
//!
//! A version that no table has is said ([`Undecoded::Version`]) and counted, never guessed. A
//! payload that does not fit its layout to the last byte is [`Undecoded::Misfit`]: nothing of it is
//! used, since no field of it can be trusted.

use crate::etl::{EventKey, Guid, PointerSize, Record, Source};

mod fields;
mod reader;
mod sid;
pub mod table;
mod text;

pub use fields::{FIELDS, Field, Kind};
pub use reader::Misfit;
pub use sid::{Sid, integrity_level};
pub use table::Layout;
pub use text::{Ansi, Wide};

use reader::Reader;

/// Microsoft-Windows-Kernel-File.
pub const KERNEL_FILE: Guid = Guid::new(0xedd0_8927_9cc4_4e65_b970_c256_0fb5_c289);
/// Microsoft-Windows-Kernel-Registry.
pub const KERNEL_REGISTRY: Guid = Guid::new(0x70eb_4f03_c1de_4f73_a051_33d1_3d54_13bd);
/// Microsoft-Windows-Kernel-Process.
pub const KERNEL_PROCESS: Guid = Guid::new(0x22fb_2cd6_0e7b_422b_a0c7_2fad_1fd0_e716);
/// The classic class `FileIo`.
pub const CLASSIC_FILE: Guid = Guid::new(0x90cb_dc39_4a3e_11d1_84f4_0000_f804_64e3);
/// The classic class `Process`.
pub const CLASSIC_PROCESS: Guid = Guid::new(0x3d6f_a8d0_fe05_11d0_9dda_00c0_4fd7_ba7c);

/// `EVENT_TRACE_GROUP_PROCESS` and `EVENT_TRACE_GROUP_FILE`, as the high byte of a hook id.
const GROUP_PROCESS: u8 = 0x03;
const GROUP_FILE: u8 = 0x04;

/// What provider an event is of, among those that are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Microsoft-Windows-Kernel-File.
    File,
    /// Microsoft-Windows-Kernel-Registry.
    Registry,
    /// Microsoft-Windows-Kernel-Process.
    Process,
    /// Classic `FileIo`.
    ClassicFile,
    /// Classic `Process`.
    ClassicProcess,
}

impl Provider {
    /// Whose event this is; `None`: of somebody else.
    pub fn of(source: Source) -> Option<Self> {
        Some(match source {
            Source::Manifest(KERNEL_FILE) => Self::File,
            Source::Manifest(KERNEL_REGISTRY) => Self::Registry,
            Source::Manifest(KERNEL_PROCESS) => Self::Process,
            Source::Classic(CLASSIC_FILE) | Source::Kernel(GROUP_FILE) => Self::ClassicFile,
            Source::Classic(CLASSIC_PROCESS) | Source::Kernel(GROUP_PROCESS) => {
                Self::ClassicProcess
            }
            _ => return None,
        })
    }

    /// Its layouts.
    pub fn table(self) -> &'static [Layout] {
        match self {
            Self::File => table::KERNEL_FILE,
            Self::Registry => table::KERNEL_REGISTRY,
            Self::Process => table::KERNEL_PROCESS,
            Self::ClassicFile => table::CLASSIC_FILE,
            Self::ClassicProcess => table::CLASSIC_PROCESS,
        }
    }
}

/// Why an event was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecoded {
    /// Of a provider that is not decoded.
    Provider,
    /// Of a provider that is, with an id that has nothing to say here.
    Id,
    /// A version of the event that no table has.
    Version,
    /// The payload does not fit the layout.
    Misfit(Misfit),
}

macro_rules! values {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $field:ident,)*) => {
        /// The fields of an event: those that its layout has.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Values<'a> {
            $($(#[$doc])* pub $name: Option<$type>,)*
        }
    };
}

values! {
    /// The request: what the completion names again.
    irp: u64 = Irp,
    /// The open file: one for each handle that was opened.
    file_object: u64 = FileObject,
    /// The file: the same for all that have it open.
    file_key: u64 = FileKey,
    /// Options in the lower three bytes, disposition in the highest.
    create_options: u32 = CreateOptions,
    /// File name or path.
    name: Wide<'a> = Name,
    /// Bytes that were to be read or written.
    io_size: u32 = IoSize,
    /// Flags of the request (`IRP_…`).
    io_flags: u32 = IoFlags,
    /// By event: what was set, or the I/O status information.
    extra: u64 = ExtraInformation,
    /// `FILE_INFORMATION_CLASS` or `KEY_…_INFORMATION_CLASS`.
    info_class: u32 = InfoClass,
    /// NTSTATUS.
    status: u32 = Status,
    /// The key that a name is relative to.
    base_object: u64 = BaseObject,
    /// The open key: one for each handle.
    key_object: u64 = KeyObject,
    /// 1: created, 2: opened.
    disposition: u32 = Disposition,
    /// Name of the base key; mostly empty.
    base_name: Wide<'a> = BaseName,
    /// Name below the base key, or absolute.
    relative_name: Wide<'a> = RelativeName,
    /// Name of the key; mostly empty.
    key_name: Wide<'a> = KeyName,
    /// Name of the value; empty for the key's default value.
    value_name: Wide<'a> = ValueName,
    /// Bytes of the value's data.
    data_size: u32 = DataSize,
    /// `REG_…`.
    data_type: u32 = DataType,
    /// The data, as far as it was recorded.
    data: &'a [u8] = CapturedData,
    /// `REG_…` before.
    previous_type: u32 = PreviousDataType,
    /// Bytes before.
    previous_size: u32 = PreviousDataSize,
    /// The data before, as far as it was recorded.
    previous_data: &'a [u8] = PreviousData,
    /// The process that the event is about.
    process_id: u32 = ProcessId,
    /// Unique to the process since boot.
    sequence_number: u64 = SequenceNumber,
    /// FILETIME.
    create_time: u64 = CreateTime,
    /// Its parent.
    parent_id: u32 = ParentId,
    /// Its parent's.
    parent_sequence_number: u64 = ParentSequenceNumber,
    /// Terminal services session.
    session_id: u32 = SessionId,
    /// `TOKEN_ELEVATION_TYPE`: 1 default, 2 full, 3 limited.
    elevation_type: u32 = ElevationType,
    /// Not 0: with elevated rights.
    is_elevated: u32 = IsElevated,
    /// Integrity level.
    mandatory_label: Sid<'a> = MandatoryLabel,
    /// The executable, mostly a device path.
    image_name: Wide<'a> = ImageName,
    /// The executable's name alone.
    short_name: Ansi<'a> = ShortName,
    /// FILETIME.
    exit_time: u64 = ExitTime,
    /// User of the process, where the event says it.
    user_sid: Sid<'a> = UserSid,
    /// Command line; cut at 1,024 units by old versions of Windows.
    command_line: Wide<'a> = CommandLine,
}

/// A decoded event.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Of whom.
    pub provider: Provider,
    /// Id, or opcode of a classic event.
    pub id: u16,
    /// Version of its layout.
    pub version: u8,
    /// What it says.
    pub values: Values<'a>,
}

/// Decodes the payload of a record.
///
/// # Errors
/// [`Undecoded`].
pub fn decode<'a>(record: &Record<'a>) -> Result<Event<'a>, Undecoded> {
    payload(record.key, record.payload, record.pointer_size)
}

/// Decodes a payload.
///
/// # Errors
/// [`Undecoded`].
pub fn payload(
    key: EventKey,
    payload: &[u8],
    pointer_size: PointerSize,
) -> Result<Event<'_>, Undecoded> {
    let provider = Provider::of(key.source).ok_or(Undecoded::Provider)?;
    let EventKey { id, version, .. } = key;
    let table = provider.table();
    let layout = match table::find(table, id, version) {
        Some(layout) => layout,
        None if table::knows(table, id) => return Err(Undecoded::Version),
        None => return Err(Undecoded::Id),
    };
    let values = values(layout, payload, pointer_size).map_err(Undecoded::Misfit)?;
    Ok(Event { provider, id, version, values })
}

fn values<'a>(
    layout: &Layout,
    payload: &'a [u8],
    pointer_size: PointerSize,
) -> Result<Values<'a>, Misfit> {
    let mut reader = Reader::new(payload, pointer_size);
    let mut values = Values::default();
    for &field in layout.fields {
        let (name, kind) = FIELDS[field as usize];
        match kind {
            Kind::Pointer => {
                let value = reader.pointer(name)?;
                match field {
                    Field::Irp => values.irp = Some(value),
                    Field::FileObject => values.file_object = Some(value),
                    Field::FileKey => values.file_key = Some(value),
                    Field::ExtraInformation => values.extra = Some(value),
                    Field::BaseObject => values.base_object = Some(value),
                    Field::KeyObject => values.key_object = Some(value),
                    _ => {}
                }
            }
            Kind::U32 => {
                let value = reader.u32(name)?;
                match field {
                    Field::CreateOptions => values.create_options = Some(value),
                    Field::IoSize => values.io_size = Some(value),
                    Field::IoFlags => values.io_flags = Some(value),
                    Field::InfoClass => values.info_class = Some(value),
                    Field::Status => values.status = Some(value),
                    Field::Disposition => values.disposition = Some(value),
                    Field::DataSize => values.data_size = Some(value),
                    Field::DataType => values.data_type = Some(value),
                    Field::PreviousDataType => values.previous_type = Some(value),
                    Field::PreviousDataSize => values.previous_size = Some(value),
                    Field::ProcessId => values.process_id = Some(value),
                    Field::ParentId => values.parent_id = Some(value),
                    Field::SessionId => values.session_id = Some(value),
                    Field::ElevationType => values.elevation_type = Some(value),
                    Field::IsElevated => values.is_elevated = Some(value),
                    _ => {}
                }
            }
            Kind::U64 => {
                let value = reader.u64(name)?;
                match field {
                    Field::SequenceNumber => values.sequence_number = Some(value),
                    Field::ParentSequenceNumber => values.parent_sequence_number = Some(value),
                    Field::CreateTime => values.create_time = Some(value),
                    Field::ExitTime => values.exit_time = Some(value),
                    _ => {}
                }
            }
            Kind::Wide => {
                let value = reader.wide(name)?;
                match field {
                    Field::Name => values.name = Some(value),
                    Field::BaseName => values.base_name = Some(value),
                    Field::RelativeName => values.relative_name = Some(value),
                    Field::KeyName => values.key_name = Some(value),
                    Field::ValueName => values.value_name = Some(value),
                    Field::ImageName => values.image_name = Some(value),
                    Field::CommandLine => values.command_line = Some(value),
                    _ => {}
                }
            }
            Kind::Ansi => values.short_name = Some(reader.ansi(name)?),
            Kind::Sid => values.mandatory_label = Some(reader.sid(name)?),
            Kind::ClassicSid => values.user_sid = reader.classic_sid(name)?,
            Kind::Binary => {
                let size = reader.u16(name)?;
                let value = reader.take(usize::from(size), name)?;
                match field {
                    Field::PreviousData => values.previous_data = Some(value),
                    _ => values.data = Some(value),
                }
            }
        }
    }
    reader.end()?;
    Ok(values)
}
