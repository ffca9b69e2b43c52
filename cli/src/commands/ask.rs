//! `bulkhead ask`: the person's answer to calls that policy leaves to them.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_api::call::{Answer, Ask};
use bulkhead_api::client::{Incoming, Signals};
use bulkhead_api::event::{Event, Topic};
use bulkhead_api::from_json;
use tokio::sync::mpsc;

use crate::args::{AskAction, AskArgs};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::style::{self, Paint};
use crate::output::table::{Align, Table};
use crate::output::text::line;
use crate::output::{print, print_json_text, print_line, time};

pub(crate) async fn ask(client: Client, args: AskArgs) -> Result<Exit, Failure> {
    match args.action {
        Some(AskAction::List { json }) => list(&client, json).await,
        Some(AskAction::Allow { id, target }) => {
            let target = target.unwrap_or_default();
            client.proxy.answer(id, Answer::Allow, &target).await?;
            print_line(&format!("Call {id} is allowed"))?;
            Ok(Exit::Done)
        }
        Some(AskAction::Deny { id }) => {
            client.proxy.answer(id, Answer::Deny, "").await?;
            print_line(&format!("Call {id} is denied"))?;
            Ok(Exit::Done)
        }
        None if io::stdin().is_terminal() && io::stdout().is_terminal() => {
            Conversation::begin(client, args.watch).await
        }
        None => Err(Failure::new("there is no terminal to ask on")
            .hint("List waiting calls with `bulkhead ask list`.")
            .hint("Answer one with `bulkhead ask allow ID` or `bulkhead ask deny ID`.")),
    }
}

async fn list(client: &Client, json: bool) -> Result<Exit, Failure> {
    let reply = client.proxy.asks().await?;
    if json {
        print_json_text(&reply)?;
        return Ok(Exit::Done);
    }
    let asks: Vec<Ask> = from_json(&reply)?;
    if asks.is_empty() {
        print_line("No call waits.")?;
    } else {
        print(&table(&asks, now()).render(style::stdout()))?;
    }
    Ok(Exit::Done)
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

fn table(asks: &[Ask], now: u64) -> Table {
    let mut table = Table::new(&[
        ("ID", Align::Right),
        ("SOURCE", Align::Left),
        ("SERVICE", Align::Left),
        ("TARGET", Align::Left),
        ("CHOICES", Align::Left),
        ("WHAT", Align::Left),
        ("WAITS", Align::Right),
    ]);
    for ask in asks {
        let waits = std::time::Duration::from_secs(now.saturating_sub(ask.asked));
        table.row(vec![
            ask.id.to_string().into(),
            ask.source.as_str().into(),
            service(ask).into(),
            ask.requested_target.as_str().into(),
            ask.targets.join(", ").into(),
            what(ask).into(),
            format!("{} s", waits.as_secs()).into(),
        ]);
    }
    table
}

fn service(ask: &Ask) -> String {
    if ask.argument.is_empty() {
        ask.service.clone()
    } else {
        format!("{}+{}", ask.service, ask.argument)
    }
}

/// What is to be sent. Of files there is the source's word and no more.
fn what(ask: &Ask) -> String {
    match (&ask.pasted, &ask.announced) {
        (Some(load), _) => load.to_string(),
        (None, Some(announced)) => format!("says: {announced}"),
        (None, None) if ask.copies_files() => "says nothing".to_owned(),
        (None, None) => String::new(),
    }
}

/// What the person said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// Let it through, to this target.
    Allow(String),
    Deny,
    /// Leave it for later.
    Skip,
    /// Something else; says what would be right.
    Unclear(String),
}

