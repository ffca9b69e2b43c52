//! `bulkhead-xl`, the process that uses libxl, spoken to as bulkheadd does.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE, Running};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};
use bulkhead_wire::xl::{
    Access, Answer, Cmdline, ConnectError, Disk, DomId, DomainConfig, DomainInfo, DomainName,
    DomainUuid, Ending, Failure, FromXl, Host, HostPath, Initial, Kernel, Mib, Mode, Operation,
    Origin, RequestId, State, Target, ToXl, Vcpus, Vdev, Weight, XlError,
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "xl::a_domain_is_made_changed_and_ends",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: a_domain_is_made_changed_and_ends,
    },
    Scenario {
        name: "xl::a_guest_that_panics_is_told_of_and_removed",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: a_guest_that_panics,
    },
    Scenario {
        name: "xl::killed_in_a_create_half_a_domain_is_swept_and_whole_ones_are_adopted",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: killed_in_a_create,
    },
    Scenario {
        name: "xl::refusals_say_why",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: refusals_say_why,
    },
];

/// A kernel that waits for a disk that never comes: it runs, and its drivers answer.
const WAITS: &str = "console=hvc0 root=/dev/xvdz rootwait";

/// A kernel without a disk: it panics.
const PANICS: &str = "console=hvc0";

/// `bulkhead-xl` in a dom0.
struct Driven<'w> {
    dom0: &'w dyn Line,
    running: Running,
    pid: u32,
    requests: u64,
    died: Vec<(Target, Ending)>,
}

fn put(dom0: &dyn Line) -> Result<()> {
    for (variable, path) in [
        ("BULKHEAD_XL", "/tmp/bulkhead-xl"),
        ("BULKHEAD_DRIVE_XL", "/tmp/drive-xl"),
    ] {
        let from = std::env::var_os(variable).map(PathBuf::from);
        let from = from.with_context(|| format!("{variable} is not set"))?;
        dom0.put_file(&from, path)?;
    }
    dom0.sh("chmod +x /tmp/bulkhead-xl /tmp/drive-xl").map(drop)
}

/// Starts it, and takes what it says first.
fn start<'w>(dom0: &'w dyn Line, arguments: &[&str]) -> Result<(Driven<'w>, FromXl)> {
    let words = [&["/tmp/drive-xl", "/tmp/bulkhead-xl"], arguments].concat();
    let mut running = dom0.start(&words)?;
    let pid = running.line(PATIENCE)?;
    let pid = pid.strip_prefix("pid ").context("no pid")?.parse()?;
    let mut driven = Driven {
        dom0,
        running,
        pid,
        requests: 0,
        died: Vec::new(),
    };
    let first = driven.message()?;
    Ok((driven, first))
}

fn serving<'w>(dom0: &'w dyn Line) -> Result<(Driven<'w>, Host, Vec<Target>)> {
    match start(dom0, &[])? {
        (driven, FromXl::Hello { host, swept }) => Ok((driven, host, swept)),
        (_, other) => bail!("it begins with {other:?}"),
    }
}

