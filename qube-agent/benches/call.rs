//! Calls between two qubes over the socket vchan: time of a call, and bytes per second through
//! one, beside what the system itself needs for the like.
//!
//! Everything but the policy is real: two agents, `qrexec-client-vm`, and the services as
//! programs. This program is dom0 to both agents. `cargo bench -p qube-agent --bench call`.

use std::io::IoSlice;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_testing::bulk::{drain, feed, plain_socket, rate};
use bulkhead_vchan::{Channel, DomId, Port, SocketChannel, SocketDir};
use bulkhead_wire::qrexec::control::{DaemonEvent, DaemonLink};
use bulkhead_wire::qrexec::{CONTROL_PORT, DATA_PORT_MIN, Endpoint};

const CALLS: usize = 400;
const BULK: u64 = 1 << 30;
const AGENT: &str = env!("CARGO_BIN_EXE_qube-agent");

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// dom0's line to one agent.
struct Line {
    channel: SocketChannel,
    link: DaemonLink,
    agent: Child,
}

impl Line {
    fn start(dir: &Path, domain: u32) -> Outcome<Self> {
        let agent = Command::new(AGENT)
            .args(["qrexec-agent", "--no-fork-server", "--agent-socket"])
            .arg(dir.join(format!("agent.{domain}")))
            .envs(environment(dir, domain))
            .spawn()?;
        let here = SocketDir::new(dir, DomId::DOM0);
        let deadline = Instant::now() + Duration::from_secs(10);
        let channel = here.connect(DomId::new(domain)?, Port::new(CONTROL_PORT), deadline)?;
        let mut it = Self {
            channel,
            link: DaemonLink::new(),
            agent,
        };
        it.event()?;
        Ok(it)
    }

    fn say(&mut self, bytes: &[u8]) -> Outcome<()> {
        let n = self.channel.write(&[IoSlice::new(bytes)])?;
        if n == bytes.len() {
            Ok(())
        } else {
            Err("control link is full".into())
        }
    }