/// Reads an answer. An empty line is none: a call must not get through by a key too many.
fn understand(said: &str, ask: &Ask) -> Said {
    let said = said.trim();
    match said.to_ascii_lowercase().as_str() {
        "" => return Said::Unclear("Type one of the answers above.".to_owned()),
        "d" | "deny" | "n" | "no" => return Said::Deny,
        "s" | "skip" => return Said::Skip,
        "a" | "allow" | "y" | "yes" => {
            return match (&ask.default_target, ask.targets.as_slice()) {
                (Some(target), _) => Said::Allow(target.clone()),
                _ => Said::Unclear("Say where to: type a number or a name.".to_owned()),
            };
        }
        _ => {}
    }
    // A name counts before a number, since a qube may be called `2`.
    if let Some(target) = ask.targets.iter().find(|target| *target == said) {
        return Said::Allow(target.clone());
    }
    let numbered = said.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
    match numbered.and_then(|index| ask.targets.get(index)) {
        Some(target) => Said::Allow(target.clone()),
        None => Said::Unclear(format!("`{}` is none of the targets.", line(said))),
    }
}

fn question(ask: &Ask, paint: Paint) -> String {
    let mut out = String::new();
    let id = paint.strong(&format!("Call {} waits for an answer", ask.id));
    out.push_str(&format!("\n{id}\n"));
    let source = paint.strong(&line(&ask.source));
    out.push_str(&format!(
        "  source:   {source} ({})\n",
        line(&ask.source_label)
    ));
    out.push_str(&format!(
        "  target:   {}\n",
        paint.strong(&line(&ask.requested_target))
    ));
    out.push_str(&format!(
        "  service:  {}\n",
        paint.strong(&line(&ask.service))
    ));
    if !ask.argument.is_empty() {
        out.push_str(&format!("  argument: {}\n", line(&ask.argument)));
    }
    if let Some(load) = &ask.pasted {
        out.push_str(&format!("  pastes:   {load}\n"));
    }
    match &ask.announced {
        Some(said) => {
            let source = line(&ask.source);
            let said = format!("  says:     {said} (the word of {source}, not checked)\n");
            out.push_str(&said);
        }
        None if ask.copies_files() => {
            out.push_str("  says:     nothing of how many files and how large\n");
        }
        None => {}
    }
    let asked = time::utc(ask.asked);
    out.push_str(&format!(
        "  asked:    {asked} UTC, by {}\n",
        line(&ask.rule)
    ));
    out.push_str("Where may it go?\n");
    for (index, target) in ask.targets.iter().enumerate() {
        let default = ask.default_target.as_ref() == Some(target);
        let mark = if default { " (a)" } else { "" };
        out.push_str(&format!("  {:>2}  {}{mark}\n", index + 1, line(target)));
    }
    out
}

fn answers(ask: &Ask) -> String {
    match &ask.default_target {
        Some(target) => format!(
            "[a]llow to {}, number or name, [d]eny, [s]kip: ",
            line(target)
        ),
        None => "number or name, [d]eny, [s]kip: ".to_owned(),
    }
}

/// Calls and the person who answers them.
#[derive(Debug)]
struct Conversation {
    client: Client,
    events: Signals,
    /// Lines that are typed; none when the terminal is gone.
    lines: mpsc::UnboundedReceiver<String>,
    queue: VecDeque<Ask>,
}

/// What ended a question.
#[derive(Debug)]
enum Outcome {
    Answered,
    Gone(String),
    NoTerminal,
}

impl Conversation {
    async fn begin(client: Client, watch: bool) -> Result<Exit, Failure> {
        // Subscribed before reading, so that nothing falls between.
        let events = Signals::subscribe(&client, &[Topic::Asks]).await?;
        let mut it = Self {
            client,
            events,
            lines: read_lines(),
            queue: VecDeque::new(),
        };
        it.read_again().await?;
        loop {
            while let Some(ask) = it.queue.pop_front() {
                match it.put(&ask).await? {
                    Outcome::Answered => {}
                    Outcome::Gone(why) => print_line(&format!("\nCall {} is {why}", ask.id))?,
                    Outcome::NoTerminal => return Ok(Exit::Done),
                }
            }
            if !watch {
                print_line("No call waits.")?;
                return Ok(Exit::Done);
            }
            print_line("Waiting for calls; Ctrl-C ends this.")?;
            while it.queue.is_empty() {
                let incoming = it.events.next().await?;
                it.take(incoming, 0).await?;
            }
        }
    }

