//! A qube's agent, and the proxy that shows its windows.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bulkhead_testing::wait_for;

use crate::session::{Proxy, Session, domain};

/// Both, until it is dropped.
pub(crate) struct Qube {
    agent: Child,
    proxy: Proxy,
    folder: PathBuf,
}

impl Qube {
    /// Starts the agent that is in `$BULKHEAD_LIBEXEC`, for Wayland alone, and a proxy.
    pub(crate) fn start(session: &Session, name: &str) -> Self {
        let programs = std::env::var_os("BULKHEAD_LIBEXEC");
        let programs = programs.expect("BULKHEAD_LIBEXEC names the folder of the programs");
        let folder = session.folder().join("run");
        fs::create_dir(&folder).expect("a folder");
        let log = fs::File::create(session.folder().join("agent.log")).expect("a log");
        let agent = Command::new(PathBuf::from(programs).join("qube-gui-agent"))
            .arg("--no-x")
            .env("XDG_RUNTIME_DIR", &folder)
            .env("VCHAN_SOCKET_DIR", session.folder())
            .env("VCHAN_DOMAIN", domain(name).number().to_string())
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("an agent");
        let it = Self {
            agent,
            proxy: session.proxy(name, 0xcc00, |_| {}),
            folder,
        };
        let socket = it.socket();
        wait_for("the agent", || socket.exists().then_some(()));
        it
    }

    /// Where applications come to it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("wayland-0")
    }

    /// The numbers of agent and proxy.
    pub(crate) fn processes(&self) -> [u32; 2] {
        [self.agent.id(), self.proxy.id()]
    }
}

impl Drop for Qube {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}
