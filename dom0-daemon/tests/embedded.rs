//! The embedded hypervisor on this machine: what a qube can do, and what it cannot.
//!
//! The agent of these qubes is a shell script that runs `job` from its private volume.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Memory, Mib};
use bulkhead_testing::{Programs, end_domains, write_program};
use bulkheadd::hypervisor::embedded::{Embedded, EmbeddedConfig};
use bulkheadd::hypervisor::{
    Boot, DomId, DomainEvent, DomainSpec, DomainState, DomainVolume, Ending, Hypervisor,
    HypervisorError,
};
use bulkheadd::storage::ImageRoot;
use tempfile::TempDir;

/// Longer than anything here takes on a slow machine; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tasks that one qube may have here.
const TASKS: u64 = 64;

const AGENT: &str = "#!/bin/sh
[ \"$1\" = install-root ] && exit 0
trap 'exit 0' TERM
echo agent is up >&2
trap 'exit 3' USR1
if [ -e /rw/job ]; then
    sh /rw/job >/rw/out 2>&1
    mv /rw/out /rw/result
fi
while :; do sleep 1000 & wait; done
";

struct Lab {
    dir: TempDir,
    hypervisor: Embedded,
}

impl Lab {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("qube-agent");
        write_program(&agent, AGENT);
        let hypervisor = Self::open(dir.path()).await;
        Self { dir, hypervisor }
    }

    async fn open(dir: &Path) -> Embedded {
        let config = EmbeddedConfig {
            runtime_dir: dir.join("run"),
            launcher: env!("CARGO_BIN_EXE_bulkhead-launch").into(),
            agent: dir.join("qube-agent"),
            compositor: None,
            guard: Programs::link(dir.join("libexec")).path("qube-agent"),
            bwrap: None,
            tasks_max: TASKS,
        };
        Embedded::open(config).await.unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn spec(&self, name: &str, domid: u32) -> DomainSpec {
        DomainSpec {
            domid: DomId(domid),
            uuid: uuid::Uuid::new_v4(),
            name: QubeName::new(name).unwrap(),
            root: ImageRoot::Host,
            overlay: self.path(&format!("run/{name}.{domid}.overlay")),
            volumes: vec![DomainVolume {
                name: "private".to_owned(),
                path: self.path(&format!("{name}.private")),
                size: Mib(100),
            }],
            memory: Memory {
                initial: Mib(64),
                maximum: Mib(64),
            },
            vcpus: 1,
            vcpus_maximum: None,
            cpu_weight: 256,
            boot: Boot::default(),
            default_user: "user".to_owned(),
            vchan_dir: self.path(&format!("{name}.{domid}.vchan")),
            netvm: None,
            provides_network: false,
            blocks: Vec::new(),
            pci: Vec::new(),
            console_log: self.dir.path().join(format!("{name}.log")),
        }
    }

    /// Starts a qube, waits until its job is done, returns what the job said.
    async fn run(&self, spec: &DomainSpec, job: &str) -> String {
        let private = &spec.volumes[0].path;
        let result = private.join("result");
        // Of an earlier start.
        let _ = fs::remove_file(&result);
        fs::write(private.join("job"), job).unwrap();
        self.hypervisor.create(spec).await.unwrap();
        eventually("the job to be done", || result.exists()).await;
        fs::read_to_string(result).unwrap()
    }

    async fn end(&self, spec: &DomainSpec) {
        self.hypervisor.destroy(spec.domid).await.unwrap();
    }
}

/// A test that fails leaves nothing running either.
impl Drop for Lab {
    fn drop(&mut self) {
        end_domains(&self.dir.path().join("run"));
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn as_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn this_machine_can_run_qubes_and_the_report_says_it_is_not_xen() {
    let lab = Lab::new().await;
    let report = lab.hypervisor.probe().await.unwrap();
    assert!(report.warnings[0].contains("not Xen"), "{report:?}");
    assert!(report.facts.contains_key("cgroup"));
    // Nothing of the trial is left.
    let left = fs::read_dir(lab.dir.path().join("run")).unwrap();
    assert!(
        left.flatten()
            .all(|e| !e.file_name().to_string_lossy().starts_with("probe"))
    );
}

#[tokio::test]
async fn without_bubblewrap_it_refuses_and_says_what_to_install() {
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        runtime_dir: dir.path().join("run"),
        launcher: env!("CARGO_BIN_EXE_bulkhead-launch").into(),
        agent: "/bin/true".into(),
        compositor: None,
        guard: "/bin/true".into(),
        bwrap: Some(dir.path().join("bwrap")),
        tasks_max: TASKS,
    };
    let hypervisor = Embedded::open(config).await.unwrap();
    let error = hypervisor.probe().await.unwrap_err();
    let HypervisorError::Unsupported { remedy, .. } = error else {
        panic!("not `{error}`");
    };
    assert_eq!(remedy, "Install it: `apt-get install bubblewrap`.");
}

#[tokio::test]
async fn where_the_folder_of_sockets_cannot_be_closed_there_are_no_qubes() {
    let dir = tempfile::tempdir().unwrap();
    let guard = dir.path().join("guard");
    fs::write(&guard, "#!/bin/sh\necho no such thing >&2; exit 1\n").unwrap();
    fs::set_permissions(&guard, fs::Permissions::from_mode(0o755)).unwrap();
    let config = EmbeddedConfig {
        runtime_dir: dir.path().join("run"),
        launcher: env!("CARGO_BIN_EXE_bulkhead-launch").into(),
        agent: "/bin/true".into(),
        compositor: None,
        guard,
        bwrap: None,
        tasks_max: TASKS,
    };
    let hypervisor = Embedded::open(config).await.unwrap();
    let error = hypervisor.probe().await.unwrap_err();
    assert!(error.to_string().contains("no such thing"), "{error}");
}

#[tokio::test]
async fn a_qube_sees_neither_the_machine_nor_its_processes() {
    let lab = Lab::new().await;
    let spec = lab.spec("work", 1);
    let job = "\
        id -u; id -un; hostname; echo $VCHAN_DOMAIN $VCHAN_SOCKET_DIR $HOME
        ls / | tr '\\n' ' '; echo
        ls -d /root /srv /opt /boot /sys 2>/dev/null
        grep -h Cap /proc/self/status | sort -u | grep -v 0000000000000000
        grep Seccomp: /proc/self/status
        for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done | grep -c '[b]ulkhead'
        ls /sys/class/net 2>/dev/null
        tail -n +3 /proc/net/dev | cut -d: -f1
        cat /etc/shadow >/dev/null 2>&1 && echo reads shadow
        echo end";
    let said = lab.run(&spec, job).await;
    lab.end(&spec).await;
    let expect = "\
1000
user
work
1 /run/vchan /home/user
bin dev etc home lib lib64 proc run rw sbin tmp usr var vchan 
Seccomp:	2
0
    lo
end
";
    // Hosts differ in which links into /usr they have.
    let said = said.replace("lib32 ", "").replace("libx32 ", "");
    assert_eq!(said, expect);
}

#[tokio::test]
async fn mounts_namespaces_and_foreign_sockets_are_refused() {
    let lab = Lab::new().await;
    let spec = lab.spec("work", 1);
    let job = "\
        mount -t tmpfs none /mnt 2>/dev/null && echo mounted
        unshare -U true 2>/dev/null && echo new user namespace
        unshare -m true 2>/dev/null && echo new mount namespace
        nsenter -t 1 -n true 2>/dev/null && echo entered
        perl -e 'socket(S, 40, 1, 0) and print \"vsock\\n\"; socket(S, 17, 3, 0) and print \"packet\\n\"'
        perl -e 'syscall(250, 0, 0) >= 0 and print \"keyctl\\n\"'
        perl -e '$x = \"x\"; ioctl(STDIN, 0x5412, $x) and print \"typed\\n\"'
        kill -9 1 2>/dev/null
        echo still here";
    let said = lab.run(&spec, job).await;
    lab.end(&spec).await;
    assert_eq!(said, "still here\n");
}

#[tokio::test]
async fn writes_to_the_template_vanish_and_the_private_volume_stays() {
    let lab = Lab::new().await;
    let spec = lab.spec("work", 1);
    let said = lab
        .run(
            &spec,
            "echo a >/etc/mark && echo b >/usr/mark && echo c >/rw/mark && echo d >$HOME/mark
             cat /etc/mark /usr/mark; rm /etc/hosts && echo removed",
        )
        .await;
    assert_eq!(said, "a\nb\nremoved\n");
    lab.end(&spec).await;
    assert!(!Path::new("/etc/mark").exists() && !Path::new("/usr/mark").exists());
    let spec = lab.spec("work", 2);
    let said = lab
        .run(
            &spec,
            "ls /etc/mark /usr/mark 2>/dev/null; cat /rw/mark $HOME/mark; head -c9 /etc/hosts",
        )
        .await;
    assert_eq!(said, "c\nd\n127.0.0.1");
    lab.end(&spec).await;
}

#[tokio::test]
async fn a_qube_does_not_reach_another_ones_sockets_files_or_processes() {
    let lab = Lab::new().await;
    let (work, vault) = (lab.spec("work", 1), lab.spec("vault", 2));
    lab.run(&vault, "echo secret >/rw/secret; chmod 644 /rw/secret")
        .await;
    let job = format!(
        "ls {} {} 2>/dev/null
         find / -name secret 2>/dev/null
         ls /run/vchan
         cat /proc/sys/kernel/hostname",
        vault.vchan_dir.display(),
        lab.dir.path().display()
    );
    let said = lab.run(&work, &job).await;
    assert_eq!(said, "work\n");
    if as_root() {
        let owner = |path: &Path| std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap());
        let (a, b) = (&work.volumes[0].path, &vault.volumes[0].path);
        assert_ne!(owner(a), owner(b));
        assert!(owner(a) >= bulkheadd::hypervisor::embedded::HOST_ID_BASE);
    }
    lab.end(&work).await;
    lab.end(&vault).await;
}

#[tokio::test]
async fn memory_has_an_end() {
    let lab = Lab::new().await;
    let spec = lab.spec("work", 1);
    // Four times the limit: that process must fail and the qube live on.
    let job = "perl -e '$x = \"a\" x (256 << 20); print \"got it\\n\"' 2>/dev/null; echo alive";
    let said = lab.run(&spec, job).await;
    lab.end(&spec).await;
    assert!(
        said.ends_with("alive\n") && !said.contains("got it"),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_written_to_the_root_has_an_end_and_is_not_the_machines() {
    let lab = Lab::new().await;
    let spec = lab.spec("work", 1);
    // Of 64 MiB of memory, 48 are for writes.
    let job = "\
        head -c 40M /dev/zero >/etc/fits && echo fits
        head -c 20M /dev/zero >/etc/past 2>/dev/null || echo full
        rm /etc/fits /etc/past; mkdir -p /etc/x/y && rm -r /etc/x && mkdir /etc/x
        mv /etc/hostname /etc/moved && cat /etc/moved; ls -d /etc/x";
    let said = lab.run(&spec, job).await;
    assert_eq!(said, "fits\nfull\nwork\n/etc/x\n");
    assert!(fs::read_dir(&spec.overlay).unwrap().next().is_none());
    lab.end(&spec).await;
}

#[tokio::test]
async fn nothing_that_the_daemon_was_started_with_reaches_a_qube() {
    let lab = Lab::new().await;
    let spec = lab.spec("work", 1);
    let leak = fs::File::create(lab.dir.path().join("leak")).unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let said = lab.run(&spec, "ls -l /proc/1/fd /proc/self/fd").await;
    lab.end(&spec).await;
    assert!(said.contains("console") && !said.contains("leak"), "{said}");
}

#[tokio::test]
async fn tasks_have_an_end() {
    let lab = Lab::new().await;
    let spec = lab.spec("work", 1);
    // One task more than the limit alone is too many; the agent and the job count too.
    let job = format!(
        "perl -e 'while ($n <= {TASKS}) {{ $p = fork; last unless defined $p;
            if (!$p) {{ close STDOUT; sleep 1000; exit }} push @all, $p; $n++ }}
            kill 9, @all; print $n < {TASKS} ? \"bounded\" : \"unbounded\", \"\\n\"'
        echo alive"
    );
    let said = lab.run(&spec, &job).await;
    lab.end(&spec).await;
    assert_eq!(said, "bounded\nalive\n");
}

#[tokio::test]
async fn a_paused_qube_stands_still_and_goes_on() {
    let lab = Lab::new().await;
    let spec = lab.spec("work", 1);
    lab.run(
        &spec,
        "(while :; do echo x >>/rw/ticks; sleep 0.01; done) >/dev/null 2>&1 &",
    )
    .await;
    let ticks = || fs::metadata(spec.volumes[0].path.join("ticks")).map_or(0, |m| m.len());
    eventually("ticks", || ticks() > 0).await;
    lab.hypervisor.pause(spec.domid).await.unwrap();
    lab.hypervisor.pause(spec.domid).await.unwrap();
    let state = |list: Vec<bulkheadd::hypervisor::DomainInfo>| list[0].state;
    assert_eq!(
        state(lab.hypervisor.list().await.unwrap()),
        DomainState::Paused
    );
    // Freezing is asynchronous in the old freezer: wait until two readings agree.
    let mut last = u64::MAX;
    eventually("the qube to stand still", || {
        std::thread::sleep(Duration::from_millis(50));
        std::mem::replace(&mut last, ticks()) == ticks()
    })
    .await;
    let still = ticks();
    lab.hypervisor.unpause(spec.domid).await.unwrap();
    eventually("ticks again", || ticks() > still).await;
    // A paused qube can be killed.
    lab.hypervisor.pause(spec.domid).await.unwrap();
    lab.end(&spec).await;
}

#[tokio::test]
async fn each_way_to_end_is_told_apart_and_leaves_nothing() {
    let lab = Lab::new().await;
    let mut events = lab.hypervisor.subscribe();
    let cases = [
        ("asked", Ending::Shutdown),
        ("killed", Ending::Destroyed),
        ("by itself", Ending::Shutdown),
        ("crashed", Ending::Crashed),
    ];
    for (number, (case, expect)) in (1..).zip(cases) {
        let spec = lab.spec("work", number);
        let job = match case {
            "by itself" => "kill -TERM 1",
            "crashed" => "kill -USR1 1",
            _ => "true",
        };
        fs::write(spec.volumes[0].path.join("job"), job).unwrap();
        lab.hypervisor.create(&spec).await.unwrap();
        match case {
            "asked" => {
                let result = spec.volumes[0].path.join("result");
                eventually("its agent", || result.exists()).await;
                lab.hypervisor.shutdown(spec.domid).await.unwrap();
            }
            "killed" => lab.hypervisor.destroy(spec.domid).await.unwrap(),
            _ => {}
        }
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap();
        let died = DomainEvent::Died {
            domid: spec.domid,
            how: expect,
        };
        assert_eq!(event.unwrap(), died, "{case}");
        assert!(lab.hypervisor.list().await.unwrap().is_empty());
        assert!(!spec.overlay.exists());
        let domains = lab.dir.path().join("run/domains");
        assert_eq!(fs::read_dir(domains).unwrap().count(), 0);
        let error = lab.hypervisor.destroy(spec.domid).await.unwrap_err();
        assert!(matches!(error, HypervisorError::NoSuchDomain(_)));
    }
}

#[tokio::test]
async fn a_qube_outlives_the_hypervisor_object_and_is_taken_over() {
    let mut lab = Lab::new().await;
    let (stays, goes) = (lab.spec("stays", 1), lab.spec("goes", 2));
    lab.run(&stays, "true").await;
    lab.run(&goes, "true").await;
    let pid_of = |list: &[bulkheadd::hypervisor::DomainInfo], domid| {
        list.iter().find(|i| i.spec.domid == domid).unwrap().pid
    };
    let before = lab.hypervisor.list().await.unwrap();
    lab.hypervisor = Lab::open(lab.dir.path()).await;
    let after = lab.hypervisor.list().await.unwrap();
    assert_eq!(after.len(), 2);
    assert_eq!(pid_of(&before, stays.domid), pid_of(&after, stays.domid));
    assert_eq!(after[0].spec, stays);
    let mut events = lab.hypervisor.subscribe();
    lab.hypervisor.shutdown(goes.domid).await.unwrap();
    let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap();
    let died = DomainEvent::Died {
        domid: goes.domid,
        how: Ending::Shutdown,
    };
    assert_eq!(event.unwrap(), died);
    lab.end(&stays).await;
}

#[tokio::test]
async fn a_record_of_a_process_that_is_another_now_is_not_trusted() {
    let mut lab = Lab::new().await;
    let spec = lab.spec("work", 1);
    lab.run(&spec, "true").await;
    let file = lab.dir.path().join("run/domains/1/record.json");
    let text = fs::read_to_string(&file).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    lab.end(&spec).await;
    // The same record, pointing at this very test.
    record["process"]["pid"] = std::process::id().into();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, record.to_string()).unwrap();
    lab.hypervisor = Lab::open(lab.dir.path()).await;
    assert!(lab.hypervisor.list().await.unwrap().is_empty());
    assert!(!file.exists());
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_leaves_nothing() {
    let lab = Lab::new().await;
    let spec = lab.spec("work", 1);
    let spec = DomainSpec {
        root: ImageRoot::Folder(lab.dir.path().join("gone")),
        ..spec
    };
    let error = lab.hypervisor.create(&spec).await.unwrap_err();
    assert!(error.to_string().contains("gone"), "{error}");
    assert!(lab.hypervisor.list().await.unwrap().is_empty());
    assert!(!spec.overlay.exists());
    assert_eq!(
        fs::read_dir(lab.dir.path().join("run/domains"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn the_console_is_logged() {
    let lab = Lab::new().await;
    let spec = lab.spec("work", 1);
    lab.run(&spec, "true").await;
    let log = || fs::read_to_string(&spec.console_log).unwrap_or_default();
    eventually("the log", || log().contains("agent is up")).await;
    lab.end(&spec).await;
}
