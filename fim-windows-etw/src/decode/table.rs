//! The layouts of the events: which fields lie in a payload, in which order.
//!
//! Sources: the providers' own manifests, as dumped in jdu2600/Windows10EtwEvents (`manifest/*.tsv`)
//! and nasbench/EVTX-ETW-Resources (`ETWProvidersManifests/Windows11/24H2`, build 26100);
//! Kernel-Process 2 v2 from recorded events; the classic events from the MOF classes `FileIo_Name`
//! and `Process_V2_TypeGroup1` to `Process_V4_TypeGroup1` (Windows SDK, "NT Kernel Logger").

use super::{Field, Field::*};

/// The fields of one version of an event.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Id, or opcode of a classic event: first and last to which it applies.
    pub ids: (u16, u16),
    /// Version to which it applies.
    pub version: u8,
    /// In the order of the payload.
    pub fields: &'static [Field],
}

const fn layout(id: u16, version: u8, fields: &'static [Field]) -> Layout {
    Layout { ids: (id, id), version, fields }
}

const fn layouts(first: u16, last: u16, version: u8, fields: &'static [Field]) -> Layout {
    Layout { ids: (first, last), version, fields }
}

const CREATE_V0: &[Field] =
    &[Irp, ThreadPointer, FileObject, CreateOptions, CreateAttributes, ShareAccess, Name];
const CREATE_V1: &[Field] =
    &[Irp, FileObject, IssuingThread, CreateOptions, CreateAttributes, ShareAccess, Name];
const HANDLE_V0: &[Field] = &[Irp, ThreadPointer, FileObject, FileKey];
const HANDLE_V1: &[Field] = &[Irp, FileObject, FileKey, IssuingThread];
const IO_V0: &[Field] = &[ByteOffset, Irp, ThreadPointer, FileObject, FileKey, IoSize, IoFlags];
const IO_V1: &[Field] =
    &[ByteOffset, Irp, FileObject, FileKey, IssuingThread, IoSize, IoFlags, ExtraFlags];
const INFORMATION_V0: &[Field] =
    &[Irp, ThreadPointer, FileObject, FileKey, ExtraInformation, InfoClass];
const INFORMATION_V1: &[Field] =
    &[Irp, FileObject, FileKey, ExtraInformation, IssuingThread, InfoClass];
const DIRECTORY_V0: &[Field] =
    &[Irp, ThreadPointer, FileObject, FileKey, Length, InfoClass, FileIndex, Name];
const DIRECTORY_V1: &[Field] =
    &[Irp, FileObject, FileKey, IssuingThread, Length, InfoClass, FileIndex, Name];
const PATH_V0: &[Field] =
    &[Irp, ThreadPointer, FileObject, FileKey, ExtraInformation, InfoClass, Name];
const PATH_V1: &[Field] =
    &[Irp, FileObject, FileKey, ExtraInformation, IssuingThread, InfoClass, Name];

/// Microsoft-Windows-Kernel-File.
pub const KERNEL_FILE: &[Layout] = &[
    layouts(10, 11, 0, &[FileKey, Name]),
    layout(12, 0, CREATE_V0),
    layout(12, 1, CREATE_V1),
    layouts(13, 14, 0, HANDLE_V0),
    layouts(13, 14, 1, HANDLE_V1),
    layouts(15, 16, 0, IO_V0),
    layouts(15, 16, 1, IO_V1),
    layouts(17, 19, 0, INFORMATION_V0),
    layouts(17, 19, 1, INFORMATION_V1),
    layout(20, 0, DIRECTORY_V0),
    layout(20, 1, DIRECTORY_V1),
    layout(21, 0, HANDLE_V0),
    layout(21, 1, HANDLE_V1),
    layouts(22, 23, 0, INFORMATION_V0),
    layouts(22, 23, 1, INFORMATION_V1),
    layout(24, 0, &[Irp, ExtraInformation, Status]),
    layout(25, 0, DIRECTORY_V0),
    layout(25, 1, DIRECTORY_V1),
    layouts(26, 28, 0, PATH_V0),
    layouts(26, 28, 1, PATH_V1),
    layout(29, 0, INFORMATION_V0),
    layout(29, 1, INFORMATION_V1),
    layout(30, 0, CREATE_V0),
    layout(30, 1, CREATE_V1),
    layouts(31, 34, 1, INFORMATION_V1),
];

const KEY: &[Field] = &[KeyObject, Status, KeyName];

/// Microsoft-Windows-Kernel-Registry.
pub const KERNEL_REGISTRY: &[Layout] = &[
    layouts(1, 2, 0, &[BaseObject, KeyObject, Status, Disposition, BaseName, RelativeName]),
    layout(3, 0, KEY),
    layout(4, 0, &[KeyObject, Status, InfoClass, DataSize, KeyName, CapturedData]),
    layout(
        5,
        0,
        &[
            KeyObject,
            Status,
            DataType,
            DataSize,
            KeyName,
            ValueName,
            CapturedData,
            PreviousDataType,
            PreviousDataSize,
            PreviousData,
        ],
    ),
    layout(6, 0, &[KeyObject, Status, KeyName, ValueName]),
    layout(7, 0, &[KeyObject, Status, InfoClass, DataSize, KeyName, ValueName, CapturedData]),
    layouts(8, 9, 0, &[KeyObject, Status, Index, InfoClass, DataSize, KeyName, CapturedData]),
    layout(10, 0, &[KeyObject, Status, EntryCount, DataSize, KeyName]),
    layout(11, 0, &[KeyObject, Status, InfoClass, DataSize, KeyName, CapturedData]),
    layouts(12, 15, 0, KEY),
];

