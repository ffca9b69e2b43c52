//! Windows of three qubes on one display, and text carried between two of them.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::desktop::{Desktop, print_indented};
use super::story::answer;
use crate::process::{capture, target_dir};

/// How long a window may take until it is there: each qube starts its compositor first.
const WINDOW_LIMIT: Duration = Duration::from_secs(60);

/// The display that the demo makes where there is none.
const SCREEN: &str = "1024x640x24";

/// What is typed into a window of work, and what its clipboard then holds.
const TYPED: &str = "printf 'The report of today.' | xclip -selection clipboard";
const TEXT: &str = "The report of today.";

/// Programs of the demo that end with it.
struct Screen {
    display: String,
    programs: Vec<Child>,
}

impl Drop for Screen {
    fn drop(&mut self) {
        for program in self.programs.iter_mut().rev() {
            // They may have ended by themselves.
            let _ = Command::new("kill").arg(program.id().to_string()).status();
            let _ = program.wait();
        }
    }
}

impl Screen {
    /// The display that there is, or one that nobody sees.
    fn find() -> Result<Self> {
        if let Some(display) = std::env::var("DISPLAY")
            .ok()
            .filter(|name| !name.is_empty())
        {
            return Ok(Self {
                display,
                programs: Vec::new(),
            });
        }
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", SCREEN])
            // On white, so that black frames are seen too.
            .args(["-nolisten", "tcp", "-noreset", "-wr"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start Xvfb")?;
        let mut number = String::new();
        let out = server.stdout.take().context("Xvfb has no output")?;
        BufReader::new(out).read_line(&mut number)?;
        let mut screen = Self {
            display: format!(":{}", number.trim()),
            programs: vec![server],
        };
        let mut manager = screen.command("openbox");
        screen.programs.push(manager.arg("--sm-disable").spawn()?);
        screen.until_managed()?;
        println!("    there is no display, so Xvfb makes {}", screen.display);
        Ok(screen)
    }

    /// Waits for the window manager: a window that is mapped while it starts may be missed by it.
    fn until_managed(&self) -> Result<()> {
        let deadline = Instant::now() + WINDOW_LIMIT;
        loop {
            let mut asks = self.command("xdotool");
            // Only a manager tells.
            if asks.arg("get_num_desktops").status()?.success() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "no window manager came");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("DISPLAY", &self.display)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Acts as a person at the screen would.
    fn does(&self, words: &[&str]) -> Result<String> {
        let mut command = self.command("xdotool");
        let done = capture(command.args(words).stdout(Stdio::piped()))?;
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Waits for the window of a qube; its number.
    fn window(&self, qube: &str) -> Result<String> {
        let deadline = Instant::now() + WINDOW_LIMIT;
        let title = format!("^\\[{qube}\\]");
        loop {
            let words = ["search", "--onlyvisible", "--name", &title];
            let found = self
                .command("xdotool")
                .args(words)
                .stdout(Stdio::piped())
                .output()?;
            let found = String::from_utf8_lossy(&found.stdout).into_owned();
            if let Some(window) = found.lines().next() {
                return Ok(window.to_owned());
            }
            ensure!(Instant::now() < deadline, "no window of {qube} came");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn types(&self, window: &str, text: &str) -> Result<()> {
        self.does(&["windowactivate", "--sync", window])?;
        self.does(&["type", "--delay", "5", text])?;
        self.does(&["key", "Return"])?;
        Ok(())
    }

    fn presses(&self, window: &str, keys: &str) -> Result<()> {
        self.does(&["windowactivate", "--sync", window])?;
        self.does(&["key", keys])?;
        Ok(())
    }
}

/// Opens windows, carries text, and leaves a picture.
pub(super) fn show(desktop: &mut Desktop) -> Result<()> {
    println!("\n== The windows of three qubes on one display\n$ bulkhead windows &");
    let started = Instant::now();
    let mut screen = Screen::find()?;
    let mut client = desktop.bulkhead(&["windows"]);
    client
        .env("DISPLAY", &screen.display)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    screen.programs.push(client.spawn()?);
    let mut places = Vec::new();
    for (qube, [x, y]) in [
        ("work", ["20", "60"]),
        ("personal", ["420", "300"]),
        ("vault", ["740", "60"]),
    ] {
        let application = match qube {
            "vault" => "xclock -geometry 220x180",
            _ => "xterm -geometry 62x14",
        };
        let open = format!("setsid {application} >/dev/null 2>&1 &");
        capture(&mut desktop.bulkhead(&["call", qube, "qubes.WaitForSession"]))?;
        desktop.expect("Open a window in a qube", &["run", qube, "--", &open])?;
        let window = screen.window(qube)?;
        screen.does(&["windowmove", "--sync", &window, x, y])?;
        places.push(window);
    }
    desktop.note("Three qubes have shown a window", started.elapsed());
    let [work, personal, _] = &places[..] else {
        return Ok(());
    };
    carry(desktop, &screen, work, personal)?;
    let picture = picture(&screen)?;
    println!("    a picture of it: {}", picture.display());
    Ok(())
}

/// From a window of one qube to one of another, by the two keystrokes; asked about.
fn carry(desktop: &mut Desktop, screen: &Screen, work: &str, personal: &str) -> Result<()> {
    println!("\n== Type into the window of work, then Ctrl+Shift+C in it");
    print_indented(TYPED);
    screen.types(work, TYPED)?;
    let deadline = Instant::now() + WINDOW_LIMIT;
    loop {
        screen.presses(work, "ctrl+shift+c")?;
        let told = capture(&mut desktop.bulkhead(&["clipboard", "status", "--json"]))?;
        let carried: serde_json::Value = serde_json::from_slice(&told.stdout)?;
        let bytes = carried.get("bytes").and_then(serde_json::Value::as_u64);
        if bytes == u64::try_from(TEXT.len()).ok() {
            break;
        }
        // The shell may not have come to it yet.
        ensure!(Instant::now() < deadline, "nothing was copied from work");
        std::thread::sleep(Duration::from_millis(100));
    }
    desktop.expect("It is carried", &["clipboard", "status"])?;
    println!("\n== Ctrl+Shift+V in the window of personal: the description has it asked about");
    let started = Instant::now();
    screen.presses(personal, "ctrl+shift+v")?;
    answer(desktop)?;
    let paste = [
        "run",
        "personal",
        "--",
        "timeout 10 xclip -selection clipboard -out",
    ];
    let deadline = Instant::now() + WINDOW_LIMIT;
    loop {
        let told = desktop.bulkhead(&paste).output()?;
        if told.stdout == TEXT.as_bytes() {
            break;
        }
        ensure!(Instant::now() < deadline, "personal has another text");
        std::thread::sleep(Duration::from_millis(100));
    }
    desktop.note("Text was pasted, question included", started.elapsed());
    screen.types(personal, "xclip -selection clipboard -out; echo")?;
    desktop.expect("It is carried no more", &["clipboard", "status"])?;
    Ok(())
}

/// Saves what the display shows, once the shell has drawn the text.
fn picture(screen: &Screen) -> Result<PathBuf> {
    std::thread::sleep(Duration::from_secs(1));
    let file = target_dir().join("demo-windows.png");
    capture(screen.command("scrot").arg("--overwrite").arg(&file))?;
    Ok(file)
}
