//! `bulkhead completions` and `man`: about the command itself.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{print, print_line};

pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bulkhead", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

pub(crate) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    command.build();
    let Some(folder) = &args.out_dir else {
        print(&String::from_utf8_lossy(&page(&command, "bulkhead")))?;
        return Ok(Exit::Done);
    };
    fs::create_dir_all(folder)
        .map_err(|error| Failure::io(format!("cannot make `{}`", folder.display()), &error))?;
    let mut pages = Vec::new();
    collect(&command, "bulkhead", &mut pages);
    for (name, page) in &pages {
        write(&folder.join(format!("{name}.1")), page)?;
    }
    let (count, shown) = (pages.len(), folder.display());
    print_line(&format!("Wrote {count} pages to `{shown}`"))?;
    Ok(Exit::Done)
}

fn write(path: &Path, page: &[u8]) -> Result<(), Failure> {
    fs::write(path, page)
        .map_err(|error| Failure::io(format!("cannot write `{}`", path.display()), &error))
}

/// The page of a command and those of its subcommands, as `bulkhead-ask-allow`.
fn collect(command: &clap::Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) {
    pages.push((name.to_owned(), page(command, name)));
    for inner in command.get_subcommands() {
        collect(inner, &format!("{name}-{}", inner.get_name()), pages);
    }
}

const EXITS: [(&str, &str); 5] = [
    ("0", "Done."),
    ("1", "Refused, or could not be done; nothing changed."),
    ("2", "The command line makes no sense."),
    ("3", "Only a part was done."),
    ("70", "A bug in Bulkhead."),
];

const ENVIRONMENT: [(&str, &str); 3] = [
    (
        "BULKHEAD_SOCKET",
        "Socket of the daemon, where --socket does not say.",
    ),
    (
        "NO_COLOR",
        "If it is set and not empty, there is no colour unless --color asks for it.",
    ),
    (
        "XDG_RUNTIME_DIR",
        "An ordinary user's daemon listens at bulkhead/bus in it.",
    ),
];

const FILES: [(&str, &str); 2] = [
    (
        "/etc/bulkhead/system.ron",
        "The description of the machine.",
    ),
    ("/run/bulkhead/bus", "The socket of the daemon."),
];

fn page(command: &clap::Command, name: &str) -> Vec<u8> {
    let manual = Man::new(command.clone().after_help("").after_long_help(""))
        .title(name)
        .date("")
        .manual("Bulkhead")
        .source(format!("Bulkhead {}", env!("CARGO_PKG_VERSION")));
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = render(&manual, command, &mut out);
    out
}

fn render(manual: &Man, command: &clap::Command, out: &mut Vec<u8>) -> io::Result<()> {
    manual.render_title(out)?;
    manual.render_name_section(out)?;
    manual.render_synopsis_section(out)?;
    manual.render_description_section(out)?;
    manual.render_options_section(out)?;
    if command.has_subcommands() {
        manual.render_subcommands_section(out)?;
    }
    let notes = command.get_after_help().map(ToString::to_string);
    let notes = notes.filter(|notes| notes != crate::args::EXIT_CODES);
    if let Some(notes) = notes {
        let mut roff = Roff::new();
        roff.control("SH", ["NOTES"]);
        for paragraph in notes.split("\n\n") {
            roff.control("PP", []);
            for line in paragraph.lines() {
                if line.starts_with("  ") {
                    roff.control("br", []);
                }
                roff.text([roman(line.trim_start())]);
            }
        }
        roff.to_writer(out)?;
    }
    let passed_on = "`run` and `call` end with the exit code of what ran in the qube; with 125 if \
                     it did not come to that, 126 if policy refused, 255 if the qube went away \
                     before the end.";
    let mut roff = Roff::new();
    list(&mut roff, "EXIT STATUS", &EXITS);
    roff.control("PP", []).text([roman(passed_on)]);
    list(&mut roff, "ENVIRONMENT", &ENVIRONMENT);
    list(&mut roff, "FILES", &FILES);
    roff.to_writer(out)?;
    out.flush()
}

fn list(roff: &mut Roff, heading: &str, entries: &[(&str, &str)]) {
    roff.control("SH", [heading]);
    for (term, meaning) in entries {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*meaning)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_page_with_its_exit_codes() {
        let mut command = Cli::command();
        command.build();
        let mut pages = Vec::new();
        collect(&command, "bulkhead", &mut pages);
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in [
            "bulkhead",
            "bulkhead-ls",
            "bulkhead-apply",
            "bulkhead-ask-allow",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
        for (name, page) in &pages {
            let page = String::from_utf8_lossy(page);
            for (code, meaning) in EXITS {
                assert!(
                    page.contains(&format!("\\fB{code}\\fR\n{meaning}")),
                    "{name}: {page}"
                );
            }
        }
    }

    #[test]
    fn help_and_manual_tell_the_same_exit_codes() {
        for (code, meaning) in EXITS {
            let meaning = meaning.trim_end_matches('.');
            let line = format!("\n  {code:<2}  {meaning}\n");
            assert!(crate::args::EXIT_CODES.contains(&line), "{line}");
        }
    }

    #[test]
    fn every_command_starts_with_an_imperative_and_no_full_stop() {
        fn visit(command: &clap::Command) {
            let about = command.get_about().expect("a first line").to_string();
            assert!(!about.ends_with('.') && !about.contains('\n'), "{about}");
            assert!(about.starts_with(char::is_uppercase), "{about}");
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string);
                assert!(help.is_some_and(|help| !help.ends_with('.')), "{argument}");
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
