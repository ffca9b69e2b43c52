//! Every decision about a call, one JSON object a line, in a log of bounded size.
//!
//! The newest records are in `audit.jsonl`; when it is full it becomes `audit.jsonl.1`, and so on
//! up to [`AUDIT_FILES`]. Records are [`AuditRecord`]s, the form in which clients get them too.
//!
//! No source can push out the history of the others: what it does beyond its share is counted and
//! has one line for many (`share`). What is counted and has no line yet is in
//! `audit.counts.json`, so that a daemon that is killed forgets [`SETTLE_EVERY`] of it at most.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_api::call::{AUDIT_MAX, AuditFilter, AuditRecord};
use bulkhead_api::event::Event;

use tokio::sync::Notify;

use self::share::{Place, Shares};
use crate::bus::Events;
use crate::whole_file::{self, Lasting};

mod share;

/// Size at which a file is set aside.
pub const AUDIT_FILE_MAX: u64 = 8 << 20;
/// Files kept, the current one included: 32 MiB, some hundred thousand records.
pub const AUDIT_FILES: u32 = 4;
/// Characters of a service name that are recorded: it may be 65,000 bytes long.
pub const AUDIT_SERVICE_MAX: usize = 512;

/// How often what is counted is written down.
pub const SETTLE_EVERY: Duration = Duration::from_secs(10);

/// Name of the file.
const NAME: &str = "audit.jsonl";
/// Name of the file of what is counted.
const COUNTS: &str = "audit.counts.json";
/// Who decided, where it was a person: so rare that it always has a line.
const BY_PERSON: &str = "user:";

#[derive(Debug)]
struct Current {
    file: File,
    size: u64,
}

/// The audit log.
#[derive(Debug)]
pub struct Audit {
    folder: PathBuf,
    file_max: u64,
    current: Mutex<Current>,
    shares: Mutex<Shares>,
    began: Instant,
    counted: Arc<Notify>,
    events: Events,
}

fn open(folder: &Path) -> io::Result<Current> {
    let path = folder.join(NAME);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)?;
    let size = file.metadata()?.len();
    Ok(Current { file, size })
}

