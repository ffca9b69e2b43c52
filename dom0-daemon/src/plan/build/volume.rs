//! What happens to a qube's volumes.

use std::borrow::Cow;

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Mib, Qube};

use super::qube::empty_change;
use super::{Draft, PlanProblem, Restarts, Shrink, Undeclared};
use crate::machine::RunningQube;
use crate::plan::graph::{Key, Node};
use crate::plan::{Action, ChangeKind, Effect, Inverse, QubeChange, VolumeChange};
use crate::storage::VolumeId;

impl<'a> Draft<'a> {
    /// Volumes of a qube that is new. One that an earlier qube of that name left is used as it is.
    pub(super) fn new_volumes(
        &mut self,
        name: &'a QubeName,
        qube: &'a Qube,
        change: &mut QubeChange,
    ) {
        for (volume, declared) in &qube.volumes {
            let Some(found) = self.observed.volume(name, volume) else {
                change
                    .volumes
                    .push(self.create(name, volume, declared.size, "new"));
                continue;
            };
            change.volumes.push(VolumeChange::Adopt {
                volume: volume.clone(),
                size: found.size,
            });
            if found.size < declared.size {
                change
                    .volumes
                    .push(self.grow(name, volume, found.size, declared.size));
            }
        }
    }

    pub(super) fn kept_volumes(
        &mut self,
        name: &'a QubeName,
        old: &'a Qube,
        qube: &'a Qube,
        running: Option<&RunningQube>,
    ) {
        for (volume, declared) in &qube.volumes {
            let was = old.volumes.get(volume).map(|volume| volume.size);
            let told = match self.observed.volume(name, volume) {
                None => {
                    let reason = if was.is_some() {
                        "it has vanished"
                    } else {
                        "new"
                    };
                    if was.is_some() {
                        self.notes.push(format!(
                            "Volume {name}:{volume} has vanished with its data; an empty one is \
                             created in its place."
                        ));
                    }
                    self.create(name, volume, declared.size, reason)
                }
                Some(found) if found.size < declared.size => {
                    self.grow(name, volume, found.size, declared.size)
                }
                // Larger than declared is right where a rollback has left it so.
                Some(found) if found.size > declared.size => {
                    if was.is_some_and(|was| was > declared.size) {
                        self.shrink(name, volume, found.size, declared.size);
                    }
                    continue;
                }
                Some(_) if was.is_some() => continue,
                Some(found) => VolumeChange::Adopt {
                    volume: volume.clone(),
                    size: found.size,
                },
            };
            self.tell(name, told);
        }
        for volume in old
            .volumes
            .keys()
            .filter(|volume| !qube.volumes.contains_key(*volume))
        {
            let destroys = self.options.undeclared == Undeclared::Destroy;
            if destroys && running.is_some() && self.options.restarts == Restarts::Leave {
                self.problems.push(PlanProblem::InUse {
                    volume: id(name, volume),
                });
                continue;
            }
            self.drop_volume(name, volume);
        }
    }

    /// A volume that is no longer declared.
    pub(super) fn drop_volume(&mut self, name: &'a QubeName, volume: &'a str) {
        let Some(found) = self.observed.volume(name, volume) else {
            return;
        };
        let (size, volume_id) = (found.size, id(name, volume));
        if self.options.undeclared == Undeclared::Keep {
            self.tell(
                name,
                VolumeChange::Keep {
                    volume: volume.to_owned(),
                    size,
                },
            );
            return;
        }
        self.tell(
            name,
            VolumeChange::Destroy {
                volume: volume.to_owned(),
                size,
            },
        );
        let retire = Node {
            action: Action::RetireVolume {
                volume: volume_id.clone(),
                size,
            },
            reason: "no longer declared".into(),
            inverse: Inverse::Action(Action::RestoreVolume {
                volume: volume_id.clone(),
            }),
            effect: Effect::Now,
            destroys_data: true,
            after: vec![Key::Stop(name), Key::Declare],
        };
        let purge = Node {
            action: Action::PurgeVolume { volume: volume_id },
            reason: "no longer declared".into(),
            inverse: Inverse::Never,
            effect: Effect::Now,
            destroys_data: true,
            after: vec![Key::Retire(name, volume), Key::Switch],
        };
        self.graph.insert(Key::Retire(name, volume), retire);
        self.graph.insert(Key::Purge(name, volume), purge);
    }

    fn create(
        &mut self,
        name: &'a QubeName,
        volume: &'a str,
        size: Mib,
        reason: &'static str,
    ) -> VolumeChange {
        let runs = self.runs(name).is_some() && self.options.restarts == Restarts::Leave;
        let node = Node {
            action: Action::CreateVolume {
                volume: id(name, volume),
                size,
            },
            reason: reason.into(),
            inverse: Inverse::Action(Action::DiscardVolume {
                volume: id(name, volume),
            }),
            effect: if runs { Effect::NextStart } else { Effect::Now },
            destroys_data: false,
            after: Vec::new(),
        };
        self.graph.insert(Key::Volume(name, volume), node);
        VolumeChange::Create {
            volume: volume.to_owned(),
            size,
        }
    }

    fn grow(&mut self, name: &'a QubeName, volume: &'a str, from: Mib, to: Mib) -> VolumeChange {
        let resize = |from, to| Action::ResizeVolume {
            volume: id(name, volume),
            from,
            to,
        };
        let node = Node {
            action: resize(from, to),
            reason: Cow::Borrowed("declared larger than it is"),
            inverse: Inverse::Action(resize(to, from)),
            effect: Effect::Now,
            destroys_data: false,
            after: Vec::new(),
        };
        self.graph.insert(Key::Volume(name, volume), node);
        VolumeChange::Grow {
            volume: volume.to_owned(),
            from,
            to,
        }
    }

    fn shrink(&mut self, name: &QubeName, volume: &str, from: Mib, to: Mib) {
        match self.options.shrink {
            Shrink::Refuse => {
                let volume = id(name, volume);
                self.problems.push(PlanProblem::Shrink { volume, from, to });
            }
            Shrink::Keep => self.notes.push(format!(
                "Volume {name}:{volume} stays at {from}: a volume never shrinks."
            )),
        }
    }

    fn tell(&mut self, name: &'a QubeName, told: VolumeChange) {
        let change = self
            .qubes
            .entry(name)
            .or_insert_with(|| empty_change(name, ChangeKind::Change));
        change.volumes.push(told);
    }
}

fn id(qube: &QubeName, volume: &str) -> VolumeId {
    VolumeId {
        qube: qube.clone(),
        volume: volume.to_owned(),
    }
}