const START_V0: &[Field] = &[ProcessId, CreateTime, ParentId, SessionId, ImageName];
const START_V1: &[Field] = &[ProcessId, CreateTime, ParentId, SessionId, Flags, ImageName];
const START_V2: &[Field] = &[
    ProcessId,
    CreateTime,
    ParentId,
    SessionId,
    Flags,
    ImageName,
    ImageChecksum,
    TimeDateStamp,
    PackageFullName,
    PackageRelativeAppId,
];
const START_V3: &[Field] = &[
    ProcessId,
    SequenceNumber,
    CreateTime,
    ParentId,
    ParentSequenceNumber,
    SessionId,
    Flags,
    ElevationType,
    IsElevated,
    MandatoryLabel,
    ImageName,
    ImageChecksum,
    TimeDateStamp,
    PackageFullName,
    PackageRelativeAppId,
];
const START_V4: &[Field] = &[
    ProcessId,
    SequenceNumber,
    CreateTime,
    ParentId,
    ParentSequenceNumber,
    SessionId,
    Flags,
    ElevationType,
    IsElevated,
    MandatoryLabel,
    ImageName,
    ImageChecksum,
    TimeDateStamp,
    PackageFullName,
    PackageRelativeAppId,
    SecurityMitigations,
];
const STOP_V0: &[Field] = &[
    ProcessId,
    CreateTime,
    ExitTime,
    ExitCode,
    ElevationType,
    HandleCount,
    CommitCharge,
    CommitPeak,
    ShortName,
];
const STOP_V1: &[Field] = &[
    ProcessId,
    CreateTime,
    ExitTime,
    ExitCode,
    ElevationType,
    HandleCount,
    CommitCharge,
    CommitPeak,
    CpuCycles,
    ReadCount,
    WriteCount,
    ReadKilobytes,
    WriteKilobytes,
    HardFaults,
    ShortName,
];
const STOP_V2: &[Field] = &[
    ProcessId,
    SequenceNumber,
    CreateTime,
    ExitTime,
    ExitCode,
    ElevationType,
    HandleCount,
    CommitCharge,
    CommitPeak,
    CpuCycles,
    ReadCount,
    WriteCount,
    ReadKilobytes,
    WriteKilobytes,
    HardFaults,
    ShortName,
];

/// Microsoft-Windows-Kernel-Process.
pub const KERNEL_PROCESS: &[Layout] = &[
    layout(1, 0, START_V0),
    layout(1, 1, START_V1),
    layout(1, 2, START_V2),
    layout(1, 3, START_V3),
    layout(1, 4, START_V4),
    layout(2, 0, STOP_V0),
    layout(2, 1, STOP_V1),
    layout(2, 2, STOP_V2),
    layouts(
        5,
        6,
        0,
        &[ImageBase, ImageSize, ProcessId, ImageChecksum, TimeDateStamp, DefaultBase, ImageName],
    ),
    layout(15, 0, START_V2),
    layout(15, 1, START_V3),
    layout(15, 2, START_V4),
];

/// Classic `FileIo_Name`: a pointer and the name that belongs to it. Name, create, delete, rundown.
pub const CLASSIC_FILE: &[Layout] = &[
    layout(0, 2, &[FileKey, Name]),
    layout(32, 2, &[FileKey, Name]),
    layouts(35, 36, 2, &[FileKey, Name]),
    layout(0, 3, &[FileKey, Name]),
    layout(32, 3, &[FileKey, Name]),
    layouts(35, 36, 3, &[FileKey, Name]),
];

const CLASSIC_V1: &[Field] =
    &[PageDirectory, ProcessId, ParentId, SessionId, ExitStatus, UserSid, ShortName];
const CLASSIC_V2: &[Field] =
    &[UniqueKey, ProcessId, ParentId, SessionId, ExitStatus, UserSid, ShortName, CommandLine];
const CLASSIC_V3: &[Field] = &[
    UniqueKey,
    ProcessId,
    ParentId,
    SessionId,
    ExitStatus,
    PageDirectory,
    UserSid,
    ShortName,
    CommandLine,
];
const CLASSIC_V4: &[Field] = &[
    UniqueKey,
    ProcessId,
    ParentId,
    SessionId,
    ExitStatus,
    PageDirectory,
    Flags,
    UserSid,
    ShortName,
    CommandLine,
    PackageFullName,
    PackageRelativeAppId,
];

/// Classic `Process`: start, end, and the rundown at the beginning and end of a session.
pub const CLASSIC_PROCESS: &[Layout] = &[
    layouts(1, 4, 1, CLASSIC_V1),
    layouts(1, 4, 2, CLASSIC_V2),
    layouts(1, 4, 3, CLASSIC_V3),
    layouts(1, 4, 4, CLASSIC_V4),
];

/// The tables of each provider do not contradict themselves: an id and version has one layout.
pub fn find(table: &'static [Layout], id: u16, version: u8) -> Option<&'static Layout> {
    table
        .iter()
        .find(|layout| layout.ids.0 <= id && id <= layout.ids.1 && layout.version == version)
}

/// Whether any version of the event is in the table.
pub fn knows(table: &'static [Layout], id: u16) -> bool {
    table.iter().any(|layout| layout.ids.0 <= id && id <= layout.ids.1)
}