    /// Asks about one call until it is answered or gone.
    async fn put(&mut self, ask: &Ask) -> Result<Outcome, Failure> {
        // What was typed before the question was seen does not answer it.
        while self.lines.try_recv().is_ok() {}
        print(&question(ask, style::stdout()))?;
        loop {
            print(&answers(ask))?;
            let said = tokio::select! {
                said = self.lines.recv() => match said {
                    Some(said) => said,
                    None => return Ok(Outcome::NoTerminal),
                },
                incoming = self.events.next() => {
                    if let Some(why) = self.take(incoming?, ask.id).await? {
                        return Ok(Outcome::Gone(why));
                    }
                    print_line("")?;
                    continue;
                }
            };
            let (answer, target) = match understand(&said, ask) {
                Said::Allow(target) => (Answer::Allow, target),
                Said::Deny => (Answer::Deny, String::new()),
                Said::Skip => return Ok(Outcome::Answered),
                Said::Unclear(what) => {
                    print_line(&what)?;
                    continue;
                }
            };
            if let Err(error) = self.client.proxy.answer(ask.id, answer, &target).await {
                // It may have been answered elsewhere; the next call is still to be asked about.
                Failure::from(error).show();
            }
            return Ok(Outcome::Answered);
        }
    }

    /// Takes note of what came; what became of the call `current` if it is gone.
    async fn take(&mut self, incoming: Incoming, current: u64) -> Result<Option<String>, Failure> {
        match incoming {
            Incoming::Event(event) => match *event {
                Event::AskAdded(ask) => self.add(ask, current),
                Event::AskRemoved { id, outcome } if id == current => return Ok(Some(outcome)),
                Event::AskRemoved { id, .. } => self.queue.retain(|ask| ask.id != id),
                _ => {}
            },
            Incoming::Lost => {
                self.queue.clear();
                self.read_again().await?;
                let still = self.queue.iter().any(|ask| ask.id == current);
                self.queue.retain(|ask| ask.id != current);
                if !still && current != 0 {
                    return Ok(Some("gone".to_owned()));
                }
            }
        }
        Ok(None)
    }

    fn add(&mut self, ask: Ask, current: u64) {
        if ask.id != current && self.queue.iter().all(|known| known.id != ask.id) {
            self.queue.push_back(ask);
        }
    }

    async fn read_again(&mut self) -> Result<(), Failure> {
        let asks: Vec<Ask> = from_json(&self.client.proxy.asks().await?)?;
        for ask in asks {
            self.add(ask, 0);
        }
        Ok(())
    }
}

