//! Prompts, with a stand-in for the daemon.

use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_api::call::{Announced, Ask};
use bulkhead_api::clipboard::{Load, What};
use bulkhead_api::{ApiError, ErrorKind};

use crate::atspi::{Node, Reader};
use crate::fake::{Fake, ask};
use crate::input::{DOWN, ESCAPE, Input, RETURN, SPACE, TAB};
use crate::session::{Desktop, Session};
use bulkhead_testing::{ended, wait_for};

/// As long as Allow is held back, and a little more.
const ARMED: Duration = Duration::from_millis(700);

/// What a source may say of its files.
fn announced(files: u64, folders: u64, bytes: u64) -> Announced {
    Announced {
        files,
        folders,
        bytes,
        at_least: false,
    }
}

/// The program in a session, and everything around it.
pub(crate) struct Stage {
    pub(crate) reader: Reader,
    pub(crate) input: Input,
    pub(crate) fake: Fake,
    pub(crate) desktop: Desktop,
    pub(crate) session: Session,
}

impl Stage {
    /// With a pointer that rests in the corner below.
    pub(crate) fn start() -> Self {
        let session = Session::start();
        let command = session.command(&session.path("bus"));
        Self::of(session, command)
    }

    /// The same with the program started so.
    pub(crate) fn of(session: Session, command: Command) -> Self {
        let fake = Fake::start(&session.path("bus"), Vec::new());
        let reader = Reader::start(&session);
        let input = Input::start(&session);
        input.point(1279, 1023);
        let desktop = session.start_desktop(command);
        fake.wait_for_listener();
        Self {
            reader,
            input,
            fake,
            desktop,
            session,
        }
    }

    /// Shows a call and waits for its prompt.
    #[track_caller]
    pub(crate) fn ask(&self, ask: Ask) -> Node {
        self.fake.add(ask);
        self.reader.prompt()
    }

    /// Where a widget of the only prompt is on the screen: its middle.
    #[track_caller]
    fn middle(&self, node: &Node) -> (i32, i32) {
        let (_, left, top) = self.window();
        let (x, y, width, height) = self.reader.place(node);
        (left + x + width / 2, top + y + height / 2)
    }

    #[track_caller]
    fn window(&self) -> (u32, i32, i32) {
        wait_for(
            "a window",
            || match self.input.windows("Call of work")[..] {
                [window] => Some(window),
                _ => None,
            },
        )
    }