impl Driven<'_> {
    fn message(&mut self) -> Result<FromXl> {
        let line = self.running.line(PATIENCE)?;
        serde_json::from_str(&line).with_context(|| format!("it said `{line}`"))
    }

    fn send(&mut self, operation: Operation) -> Result<RequestId> {
        self.requests += 1;
        let id = RequestId(self.requests);
        let line = serde_json::to_string(&ToXl::Request { id, operation })?;
        self.running.write(format!("{line}\n").as_bytes())?;
        Ok(id)
    }

    fn ask(&mut self, operation: Operation) -> Result<Result<Answer, XlError>> {
        let sent = self.send(operation)?;
        loop {
            match self.message()? {
                FromXl::Done { id, result } if id == sent => return Ok(result),
                FromXl::Died { target, how } => self.died.push((target, how)),
                other => bail!("it said {other:?}"),
            }
        }
    }

    fn done(&mut self, operation: Operation) -> Result<()> {
        let what = format!("{operation:?}");
        match self.ask(operation)? {
            Ok(Answer::Ok) => Ok(()),
            other => bail!("{what} was answered by {other:?}"),
        }
    }

    fn refused(&mut self, operation: Operation) -> Result<Failure> {
        let what = format!("{operation:?}");
        let refused = self.ask(operation)?.err();
        Ok(refused.with_context(|| format!("{what} was done"))?.failure)
    }

    /// How the next domain to die did.
    fn death(&mut self) -> Result<(Target, Ending)> {
        if self.died.is_empty() {
            match self.message()? {
                FromXl::Died { target, how } => self.died.push((target, how)),
                other => bail!("it said {other:?}"),
            }
        }
        Ok(self.died.remove(0))
    }

    fn list(&mut self) -> Result<Vec<DomainInfo>> {
        match self.ask(Operation::List { from: DomId::DOM0 })? {
            Ok(Answer::Domains { domains, .. }) => Ok(domains),
            other => bail!("the list is {other:?}"),
        }
    }

    /// What `xl list` shows of a domain: memory, processors and state.
    fn xl_list(&self, name: &str) -> Result<Option<(u32, u16, String)>> {
        let list = self.dom0.sh("xl list")?;
        let words =
            |line: &str| -> Vec<String> { line.split_whitespace().map(Into::into).collect() };
        let line = list
            .lines()
            .map(words)
            .find(|words| words.first().is_some_and(|w| w == name));
        let Some([_, _, memory, vcpus, state, ..]) = line.as_deref() else {
            return Ok(None);
        };
        Ok(Some((memory.parse()?, vcpus.parse()?, state.clone())))
    }
}

fn config(number: u8, name: &str, cmdline: &str) -> Result<DomainConfig> {
    Ok(DomainConfig {
        domid: DomId::new(number.into())?,
        uuid: DomainUuid([number; 16]),
        name: DomainName::new(name)?,
        mode: Mode::Pvh(Kernel {
            path: HostPath::new("/vmlinuz")?,
            ramdisk: None,
            cmdline: Cmdline::new(cmdline)?,
        }),
        memory: Mib::new(160)?,
        maximum: Mib::new(160)?,
        vcpus: Vcpus::new(1)?,
        vcpus_maximum: Vcpus::new(1)?,
        weight: Weight::default(),
        disks: Vec::new(),
        nics: Vec::new(),
        pci: Vec::new(),
        initial: Initial::Running,
    })
}

fn target(config: &DomainConfig) -> Target {
    Target {
        domid: config.domid,
        uuid: config.uuid,
    }
}

fn create(config: &DomainConfig) -> Operation {
    Operation::Create(Box::new(config.clone()))
}

fn disk(vdev: &str, path: &str) -> Result<Disk> {
    Ok(Disk {
        vdev: Vdev::new(vdev)?,
        path: HostPath::new(path)?,
        access: Access::ReadOnly,
        backend: DomId::DOM0,
        sole: false,
    })
}

