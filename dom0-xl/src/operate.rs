//! What each operation does. Runs on a thread of its own, with a context of its own.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_libxl_sys::{Context, Ended, Found, Level, Libxl, Log, Xenstore};
use bulkhead_wire::xl::{
    Answer, DOMAINS_MAX, Disk, DomId, DomainConfig, DomainInfo, DomainUuid, Ending, Failure,
    Initial, LibxlCode, Mib, NicId, Operation, Origin, State, Target, Vcpus, Vdev,
};

use crate::disks::{Disks, Given};
use crate::log::OperationLog;
use crate::{emulate, marks, nics};

/// States of a device's backend in which a domain can use it or come to: waiting for the domain,
/// initialised, connected (xen/io/xenbus.h).
pub(crate) const SERVED: [&str; 3] = ["2", "3", "4"];

/// How long the removal of a domain that has ended may take: libxl waits ten seconds for each device
/// whose other end does not answer.
const REMOVED: Duration = Duration::from_secs(60);

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(50);

/// Performs one operation.
pub(crate) fn perform(
    library: &Arc<Libxl>,
    operation: &Operation,
    log: &Arc<OperationLog>,
) -> Result<Answer, Failure> {
    let broken = |error: &dyn std::error::Error| Failure::Broken(error.to_string());
    let to: Arc<OperationLog> = Arc::clone(log);
    let context = Context::open(library, to).map_err(|e| broken(&e))?;
    let xenstore = Xenstore::open(library).map_err(|e| broken(&e))?;
    let log = Arc::clone(log);
    let performance = Performance {
        context,
        xenstore,
        log,
    };
    performance.perform(operation)
}

struct Performance {
    context: Context,
    xenstore: Xenstore,
    /// What goes into the error that it may end with.
    log: Arc<OperationLog>,
}

impl Performance {
    fn perform(&self, operation: &Operation) -> Result<Answer, Failure> {
        let context = &self.context;
        match operation {
            Operation::Create(config) => self.create(config),
            Operation::Pause(target) => {
                self.ours(*target)?;
                done(context.pause(target.domid))
            }
            Operation::Unpause(target) => {
                self.ours(*target)?;
                done(context.unpause(target.domid))
            }
            Operation::Shutdown(target) => {
                self.ours(*target)?;
                done(context.shutdown(target.domid))
            }
            Operation::Destroy(target) => {
                self.ours(*target)?;
                done(context.destroy(target.domid))
            }
            Operation::SetMemory { target, memory } => self.set_memory(*target, *memory),
            Operation::SetVcpus { target, vcpus } => self.set_vcpus(*target, *vcpus),
            Operation::SetWeight { target, weight } => {
                self.ours(*target)?;
                done(context.set_weight(target.domid, *weight))
            }
            Operation::AttachDisk { target, disk } => self.attach_disk(*target, disk),
            Operation::DetachDisk { target, vdev } => {
                self.ours(*target)?;
                done(context.detach_disk(target.domid, vdev))
            }
            Operation::AttachNic { target, nic } => {
                self.ours(*target)?;
                nic.check(target.domid).map_err(Failure::Config)?;
                nics::attach(context, &self.xenstore, target.domid, nic).map(|()| Answer::Ok)
            }
            Operation::DetachNic { target, nic } => self.detach_nic(*target, *nic),
            Operation::List { from } => self.list(*from),
            Operation::Host => context.host().map(Answer::Host).map_err(failure),
        }
    }

    /// The domain, if it is the one that is meant and one of ours.
    fn ours(&self, target: Target) -> Result<Found, Failure> {
        let found = self.context.domain(target.domid).map_err(failure)?;
        let found = found.filter(|found| found.target == target);
        let found = found.ok_or(Failure::NoSuchDomain)?;
        if !marks::is_ours(&self.xenstore, target).map_err(|e| xenstore(&e))? {
            return Err(Failure::Foreign);
        }
        Ok(found)
    }

    fn create(&self, config: &DomainConfig) -> Result<Answer, Failure> {
        config.check().map_err(Failure::Config)?;
        let (domid, uuid) = (config.domid, config.uuid);
        self.is_free(domid, uuid)?;
        let target = Target { domid, uuid };
        marks::begin(&self.xenstore, target).map_err(|e| xenstore(&e))?;
        let made = self.make(config);
        if made.is_err() {
            for line in emulate::last_words(config) {
                self.log.line(Level::Error, &format!("QEMU: {line}"));
            }
            self.remove(target)?;
            emulate::clear(domid, Some(&config.name));
        }
        // Last: whoever comes after us destroys what still has this mark.
        marks::finish(&self.xenstore, uuid).map_err(|e| xenstore(&e))?;
        made.map(|()| Answer::Ok)
    }

