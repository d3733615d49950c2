//! One agent for all tables. It is started by whoever comes first, and stopped and looked over as
//! a whole by whoever is the last.

use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::XattrFlags;

use crate::agent::{Agent, Setup, dump};
use crate::cases::{Case, Place, Table, Volume};
use crate::environment::skip;
use crate::scratch::{Scratch, directory};
use crate::{operations, scenarios};

/// Every table: what is prepared before the agent starts.
const TABLES: &[&Table] = &[
    &operations::attributes::TABLE,
    &operations::content::TABLE,
    &operations::create::TABLE,
    &operations::failures::TABLE,
    &operations::names::TABLE,
    &scenarios::actors::TABLE,
    &scenarios::load::TABLE,
    &scenarios::paths::TABLE,
    &scenarios::roots::TABLE,
    &scenarios::writers::TABLE,
];

/// The agent, and what it watches.
pub(crate) struct Shared {
    pub(crate) agent: Agent,
    /// A watched directory that is not there at first, nor is its parent.
    pub(crate) later: PathBuf,
    /// A watched directory whose name is not UTF-8.
    pub(crate) odd: PathBuf,
    usual: PathBuf,
    /// Or why there is none.
    disk: Result<PathBuf, String>,
    /// Directories of cases that have ended, each with the number of its events.
    closed: Mutex<Vec<(PathBuf, usize)>>,
    // The last one: what is in it is in use by the agent.
    _scratch: Scratch,
}

struct Turn {
    shared: Option<Arc<Shared>>,
    tables_left: usize,
}

static TURN: Mutex<Turn> = Mutex::new(Turn { shared: None, tables_left: TABLES.len() });

impl Shared {
    /// The agent, started if need be.
    pub(crate) fn enter() -> Arc<Self> {
        // Poisoned when it could not be started: every table then says so.
        let mut turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turn.shared.get_or_insert_with(|| Arc::new(Self::start())))
    }

    fn start() -> Self {
        let mut scratch = Scratch::new("shared");
        let usual = scratch.directory("usual");
        let disk = match has_user_xattrs(&usual) {
            true => Ok(scratch.directory("disk")),
            false => scratch.ext4("disk"),
        };
        let volumes = [Some(&usual), disk.as_ref().ok()];
        for volume in volumes.into_iter().flatten() {
            directory(&volume.join("in"));
            directory(&volume.join("out"));
        }
        let later = usual.join("later/not-yet");
        let odd = usual.join(std::ffi::OsStr::from_bytes(b"odd-\xff\xfe"));
        directory(&odd);
        let watched = volumes.into_iter().flatten().map(|volume| volume.join("in"));
        let watched: Vec<_> = watched.chain([later.clone(), odd.clone()]).collect();
        let watched: Vec<_> = watched.iter().map(PathBuf::as_path).collect();
        // Hundreds of times these tests wait for the event of something new.
        let config = scratch.path().join("fim.toml");
        let text = format!(
            "recommended = false\n[fold]\nwindow = \"50ms\"\n[[rule]]\nname = \"watch:{}\"\n\
             paths = [{:?}]\n",
            watched[0].display(),
            watched[0]
        );
        std::fs::write(&config, text).unwrap();
        let setup = Setup { config: Some(config), ..Setup::new(scratch.path(), &watched[1..]) };
        for table in TABLES {
            for case in table.cases {
                if let Some(place) = place(&usual, disk.as_ref().ok(), table, case) {
                    directory(&place.inside);
                    directory(&place.outside);
                    (case.prepare)(&place);
                }
            }
        }
        let agent = Agent::start(setup);
        Self { agent, later, odd, usual, disk, closed: Mutex::default(), _scratch: scratch }
    }

    /// Where a case takes place; `None` when there is no such place here, which is told.
    pub(crate) fn place(&self, table: &Table, case: &Case) -> Option<Place> {
        let found = place(&self.usual, self.disk.as_ref().ok(), table, case);
        if let (None, Err(error)) = (&found, &self.disk) {
            skip(&format!("{}::{}", table.name, case.name), error);
        }
        found
    }

    /// A case has ended: no more events may come of it.
    pub(crate) fn close(&self, tree: PathBuf, events: usize) {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).push((tree, events));
    }

    /// A table has ended. With the last one the agent is stopped; what is then wrong is the error.
    pub(crate) fn leave(self: Arc<Self>) -> Result<(), String> {
        let mut turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        turn.tables_left -= 1;
        if turn.tables_left > 0 {
            return Ok(());
        }
        turn.shared = None;
        drop(turn);
        let check = catch_unwind(AssertUnwindSafe(|| {
            self.agent.stop();
            self.nothing_came_late();
            let (printed, kept) = (self.agent.stream.lines().len(), self.agent.journal().len());
            assert_eq!(printed, kept, "events printed, and events in the journal");
        }));
        check.map_err(|_| "the agent that all tables share, at its end (see above)".to_owned())
    }

    fn nothing_came_late(&self) {
        for (tree, count) in self.closed.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let lines = self.agent.stream.lines_below(tree);
            assert_eq!(
                lines.len(),
                *count,
                "events came when {} was done with\n{}",
                tree.display(),
                dump(&lines)
            );
        }
    }
}

fn place(usual: &Path, disk: Option<&PathBuf>, table: &Table, case: &Case) -> Option<Place> {
    let volume = match case.volume {
        Volume::Usual => usual,
        Volume::Disk => disk?,
    };
    let name = format!("{}-{}", table.name, case.name);
    Some(Place { inside: volume.join("in").join(&name), outside: volume.join("out").join(&name) })
}

fn has_user_xattrs(directory: &Path) -> bool {
    rustix::fs::setxattr(directory, "user.fim-e2e", b"1", XattrFlags::empty()).is_ok()
}
