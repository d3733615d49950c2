//! What this host is, and who runs us.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fim_commands::Site;
use fim_common::config::Config;
use fim_common::event::actor::{Actor, Process, User};
use fim_common::event::{Boot, Host, Os, SmolStr};
use fim_common::pipeline::Names;
use fim_common::policy::{Policy, RegistryPattern};
use fim_common::time::Timestamp;
use fim_win32::registry::Key;
use fim_win32::{security, system};

use super::registry;

/// This host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Here;

/// Windows has no numbers for users.
struct NoNumbers;

impl Names for NoNumbers {
    fn user(&mut self, _: u32) -> Option<SmolStr> {
        None
    }

    fn group(&mut self, _: u32) -> Option<SmolStr> {
        None
    }
}

impl Site for Here {
    fn host(&self) -> Host {
        let value = |key: &str, name: &str| -> Option<String> {
            let values = Key::open(key).ok()?.values().ok()?;
            let value = values.into_iter().find(|value| value.name.eq_ignore_ascii_case(name))?;
            crate::correlate::registry_data(value.kind, &value.data).strings?.into_iter().next()
        };
        let version = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion";
        // Windows gives a boot no id; when it began tells boots apart.
        let boot = Timestamp::now().as_nanos() - system::uptime().as_nanos() as i128;
        Host {
            name: system::computer_name(),
            id: value(r"HKLM\SOFTWARE\Microsoft\Cryptography", "MachineGuid"),
            boot: Some(Boot { id: format!("{}", boot / 10_000_000_000) }),
            architecture: Some(std::env::consts::ARCH.to_owned()),
            os: Os {
                kind: "windows".to_owned(),
                name: value(version, "ProductName"),
                version: value(version, "DisplayVersion")
                    .or_else(|| value(version, "CurrentVersion")),
                kernel: value(version, "CurrentBuild"),
            },
        }
    }

    fn names(&self) -> Box<dyn Names> {
        Box::new(NoNumbers)
    }

    fn actor(&self) -> Arc<Actor> {
        let executable = std::env::current_exe().ok();
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let args: Vec<String> =
            std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let process = Process {
            pid: std::process::id(),
            name: executable.as_deref().and_then(Path::file_name).map(|n| text(Path::new(n))),
            executable: executable.as_deref().map(text),
            command_line: Some(args.join(" ")),
            args: Some(args),
            ..Process::default()
        };
        let user = security::own_sid().ok().map(|sid| User {
            name: account(&sid),
            id: Some(sid),
            ..User::default()
        });
        Arc::new(Actor {
            process: Some(process.into()),
            user: user.map(Into::into),
            ..Actor::default()
        })
    }

    fn policy(&self, config: &Config) -> Policy {
        config.policy()
    }

    fn own_directories(&self, _: &Policy, _: &Path, _: &str) -> Vec<PathBuf> {
        Vec::new()
    }

    fn registry(&self, pattern: &RegistryPattern) -> Option<usize> {
        Some(registry::count(pattern))
    }

    fn interrupted(&self) -> Arc<AtomicBool> {
        let cancel = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&cancel);
        // Fails where there is no console: then nobody can ask.
        let _ = ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed));
        cancel
    }
}

/// `DOMAIN\name` of a SID.
pub fn account(sid: &str) -> Option<String> {
    let account = security::account(sid).ok()?;
    Some(match account.domain.is_empty() {
        true => account.name,
        false => format!(r"{}\{}", account.domain, account.name),
    })
}