    /// Moves the pointer about in the only prompt, off its buttons.
    fn move_in(&self) {
        let (_, left, top) = self.window();
        for step in 0..10 {
            self.input.point(left + 60 + step * 5, top + 70);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Gives the only prompt the keyboard, as a window manager would.
    fn give_keyboard(&self) {
        self.input.focus(self.window().0);
    }

    /// Waits until Allow can be pressed.
    #[track_caller]
    fn wait_until_armed(&self) -> Node {
        self.reader.wait_until("an armed prompt", |prompts| {
            let prompt = prompts.first()?;
            prompt
                .button("Allow")
                .is_sensitive()
                .then(|| prompt.clone())
        })
    }

    /// Waits, and makes sure that nothing was answered meanwhile.
    #[track_caller]
    fn nothing_is_answered_for(&self, time: Duration) {
        std::thread::sleep(time);
        assert_eq!(self.fake.answers(), [""; 0]);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.session.keep_screen();
        }
    }
}

#[test]
fn a_prompt_tells_a_screen_reader_everything() {
    let stage = Stage::start();
    let mut asked = ask(1);
    asked.requested_target = "vault".into();
    let prompt = stage.ask(asked);
    assert_eq!(prompt.name, "Call of work");
    assert_eq!(prompt.role, "alert dialog");
    assert_eq!(prompt.description, "work wants to copy files to vault");
    for text in [
        "work wants to copy files to vault",
        "qubes.Filecopy",
        "30-user.policy:12",
        "label blue",
        "label black",
    ] {
        assert!(prompt.says(text), "{text}:\n{}", prompt.outline());
    }
    let list = prompt.find("list", |_| true).unwrap();
    let rows: Vec<_> = list
        .children
        .iter()
        .map(|row| {
            (
                row.name.as_str(),
                row.description.as_str(),
                row.is_selected(),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("new disposable of untrusted", "label red", false),
            ("personal", "label yellow", false),
            ("vault", "label black", true),
        ]
    );
    assert!(
        prompt
            .find("image", |name| name == "Source: label blue")
            .is_some(),
        "{}",
        prompt.outline()
    );
    // Whatever can be used has a name.
    for node in prompt.all() {
        let can_be_used =
            ["button", "search box", "list item", "list"].contains(&node.role.as_str());
        assert!(
            !can_be_used || !node.name.is_empty() || !node.is_visible(),
            "{node:?}"
        );
    }
    let allow = prompt.button("Allow");
    assert!(!allow.is_sensitive() && prompt.button("Deny").is_sensitive());
    assert!(
        allow
            .description
            .starts_with("Allow can be pressed in a moment")
            || allow.description.starts_with("Move the pointer")
    );
    // That it is armed is told.
    stage.move_in();
    stage.reader.wait_until("to be told so", |prompts| {
        let prompt = prompts.first()?;
        let now = "Allow can be pressed now";
        let told = prompt.find("status", |text| text == now).is_some();
        (told && prompt.button("Allow").description == now).then_some(())
    });
}

#[test]
fn what_the_source_announces_is_shown_as_its_word() {
    let stage = Stage::start();
    let prompt = stage.ask(ask(1));
    let unknown = "How many files and how large is not announced";
    assert!(prompt.says(unknown), "{}", prompt.outline());
    assert!(!prompt.says("says:"), "{}", prompt.outline());
    stage.fake.withdraw(1);
    stage.reader.wait_until_gone();
    let mut asked = ask(2);
    asked.announced = Some(announced(3, 0, 13_002_342));
    let prompt = stage.ask(asked);
    for text in ["work says: 3 files, 12.4 MiB", "That is its word"] {
        assert!(prompt.says(text), "{text}:\n{}", prompt.outline());
    }
    assert!(!prompt.says(unknown), "{}", prompt.outline());
    assert_eq!(
        prompt.description,
        "work wants to copy files to vault. work says: 3 files, 12.4 MiB"
    );
}

#[test]
fn what_is_pasted_is_shown_with_its_size() {
    let stage = Stage::start();
    let (width, height) = (640, 480);
    let loads = [
        (What::Text, 7, "7 bytes of text"),
        (
            What::Picture { width, height },
            1_228_800,
            "a picture of 640 by 480 (1228800 bytes)",
        ),
    ];
    for (id, (what, bytes, told)) in (1..).zip(loads) {
        let asked = Ask {
            service: "qubes.ClipboardPaste".into(),
            requested_target: "vault".into(),
            targets: vec!["vault".into()],
            pasted: Some(Load { what, bytes }),
            ..ask(id)
        };
        let prompt = stage.ask(asked);
        let sentence = format!("work wants to paste {told} into vault");
        assert_eq!(prompt.description, sentence);
        assert!(prompt.says(&sentence), "{}", prompt.outline());
        stage.fake.withdraw(id);
        stage.reader.wait_until_gone();
    }
}

#[test]
fn numbers_that_cannot_be_are_shown_as_numbers() {
    let stage = Stage::start();
    let mut asked = ask(1);
    asked.announced = Some(Announced {
        at_least: true,
        ..announced(u64::MAX, u64::MAX, u64::MAX)
    });
    let prompt = stage.ask(asked);
    let most = "18,446,744,073,709,551,615";
    let told = format!("work says: at least {most} files and {most} folders, 16.0 EiB");
    assert!(prompt.says(&told), "{}", prompt.outline());
    assert!(prompt.texts().iter().all(|text| text.len() < 300));
    // It does not push anything out of the prompt.
    let (_, left, top) = stage.window();
    let (x, y) = stage.middle(prompt.button("Allow"));
    assert!(left >= 0 && top >= 0 && x < 1280 && y < 1024, "{x} {y}");
}

#[test]
fn a_click_meant_for_another_window_allows_nothing() {
    let stage = Stage::start();
    // The pointer rests where Allow will be, and clicks all the while.
    let asked = |id| Ask {
        announced: Some(announced(3, 0, 13_002_342)),
        ..ask(id)
    };
    let prompt = stage.ask(asked(1));
    let (x, y) = stage.middle(prompt.button("Allow"));
    stage.fake.withdraw(1);
    stage.reader.wait_until_gone();
    stage.input.point(x, y);
    stage.fake.add(asked(2));
    for _ in 0..100 {
        stage.input.click();
        std::thread::sleep(Duration::from_millis(10));
    }
    let prompt = stage.reader.prompt();
    assert_eq!(
        stage.middle(prompt.button("Allow")),
        (x, y),
        "the same place"
    );
    stage.nothing_is_answered_for(ARMED);
    assert!(!stage.reader.prompt().button("Allow").is_sensitive());
    // Pressed in another way it does nothing either.
    stage.reader.press(prompt.button("Allow"));
    stage.nothing_is_answered_for(Duration::from_millis(200));
    // The person turns to it.
    stage.move_in();
    stage.wait_until_armed();
    stage.session.picture("prompt", Some(stage.window().0));
    stage.input.point(x, y);
    stage.input.click();
    assert_eq!(stage.fake.wait_for_answers(1), ["2 Allow vault"]);
    stage.reader.wait_until_gone();
}

#[test]
fn movement_within_the_first_half_second_does_not_shorten_it() {
    let stage = Stage::start();
    let prompt = stage.ask(ask(1));
    let place = stage.middle(prompt.button("Allow"));
    stage.fake.withdraw(1);
    stage.reader.wait_until_gone();
    let before = Instant::now();
    stage.fake.add(ask(2));
    // Somebody who moves and clicks there all the while.
    let answers = wait_for("an answer", || {
        for step in [30, 20, 10, 0] {
            stage.input.point(place.0 - step, place.1);
            std::thread::sleep(Duration::from_millis(5));
        }
        stage.input.click();
        Some(stage.fake.answers()).filter(|answers| !answers.is_empty())
    });
    // It takes as long as it takes, but never less.
    assert!(
        before.elapsed() >= Duration::from_millis(500),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(answers, ["2 Allow vault"]);
}

#[test]
fn an_enter_meant_for_another_window_allows_nothing() {
    let stage = Stage::start();
    stage.input.other_window();
    stage.fake.add(ask(1));
    let prompt = stage.reader.prompt();
    stage.give_keyboard();
    for _ in 0..40 {
        stage.input.key(RETURN);
        stage.input.key(SPACE);
        std::thread::sleep(Duration::from_millis(30));
    }
    // By now it is armed, as keys were pressed in it; still it is another widget that gets them.
    stage.wait_until_armed();
    assert!(!prompt.button("Allow").is_focused());
    stage.input.key(RETURN);
    stage.nothing_is_answered_for(Duration::from_millis(300));
}

#[test]
fn the_keyboard_alone_is_enough() {
    let stage = Stage::start();
    let mut asked = ask(1);
    asked.default_target = None;
    stage.ask(asked);
    stage.give_keyboard();
    stage.input.type_text("pers");
    stage.reader.wait_until("the search", |prompts| {
        let list = prompts.first()?.find("list", |_| true)?;
        let shown: Vec<&str> = list
            .children
            .iter()
            .filter(|row| row.is_visible())
            .map(|row| row.name.as_str())
            .collect();
        (shown == ["personal"]).then_some(())
    });
    stage.input.key(TAB);
    stage.input.key(SPACE);
    stage.reader.wait_until("a chosen target", |prompts| {
        prompts
            .first()?
            .says("copy files to personal")
            .then_some(())
    });
    stage.wait_until_armed();
    for _ in 0..8 {
        let prompt = stage.reader.prompt();
        if prompt.button("Allow").is_focused() {
            break;
        }
        stage.input.key(TAB);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(stage.reader.prompt().button("Allow").is_focused());
    stage.input.key(RETURN);
    assert_eq!(stage.fake.wait_for_answers(1), ["1 Allow personal"]);
}

#[test]
fn the_arrows_change_the_target() {
    let stage = Stage::start();
    let mut asked = ask(1);
    asked.default_target = Some("personal".into());
    stage.ask(asked);
    stage.give_keyboard();
    stage.input.key(TAB);
    stage.reader.wait_until("the list's turn", |prompts| {
        let row = prompts
            .first()?
            .find("list item", |name| name == "personal")?;
        row.is_focused().then_some(())
    });
    stage.input.key(DOWN);
    stage.reader.wait_until("another target", |prompts| {
        prompts.first()?.says("copy files to vault").then_some(())
    });
    let armed = stage.wait_until_armed();
    stage.reader.press(armed.button("Allow"));
    assert_eq!(stage.fake.wait_for_answers(1), ["1 Allow vault"]);
}

#[test]
fn escape_and_closing_deny() {
    let stage = Stage::start();
    stage.ask(ask(1));
    stage.give_keyboard();
    stage.input.key(ESCAPE);
    assert_eq!(stage.fake.wait_for_answers(1), ["1 Deny"]);
    stage.reader.wait_until_gone();
    stage.ask(ask(2));
    stage.input.close(stage.window().0);
    assert_eq!(stage.fake.wait_for_answers(2), ["1 Deny", "2 Deny"]);
}

#[test]
fn without_a_default_nothing_is_chosen_and_allow_is_out_of_reach() {
    let stage = Stage::start();
    let mut asked = ask(1);
    asked.default_target = None;
    let prompt = stage.ask(asked);
    stage.move_in();
    std::thread::sleep(ARMED);
    let now = stage.reader.prompt();
    assert!(!now.button("Allow").is_sensitive());
    assert!(now.says("Choose a target"), "{}", now.outline());
    assert!(
        prompt
            .all()
            .iter()
            .all(|node| node.role != "list item" || !node.is_selected())
    );
}

#[test]
fn a_call_that_is_taken_back_or_timed_out_takes_its_prompt_along() {
    let stage = Stage::start();
    stage.ask(ask(1));
    stage.fake.withdraw(1);
    stage.reader.wait_until_gone();
    let mut short = ask(2);
    short.expires = Some(short.asked + 9);
    let prompt = stage.ask(short);
    assert!(prompt.says("Refused in 0:0"), "{}", prompt.outline());
    assert_eq!(stage.fake.wait_for_answers(1), ["2 Deny"]);
    stage.reader.wait_until_gone();
}

#[test]
fn ten_at_once_are_stacked_and_denied_by_their_source() {
    let stage = Stage::start();
    for id in 1..=10 {
        let mut asked = ask(id);
        asked.source = if id % 5 == 0 { "personal" } else { "work" }.into();
        stage.fake.add(asked);
    }
    let prompts = stage
        .reader
        .wait_until("four prompts and six that wait", |prompts| {
            let all = prompts.len() == 4 && prompts.iter().all(|p| p.says("6 more calls wait"));
            all.then(|| prompts.to_vec())
        });
    let window = wait_for("a window", || {
        stage.input.windows("Call of work").first().copied()
    });
    stage.session.picture("prompt-many", Some(window.0));
    let of_work = prompts
        .iter()
        .find(|prompt| prompt.name == "Call of work")
        .unwrap();
    stage.reader.press(of_work.button("Deny all 8 of work"));
    let mut denied = stage.fake.wait_for_answers(8);
    denied.sort();
    assert_eq!(
        denied,
        ["1", "2", "3", "4", "6", "7", "8", "9"].map(|id| format!("{id} Deny"))
    );
    stage.reader.wait_until("the other two", |prompts| {
        (prompts.len() == 2 && prompts.iter().all(|p| p.name == "Call of personal")).then_some(())
    });
}

#[test]
fn hostile_texts_are_shown_as_what_they_are() {
    let mut stage = Stage::start();
    let mut asked = ask(1);
    asked.source = "wo\u{202e}kr\u{200b}".into();
    asked.service = "<b>qubes.\nFilecopy</b>&amp;".into();
    asked.argument = format!("a\u{2066}b\0{}", "long ".repeat(100_000));
    asked.requested_target = "<span size='100000'>dom0</span>".into();
    asked.targets = vec![
        "v\u{430}ult".into(),
        "vault".into(),
        "x".repeat(1_000_000),
        "<b>t</b>".into(),
    ];
    asked.default_target = Some("v\u{430}ult".into());
    asked.rule = "\x1b[2Jrule\u{feff}".into();
    asked.announced = Some(announced(u64::MAX, 0, u64::MAX));
    let prompt = stage.ask(asked);
    for text in [
        "wo\\u{202e}kr\\u{200b} wants to call <b>qubes.\\u{a}Filecopy</b>&amp; in v\\u{430}ult",
        "a\\u{2066}b\\u{0}long long",
        "wo\\u{202e}kr\\u{200b} says: 18,446,744,073,709,551,615 files, 16.0 EiB",
        "<span size='100000'>dom0</span>",
        "\\u{1b}[2Jrule\\u{feff}",
        "This service is not one that Bulkhead knows.",
    ] {
        assert!(prompt.says(text), "{text}:\n{}", prompt.outline());
    }
    for text in prompt.texts() {
        let ours = |c: char| (' '..='~').contains(&c) || c == '\u{2192}';
        assert!(text.chars().all(ours), "{text:?}");
        assert!(text.len() < 300, "{text:?}");
    }
    let hostile = "Call of wo\\u{202e}kr\\u{200b}";
    let window = wait_for("a window", || stage.input.windows(hostile).first().copied());
    std::thread::sleep(ARMED);
    stage.session.picture("prompt-hostile", Some(window.0));
    let list = prompt.find("list", |_| true).unwrap();
    assert_eq!(list.children[0].name, "v\\u{430}ult");
    assert!(
        list.children[2].name.contains(" more] xxx"),
        "{}",
        list.children[2].name
    );
    stage.desktop.assert_runs();
}

#[test]
fn prompts_come_back_when_the_daemon_does_and_old_answers_reach_no_new_call() {
    let mut stage = Stage::start();
    let old = stage.ask(ask(1));
    let socket = stage.session.path("bus");
    let nobody = Fake::start(&stage.session.path("nobody"), Vec::new());
    drop(std::mem::replace(&mut stage.fake, nobody));
    stage.reader.wait_until_gone();
    // The new daemon's first call has the same number.
    let mut other = ask(1);
    (other.source, other.default_target) = ("personal".into(), Some("vault".into()));
    stage.fake = Fake::start(&socket, vec![other]);
    let new = stage.reader.prompt();
    assert_eq!(new.name, "Call of personal");
    stage.reader.press(old.button("Deny"));
    stage.reader.press(old.button("Allow"));
    stage.nothing_is_answered_for(Duration::from_millis(200));
    stage.reader.press(new.button("Deny"));
    assert_eq!(stage.fake.wait_for_answers(1), ["1 Deny"]);
}

#[test]
fn an_answer_that_fails_is_told_and_can_be_given_again() {
    let stage = Stage::start();
    let prompt = stage.ask(ask(1));
    stage
        .fake
        .refuse_answers(ApiError::new(ErrorKind::Host, "the disk is full"));
    stage.reader.press(prompt.button("Deny"));
    stage.reader.wait_until("the trouble", |prompts| {
        let prompt = prompts.first()?;
        (prompt.says("the disk is full") && prompt.button("Deny").is_sensitive()).then_some(())
    });
    stage
        .fake
        .refuse_answers(ApiError::new(ErrorKind::NotFound, "gone"));
    stage.reader.press(prompt.button("Deny"));
    stage.reader.wait_until_gone();
}

#[test]
fn a_second_one_in_the_session_refuses_and_the_first_goes_on() {
    let mut stage = Stage::start();
    let mut command = stage.session.command(&stage.session.path("bus"));
    command.stderr(std::process::Stdio::piped());
    let second = ended(command);
    assert_eq!(second.code, 1);
    assert!(
        second
            .err
            .contains("error: bulkhead-desktop runs in this session already"),
        "{}",
        second.err
    );
    stage.desktop.assert_runs();
    stage.ask(ask(1));
    assert_eq!(stage.desktop.end(), Some(0));
    assert_eq!(stage.session.log(), "");
}

#[test]
fn the_session_starts_it_by_its_name() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/dist/org.bulkhead.Desktop.desktop"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_bulkhead-desktop"));
    let name = program.file_name().unwrap().to_str().unwrap();
    assert!(text.starts_with("[Desktop Entry]\n"));
    assert!(
        text.lines().any(|line| line == format!("Exec={name}")),
        "{text}"
    );
}

#[test]
fn it_says_why_it_cannot_start() {
    let session = Session::start();
    let run = |change: &dyn Fn(&mut Command)| {
        let mut command = session.command(&session.path("bus"));
        command.stderr(std::process::Stdio::piped());
        change(&mut command);
        ended(command)
    };
    let without_bus = run(&|command| {
        command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere");
    });
    assert_eq!(without_bus.code, 1);
    assert!(
        without_bus.err.contains("error: no session bus answers"),
        "{}",
        without_bus.err
    );
    let without_display = run(&|command| {
        command.env_remove("DISPLAY");
    });
    assert_eq!(without_display.code, 1);
    assert!(
        without_display
            .err
            .contains("error: no display can be opened"),
        "{}",
        without_display.err
    );
    let badly_called = run(&|command| {
        command.arg("--socked");
    });
    assert_eq!(badly_called.code, 2);
    let help = run(&|command| {
        command.arg("--help");
    });
    assert_eq!(help.code, 0);
    assert!(
        help.out.contains("--socket <PATH>") && help.out.contains("Exit codes:"),
        "{}",
        help.out
    );
}