impl Audit {
    /// Opens or makes the log in `folder`; every record is told to `events` too.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn open(folder: &Path, events: Events) -> io::Result<Self> {
        Self::with_limit(folder, events, AUDIT_FILE_MAX)
    }

    fn with_limit(folder: &Path, events: Events, file_max: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut current = open(folder)?;
        // A line that a crash cut short must not swallow the next one.
        let path = folder.join(NAME);
        if current.size > 0 && !fs::read(&path)?.ends_with(b"\n") {
            current.file.write_all(b"\n")?;
            current.size += 1;
        }
        let audit = Self {
            folder: folder.to_owned(),
            file_max,
            current: Mutex::new(current),
            shares: Mutex::default(),
            began: Instant::now(),
            counted: Arc::default(),
            events,
        };
        audit.take_counts();
        Ok(audit)
    }

    /// Records a decision about a call of `record.source`, stamped with the time.
    pub fn record(&self, record: AuditRecord) {
        let share = record.source.clone();
        self.record_in(&share, record);
    }

    /// The same, where several sources have one share of the log.
    pub fn record_in(&self, share: &str, mut record: AuditRecord) {
        record.time = now_ms();
        shorten(&mut record.service);
        let place = match record.by.starts_with(BY_PERSON) {
            true => Place::Line,
            false => self.shares().place(share, &record, self.began.elapsed()),
        };
        match place {
            Place::Line => self.write(record),
            Place::FirstCounted => {
                tracing::warn!(source = %share, "makes so many calls that they are counted");
                self.counted.notify_one();
            }
            Place::Counted => {
                tracing::debug!(source = %share, service = %record.service, "call counted");
                self.counted.notify_one();
            }
        }
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        // Nothing that holds this lock can panic half way through a change.
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told when something is counted, and at the end.
    pub(crate) fn counted(&self) -> Arc<Notify> {
        Arc::clone(&self.counted)
    }

    /// Writes the lines that are due and notes what is counted otherwise; true if there is any.
    pub(crate) fn settle(&self) -> bool {
        let (due, counted) = {
            let mut shares = self.shares();
            (shares.take_due(self.began.elapsed()), shares.counted())
        };
        due.into_iter().for_each(|record| self.write(record));
        if let Err(error) = self.note_counts(&counted) {
            tracing::error!(%error, "counted calls could not be noted beside the audit log");
        }
        !counted.is_empty()
    }

    /// Writes a line for all that is counted.
    pub(crate) fn settle_all(&self) {
        let counted = self.shares().take_all();
        counted.into_iter().for_each(|record| self.write(record));
        if let Err(error) = self.note_counts(&[]) {
            tracing::error!(%error, "the note of counted calls cannot be removed");
        }
    }

    fn note_counts(&self, counted: &[AuditRecord]) -> io::Result<()> {
        let path = self.folder.join(COUNTS);
        if counted.is_empty() {
            return whole_file::remove(&path);
        }
        let text = serde_json::to_vec(counted)?;
        Ok(whole_file::replace(&path, &text, 0o640, Lasting::Always)?)
    }

    /// Gives what an earlier daemon had counted its lines.
    fn take_counts(&self) {
        let Ok(text) = fs::read(self.folder.join(COUNTS)) else {
            return;
        };
        match serde_json::from_slice::<Vec<AuditRecord>>(&text) {
            Ok(counted) => counted.into_iter().for_each(|record| self.write(record)),
            Err(error) => tracing::error!(%error, "the note of counted calls is not readable"),
        }
        self.settle_all();
    }

    fn write(&self, record: AuditRecord) {
        tracing::info!(
            source = %record.source,
            requested = %record.requested_target,
            target = %record.target,
            service = %record.service,
            decision = %record.decision,
            by = %record.by,
            rule = %record.rule,
            count = record.count,
            "call decided"
        );
        if let Err(error) = self.append(&record) {
            // The decision stands; that it could not be written is itself worth an error.
            tracing::error!(%error, "a decision could not be written to the audit log");
        }
        self.events.send(Event::AuditRecorded(record));
    }

    fn append(&self, record: &AuditRecord) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.size + line.len() as u64 > self.file_max && current.size > 0 {
            self.rotate()?;
            *current = open(&self.folder)?;
        }
        if let Err(error) = current.file.write_all(&line) {
            // Half a record, as a full disk leaves it, would swallow the next one.
            let whole = current.size;
            return current.file.set_len(whole).and(Err(error));
        }
        current.size += line.len() as u64;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        match number {
            0 => self.folder.join(NAME),
            n => self.folder.join(format!("{NAME}.{n}")),
        }
    }

    fn rotate(&self) -> io::Result<()> {
        for number in (0..AUDIT_FILES - 1).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// The newest records that match, oldest of them first; what is counted comes last.
    ///
    /// # Errors
    /// Where a file cannot be read. Lines that are no records are skipped.
    pub fn tail(&self, filter: &AuditFilter) -> io::Result<Vec<AuditRecord>> {
        let wanted = usize::try_from(filter.last.min(AUDIT_MAX)).unwrap_or(usize::MAX);
        let mut found = VecDeque::new();
        let mut take = |record: AuditRecord| {
            if matches(filter, &record) {
                found.push_back(record);
                if found.len() > wanted {
                    found.pop_front();
                }
            }
        };
        for number in (0..AUDIT_FILES).rev() {
            let file = match File::open(self.numbered(number)) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            for line in BufReader::new(file).split(b'\n') {
                let Ok(record) = serde_json::from_slice::<AuditRecord>(&line?) else {
                    continue;
                };
                take(record);
            }
        }
        self.shares().counted().into_iter().for_each(take);
        Ok(found.into())
    }
}

/// What is counted gets its line before the daemon ends.
impl Drop for Audit {
    fn drop(&mut self) {
        self.settle_all();
        self.counted.notify_one();
    }
}

fn matches(filter: &AuditFilter, record: &AuditRecord) -> bool {
    let is = |wanted: &Option<String>, value: &str| {
        wanted.as_deref().is_none_or(|w| w.is_empty() || w == value)
    };
    let service = record.service.split('+').next().unwrap_or_default();
    (is(&filter.qube, &record.source) || is(&filter.qube, &record.target))
        && (is(&filter.service, service) || is(&filter.service, &record.service))
        && is(&filter.decision, &record.decision)
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
}

fn shorten(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(AUDIT_SERVICE_MAX) {
        let rest = text.len() - at;
        text.truncate(at);
        text.push_str(&format!("... ({rest} bytes more)"));
    }
}

#[cfg(test)]
mod tests {
    use super::share::LINES_AT_ONCE;
    use super::*;

    fn record(source: &str, service: &str, decision: &str) -> AuditRecord {
        AuditRecord {
            time: 0,
            source: source.to_owned(),
            requested_target: "vault".to_owned(),
            target: "vault".to_owned(),
            service: service.to_owned(),
            decision: decision.to_owned(),
            by: "policy".to_owned(),
            rule: "system.ron:7".to_owned(),
            notify: false,
            count: 1,
            since: None,
        }
    }

    fn last(count: u32) -> AuditFilter {
        AuditFilter {
            last: count,
            ..AuditFilter::default()
        }
    }

    fn sources(records: &[AuditRecord]) -> Vec<&str> {
        records.iter().map(|r| r.source.as_str()).collect()
    }

