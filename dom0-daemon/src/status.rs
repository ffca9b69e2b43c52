//! Where what runs differs from what is declared.
//!
//! Drift is what the next apply repairs: an autostart qube that died or never came up, a qube that
//! runs undeclared, a live property with another value, a volume or an image that has vanished. No
//! drift: a qube that a person stopped or that shut itself down in order (it was meant), one that is
//! not autostart and does not run, and one that runs with old values and waits for its next start
//! (told as pending, since only `--restart` changes it).

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Description, Qube};

use crate::lock::{Lock, template_of};
use crate::machine::{RunningQube, Stopped};
use crate::observe::Observed;
use crate::ops::{Drift, DriftKind, PendingRestart};
use crate::plan::lag::{ExpectedImage, expected_root, lag};
use crate::storage::VolumeInfo;

/// What there is to tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// What the next apply repairs.
    pub drift: Vec<Drift>,
    /// Running qubes that wait for their next start.
    pub pending: Vec<PendingRestart>,
    /// Volumes of no declared qube.
    pub orphans: Vec<VolumeInfo>,
}

/// Compares what is with what the current generation declares. Pure.
pub fn differences(observed: &Observed) -> Differences {
    let mut found = Differences::default();
    let empty = Description::default();
    let none = Lock::default();
    let (declared, lock) = match &observed.current {
        Some(current) => (&*current.description, &current.lock),
        None => (&empty, &none),
    };
    for (name, locked) in &lock.0 {
        if declared.templates.contains_key(name) && !observed.images.contains(&locked.digest) {
            found.note(
                DriftKind::ImageMissing,
                name,
                format!(
                    "image {} of template {name} is not in the store",
                    locked.digest.short()
                ),
                "It is made again from its source.",
            );
        }
    }
    for (name, qube) in &declared.qubes {
        found.volumes(observed, name, qube);
        match observed.machine.running.get(name) {
            Some(running) => found.running(observed, declared, lock, running, qube),
            None => found.stopped(observed, name, qube),
        }
    }
    for (name, running) in &observed.machine.running {
        if !declared.qubes.contains_key(name) && !running.disposable {
            found.note(
                DriftKind::Undeclared,
                name,
                format!("{name} runs and nobody declares it"),
                "It is stopped.",
            );
        }
    }
    for (qube, volumes) in &observed.volumes {
        let declared = declared.qubes.get(qube);
        let orphans = volumes.values().filter(|volume| {
            !declared.is_some_and(|qube| qube.volumes.contains_key(&volume.id.volume))
        });
        found.orphans.extend(orphans.cloned());
    }
    found
}

impl Differences {
    fn note(&mut self, kind: DriftKind, subject: &QubeName, text: String, remedy: &str) {
        self.drift.push(Drift {
            kind,
            subject: subject.clone(),
            text,
            remedy: remedy.to_owned(),
        });
    }

    fn volumes(&mut self, observed: &Observed, name: &QubeName, qube: &Qube) {
        for (volume, declared) in &qube.volumes {
            match observed.volume(name, volume) {
                None => self.note(
                    DriftKind::VolumeMissing,
                    name,
                    format!("volume {name}:{volume} has vanished"),
                    "An empty one is created in its place.",
                ),
                Some(found) if found.size < declared.size => self.note(
                    DriftKind::VolumeSmaller,
                    name,
                    format!(
                        "volume {name}:{volume} has {} and is declared with {}",
                        found.size, declared.size
                    ),
                    "It is grown.",
                ),
                Some(_) => {}
            }
        }
    }

    fn running(
        &mut self,
        observed: &Observed,
        declared: &Description,
        lock: &Lock,
        running: &RunningQube,
        qube: &Qube,
    ) {
        let image = template_of(declared, qube).and_then(|template| lock.image(&template.name));
        let machine = &observed.machine;
        let image = ExpectedImage::Known(image);
        let root = expected_root(declared, &machine.revisions, qube, image);
        let lag = lag(running, qube, root, &machine.live);
        for property in lag.live {
            self.note(
                DriftKind::Property,
                &qube.name,
                format!("{} of {} is not as declared", property.name(), qube.name),
                "It is set while the qube runs.",
            );
        }
        if !lag.restart.is_empty() {
            self.pending.push(PendingRestart {
                qube: qube.name.clone(),
                properties: lag.restart.into_iter().map(str::to_owned).collect(),
            });
        }
    }