fn a_domain_is_made_changed_and_ends(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    put(dom0)?;
    dom0.sh("truncate -s 16M /tmp/a.img /tmp/b.img")?;
    let (mut xl, host, swept) = serving(dom0)?;
    ensure!(host.running == host.bound && swept.is_empty(), "{host:?}");
    let info = dom0.sh("xl info")?;
    let free = info
        .lines()
        .find_map(|line| line.strip_prefix("free_memory"));
    let free: u32 = free
        .and_then(|line| line.rsplit(' ').next())
        .context("xl info")?
        .parse()?;
    ensure!(host.free.number() == free, "{host:?} but {free} by xl info");

    let mut config = config(7, "work", WAITS)?;
    // The others are PVH. A kernel without any program switches itself off only here.
    config.mode = Mode::Pv(Kernel {
        path: HostPath::new("/vmlinuz")?,
        ramdisk: None,
        cmdline: Cmdline::new(WAITS)?,
    });
    config.initial = Initial::Paused;
    config.disks.push(disk("xvda", "/tmp/a.img")?);
    let target = target(&config);
    xl.done(create(&config))?;
    let seen = xl.xl_list("work")?.context("xl list does not show it")?;
    let listed = xl.list()?;
    let [one] = listed.as_slice() else {
        bail!("{listed:?}")
    };
    ensure!(
        (one.target, one.name.as_str(), one.origin, one.state)
            == (target, "work", Origin::Ours, State::Paused),
        "{one:?}"
    );
    ensure!(
        seen.0 == one.memory.number() && seen.2.contains('p'),
        "{seen:?} {one:?}"
    );
    ensure!(
        dom0.sh("xl domid work")?.trim() == "7",
        "it has another number"
    );

    xl.done(Operation::Unpause(target))?;
    dom0.wait_until(
        "test $(xenstore-read /local/domain/7/control/feature-poweroff) = 1",
        PATIENCE,
    )?;
    xl.done(Operation::Pause(target))?;
    ensure!(
        xl.list()?.iter().all(|d| d.state == State::Paused),
        "it is not paused"
    );
    xl.done(Operation::Unpause(target))?;
    ensure!(
        xl.list()?.iter().all(|d| d.state == State::Running),
        "it is paused"
    );

    let memory = Mib::new(130)?;
    xl.done(Operation::SetMemory { target, memory })?;
    dom0.wait_until(
        "test $(xl list work | awk '/^work/ {print $3}') -le 130",
        PATIENCE,
    )?;
    let memory = Mib::new(161)?;
    let over = xl.refused(Operation::SetMemory { target, memory })?;
    ensure!(
        over == Failure::OverMaximum {
            wanted: 161,
            maximum: 160
        },
        "{over:?}"
    );

    xl.done(Operation::AttachDisk {
        target,
        disk: disk("xvdb", "/tmp/b.img")?,
    })?;
    let disks = dom0.sh("xl block-list work | awk '{print $1}' | xargs")?;
    ensure!(disks.trim() == "Vdev 51712 51728", "{disks}");
    xl.done(Operation::DetachDisk {
        target,
        vdev: Vdev::new("xvdb")?,
    })?;
    let disks = dom0.sh("xl block-list work | awk '{print $1}' | xargs")?;
    ensure!(disks.trim() == "Vdev 51712", "{disks}");
    let missing = xl.refused(Operation::DetachDisk {
        target,
        vdev: Vdev::new("xvdb")?,
    })?;
    ensure!(missing == Failure::NoSuchDevice, "{missing:?}");

    xl.done(Operation::Shutdown(target))?;
    ensure!(
        xl.death()? == (target, Ending::Poweroff),
        "it died otherwise"
    );
    dom0.wait_until("! xl domid work", PATIENCE)?;
    ensure!(dom0.sh("losetup -a")?.is_empty(), "its disk is still there");
    let gone = xl.refused(Operation::Pause(target))?;
    ensure!(gone == Failure::NoSuchDomain, "{gone:?}");
    Ok(())
}

fn a_guest_that_panics(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    put(dom0)?;
    let (mut xl, ..) = serving(dom0)?;
    let config = config(8, "panics", PANICS)?;
    xl.done(create(&config))?;
    ensure!(
        xl.death()? == (target(&config), Ending::Crash),
        "it died otherwise"
    );
    dom0.wait_until("! xl domid panics", PATIENCE)?;
    Ok(())
}

