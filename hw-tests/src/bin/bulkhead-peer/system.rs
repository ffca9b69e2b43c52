//! The first and only program of a guest: it loads what it needs, and does what dom0 writes.
//!
//! dom0 writes the words of a task to `data/run/NAME` of the guest's xenstore; the guest takes
//! them away, starts the task, and writes `data/done/NAME` with its exit code.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bulkhead_vchan::DomId;
use bulkhead_vchan::xen::store::{Access, Permission, Store, Tree};
use rustix::mount::{MountFlags, mount};

/// Where modules are in the initrd.
const MODULES: &str = "/modules";

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks them.
const COMPRESSED: i32 = 4;

/// How often tasks that ended are looked for.
const TURN: Duration = Duration::from_millis(50);

pub(crate) fn run() -> Result<()> {
    for folder in ["/proc", "/dev"] {
        fs::create_dir_all(folder)?;
    }
    mount("proc", "/proc", "proc", MountFlags::empty(), None)?;
    mount("dev", "/dev", "devtmpfs", MountFlags::empty(), None)?;
    for entry in fs::read_dir(MODULES)? {
        let path = entry?.path();
        let compressed = path.extension().is_some_and(|end| end == "xz");
        let flags = if compressed { COMPRESSED } else { 0 };
        rustix::system::finit_module(File::open(&path)?, c"", flags)
            .with_context(|| format!("cannot load {}", path.display()))?;
    }
    let mut store = Store::open()?;
    let own = store.own_domain()?;
    // dom0 may do anything; the node says that it is expected.
    store.mkdir("data/run")?;
    let owner = Permission {
        domain: own,
        access: Access::None,
    };
    let dom0 = Permission {
        domain: DomId::DOM0,
        access: Access::Both,
    };
    store.set_permissions("data/run", &[owner, dom0])?;
    store.watch("data/run", "run")?;
    store.write("data/up", "1")?;
    println!("up");
    serve(&mut store)
}

fn serve(store: &mut Store) -> Result<()> {
    let (ended, ends) = mpsc::channel::<(String, i32)>();
    let mut running = HashMap::new();
    loop {
        if store.next_event(Some(Instant::now() + TURN))?.is_some() {
            for name in store.list("data/run")? {
                let words = store.transaction(|t| {
                    let path = format!("data/run/{name}");
                    let words = t.read(&path)?;
                    t.remove(&path)?;
                    Ok(words)
                })?;
                println!("{name}: {words}");
                let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
                let (ended, named) = (ended.clone(), name.clone());
                let task = thread::spawn(move || {
                    let status = Command::new("/proc/self/exe").args(words).status();
                    let code = status.map_or(-1, |status| {
                        let signal = status.signal().map(|signal| 128 + signal);
                        status.code().or(signal).unwrap_or(-1)
                    });
                    // Fails only when this loop is over, which it never is.
                    let _ = ended.send((named, code));
                });
                running.insert(name, task);
            }
        }
        while let Ok((name, code)) = ends.try_recv() {
            running.remove(&name);
            store.write(&format!("data/done/{name}"), &code.to_string())?;
        }
    }
}
