//! What the demo does, in the order in which a person would.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::desktop::{Desktop, announce, print_indented};
use super::windows;

/// How long a call may take until its question is there to be answered.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// What a refused call exits with, as in the Qubes tools.
const EXIT_REFUSED: i32 = 126;

const REPORT: &str = "The report of today.";

pub(super) fn tell(desktop: &mut Desktop) -> Result<()> {
    come_up(desktop)?;
    copy_with_a_question(desktop)?;
    be_refused(desktop)?;
    windows::show(desktop)?;
    use_a_disposable(desktop)?;
    change_and_roll_back(desktop)?;
    desktop.expect("What was decided, and by which rule", &["audit"])?;
    desktop.account();
    Ok(())
}

fn come_up(desktop: &mut Desktop) -> Result<()> {
    desktop.expect(
        "The description holds",
        &["check", "--system", "system.ron"],
    )?;
    desktop.expect("What is to be done", &["plan"])?;
    desktop.expect("Apply it", &["apply", "--yes", "-m", "first desktop"])?;
    let listed = desktop.expect("The desktop", &["ls"])?;
    for qube in ["sys-net", "sys-firewall", "work", "personal", "vault"] {
        ensure!(listed.contains(qube), "`bulkhead ls` does not show {qube}");
    }
    let words = [
        "run",
        "work",
        "--",
        "sh",
        "-c",
        "echo \"I am $(id -un) in $(uname -n)\"; ls /home",
    ];
    let said = desktop.expect("Run a command in a qube", &words)?;
    ensure!(
        said.contains("I am user in work"),
        "the command ran elsewhere"
    );
    desktop.expect("Where what runs differs from what is declared", &["status"])?;
    Ok(())
}

fn copy_with_a_question(desktop: &mut Desktop) -> Result<()> {
    let write = format!("echo '{REPORT}' > report.txt");
    desktop.expect("A file in work", &["run", "work", "--", "sh", "-c", &write])?;

    let words = ["run", "work", "--", "qvm-copy-to-vm", "vault", "report.txt"];
    announce(
        "Copy it to vault, which has no network: policy says to ask",
        &words,
    );
    let started = Instant::now();
    let copying = desktop
        .bulkhead(&words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start bulkhead")?;
    let answered = answer(desktop);
    let copied = finish(copying);
    answered?;
    let (code, text) = copied?;
    print_indented(&text);
    ensure!(code == 0, "the copy ended with exit code {code}");
    desktop.note("The file was copied, question included", started.elapsed());

    let words = ["run", "vault", "--", "cat", "QubesIncoming/work/report.txt"];
    let arrived = desktop.expect("It has arrived in vault", &words)?;
    ensure!(arrived.contains(REPORT), "vault has another file");
    Ok(())
}

/// Waits for the question and answers it, as the person would.
pub(super) fn answer(desktop: &mut Desktop) -> Result<()> {
    let deadline = Instant::now() + ASK_LIMIT;
    let id = loop {
        let listed = desktop.bulkhead(&["ask", "list", "--json"]).output()?;
        let asks: serde_json::Value =
            serde_json::from_slice(&listed.stdout).context("`bulkhead ask list --json`")?;
        let first = asks
            .as_array()
            .and_then(|asks| asks.first())
            .map(|ask| ask["id"].clone());
        match first {
            Some(serde_json::Value::Number(id)) => break id.to_string(),
            Some(serde_json::Value::String(id)) => break id,
            _ => ensure!(
                Instant::now() < deadline,
                "no question came in {ASK_LIMIT:?}"
            ),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    desktop.expect("The question", &["ask", "list"])?;
    desktop.expect("Allow it", &["ask", "allow", &id])?;
    Ok(())
}

fn finish(child: Child) -> Result<(i32, String)> {
    let output = child.wait_with_output()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code().context("bulkhead was killed")?, text))
}

fn be_refused(desktop: &mut Desktop) -> Result<()> {
    let make = ["run", "personal", "--", "sh", "-c", "echo x > holiday.txt"];
    desktop.expect("A file in personal", &make)?;
    let words = [
        "run",
        "personal",
        "--",
        "qvm-copy-to-vm",
        "vault",
        "holiday.txt",
    ];
    let (code, _) = desktop.show("personal may not copy to vault", &words)?;
    ensure!(
        code == EXIT_REFUSED,
        "the copy ended with {code} and not with {EXIT_REFUSED}"
    );
    let look = ["run", "vault", "--", "test", "-e", "QubesIncoming/personal"];
    let (code, _) = desktop.show("Nothing of it is in vault", &look)?;
    ensure!(code == 1, "something of personal's is in vault");
    Ok(())
}

fn use_a_disposable(desktop: &mut Desktop) -> Result<()> {
    let words = [
        "run",
        "--dispvm",
        "untrusted",
        "--",
        "sh",
        "-c",
        "echo \"I am $(uname -n)\"; touch ~/trace",
    ];
    let said = desktop.expect("A disposable for one command", &words)?;
    let name = said
        .split_whitespace()
        .find(|word| word.starts_with("disp"))
        .context("the disposable did not say its name")?
        .to_owned();
    let listed = desktop.expect("It is gone", &["ls"])?;
    ensure!(!listed.contains(&name), "{name} is still there");
    Ok(())
}

fn change_and_roll_back(desktop: &mut Desktop) -> Result<()> {
    let file = desktop.description().join("qubes/research.ron");
    println!("\n== Edit the description: one file more\n$ cat > qubes/research.ron");
    print_indented(RESEARCH);
    std::fs::File::create(&file)?.write_all(RESEARCH.as_bytes())?;
    desktop.expect("What would change", &["plan"])?;
    desktop.expect("Apply it", &["apply", "--yes", "-m", "a qube for research"])?;
    let listed = desktop.expect("There it is", &["ls"])?;
    ensure!(listed.contains("research"), "research is not there");
    desktop.expect("Apply again: nothing to do", &["apply", "--yes"])?;
    desktop.expect("Roll back", &["rollback", "--yes"])?;
    let listed = desktop.expect("As before", &["ls"])?;
    ensure!(!listed.contains("research"), "research is still there");
    desktop.expect("The generations", &["generations"])?;
    desktop.expect("What differs between two of them", &["diff", "2", "1"])?;
    Ok(())
}

const RESEARCH: &str = r#"(
    qubes: {
        "research": (
            label: "orange",
            autostart: true,
        ),
    },
)
"#;