fn killed_in_a_create(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    put(dom0)?;
    // Not ours: it is listed, and otherwise left alone.
    dom0.put(
        b"type='pvh'\nname='foreign'\nmemory=96\nkernel='/vmlinuz'\n",
        "/tmp/f.cfg",
    )?;
    let (mut xl, ..) = serving(dom0)?;
    let (whole, half) = (config(11, "whole", WAITS)?, config(12, "half", WAITS)?);
    xl.done(create(&whole))?;
    dom0.sh("xl create -q -p /tmp/f.cfg")?;
    xl.send(create(&half))?;
    // The domain appears long before its memory is filled.
    let kill = format!(
        "until xenstore-exists /local/domain/12/bulkhead; do :; done; kill -9 {}",
        xl.pid
    );
    dom0.sh(&kill)?;
    let left = dom0.sh("xenstore-ls -f /bulkhead/xl/creating")?;
    ensure!(left.contains("/0c0c0c0c-"), "it was whole already: {left}");

    let (mut xl, _, swept) = serving(dom0)?;
    ensure!(swept == [target(&half)], "{swept:?}");
    let listed = xl.list()?;
    let [foreign, adopted] = listed.as_slice() else {
        bail!("{listed:?}")
    };
    let (foreign, adopted) = match foreign.origin {
        Origin::Foreign => (foreign, adopted),
        Origin::Ours => (adopted, foreign),
    };
    ensure!(
        (adopted.target, adopted.origin) == (target(&whole), Origin::Ours),
        "{adopted:?}"
    );
    ensure!(
        (foreign.name.as_str(), foreign.origin) == ("foreign", Origin::Foreign),
        "{foreign:?}"
    );
    ensure!(xl.xl_list("half")?.is_none(), "half a domain is left");
    let foreign = foreign.target;
    let refused = xl.refused(Operation::Destroy(foreign))?;
    ensure!(refused == Failure::Foreign, "{refused:?}");
    // What it is told of first is told before it is done.
    xl.done(Operation::Destroy(target(&whole)))?;
    ensure!(
        xl.died == [(target(&whole), Ending::Destroyed)],
        "{:?}",
        xl.died
    );
    // Its name is free again. libxl gives out no number for a second time within a minute.
    let half = config(13, "half", WAITS)?;
    xl.done(create(&half))?;
    dom0.sh("xl destroy half")?;
    xl.died.clear();
    ensure!(
        xl.death()? == (target(&half), Ending::Destroyed),
        "it died otherwise"
    );
    Ok(())
}

fn refusals_say_why(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    put(dom0)?;
    let (driven, said) = start(dom0, &["--only-xen", "4.19"])?;
    let FromXl::Failed(ConnectError::WrongVersion { bound, running }) = said else {
        bail!("it begins with {said:?}");
    };
    ensure!((bound.to_string(), running.to_string()) == ("4.19".into(), "4.20".into()));
    let ended = driven.running.wait(Duration::from_secs(20))?;
    ensure!(ended.out.contains("ended exit status: 1"), "{ended:?}");

    let (mut xl, host, _) = serving(dom0)?;
    let mut large = config(21, "large", WAITS)?;
    large.memory = Mib::new(u64::from(host.free.number()) + 1)?;
    large.maximum = large.memory;
    let refused = xl.refused(create(&large))?;
    let Failure::OutOfMemory { needed, free } = refused else {
        bail!("{refused:?}")
    };
    ensure!(
        needed >= large.memory && free <= host.free,
        "{needed} {free}"
    );

    let mut bad = config(22, "bad", WAITS)?;
    bad.disks.push(disk("xvda", "/tmp/none.img")?);
    let error = xl.ask(create(&bad))?.err().context("it was made")?;
    ensure!(
        error.log.iter().any(|line| line.contains("/tmp/none.img")),
        "{error:?}"
    );

    // Nothing that confines QEMU was put beside the program.
    let mut hvm = config(23, "hvm", WAITS)?;
    hvm.mode = Mode::Hvm(hvm.mode.kernel().cloned());
    let refused = xl.refused(create(&hvm))?;
    ensure!(matches!(refused, Failure::NoDeviceModel(_)), "{refused:?}");
    ensure!(xl.list()?.is_empty(), "something is left");
    let marks = dom0.sh("xenstore-ls /bulkhead/xl/creating || true")?;
    ensure!(marks.is_empty(), "{marks}");
    Ok(())
}