    /// Waits until what a qube ran as before is gone: its end is told before it is removed.
    fn is_free(&self, domid: DomId, uuid: DomainUuid) -> Result<(), Failure> {
        let end = Instant::now() + REMOVED;
        loop {
            let existing = self.context.domains().map_err(failure)?;
            let mut same = existing
                .iter()
                .filter(|found| found.target.domid == domid || found.target.uuid == uuid);
            let Some(first) = same.next() else {
                return Ok(());
            };
            let goes = |found: &Found| found.ended.is_some() || found.dying;
            if !goes(first) || !same.all(goes) || Instant::now() > end {
                return Err(Failure::DomainExists);
            }
            thread::sleep(LOOK);
        }
    }

    fn make(&self, config: &DomainConfig) -> Result<(), Failure> {
        let starter = emulate::starter(&config.mode)?;
        // Whoever uses their devices has them open when this ends.
        let disks = Disks::of(config)?;
        let context = &self.context;
        let first = disks.first.iter();
        let first: Vec<_> = first
            .map(|given| (given.disk.clone(), given.script.clone()))
            .collect();
        let prepared = context.prepare(config, &first, marks::OURS);
        let mut prepared = prepared.map_err(failure)?;
        if let Some(starter) = starter {
            prepared.start_by(&starter).map_err(failure)?;
        }
        let needed = prepared.needed_memory().map_err(failure)?;
        self.enough_memory(needed)?;
        prepared.create().map_err(|code| match code {
            LibxlCode::NoMemory => match self.context.free_memory() {
                Ok(free) => Failure::OutOfMemory { needed, free },
                Err(_) => Failure::Libxl(code),
            },
            code => failure(code),
        })?;
        for given in &disks.later {
            let attached = context.attach_disk(config.domid, &given.disk, given.script.as_ref());
            attached.map_err(failure)?;
        }
        for disk in &config.disks {
            self.is_served(config.domid, &disk.vdev)?;
        }
        for nic in &config.nics {
            nics::attach(&self.context, &self.xenstore, config.domid, nic)?;
        }
        if config.vcpus != config.vcpus_at_boot() {
            let online = self.context.set_vcpus(config.domid, config.vcpus);
            online.map_err(failure)?;
        }
        if config.initial == Initial::Running {
            self.context.unpause(config.domid).map_err(failure)?;
        }
        Ok(())
    }

    fn enough_memory(&self, needed: Mib) -> Result<(), Failure> {
        let free = self.context.free_memory().map_err(failure)?;
        if free < needed {
            return Err(Failure::OutOfMemory { needed, free });
        }
        Ok(())
    }

    /// Removes what a failed creation may have left.
    fn remove(&self, target: Target) -> Result<(), Failure> {
        let left = self.context.domain(target.domid).map_err(failure)?;
        if left.is_some_and(|left| left.target == target) {
            self.context.destroy(target.domid).map_err(failure)?;
        }
        Ok(())
    }

    /// libxl reports some disks as attached that their backend has refused.
    fn is_served(&self, domid: DomId, vdev: &Vdev) -> Result<(), Failure> {
        let backend = self.context.disk_backend(domid, vdev).map_err(failure)?;
        let read = |key: &str| self.xenstore.read(&format!("{backend}/{key}"));
        let refused = |why: String| Failure::Disk {
            vdev: vdev.clone(),
            why,
        };
        let error = read("hotplug-error").map_err(|e| xenstore(&e))?;
        if let Some(error) = error {
            return Err(refused(error));
        }
        let state = read("state").map_err(|e| xenstore(&e))?;
        match state.as_deref() {
            Some(state) if SERVED.contains(&state) => Ok(()),
            Some(state) => Err(refused(format!("its backend is in state {state}"))),
            None => Err(refused("it has no backend".to_owned())),
        }
    }

