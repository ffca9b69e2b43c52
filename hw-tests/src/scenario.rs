//! What a scenario is, and where it can run.

use std::path::Path;

use anyhow::Result;

use bulkhead_templates::cache::Key;

use crate::line::Line;
use crate::machine::Machine;
use crate::scratch::Scratch;

/// The kind of place that scenarios run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Xen in QEMU: a fresh machine for each scenario.
    Qemu,
    /// Xen on a bench machine, reached by ssh: one machine for all.
    Host {
        /// It may be harmed, for it is brought back before each scenario that might.
        throwaway: bool,
    },
    /// This machine, with namespaces for domains.
    Embedded,
}

/// Something that a place may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Xen under dom0.
    Xen,
    /// A machine that may be harmed.
    Throwaway,
    /// A Bulkhead of its own, on whatever it runs qubes.
    Bulkhead,
    /// Sources of programs of Qubes, which the place has nothing to do with.
    QubesSources,
}

impl Place {
    /// Why this place cannot give what is needed; none if it can.
    pub fn lacks(self, need: Need) -> Option<&'static str> {
        match (self, need) {
            (Self::Embedded, Need::Xen) => Some("the embedded backend has no Xen"),
            (Self::Embedded, Need::Throwaway) => Some("this machine is to stay whole"),
            (Self::Host { throwaway: false }, Need::Throwaway | Need::Bulkhead) => {
                Some("this machine is to stay whole (`--reset COMMAND` brings it back)")
            }
            (Self::Host { throwaway: true }, Need::Throwaway | Need::Bulkhead)
            | (Self::Qemu | Self::Host { .. }, Need::Xen)
            | (Self::Qemu, Need::Throwaway)
            | (Self::Qemu | Self::Embedded, Need::Bulkhead) => None,
            // They come from whoever runs the tests.
            (_, Need::QubesSources) => None,
        }
    }
}

/// What a scenario begins with.
#[derive(Debug, Clone, Copy)]
pub enum Start {
    /// Xen and dom0, with nothing of ours.
    Bare,
    /// The same on a machine with an IOMMU and a network card that a domain can be given. In QEMU it
    /// boots each time: a saved machine has the hardware that it was saved with.
    Iommu,
    /// A machine on which this was done. In QEMU that is done once, for every scenario that begins
    /// with it, and the machine with all that runs on it is saved.
    Prepared(&'static Preparation),
}

/// What is done before scenarios that would all begin with it.
#[derive(Debug)]
pub struct Preparation {
    /// Its name.
    pub name: &'static str,
    /// Everything that the outcome depends on, beside the machine.
    pub inputs: fn() -> Result<Key>,
    /// Does it.
    pub run: fn(&World) -> Result<()>,
}

/// When a scenario runs that nobody has named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Each time.
    Always,
    /// When all are asked for: it takes long, and what breaks it breaks others as a rule.
    All,
    /// Never: it says how long things take.
    Named,
}

/// One thing that must work.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name: what holds, with underscores.
    pub name: &'static str,
    /// What it cannot do without.
    pub needs: &'static [Need],
    /// When it runs.
    pub when: When,
    /// What it begins with.
    pub from: Start,
    /// The scenario itself.
    pub run: fn(&World) -> Result<()>,
}

impl Scenario {
    /// Whether the machine is another one afterwards.
    pub fn harms(&self) -> bool {
        let harm = [Need::Throwaway, Need::Bulkhead];
        self.needs.iter().any(|need| harm.contains(need))
    }
}

/// What a scenario works with.
#[derive(Debug)]
pub struct World {
    place: Place,
    at: At,
}

#[derive(Debug)]
enum At {
    Machine(Box<Machine>),
    Line(Box<dyn Line>),
    Scratch(Scratch),
}

impl World {
    /// A machine of its own.
    pub fn machine(machine: Machine) -> Self {
        Self {
            place: Place::Qemu,
            at: At::Machine(Box::new(machine)),
        }
    }

    /// Somewhere that is there already.
    pub fn line(place: Place, line: Box<dyn Line>) -> Self {
        Self {
            place,
            at: At::Line(line),
        }
    }

    /// On this machine, with a Bulkhead of its own.
    pub fn scratch(scratch: Scratch) -> Self {
        Self {
            place: Place::Embedded,
            at: At::Scratch(scratch),
        }
    }

    /// The kind of place.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The Bulkhead of its own, where that is not the one that is installed.
    pub fn own(&self) -> Option<&Scratch> {
        match &self.at {
            At::Scratch(scratch) => Some(scratch),
            At::Machine(_) | At::Line(_) => None,
        }
    }

    /// The way into dom0.
    pub fn dom0(&self) -> &dyn Line {
        match &self.at {
            At::Machine(machine) => machine.dom0(),
            At::Line(line) => line.as_ref(),
            At::Scratch(scratch) => scratch.line(),
        }
    }

    /// Puts the file `path` into dom0 as a disk that cannot be written; the disk's name there.
    pub fn attach(&self, path: &Path, name: &str) -> Result<String> {
        match &self.at {
            At::Machine(machine) => machine.attach(path, name),
            At::Line(_) | At::Scratch(_) => {
                let line = self.dom0();
                let at = format!("/var/tmp/{name}");
                line.put_file(path, &at)?;
                line.sh(&format!("losetup --find --show --read-only {at}"))
            }
        }
    }

    /// Takes away the disk `name` that [`Self::attach`] put in and nobody uses.
    pub fn detach(&self, name: &str) -> Result<()> {
        match &self.at {
            At::Machine(machine) => machine.detach(name),
            At::Line(_) | At::Scratch(_) => self
                .dom0()
                .sh(&format!(
                    "losetup --detach $(losetup --noheadings --output NAME \
                       --associated /var/tmp/{name}); rm /var/tmp/{name}"
                ))
                .map(drop),
        }
    }

    /// Whether what went wrong was the emulator's doing.
    pub fn lost_by_emulator(&self) -> bool {
        match &self.at {
            At::Machine(machine) => machine.lost_domain(),
            At::Line(_) | At::Scratch(_) => false,
        }
    }

    /// The machine, where it is one of its own.
    pub(crate) fn into_machine(self) -> Option<Machine> {
        match self.at {
            At::Machine(machine) => Some(*machine),
            At::Line(_) | At::Scratch(_) => None,
        }
    }

    /// Keeps what is left of a scenario that failed, where there is something to keep.
    pub fn keep_logs(&mut self, folder: &Path) -> Result<()> {
        match &mut self.at {
            At::Machine(machine) => machine.keep_logs(folder).map(drop),
            At::Line(_) => Ok(()),
            At::Scratch(scratch) => scratch.keep_logs(folder),
        }
    }
}
