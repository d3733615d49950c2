//! The parts of rules: from what is written to what is in force.

use std::ops::Range;

use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp as Instant};
use toml::Spanned;

use super::raw::{self, List, Moment, RegistryPath, Scalar};
use super::validate::Check;
use crate::policy::maintenance::{LONGEST, When, weekday};
use crate::policy::{Condition, Expect, RegistryPattern, Rule, Set, Window};
use crate::time::Timestamp;

impl Check<'_> {
    /// The built-in sets that apply.
    pub(super) fn sets(
        &mut self,
        named: Option<Spanned<List>>,
        recommended: Option<Spanned<bool>>,
        own_rules: bool,
    ) -> Vec<Set> {
        let is_said = named.is_some();
        let span = named.as_ref().map(Spanned::span);
        let mut sets = Vec::new();
        for name in named.map_or_else(Vec::new, Spanned::into_inner) {
            match Set::named(name.get_ref()) {
                Some(set) if !sets.contains(&set) => sets.push(set),
                Some(_) => {}
                None => {
                    let allowed = Set::ALL.map(Set::as_str).join(", ");
                    let message =
                        format!("set {:?} is unknown; allowed: {allowed}", name.get_ref());
                    self.problem(name.span(), message);
                }
            }
        }
        let of_key = recommended.as_ref().map(|said| *said.get_ref());
        let is_there = sets.contains(&Set::Recommended);
        match of_key {
            Some(true) if !is_there => sets.push(Set::Recommended),
            Some(false) if is_there => {
                let span = recommended.as_ref().map(Spanned::span).unwrap_or_default();
                self.problem(span, "sets names \"recommended\"; leave this key out");
            }
            None if !is_said && !own_rules => sets.push(Set::Recommended),
            _ => {}
        }
        if sets.is_empty() && !own_rules {
            let span = recommended.map(|said| said.span()).or(span).unwrap_or_default();
            let message = "nothing would be watched: there is no [[rule]], and the recommended \
                           rules are turned off";
            self.problem(span, message);
        }
        // As they are defined, however they are named.
        Set::ALL.into_iter().filter(|set| sets.contains(set)).collect()
    }

    /// Applies `[[adjust]]`.
    pub(super) fn adjust(
        &mut self,
        written: Vec<Spanned<raw::Adjust>>,
        rules: &mut Vec<Rule>,
        windows: &[Window],
    ) {
        let mut done: Vec<String> = Vec::new();
        for adjust in written {
            let span = adjust.span();
            let raw = adjust.into_inner();
            let Some(name) = raw.rule else {
                self.problem(span, "it names no rule; add rule = \"...\"");
                continue;
            };
            if done.contains(name.get_ref()) {
                self.problem(name.span(), format!("rule {:?} is adjusted twice", name.get_ref()));
            }
            done.push(name.get_ref().clone());
            let Some(index) = rules.iter().position(|rule| rule.name == *name.get_ref()) else {
                let known: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
                let known = match known.is_empty() {
                    true => "no set is chosen; add sets = [\"recommended\"]".to_owned(),
                    false => format!("there are {}", known.join(", ")),
                };
                let message = format!("no built-in rule {:?} applies: {known}", name.get_ref());
                self.problem(name.span(), message);
                continue;
            };
            let exclude =
                raw.exclude.map_or_else(Vec::new, |list| self.patterns(list.into_inner()));
            let rule = &mut rules[index];
            rule.severity = self.severity(raw.severity, rule.severity);
            rule.exclude.extend(exclude);
            rule.allow.extend(self.conditions(raw.allow));
            rule.suppress.extend(self.conditions(raw.suppress));
            rule.maintenance = self.named_windows(raw.maintenance, windows);
            rule.expect = self.expect(raw.expect, windows);
            if raw.enabled.is_some_and(|enabled| !enabled.into_inner()) {
                rules.remove(index);
            }
        }
    }

    pub(super) fn registry(
        &mut self,
        list: Spanned<Vec<Spanned<RegistryPath>>>,
    ) -> Vec<RegistryPattern> {
        if list.get_ref().is_empty() {
            self.problem(list.span(), "registry is empty; name at least one key, or leave it out");
        }
        let mut patterns = Vec::new();
        for path in list.into_inner() {
            let RegistryPath { key, values } = path.get_ref();
            match RegistryPattern::parse(key, values.as_deref()) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.problem(path.span(), format!("{key:?}: {error}")),
            }
        }
        patterns
    }

    pub(super) fn expect(
        &mut self,
        written: Option<Spanned<String>>,
        windows: &[Window],
    ) -> Option<Expect> {
        let written = written?;
        match written.get_ref().as_str() {
            "never" => Some(Expect::Never),
            "maintenance" => {
                if windows.is_empty() {
                    let message = "there is no [[maintenance]] window, so that no change would \
                                   ever be expected; add one, or say \"never\"";
                    self.problem(written.span(), message);
                }
                Some(Expect::Maintenance)
            }
            unknown => {
                let message =
                    format!("{unknown:?} is unknown; allowed: \"never\", \"maintenance\"");
                self.problem(written.span(), message);
                None
            }
        }
    }

    pub(super) fn named_windows(
        &mut self,
        written: Option<Spanned<List>>,
        windows: &[Window],
    ) -> Vec<String> {
        let mut names = Vec::new();
        for name in written.map_or_else(Vec::new, Spanned::into_inner) {
            if !windows.iter().any(|window| window.name == *name.get_ref()) {
                let message = format!("there is no [[maintenance]] named {:?}", name.get_ref());
                self.problem(name.span(), message);
            }
            names.push(name.into_inner());
        }
        names
    }

    pub(super) fn conditions(&mut self, written: Vec<Spanned<raw::Condition>>) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for entry in written {
            let span = entry.span();
            let raw = entry.into_inner();
            let known = self.problems.len();
            let mut patterns = |list: Option<Spanned<List>>| {
                list.map_or_else(Vec::new, |list| self.patterns(list.into_inner()))
            };
            let (paths, executables, ancestors) =
                (patterns(raw.paths), patterns(raw.executable), patterns(raw.ancestor));
            let condition = Condition {
                paths,
                operations: raw.operations.map(|list| self.operations(list)),
                executables,
                process_names: raw.process_name.map_or_else(Vec::new, |names| {
                    names.into_inner().into_iter().map(Spanned::into_inner).collect()
                }),
                ancestors,
                users: self.users(raw.user),
                login_users: self.users(raw.login_user),
                reason: raw.reason.map(Spanned::into_inner),
            };
            // One whose values are wrong says something.
            if condition.is_empty() && self.problems.len() == known {
                let message = "it says nothing of the operation, and would hold for all; add one \
                               of executable, process_name, ancestor, user, login_user, paths, \
                               operations";
                self.problem(span, message);
            }
            conditions.push(condition);
        }
        conditions
    }

    fn users(&mut self, written: Option<Spanned<Vec<Spanned<Scalar>>>>) -> Vec<String> {
        let mut users = Vec::new();
        for user in written.map_or_else(Vec::new, Spanned::into_inner) {
            match user.get_ref() {
                Scalar::Integer(id) if u32::try_from(*id).is_ok_and(|id| id != u32::MAX) => {
                    users.push(id.to_string());
                }
                Scalar::Integer(id) => {
                    self.problem(user.span(), format!("{id} is no user id"));
                }
                Scalar::Text(name) if name.is_empty() => {
                    self.problem(user.span(), "the name of a user must not be empty");
                }
                Scalar::Text(name) => users.push(name.clone()),
            }
        }
        users
    }

    pub(super) fn windows(&mut self, written: Vec<Spanned<raw::Maintenance>>) -> Vec<Window> {
        let mut windows: Vec<Window> = Vec::new();
        for entry in written {
            let span = entry.span();
            let raw = entry.into_inner();
            let name_span = raw.name.as_ref().map_or(span.clone(), Spanned::span);
            let name = raw.name.as_ref().map(|name| name.get_ref().clone()).unwrap_or_default();
            if name.trim().is_empty() {
                self.problem(name_span, "the window has no name; add name = \"...\"");
            } else if windows.iter().any(|window| window.name == name) {
                self.problem(name_span, format!("the name {name:?} is taken by another window"));
            }
            if let Some(when) = self.when(raw, span) {
                windows.push(Window { name, when });
            } else {
                // So that rules which name it are not wrong too.
                let never = Timestamp::from_unix(0, 0);
                windows.push(Window { name, when: When::Once { from: never, until: never } });
            }
        }
        windows
    }

    fn when(&mut self, raw: raw::Maintenance, span: Range<usize>) -> Option<When> {
        let zone = match &raw.timezone {
            None => TimeZone::system(),
            Some(name) if name.get_ref() == "local" => TimeZone::system(),
            // Also where there is no time zone database, as in a container of one program.
            Some(name) if name.get_ref() == "UTC" => TimeZone::UTC,
            Some(name) => match TimeZone::get(name.get_ref()) {
                Ok(zone) => zone,
                Err(error) => {
                    self.problem(name.span(), format!("{error}"));
                    return None;
                }
            },
        };
        let weekly = raw.days.is_some() || raw.start.is_some() || raw.duration.is_some();
        match (raw.from, raw.until, weekly) {
            (Some(from), Some(until), false) => {
                let (begin, end) = (self.moment(&from, &zone)?, self.moment(&until, &zone)?);
                if end <= begin {
                    self.problem(until.span(), "the window is over before it opens");
                    return None;
                }
                Some(When::Once { from: begin, until: end })
            }
            (None, None, true) => {
                let (Some(days), Some(start), Some(duration)) = (raw.days, raw.start, raw.duration)
                else {
                    self.problem(span, "a weekly window has days, start and duration");
                    return None;
                };
                let days = self.days(days);
                let start = self.time(&start)?;
                let duration = self.duration(&duration)?;
                days.map(|days| When::Weekly { days, start, duration, zone })
            }
            _ => {
                let message = "a window has either days, start and duration, or from and until";
                self.problem(span, message);
                None
            }
        }
    }

    fn days(&mut self, written: Spanned<List>) -> Option<Vec<Weekday>> {
        if written.get_ref().is_empty() {
            self.problem(written.span(), "days is empty: the window would never open");
            return None;
        }
        let mut days = Vec::new();
        let mut known = true;
        for name in written.into_inner() {
            match (name.get_ref().as_str(), weekday(name.get_ref())) {
                ("daily", _) => {
                    days.extend(Weekday::Monday.cycle_forward().take(7));
                }
                (_, Some(day)) => days.push(day),
                (unknown, None) => {
                    let message = format!(
                        "day {unknown:?} is unknown; allowed: mon, tue, wed, thu, fri, sat, sun, \
                         or daily"
                    );
                    self.problem(name.span(), message);
                    known = false;
                }
            }
        }
        known.then_some(days)
    }

    fn time(&mut self, written: &Spanned<String>) -> Option<Time> {
        let time = Time::strptime("%H:%M", written.get_ref()).ok();
        if time.is_none() {
            let message = format!("{:?} is no time; as in \"22:30\"", written.get_ref());
            self.problem(written.span(), message);
        }
        time
    }

    fn duration(&mut self, written: &Spanned<String>) -> Option<SignedDuration> {
        let duration: Option<SignedDuration> = written.get_ref().parse().ok();
        let Some(duration) = duration else {
            let message =
                format!("{:?} is no duration; as in \"4h\" or \"1h30m\"", written.get_ref());
            self.problem(written.span(), message);
            return None;
        };
        if duration < SignedDuration::from_mins(1) || duration > LONGEST {
            let message = format!("{:?} is out of range; allowed: 1m to 168h", written.get_ref());
            self.problem(written.span(), message);
            return None;
        }
        Some(duration)
    }

    fn moment(&mut self, written: &Spanned<Moment>, zone: &TimeZone) -> Option<Timestamp> {
        let text = &written.get_ref().0;
        let in_zone = |text: &str| {
            let moment: DateTime = text.parse().ok()?;
            Some(moment.to_zoned(zone.clone()).ok()?.timestamp())
        };
        let moment = text.parse::<Instant>().ok().or_else(|| in_zone(text));
        if moment.is_none() {
            let message = format!(
                "{text:?} is no date and time; as in \"2026-03-01T22:00:00+01:00\", or without \
                 an offset in the time zone of the window"
            );
            self.problem(written.span(), message);
        }
        moment.map(|moment| Timestamp::from_unix(moment.as_second(), 0))
    }
}