    #[test]
    fn the_newest_records_come_back_in_order_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path(), Events::new()).unwrap();
        for source in ["a", "b", "c"] {
            audit.record(record(source, "qubes.Filecopy", "allow"));
        }
        drop(audit);
        // The last line of a daemon that was killed.
        let path = dir.path().join(NAME);
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"{\"time\":12,\"sou").unwrap();
        let audit = Audit::open(dir.path(), Events::new()).unwrap();
        audit.record(record("d", "qubes.Filecopy", "deny"));
        assert_eq!(sources(&audit.tail(&last(2)).unwrap()), ["c", "d"]);
        assert_eq!(audit.tail(&last(10)).unwrap().len(), 4);
    }

    #[test]
    fn filters_pick_by_qube_service_and_outcome() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path(), Events::new()).unwrap();
        audit.record(record("a", "qubes.Gpg+x", "allow"));
        audit.record(record("b", "qubes.Filecopy", "deny"));
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            (some("a"), None, None, vec!["a"]),
            (some("vault"), None, None, vec!["a", "b"]),
            (None, some("qubes.Gpg"), None, vec!["a"]),
            (None, None, some("deny"), vec!["b"]),
            (some("a"), None, some("deny"), vec![]),
        ];
        for (qube, service, decision, expect) in cases {
            let filter = AuditFilter {
                last: 10,
                qube,
                service,
                decision,
            };
            assert_eq!(sources(&audit.tail(&filter).unwrap()), expect, "{filter:?}");
        }
    }

    #[test]
    fn the_log_never_exceeds_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::with_limit(dir.path(), Events::new(), 2000).unwrap();
        for number in 0..200 {
            audit.record(record(&format!("q{number}"), "s", "deny"));
        }
        let sizes: Vec<u64> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), AUDIT_FILES as usize);
        assert!(sizes.iter().all(|size| *size <= 2000), "{sizes:?}");
        let newest = audit.tail(&last(1)).unwrap();
        assert_eq!(sources(&newest), ["q199"]);
    }

    #[test]
    fn a_flood_of_one_source_pushes_out_nothing_of_another() {
        let dir = tempfile::tempdir().unwrap();
        // As much as the share of one source and some.
        let audit = Audit::with_limit(dir.path(), Events::new(), 64 << 10).unwrap();
        audit.record(record("quiet", "qubes.Filecopy", "allow"));
        for _ in 0..10_000 {
            audit.record(record("flood", "s", "deny"));
        }
        audit.record(record("quiet", "qubes.Gpg", "allow"));
        let all = audit.tail(&last(AUDIT_MAX)).unwrap();
        let quiet: Vec<_> = all.iter().filter(|r| r.source == "quiet").collect();
        assert_eq!(quiet.len(), 2, "{} records", all.len());
        let flood = all.iter().filter(|r| r.source == "flood");
        assert_eq!(flood.clone().map(|r| r.count).sum::<u64>(), 10_000);
        assert_eq!(flood.count(), LINES_AT_ONCE as usize + 1);
        assert_eq!(all.last().unwrap().count, 10_000 - u64::from(LINES_AT_ONCE));
    }

    #[test]
    fn what_is_counted_survives_a_killed_daemon_and_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let flood = u64::from(LINES_AT_ONCE) + 7;
        let told = |audit: &Audit| -> u64 {
            let all = audit.tail(&last(AUDIT_MAX)).unwrap();
            all.iter().map(|record| record.count).sum()
        };
        let audit = Audit::open(dir.path(), Events::new()).unwrap();
        for _ in 0..flood {
            audit.record(record("flood", "s", "deny"));
        }
        assert!(audit.settle());
        // Killed: nothing of it is dropped.
        std::mem::forget(audit);
        for _ in 0..2 {
            let audit = Audit::open(dir.path(), Events::new()).unwrap();
            assert_eq!(told(&audit), flood);
            assert!(!audit.settle());
        }
    }

    #[test]
    fn answers_of_a_person_always_have_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path(), Events::new()).unwrap();
        let answer = AuditRecord {
            by: "user:me".to_owned(),
            ..record("work", "s", "allow")
        };
        for _ in 0..=LINES_AT_ONCE {
            audit.record(answer.clone());
        }
        let all = audit.tail(&last(AUDIT_MAX)).unwrap();
        assert_eq!(all.len(), LINES_AT_ONCE as usize + 1);
    }

    #[test]
    fn a_long_service_name_is_recorded_in_part() {
        let mut longest = "s".repeat(AUDIT_SERVICE_MAX);
        shorten(&mut longest);
        assert_eq!(longest.len(), AUDIT_SERVICE_MAX);
        let mut longer = "s".repeat(AUDIT_SERVICE_MAX + 1);
        shorten(&mut longer);
        assert!(longer.ends_with("s... (1 bytes more)"));
    }
}