    /// Waits for the agent's next word.
    fn event(&mut self) -> Outcome<DaemonEvent> {
        let mut buffer = [0; 4096];
        loop {
            let mut one = [rustix::event::PollFd::new(
                &self.channel,
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(&mut one, None)?;
            let n = self.channel.read(&mut buffer)?;
            let mut rest = buffer.get(..n).unwrap_or_default();
            let mut reply = Vec::new();
            let event = self.link.push(&mut rest, &mut reply)?;
            if !reply.is_empty() {
                self.say(&reply)?;
            }
            match event {
                Some(event) => return Ok(event),
                None if n == 0 => return Err("the agent is gone".into()),
                None => {}
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn environment(dir: &Path, domain: u32) -> [(&'static str, String); 3] {
    [
        ("VCHAN_DOMAIN", domain.to_string()),
        ("VCHAN_SOCKET_DIR", dir.display().to_string()),
        ("QREXEC_SERVICE_PATH", dir.join("rpc").display().to_string()),
    ]
}

struct Bench {
    dir: PathBuf,
    a: Line,
    b: Line,
    user: String,
}

impl Bench {
    /// One call from A to B through all stages; the client is left running.
    fn call(&mut self, service: &str, stdin: Stdio, stdout: Stdio) -> Outcome<Child> {
        let child = Command::new(AGENT)
            .args(["qrexec-client-vm", "--agent-socket"])
            .arg(self.dir.join("agent.1"))
            .args(["b", service])
            .envs(environment(&self.dir, 1))
            .stdin(stdin)
            .stdout(stdout)
            .spawn()?;
        let request = loop {
            if let DaemonEvent::Request(request) = self.a.event()? {
                break request;
            }
        };
        let port = DATA_PORT_MIN;
        let line = format!("{}:QUBESRPC {} a", self.user, request.service);
        let order = self
            .b
            .link
            .execute(Endpoint { domain: 1, port }, line.as_bytes(), false)?;
        self.b.say(&order)?;
        let answer = self
            .a
            .link
            .connect(Endpoint { domain: 2, port }, &request.ident)?;
        self.a.say(&answer)?;
        Ok(child)
    }

    /// Waits until both agents have said that the call is over.
    fn settle(&mut self) -> Outcome<()> {
        for line in [&mut self.a, &mut self.b] {
            while !matches!(line.event()?, DaemonEvent::Terminated(_)) {}
        }
        Ok(())
    }

    fn latency(&mut self) -> Outcome<Vec<Duration>> {
        let mut out = Vec::new();
        for _ in 0..CALLS {
            let start = Instant::now();
            let mut child = self.call("bench.Nothing", Stdio::null(), Stdio::null())?;
            let status = child.wait()?;
            out.push(start.elapsed());
            assert!(status.success(), "{status}");
            self.settle()?;
        }
        Ok(out)
    }

    fn inwards(&mut self) -> Outcome<f64> {
        let start = Instant::now();
        let mut child = self.call("bench.Sink", Stdio::piped(), Stdio::null())?;
        feed(&mut child.stdin.take().ok_or("no stdin")?, BULK)?;
        assert!(child.wait()?.success());
        let rate = rate(BULK, start.elapsed());
        self.settle()?;
        Ok(rate)
    }

    fn outwards(&mut self) -> Outcome<f64> {
        let start = Instant::now();
        let mut child = self.call("bench.Source", Stdio::null(), Stdio::piped())?;
        let got = drain(&mut child.stdout.take().ok_or("no stdout")?)?;
        assert!(child.wait()?.success() && got == BULK, "{got}");
        let rate = rate(BULK, start.elapsed());
        self.settle()?;
        Ok(rate)
    }
}

/// The same call chain without us: the program, a pipe, `cat` into a socket, `cat` out of it.
fn plain_chain() -> Outcome<f64> {
    let (near, far) = UnixStream::pair()?;
    let start = Instant::now();
    let mut first = Command::new("/bin/cat")
        .stdin(Stdio::piped())
        .stdout(std::os::fd::OwnedFd::from(near))
        .spawn()?;
    let mut second = Command::new("/bin/cat")
        .stdin(std::os::fd::OwnedFd::from(far))
        .stdout(Stdio::null())
        .spawn()?;
    feed(&mut first.stdin.take().ok_or("no stdin")?, BULK)?;
    first.wait()?;
    second.wait()?;
    Ok(rate(BULK, start.elapsed()))
}

fn spawns() -> Outcome<Vec<Duration>> {
    let mut out = Vec::new();
    for _ in 0..CALLS {
        let start = Instant::now();
        Command::new("/bin/true").status()?;
        out.push(start.elapsed());
    }
    Ok(out)
}

fn show(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    println!(
        "{name:<24} p50 {:>7.3} ms   p99 {:>7.3} ms",
        ms(at(50)),
        ms(at(99))
    );
}

fn resident(pid: u32) -> Outcome<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    Ok(line
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .collect::<Vec<_>>()
        .join(" "))
}

fn main() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("rpc"))?;
    // As large as what the caller writes; `head` writes 4 KiB at a time.
    let chunks = BULK / (64 * 1024);
    std::os::unix::fs::symlink("/bin/true", dir.path().join("rpc/bench.Nothing"))?;
    for (name, text) in [
        ("bench.Sink", "#!/bin/sh\nexec cat >/dev/null\n".to_owned()),
        (
            "bench.Source",
            format!("#!/bin/sh\nexec dd if=/dev/zero bs=64k count={chunks} status=none\n"),
        ),
    ] {
        let path = dir.path().join("rpc").join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    }
    let (a, b) = (Line::start(dir.path(), 1)?, Line::start(dir.path(), 2)?);
    let users = bulkhead_qrexec::users::Users::read()?;
    let own = users
        .by_uid(rustix::process::geteuid().as_raw())
        .ok_or("own user has no name")?;
    let mut bench = Bench {
        dir: dir.path().into(),
        a,
        b,
        user: own.name,
    };
    println!("agent at rest            {}", resident(bench.b.agent.id())?);
    show("spawn of /bin/true", spawns()?);
    show("call", bench.latency()?);
    for _ in 0..3 {
        println!(
            "plain socket, threads    {:>7.0} MiB/s",
            rate(BULK, plain_socket(BULK)?)
        );
        println!("cat | socket | cat       {:>7.0} MiB/s", plain_chain()?);
        println!("call, caller to service  {:>7.0} MiB/s", bench.inwards()?);
        println!("call, service to caller  {:>7.0} MiB/s", bench.outwards()?);
    }
    println!("agent after that         {}", resident(bench.b.agent.id())?);
    Ok(())
}
