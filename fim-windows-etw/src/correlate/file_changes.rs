//! What comes of an event: operations, and what is known afterwards.

use super::*;

impl Files {
    /// The outcome of a request is known; `missing`: it is not, and it counts as done.
    pub(super) fn completed(
        &mut self,
        request: Request,
        status: u32,
        information: u64,
        missing: bool,
        emit: &mut Emit<'_>,
    ) {
        let who = &request.who;
        match request.asked {
            Asked::Open { object, name, options } => {
                self.open_completed(object, &name, options, status, information, who, emit);
            }
            Asked::Name { event: 27, object, key, name, .. } => {
                let old = self.names.find(object, key).map(|old| old.to_string());
                self.moved(object, key, old, &name, status, missing, who, emit);
            }
            Asked::Name { event: 28, object, key, name, .. } => {
                let old = self.names.find(object, key);
                self.linked(old.as_deref(), &name, status, missing, who, emit);
            }
            Asked::Name { object, extra, class, name, .. } => {
                self.disposition(object, name, extra, class, status, missing, who, emit);
            }
            Asked::Do { event, object, key, extra, class, bytes } => {
                let Some(name) = self.names.find(object, key) else {
                    // 18, 19 and 29 are told with a name as well.
                    self.nameless += u64::from(!matches!(event, 18 | 19 | 29));
                    return;
                };
                let kind = match event {
                    16 => OperationKind::Modify,
                    17 if class == 4 => OperationKind::SetAttributes,
                    17 => OperationKind::Truncate,
                    31 => OperationKind::SetSecurity,
                    33 => OperationKind::SetEa,
                    18 => {
                        let name = name.to_string();
                        return self
                            .disposition(object, name, extra, class, status, missing, who, emit);
                    }
                    // The names that come and go tell of it.
                    _ => return,
                };
                let content = matches!(event, 16) || (event == 17 && class != 4);
                if content && event == 17 && self.is_write_back(&name, who) {
                    self.write_backs += 1;
                    return;
                }
                if succeeded(status) {
                    self.act(object, &name, content, who, emit);
                }
                let details =
                    FileDetails { bytes, outcome_missing: missing, ..FileDetails::default() };
                emit.file(kind, &name, status, who, details);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what an open and its outcome consist of")]
    fn open_completed(
        &mut self,
        object: u64,
        name: &str,
        options: u32,
        status: u32,
        information: u64,
        who: &Who,
        emit: &mut Emit<'_>,
    ) {
        // Of a reparse point: the open begins again elsewhere.
        if status == STATUS_REPARSE {
            return;
        }
        if !succeeded(status) {
            self.names.objects.remove(&object);
            let kind = match options >> 24 {
                // It may have been a look: what access was asked for is not recorded.
                1 => return,
                4 => OperationKind::Truncate,
                _ => OperationKind::Create,
            };
            return emit.file(kind, name, status, who, FileDetails::default());
        }
        match outcome_of_open(options, information) {
            (true, _) => self.created(object, name, options, who, emit),
            (_, true) => {
                self.act(object, name, true, who, emit);
                emit.file(OperationKind::Truncate, name, 0, who, FileDetails::default());
            }
            _ => {}
        }
    }

    /// The kernel has said that a file came to be; it may say so in several ways.
    pub(super) fn created(
        &mut self,
        object: u64,
        name: &str,
        options: u32,
        who: &Who,
        emit: &mut Emit<'_>,
    ) {
        let folded = fold(name);
        if let Some((Some(Told::Created(at)), _)) = self.recent.get(&folded)
            && who.filetime <= at.saturating_add(SAME_CREATION)
        {
            return;
        }
        // A handle that is in the middle of being deleted has another file.
        self.recent.remove(&folded);
        self.act(object, name, true, who, emit);
        if let Some((told, _)) = self.recent.get(&folded) {
            *told = Some(Told::Created(who.filetime));
        }
        let directory = options & FILE_DIRECTORY_FILE != 0;
        let details = FileDetails { directory, ..FileDetails::default() };
        emit.file(OperationKind::Create, name, 0, who, details);
    }

    /// Something was done through a handle. The first thing ends what is done through another one.
    fn act(&mut self, object: u64, name: &str, content: bool, who: &Who, emit: &mut Emit<'_>) {
        let folded = fold(name);
        let mut fresh = false;
        if let Some(opened) = self.names.objects.get(&object) {
            fresh = !opened.acted;
            opened.acted = true;
            opened.content |= content;
        }
        let (told, handle) = match self.recent.get(&folded) {
            Some(recent) => (recent.0, std::mem::replace(&mut recent.1, object)),
            None => (None, object),
        };
        let told = match (told, content) {
            (Some(Told::Created(at)), true) => Some(Told::Created(at)),
            (_, true) => Some(Told::Changed(who.filetime)),
            (told, false) => told,
        };
        self.recent.insert(folded, (told, object));
        if fresh && handle != object {
            emit.file(OperationKind::EndGroup, name, 0, who, FileDetails::default());
        }
    }

    /// Whether a new size is what the cache manager brings to disk of an earlier change.
    fn is_write_back(&mut self, name: &str, who: &Who) -> bool {
        let recent = self.recent.get(&fold(name)).and_then(|(told, _)| *told);
        let changed = match recent {
            Some(Told::Created(at) | Told::Changed(at)) => at,
            Some(Told::Deleted) | None => return false,
        };
        who.pid == Some(SYSTEM) && who.filetime <= changed.saturating_add(WRITE_BACK)
    }

    #[expect(clippy::too_many_arguments, reason = "what a rename consists of")]
    pub(super) fn moved(
        &mut self,
        object: u64,
        key: u64,
        old: Option<String>,
        new: &str,
        status: u32,
        missing: bool,
        who: &Who,
        emit: &mut Emit<'_>,
    ) {
        let details = FileDetails { outcome_missing: missing, ..FileDetails::default() };
        let kind = OperationKind::Rename {
            from: old.as_deref().map(|old| emit.display(old).into()),
            from_in_scope: old.is_some(),
            to_in_scope: true,
            replaced: None,
            exchange: false,
        };
        if !succeeded(status) {
            self.under_way.remove(&key);
            return emit.file(kind, new, status, who, details);
        }
        if let Some(old) = &old {
            self.act(object, old, false, who, emit);
            self.recent.remove(&fold(old));
        }
        self.names.renamed(object, key, old.as_deref(), new);
        self.recent.insert(fold(new), (None, object));
        emit.file(kind, new, status, who, details);
    }

    pub(super) fn linked(
        &mut self,
        existing: Option<&str>,
        new: &str,
        status: u32,
        missing: bool,
        who: &Who,
        emit: &mut Emit<'_>,
    ) {
        let kind = OperationKind::Link {
            existing: existing.map(|name| emit.display(name).into()),
            first: false,
            elsewhere: None,
        };
        if succeeded(status) {
            // The new name is no creation, if the kernel says that it came to be.
            self.recent.insert(fold(new), (Some(Told::Created(who.filetime)), 0));
        }
        let details = FileDetails { outcome_missing: missing, ..FileDetails::default() };
        emit.file(kind, new, status, who, details);
    }

    /// The flag was set with which a file goes when the handle is closed, or cleared.
    #[expect(clippy::too_many_arguments, reason = "what a disposition consists of")]
    fn disposition(
        &mut self,
        object: u64,
        name: String,
        extra: u64,
        class: u32,
        status: u32,
        missing: bool,
        who: &Who,
        emit: &mut Emit<'_>,
    ) {
        if !succeeded(status) {
            return emit.file(OperationKind::Delete, &name, status, who, FileDetails::default());
        }
        // FileDispositionInformation and …Ex: the lowest bit says which. Of another class, or of
        // none, the request itself is all that is known.
        if matches!(class, 13 | 64) && extra & 1 == 0 {
            self.deletions.remove(&object);
            if let Some(opened) = self.names.objects.get(&object) {
                opened.opener = None;
            }
            return;
        }
        if self.deletions.len() >= UNDER_WAY_MAX
            && let Some(any) = self.deletions.keys().next().copied()
        {
            self.deleted_at_last(any, emit);
        }
        self.deletions.entry(object).or_insert_with(|| (name, who.clone(), missing));
    }

    /// The handle is closed: what was to be deleted with it is deleted.
    pub(super) fn deleted_at_last(&mut self, object: u64, emit: &mut Emit<'_>) {
        if let Some((name, who, missing)) = self.deletions.remove(&object) {
            self.deleted(&name, &who, missing, emit);
        }
    }

    pub(super) fn deleted(&mut self, name: &str, who: &Who, missing: bool, emit: &mut Emit<'_>) {
        self.recent.insert(fold(name), (Some(Told::Deleted), 0));
        let details = FileDetails { outcome_missing: missing, ..FileDetails::default() };
        emit.file(OperationKind::Delete, name, 0, who, details);
    }

    /// A rename or link begins: names of the file come and go with it.
    pub(super) fn names_under_way(
        &mut self,
        link: bool,
        object: u64,
        key: u64,
        told: bool,
        who: &Who,
    ) {
        let old = self.names.find(object, key).map(|old| old.to_string());
        if let Some(known) = self.under_way.get_mut(&key)
            && known.link == link
            && who.filetime <= known.who.filetime.saturating_add(SECOND)
        {
            known.told |= told;
            return;
        }
        if self.under_way.len() >= UNDER_WAY_MAX {
            let limit = who.filetime.saturating_sub(RENAME_TAKES);
            self.under_way.retain(|_, known| known.who.filetime >= limit);
            if self.under_way.len() >= UNDER_WAY_MAX {
                self.under_way.clear();
            }
        }
        if key != 0 {
            self.under_way.insert(key, UnderWay { link, old, told, who: who.clone() });
        }
    }

    pub(super) fn take_under_way(&mut self, key: u64, who: &Who) -> Option<UnderWay> {
        let under_way = self.under_way.remove(&key)?;
        let over = who.filetime > under_way.who.filetime.saturating_add(RENAME_TAKES);
        (!over).then_some(under_way)
    }
}