/// Reads the terminal on a thread of its own, which ends with the process.
fn read_lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use bulkhead_api::call::Announced;
    use bulkhead_api::clipboard::{Load, What};

    use super::*;

    fn sample(default: Option<&str>) -> Ask {
        Ask {
            id: 3,
            source: "work".into(),
            source_label: "blue".into(),
            service: "qubes.Filecopy".into(),
            argument: String::new(),
            requested_target: "@default".into(),
            targets: vec!["vault".into(), "personal".into()],
            default_target: default.map(Into::into),
            asked: 1_709_210_096,
            expires: None,
            guivm: None,
            rule: "policy:12".into(),
            announced: None,
            pasted: None,
        }
    }

    #[test]
    fn the_question_says_who_wants_what_of_whom() {
        let ask = sample(Some("vault"));
        let shown = question(&ask, Paint::NEVER) + &answers(&ask);
        insta::assert_snapshot!(shown, @r"

        Call 3 waits for an answer
          source:   work (blue)
          target:   @default
          service:  qubes.Filecopy
          says:     nothing of how many files and how large
          asked:    2024-02-29 12:34:56 UTC, by policy:12
        Where may it go?
           1  vault (a)
           2  personal
        [a]llow to vault, number or name, [d]eny, [s]kip: 
        ");
    }

    #[test]
    fn what_the_source_announces_is_told_as_its_word() {
        let line = |ask: &Ask| {
            let shown = question(ask, Paint::NEVER);
            let line = shown.lines().find(|line| line.contains("says:"));
            line.map(|line| line.trim().to_owned())
        };
        let mut ask = sample(None);
        let announced = |files, bytes| Announced {
            files,
            folders: 0,
            bytes,
            at_least: false,
        };
        ask.announced = Some(announced(3, 13_002_342));
        let told = "says:     3 files, 12.4 MiB (the word of work, not checked)";
        assert_eq!(line(&ask).as_deref(), Some(told));
        // Whatever the number, it is one line of digits.
        ask.announced = Some(announced(u64::MAX, u64::MAX));
        let told =
            "says:     18,446,744,073,709,551,615 files, 16.0 EiB (the word of work, not checked)";
        assert_eq!(line(&ask).as_deref(), Some(told));
        ask.announced = None;
        ask.service = "qubes.GetDate".into();
        assert_eq!(line(&ask), None, "nobody expects it to say anything");
    }

    #[test]
    fn what_is_pasted_is_told_with_its_size() {
        let (width, height) = (640, 480);
        let mut ask = sample(None);
        ask.service = "qubes.ClipboardPaste".into();
        ask.requested_target = "vault".into();
        ask.targets = vec!["vault".into()];
        ask.pasted = Some(Load {
            what: What::Picture { width, height },
            bytes: 1_228_800,
        });
        insta::assert_snapshot!(question(&ask, Paint::NEVER), @r"

        Call 3 waits for an answer
          source:   work (blue)
          target:   vault
          service:  qubes.ClipboardPaste
          pastes:   picture of 640 by 480 (1228800 bytes)
          asked:    2024-02-29 12:34:56 UTC, by policy:12
        Where may it go?
           1  vault
        ");
        let mut text = ask.clone();
        text.pasted = Some(Load {
            what: What::Text,
            bytes: 7,
        });
        let shown = table(&[ask, text], 1_709_210_100).render(Paint::NEVER);
        insta::assert_snapshot!(shown, @r"
        ID  SOURCE  SERVICE               TARGET  CHOICES  WHAT                                   WAITS
         3  work    qubes.ClipboardPaste  vault   vault    picture of 640 by 480 (1228800 bytes)    4 s
         3  work    qubes.ClipboardPaste  vault   vault    7 bytes of text                          4 s
        ");
    }

    #[test]
    fn answers_are_understood() {
        let ask = sample(Some("vault"));
        let vault = Said::Allow("vault".into());
        let personal = Said::Allow("personal".into());
        for (said, expected) in [
            ("a", &vault),
            (" Allow ", &vault),
            ("1", &vault),
            ("2", &personal),
            ("personal", &personal),
            ("d", &Said::Deny),
            ("NO", &Said::Deny),
            ("s", &Said::Skip),
        ] {
            assert_eq!(understand(said, &ask), *expected, "{said:?}");
        }
    }

    #[test]
    fn nothing_unclear_lets_a_call_through() {
        for said in [
            "",
            "  ",
            "0",
            "3",
            "-1",
            "vaul",
            "Vault",
            "999999999999999999999",
            "\x1b",
        ] {
            let understood = understand(said, &sample(Some("vault")));
            assert!(matches!(understood, Said::Unclear(_)), "{said:?}");
        }
        // Nothing is chosen where the policy names no default.
        assert!(matches!(understand("a", &sample(None)), Said::Unclear(_)));
        assert!(matches!(understand("y", &sample(None)), Said::Unclear(_)));
    }

    #[test]
    fn a_name_counts_before_a_number() {
        let mut ask = sample(None);
        ask.targets = vec!["vault".into(), "1".into()];
        assert_eq!(understand("1", &ask), Said::Allow("1".into()));
    }

    #[test]
    fn waiting_calls_are_listed() {
        let mut ask = sample(None);
        ask.argument = "x".into();
        ask.announced = Some(Announced {
            files: 3,
            folders: 0,
            bytes: 3 << 30,
            at_least: true,
        });
        let shown = table(&[ask], 1_709_210_100).render(Paint::NEVER);
        insta::assert_snapshot!(shown, @r"
        ID  SOURCE  SERVICE           TARGET    CHOICES          WHAT                             WAITS
         3  work    qubes.Filecopy+x  @default  vault, personal  says: at least 3 files, 3.0 GiB    4 s
        ");
    }
}
