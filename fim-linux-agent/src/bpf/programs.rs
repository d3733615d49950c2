//! The catalogue: which program goes on which kernel function, given that function's signature.

use fim_common::record::Hook;

use super::btf::{Btf, Prototype};

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// At the entry of a function.
    Entry,
    /// At its exit.
    Exit,
    /// At a tracepoint, by BTF.
    Tracepoint,
}

/// One program to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it counts under.
    pub hook: Hook,
    /// How.
    pub attach: Attach,
    /// The kernel function or tracepoint.
    pub target: String,
    /// The program in the object; `Err` says why there is none that fits.
    pub program: Result<String, String>,
    /// What is lost without it, for people.
    pub loss: &'static str,
}

/// How the name of a program follows from the signature.
#[derive(Clone, Copy)]
enum Name {
    Fixed(&'static str),
    /// `<prefix>_d<position of the parameter>`, for entry programs.
    Position(&'static str, &'static str),
    /// `<prefix>_d<position>_<r or p><number of parameters>`: the result lies behind the last.
    Result(&'static str, &'static str),
    /// By the meaning of the argument behind the inode.
    TimeUpdate,
}

struct Entry {
    hook: Hook,
    attach: Attach,
    /// The first that the kernel has is taken.
    targets: &'static [&'static str],
    name: Name,
    loss: &'static str,
    /// Older kernels do without: absence is no finding.
    optional: bool,
}

const fn entry(
    hook: Hook,
    attach: Attach,
    targets: &'static [&'static str],
    name: Name,
    loss: &'static str,
) -> Entry {
    Entry { hook, attach, targets, name, loss, optional: false }
}

const fn optional(mut entry: Entry) -> Entry {
    entry.optional = true;
    entry
}

use Attach::{Entry as At, Exit, Tracepoint};

/// In the order of attachment: exits before entries, so that nothing an entry takes down waits
/// for an exit that is not there yet.
const CATALOGUE: &[Entry] = &[
    entry(Hook::Exec, Tracepoint, &["sched_process_exec"], Name::Fixed("exec"), "processes are described at their first operation only"),
    entry(Hook::Fork, Tracepoint, &["sched_process_fork"], Name::Fixed("fork"), "parents that have exited may be unknown"),
    entry(Hook::Exit, Tracepoint, &["sched_process_exit"], Name::Fixed("exit"), "the process table keeps ended processes longer"),
    entry(Hook::FileRelease, At, &["__fput"], Name::Fixed("file_release"), "the end of writing is found by polling"),
    entry(Hook::FileOpen, Exit, &["security_file_open"], Name::Fixed("file_open"), "creations by open(2) and writers are not seen"),
    entry(Hook::TimeUpdate, At, &["inode_update_timestamps", "generic_update_time"], Name::TimeUpdate, "a change shows at close or by polling, not at the first write"),
    entry(Hook::Mmap, Exit, &["security_mmap_file"], Name::Fixed("mmap"), "a write through a mapping may be found late"),
    entry(Hook::Create, Exit, &["vfs_create"], Name::Result("create", "dentry"), "files made by mknod(2) are not seen"),
    entry(Hook::Mkdir, Exit, &["vfs_mkdir"], Name::Result("mkdir", "dentry"), "new directories are not seen"),
    entry(Hook::Mknod, Exit, &["vfs_mknod"], Name::Result("mknod", "dentry"), "new devices, FIFOs and sockets are not seen"),
    entry(Hook::Symlink, Exit, &["vfs_symlink"], Name::Result("symlink", "dentry"), "new symbolic links are not seen"),
    entry(Hook::Link, Exit, &["vfs_link"], Name::Result("link", "new_dentry"), "new hard links are not seen"),
    entry(Hook::Unlink, Exit, &["vfs_unlink"], Name::Result("unlink", "dentry"), "deletions are not seen"),
    entry(Hook::Unlink, At, &["vfs_unlink"], Name::Position("unlink_enter", "dentry"), "deletions are not seen"),
    entry(Hook::Rmdir, Exit, &["vfs_rmdir"], Name::Result("rmdir", "dentry"), "deletions of directories are not seen"),
    entry(Hook::Rmdir, At, &["vfs_rmdir"], Name::Position("rmdir_enter", "dentry"), "deletions of directories are not seen"),
    entry(Hook::Rename, Exit, &["vfs_rename"], Name::Fixed("rename_r1"), "renames are not seen"),
    entry(Hook::Rename, At, &["vfs_rename"], Name::Fixed("rename_enter"), "renames are not seen"),
    entry(Hook::SetAttr, Exit, &["notify_change"], Name::Result("setattr", "dentry"), "changes of mode, owner, times and size are not seen"),
    entry(Hook::SetAttr, At, &["notify_change"], Name::Position("setattr_enter", "dentry"), "changes of mode, owner, times and size are not seen"),
    entry(Hook::SetXattr, Exit, &["__vfs_setxattr_noperm"], Name::Result("setxattr", "dentry"), "set extended attributes are not seen"),
    entry(Hook::RemoveXattr, Exit, &["__vfs_removexattr_locked"], Name::Result("removexattr", "dentry"), "removed extended attributes are not seen"),
    // Before 6.2 ACLs are set as extended attributes.
    optional(entry(Hook::SetAcl, Exit, &["vfs_set_acl"], Name::Result("set_acl", "dentry"), "set ACLs are not seen")),
    optional(entry(Hook::RemoveAcl, Exit, &["vfs_remove_acl"], Name::Result("remove_acl", "dentry"), "removed ACLs are not seen")),
];

