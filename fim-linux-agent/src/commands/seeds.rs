//! Contents of files that a rule wants compared only since another configuration is in force: kept
//! now, so that their first change shows what text differs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fim_common::baseline::Baseline;
use fim_common::config::Config;
use fim_common::content::Contents;
use fim_common::pipeline::keep_contents;
use fim_common::policy::Policy;

/// Where they are kept, and what keeps them.
pub(super) struct Seeds {
    state: PathBuf,
    contents: Option<Arc<Contents>>,
    /// Ends what is being kept for the policy before.
    cancel: Arc<AtomicBool>,
}

impl Drop for Seeds {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

impl Seeds {
    /// `contents`: as from the start, if a rule wanted it then.
    pub(super) fn new(state: PathBuf, contents: Option<Arc<Contents>>) -> Self {
        Self { state, contents, cancel: Arc::default() }
    }

    /// Where contents are kept, if a rule of this configuration wants it. The limits stay those with
    /// which it was begun.
    pub(super) fn contents(&mut self, config: &Config) -> Option<Arc<Contents>> {
        let wanted = config.rules.iter().any(|rule| rule.content_diff);
        if wanted && self.contents.is_none() {
            match Contents::open(&self.state, config.content) {
                Ok(contents) => self.contents = Some(Arc::new(contents)),
                Err(error) => tracing::error!(%error, "no differences of text: none can be kept"),
            }
        }
        self.contents.clone().filter(|_| wanted)
    }

    /// Keeps what this policy wants and is not kept yet, on a thread of its own.
    pub(super) fn keep(&mut self, policy: &Policy, baseline: &Arc<Baseline>) {
        let wanted = policy.rules().iter().any(|rule| rule.content_diff);
        let Some(contents) = self.contents.clone().filter(|_| wanted) else { return };
        self.cancel.store(true, Ordering::Relaxed);
        self.cancel = Arc::default();
        let (policy, baseline) = (policy.clone(), Arc::clone(baseline));
        let cancel = Arc::clone(&self.cancel);
        tokio::task::spawn_blocking(move || {
            match keep_contents(&contents, &baseline, &policy, &cancel) {
                Ok(()) => tracing::info!("contents of what is newly compared are kept"),
                Err(error) => tracing::error!(%error, "the baseline cannot be read"),
            }
        });
    }
}