    fn stopped(&mut self, observed: &Observed, name: &QubeName, qube: &Qube) {
        let text = match observed.machine.stopped.get(name) {
            _ if !qube.autostart => return,
            Some(Stopped::ByPerson | Stopped::ByItself) => return,
            Some(Stopped::Died) => format!("{name} died"),
            None => format!("{name} is declared to start with the machine and does not run"),
        };
        self.note(DriftKind::NotRunning, name, text, "It is started.");
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_model::qube::{Mib, QubeKind};

    use super::*;
    use crate::plan::sim::{applied, desktop, name};
    use crate::storage::RevisionId;

    #[test]
    fn a_machine_as_declared_shows_nothing() {
        assert_eq!(differences(&applied(&desktop())), Differences::default());
        assert_eq!(differences(&Observed::default()), Differences::default());
    }

    #[test]
    fn every_kind_of_difference_is_told_with_its_remedy() {
        let mut observed = applied(&desktop());
        let machine = &mut observed.machine;
        machine.running.remove("sys-net");
        machine.stopped.insert(name("sys-net"), Stopped::Died);
        let mut stray = machine.running["work"].clone();
        stray.spec.name = name("stray");
        machine.running.insert(name("stray"), stray.clone());
        stray.disposable = true;
        machine.running.insert(name("disp1"), stray);
        let work = machine.running.get_mut("work").unwrap();
        work.spec.vcpus = 7;
        work.spec.kernelopts = "old".into();
        observed.volumes.remove("vault");
        let volume = observed
            .volumes
            .get_mut("work")
            .unwrap()
            .get_mut("private")
            .unwrap();
        volume.size = Mib(5);
        let mut orphan = volume.clone();
        orphan.id.volume = "data".into();
        observed
            .volumes
            .get_mut("work")
            .unwrap()
            .insert("data".into(), orphan);
        observed.images.clear();
        let found = differences(&observed);
        let mut lines: Vec<String> = (found.drift.iter())
            .map(|drift| {
                format!(
                    "{:?} {}: {}. {}",
                    drift.kind, drift.subject, drift.text, drift.remedy
                )
            })
            .collect();
        lines.extend(
            found
                .pending
                .iter()
                .map(|p| format!("pending {} {:?}", p.qube, p.properties)),
        );
        lines.extend(
            found
                .orphans
                .iter()
                .map(|volume| format!("orphan {}", volume.id)),
        );
        insta::assert_snapshot!(lines.join("\n"), @r#"
        ImageMissing host: image aaaaaaaaaaaa of template host is not in the store. It is made again from its source.
        NotRunning sys-net: sys-net died. It is started.
        VolumeMissing vault: volume vault:private has vanished. An empty one is created in its place.
        VolumeSmaller work: volume work:private has 5 MiB and is declared with 2 GiB. It is grown.
        Property work: vcpus of work is not as declared. It is set while the qube runs.
        Undeclared stray: stray runs and nobody declares it. It is stopped.
        pending work ["kernelopts"]
        orphan work:data
        "#);
    }

    #[test]
    fn what_was_stopped_on_purpose_is_no_drift() {
        let mut observed = applied(&desktop());
        for (qube, how) in [("work", Stopped::ByPerson), ("sys-net", Stopped::ByItself)] {
            observed.machine.running.remove(qube);
            observed.machine.stopped.insert(name(qube), how);
        }
        assert_eq!(differences(&observed), Differences::default());
    }

    #[test]
    fn a_newer_root_of_its_template_waits_for_the_next_start_of_a_qube() {
        let mut description = desktop();
        let mut tools = Qube::new(name("tools"), QubeKind::Template, "black");
        tools.template = Some(name("host"));
        description.qubes.insert(name("tools"), tools.into());
        let mut work = (*description.qubes["work"]).clone();
        work.template = Some(name("tools"));
        description.qubes.insert(name("work"), work.into());
        let mut observed = applied(&description);
        assert_eq!(differences(&observed), Differences::default());
        let newest = RevisionId {
            root: uuid::Uuid::nil(),
            number: 2,
        };
        observed.machine.revisions = [(name("tools"), newest)].into();
        for (number, expect) in [(None, 1), (Some(1), 1), (Some(2), 0)] {
            let running = observed.machine.running.get_mut("work").unwrap();
            running.revision = number.map(|number| RevisionId { number, ..newest });
            // Whatever became of the image that the root lies over.
            running.image = None;
            let pending = differences(&observed).pending;
            assert_eq!(pending.len(), expect, "{number:?}");
            for pending in pending {
                assert_eq!(pending.properties, ["root of its template"]);
            }
        }
    }
}