    fn set_memory(&self, target: Target, memory: Mib) -> Result<Answer, Failure> {
        let found = self.ours(target)?;
        let maximum = marks::maximum(&self.xenstore, target.domid).map_err(|e| xenstore(&e))?;
        let maximum = maximum.unwrap_or(found.maximum);
        if memory > maximum {
            return Err(Failure::OverMaximum {
                wanted: memory.number().into(),
                maximum: maximum.number().into(),
            });
        }
        let more = memory.number().saturating_sub(found.memory.number());
        if let Ok(more) = Mib::new(more.into()) {
            self.enough_memory(more)?;
        }
        done(self.context.set_memory(target.domid, memory))
    }

    fn set_vcpus(&self, target: Target, vcpus: Vcpus) -> Result<Answer, Failure> {
        let found = self.ours(target)?;
        let (wanted, maximum) = (vcpus.number().into(), found.vcpus_maximum.into());
        if wanted > maximum {
            return Err(Failure::OverMaximum { wanted, maximum });
        }
        done(self.context.set_vcpus(target.domid, vcpus))
    }

    fn attach_disk(&self, target: Target, disk: &Disk) -> Result<Answer, Failure> {
        self.ours(target)?;
        disk.check(target.domid).map_err(Failure::Config)?;
        let given = Given::new(disk, false)?;
        let attached = (self.context).attach_disk(target.domid, &given.disk, given.script.as_ref());
        attached.map_err(failure)?;
        let served = self.is_served(target.domid, &disk.vdev);
        if served.is_err() {
            // Whatever becomes of it, the reason is why it is not there.
            let _ = self.context.detach_disk(target.domid, &disk.vdev);
        }
        served.map(|()| Answer::Ok)
    }

    fn detach_nic(&self, target: Target, nic: NicId) -> Result<Answer, Failure> {
        self.ours(target)?;
        nics::detach(&self.context, &self.xenstore, target.domid, nic).map(|()| Answer::Ok)
    }

    fn list(&self, from: DomId) -> Result<Answer, Failure> {
        let mut found = self.context.domains().map_err(failure)?;
        found.retain(|found| found.target.domid >= from);
        let next = found.get(DOMAINS_MAX).map(|found| found.target.domid);
        found.truncate(DOMAINS_MAX);
        let domains: Result<Vec<_>, _> = found.iter().map(|found| self.info(found)).collect();
        let domains = domains.map_err(|e| xenstore(&e))?;
        Ok(Answer::Domains { domains, next })
    }

    fn info(&self, found: &Found) -> io::Result<DomainInfo> {
        let target = found.target;
        let origin = match marks::is_ours(&self.xenstore, target)? {
            true => Origin::Ours,
            false => Origin::Foreign,
        };
        let maximum = marks::maximum(&self.xenstore, target.domid)?;
        let state = match (found.ended, found.paused) {
            (Some(_), _) => State::Ended,
            (None, true) => State::Paused,
            (None, false) => State::Running,
        };
        Ok(DomainInfo {
            target,
            name: self.context.name(target.domid),
            origin,
            state,
            memory: found.memory,
            maximum: maximum.unwrap_or(found.maximum),
            vcpus: found.vcpus,
            cpu_time_ns: found.cpu_time_ns,
        })
    }
}

fn done(result: Result<(), LibxlCode>) -> Result<Answer, Failure> {
    result.map(|()| Answer::Ok).map_err(failure)
}

pub(crate) fn failure(code: LibxlCode) -> Failure {
    match code {
        LibxlCode::DomainNotFound => Failure::NoSuchDomain,
        LibxlCode::NotFound => Failure::NoSuchDevice,
        code => Failure::Libxl(code),
    }
}

pub(crate) fn xenstore(error: &io::Error) -> Failure {
    Failure::Broken(format!("xenstore: {error}"))
}

/// What Xen's number for the end of a domain means (xen/sched.h, `SHUTDOWN_*`).
pub(crate) fn ending(ended: Ended) -> Ending {
    match ended.0 {
        0 => Ending::Poweroff,
        1 => Ending::Reboot,
        3 => Ending::Crash,
        4 => Ending::Watchdog,
        other => Ending::Other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_those_of_xen() {
        let endings = [0, 1, 2, 3, 4, 255].map(|number| ending(Ended(number)));
        assert_eq!(
            endings,
            [
                Ending::Poweroff,
                Ending::Reboot,
                Ending::Other(2),
                Ending::Crash,
                Ending::Watchdog,
                Ending::Other(255),
            ]
        );
    }
}