/// What to attach on a kernel with this type information.
pub fn plan(btf: &Btf) -> Vec<Plan> {
    let mut plans = Vec::with_capacity(CATALOGUE.len());
    for entry in CATALOGUE {
        if entry.attach == Tracepoint {
            plans.push(entry.plan(entry.targets[0], name(entry.name, None)));
            continue;
        }
        let found = entry.targets.iter().find_map(|&target| Some((target, btf.function(target)?)));
        match found {
            Some((target, prototype)) => {
                plans.push(entry.plan(target, name(entry.name, Some(&prototype))));
            }
            None if entry.optional => {}
            None => {
                let reason = "this kernel has no such function to attach to".to_owned();
                plans.push(entry.plan(entry.targets[0], Err(reason)));
            }
        }
    }
    plans
}

impl Entry {
    fn plan(&self, target: &str, program: Result<String, String>) -> Plan {
        Plan {
            hook: self.hook,
            attach: self.attach,
            target: target.to_owned(),
            program,
            loss: self.loss,
        }
    }
}

fn name(rule: Name, prototype: Option<&Prototype>) -> Result<String, String> {
    let no_parameter = |wanted: &str, prototype: &Prototype| {
        format!("no parameter `{wanted}` among ({})", prototype.params.join(", "))
    };
    match (rule, prototype) {
        (Name::Fixed(name), _) => Ok(name.to_owned()),
        (_, None) => Err("no signature".to_owned()),
        (Name::Position(prefix, parameter), Some(prototype)) => {
            let position =
                prototype.position(parameter).ok_or_else(|| no_parameter(parameter, prototype))?;
            Ok(format!("{prefix}_d{position}"))
        }
        (Name::Result(prefix, parameter), Some(prototype)) => {
            let position =
                prototype.position(parameter).ok_or_else(|| no_parameter(parameter, prototype))?;
            let result = if prototype.returns_pointer { 'p' } else { 'r' };
            Ok(format!("{prefix}_d{position}_{result}{}", prototype.params.len()))
        }
        (Name::TimeUpdate, Some(prototype)) => match prototype.params.get(1).map(String::as_str) {
            Some("flags") => Ok("time_update_f1".to_owned()),
            Some("time") => Ok("time_update_f2".to_owned()),
            Some("type") => Ok("time_update_t1".to_owned()),
            _ => Err(format!("unknown signature ({})", prototype.params.join(", "))),
        },
    }
}
