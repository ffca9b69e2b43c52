//! What each command says about itself.

use crate::common::{bulkhead, told};

#[track_caller]
fn help(words: &[&str]) -> String {
    let mut all = words.to_vec();
    all.push("--help");
    let output = bulkhead(&all).output().unwrap();
    let text = told(&output, None);
    // The same below every command, and shown once below.
    let cut = text.find("\nGlobal options:\n").expect("global options");
    let rest = &text[cut..];
    let end = rest[1..].find("\n\n").map_or(rest.len(), |at| at + 1);
    let kept = format!("{}{}", &text[..cut], &rest[end..]);
    kept.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

#[test]
fn of_the_whole() {
    let output = bulkhead(&["--help"]).output().unwrap();
    insta::assert_snapshot!(told(&output, None), @r"
    Run a desktop as a set of sealed qubes, from one declared description

    Usage: bulkhead [OPTIONS] <COMMAND>

    Commands:
      check        Check a description and its policy without changing anything
      fmt          Put the files of a description into their usual form
      schema       Show every option of a description with type, default and meaning
      init         Write a commented description to start from
      plan         Show what an apply would do
      apply        Make the machine what its description says
      status       Show how the machine is, and where that is not as declared
      generations  List the generations of the machine
      diff         Show what is different between two generations
      rollback     Go back to an earlier generation
      gc           Remove generations, images and volumes that nobody needs
      hcl          Report what this machine consists of, and what of it will work
      ls           List qubes
      info         Show everything about a qube
      start        Start qubes and what they need
      stop         Ask qubes to stop, and wait
      kill         End qubes at once, without asking them
      pause        Freeze qubes
      unpause      Let frozen qubes go on
      restart      Stop qubes and start them again
      revert       Take the root of a template qube back to an earlier revision
      console      Follow what a qube writes to its console
      logs         Show the console log of a qube, or the log of the daemon
      run          Run a command in a qube
      call         Call a service in a qube
      ask          Answer calls that wait for a decision
      windows      Show the windows of qubes on this display, until interrupted
      clipboard    Show or wipe what is carried between the clipboards of qubes
      audit        Show what was decided about calls
      policy       Ask what policy says
      completions  Print a completion script for a shell
      man          Print or write the manual pages

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --socket <PATH>  Socket of the daemon [default: bus in /run/bulkhead or, for an ordinary user,
                           $XDG_RUNTIME_DIR/bulkhead, whichever is there first] [env: BULKHEAD_SOCKET]
          --color <WHEN>   When to use colour; $NO_COLOR turns it off where this does not say [default:
                           auto]

    Exit codes:
      0   Done
      1   Refused, or could not be done; nothing changed
      2   The command line makes no sense
      3   Only a part was done
      70  A bug in Bulkhead

    `policy eval` ends with 0 if policy allows the call, 1 if it denies it and 4 if it asks.
    `policy simulate` ends with 0 if no decision changes and 5 if one does.

    `run` and `call` end with the exit code of what ran in the qube; with 125 if it did not come to
    that, 126 if policy refused, 255 if the qube went away before the end.
    ");
}

#[test]
fn no_word_shows_the_help_and_is_a_usage_error() {
    let output = bulkhead(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage: bulkhead"));
}

#[test]
fn of_commands_that_need_no_daemon() {
    insta::assert_snapshot!(help(&["check"]), @r"
    Check a description and its policy without changing anything

    Usage: bulkhead check [OPTIONS] [SYSTEM]

    Arguments:
      [SYSTEM]  The description, or the folder that holds its system.ron

    Options:
          --system <FILE>  The same, as `plan` and `apply` spell it
          --json           Print what was found as JSON
      -h, --help           Print help


    Without a path it is $XDG_CONFIG_HOME/bulkhead/system.ron if that exists and the user is not root,
    else /etc/bulkhead/system.ron. A folder stands for the system.ron in it.
    ");
    insta::assert_snapshot!(help(&["fmt"]), @r"
    Put the files of a description into their usual form

    Usage: bulkhead fmt [OPTIONS] [FILE]...

    Arguments:
      [FILE]...  Files to format; a folder stands for every file of the description in it, and `-`
                 formats standard input to standard output [default: every file of the usual
                 description]

    Options:
          --check  Change nothing; list the files that would change, and end with 1 if there are any
      -h, --help   Print help
    ");
    insta::assert_snapshot!(help(&["schema"]), @r"
    Show every option of a description with type, default and meaning

    Usage: bulkhead schema [OPTIONS] [PATH]

    Arguments:
      [PATH]  Only options whose path starts with this (`qubes.*.volumes`)

    Options:
          --json  Print it as JSON
      -h, --help  Print help
    ");
    insta::assert_snapshot!(help(&["init"]), @r"
    Write a commented description to start from

    Usage: bulkhead init [OPTIONS] [FOLDER]

    Arguments:
      [FOLDER]  Folder to write it to; made if it is not there, and nothing in it is overwritten
                [default: .]

    Options:
      -h, --help  Print help
    ");
    insta::assert_snapshot!(help(&["completions"]), @r"
    Print a completion script for a shell

    Usage: bulkhead completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>  The shell [possible values: bash, elvish, fish, powershell, zsh]

    Options:
      -h, --help  Print help
    ");
    insta::assert_snapshot!(help(&["man"]), @r"
    Print or write the manual pages

    Usage: bulkhead man [OPTIONS]

    Options:
          --out-dir <FOLDER>  Write a page for every command into this folder, instead of printing the
                              one of `bulkhead`
      -h, --help              Print help
    ");
}

#[test]
fn of_commands_about_the_declared_system() {
    insta::assert_snapshot!(help(&["plan"]), @r"
    Show what an apply would do

    Usage: bulkhead plan [OPTIONS]

    Options:
          --system <FILE>     Description to read instead of the configured one; only for root and the
                              daemon's user
          --restart           Restart running qubes whose changes need it, instead of leaving them until
                              they start next
          --update-templates  Build templates anew instead of keeping the locked images
          --keep-volumes      Keep volumes that are no longer declared
          --json              Print the plan as JSON
      -h, --help              Print help
    ");
    insta::assert_snapshot!(help(&["apply"]), @r"
    Make the machine what its description says

    Usage: bulkhead apply [OPTIONS]

    Options:
          --system <FILE>     Description to read instead of the configured one; only for root and the
                              daemon's user
          --restart           Restart running qubes whose changes need it, instead of leaving them until
                              they start next
          --update-templates  Build templates anew instead of keeping the locked images
          --keep-volumes      Keep volumes that are no longer declared
      -m, --message <TEXT>    Why, kept with the generation
          --allow-destroy     Give leave to destroy volumes with their data
      -y, --yes               Do not ask
          --json              Print the report as JSON
      -h, --help              Print help


    On a terminal it shows the plan and asks. Elsewhere a plan that destroys data or stops running qubes
    needs --yes.

    An apply goes on when this command is ended; `bulkhead status` tells how far it is.
    ");
    insta::assert_snapshot!(help(&["status"]), @r"
    Show how the machine is, and where that is not as declared

    Usage: bulkhead status [OPTIONS]

    Options:
          --json  Print it as JSON
      -h, --help  Print help
    ");
    insta::assert_snapshot!(help(&["generations"]), @r"
    List the generations of the machine

    Usage: bulkhead generations [OPTIONS]

    Options:
          --json  Print it as JSON
      -h, --help  Print help
    ");
    insta::assert_snapshot!(help(&["diff"]), @r"
    Show what is different between two generations

    Usage: bulkhead diff [OPTIONS] [A] [B]

    Arguments:
      [A]  From this generation [default: the one before B]
      [B]  To this generation [default: the current one]

    Options:
          --json  Print it as JSON
      -h, --help  Print help
    ");
    insta::assert_snapshot!(help(&["rollback"]), @r"
    Go back to an earlier generation

    Usage: bulkhead rollback [OPTIONS] [N]

    Arguments:
      [N]  Generation to go back to [default: the one before the current]

    Options:
          --restart         Restart running qubes whose changes need it, instead of leaving them until
                            they start next
      -m, --message <TEXT>  Why, kept with the new generation
          --allow-destroy   Destroy the volumes that the old generation does not declare
      -n, --dry-run         Only show the plan
      -y, --yes             Do not ask
          --json            Print the report as JSON
      -h, --help            Print help


    The description of that generation becomes a new generation; its own files stay as they are. Volumes
    that it does not declare are kept unless --allow-destroy is given.
    ");
    insta::assert_snapshot!(help(&["gc"]), @r"
    Remove generations, images and volumes that nobody needs

    Usage: bulkhead gc [OPTIONS]

    Options:
          --keep <COUNT>    How many of the newest generations to keep
          --generation <N>  Remove exactly this generation; may be given more than once
          --orphan-volumes  Destroy volumes that belong to no declared qube, with their data
      -n, --dry-run         Only tell what would go
      -y, --yes             Do not ask
          --json            Print the report as JSON
      -h, --help            Print help


    The current generation, the one the machine came up with and the newest are always kept.
    ");
}

#[test]
fn of_commands_about_qubes() {
    insta::assert_snapshot!(help(&["ls"]), @r"
    List qubes

    Usage: bulkhead ls [OPTIONS] [QUBE]...

    Arguments:
      [QUBE]...  Only these

    Options:
      -r, --running  Only those that run
      -n, --names    Only names, one a line
          --json     Print it as JSON
      -h, --help     Print help
    ");
    insta::assert_snapshot!(help(&["info"]), @r"
    Show everything about a qube

    Usage: bulkhead info [OPTIONS] <QUBE>

    Arguments:
      <QUBE>  The qube

    Options:
          --json  Print it as JSON
      -h, --help  Print help
    ");
    insta::assert_snapshot!(help(&["start"]), @r"
    Start qubes and what they need

    Usage: bulkhead start [OPTIONS] <QUBE|--all>

    Arguments:
      [QUBE]...  The qubes

    Options:
          --all   All of them
      -h, --help  Print help


    --all leaves out templates, which run only to be maintained.
    ");
    insta::assert_snapshot!(help(&["stop"]), @r"
    Ask qubes to stop, and wait

    Usage: bulkhead stop [OPTIONS] <QUBE|--all>

    Arguments:
      [QUBE]...  The qubes

    Options:
          --all                All of them
      -t, --timeout <SECONDS>  Seconds until a qube that has not stopped is ended [default: what the
                               qube declares]
          --force              Stop a qube too while others that run have their network from it
      -h, --help               Print help


    --all stops a qube that provides network after those that use it.
    ");
    insta::assert_snapshot!(help(&["kill"]), @r"
    End qubes at once, without asking them

    Usage: bulkhead kill [OPTIONS] <QUBE>...

    Arguments:
      <QUBE>...  The qubes

    Options:
          --force  End a qube too while others that run have their network from it
      -h, --help   Print help


    Of several, one that provides network is ended after those that use it.
    ");
}

#[test]
fn of_commands_about_qubes_that_run() {
    insta::assert_snapshot!(help(&["pause"]), @r"
    Freeze qubes

    Usage: bulkhead pause [OPTIONS] <QUBE>...

    Arguments:
      <QUBE>...  The qubes

    Options:
      -h, --help  Print help
    ");
    insta::assert_snapshot!(help(&["unpause"]), @r"
    Let frozen qubes go on

    Usage: bulkhead unpause [OPTIONS] <QUBE>...

    Arguments:
      <QUBE>...  The qubes

    Options:
      -h, --help  Print help
    ");
    insta::assert_snapshot!(help(&["revert"]), @r"
    Take the root of a template qube back to an earlier revision

    Usage: bulkhead revert [OPTIONS] <QUBE> [REVISION]

    Arguments:
      <QUBE>      The template qube
      [REVISION]  Number of the revision [default: the one before the newest]

    Options:
          --json  Print what was done as JSON
      -h, --help  Print help


    The qube must not run. Qubes based on it start from the same; those that run go on with what they
    have. What the qube wrote since it last stopped in order is lost. `bulkhead info QUBE` lists the
    revisions.

      bulkhead revert tools
      bulkhead revert tools 3
    ");
    insta::assert_snapshot!(help(&["restart"]), @r"
    Stop qubes and start them again

    Usage: bulkhead restart [OPTIONS] <QUBE>...

    Arguments:
      <QUBE>...  The qubes

    Options:
      -t, --timeout <SECONDS>  Seconds until a qube that has not stopped is ended [default: what the
                               qube declares]
          --force              Restart a qube too while others that run have their network from it
      -h, --help               Print help
    ");
    insta::assert_snapshot!(help(&["console"]), @r"
    Follow what a qube writes to its console

    Usage: bulkhead console [OPTIONS] <QUBE>

    Arguments:
      <QUBE>  The qube

    Options:
      -h, --help  Print help


    It ends when the qube does, or with Ctrl-C. Nothing typed reaches the qube: use `bulkhead run` for
    that.
    ");
    insta::assert_snapshot!(help(&["logs"]), @r"
    Show the console log of a qube, or the log of the daemon

    Usage: bulkhead logs [OPTIONS] [QUBE]

    Arguments:
      [QUBE]  The qube; without one it is the daemon's own log

    Options:
      -f, --follow         Go on with what comes
      -n, --lines <COUNT>  Only the last lines
      -h, --help           Print help


    What a qube wrote is shown without the bytes that act on a terminal.
    ");
}

#[test]
fn of_commands_about_calls() {
    insta::assert_snapshot!(help(&["run"]), @r"
    Run a command in a qube

    Usage: bulkhead run [OPTIONS] [QUBE] -- <CMD>...

    Arguments:
      [QUBE]    The qube
      <CMD>...  The command

    Options:
      -u, --user <NAME>             User in the qube [default: what the qube declares]
      -D, --dispvm [<BASE>]         Run it in a new disposable of this template, which is gone when the
                                    command ends [default: the declared one]
      -n, --no-autostart            Fail if the qube does not run, instead of starting it
      -t, --filter-escape-chars     Replace bytes that act on a terminal, even where output goes
                                    elsewhere
          --no-filter-escape-chars  Pass every byte on, even to a terminal
      -h, --help                    Print help


    A single word is read by the shell of the qube, so it may hold pipes and variables. Several words
    run as they are. Input, output, errors and the exit code are those of the command.

      bulkhead run work -- ls -l
      bulkhead run work -- 'ls | wc -l'
      bulkhead run --dispvm untrusted -- ./suspicious
    ");
    insta::assert_snapshot!(help(&["call"]), @r"
    Call a service in a qube

    Usage: bulkhead call [OPTIONS] <QUBE> <SERVICE>

    Arguments:
      <QUBE>     The qube; `@dispvm` or `@dispvm:BASE` for a new disposable, gone when the service ends
      <SERVICE>  The service, with `+` and its argument if it takes one

    Options:
      -u, --user <NAME>             User in the qube [default: what the qube declares]
      -n, --no-autostart            Fail if the qube does not run, instead of starting it
      -t, --filter-escape-chars     Replace bytes that act on a terminal, even where output goes
                                    elsewhere
          --no-filter-escape-chars  Pass every byte on, even to a terminal
      -h, --help                    Print help


    Input, output, errors and the exit code are those of the service. The caller is dom0, which no
    policy limits.

      bulkhead call work qubes.GetDate
      bulkhead call work qubes.StartApp+firefox
    ");
    insta::assert_snapshot!(help(&["ask"]), @r"
    Answer calls that wait for a decision

    Usage: bulkhead ask [OPTIONS]
           bulkhead ask <COMMAND>

    Commands:
      list   List the calls that wait
      allow  Let a call through, this once
      deny   Refuse a call

    Options:
      -w, --watch  Stay and ask about every call that comes
      -h, --help   Print help


    Without a subcommand it shows each waiting call on the terminal and reads the answer.
    ");
    insta::assert_snapshot!(help(&["ask", "list"]), @r"
    List the calls that wait

    Usage: bulkhead ask list [OPTIONS]

    Options:
          --json  Print it as JSON
      -h, --help  Print help
    ");
    insta::assert_snapshot!(help(&["ask", "allow"]), @r"
    Let a call through, this once

    Usage: bulkhead ask allow [OPTIONS] <ID>

    Arguments:
      <ID>  Number of the call

    Options:
      -t, --target <TARGET>  Where to [default: the one that the policy names]
      -h, --help             Print help
    ");
    insta::assert_snapshot!(help(&["ask", "deny"]), @r"
    Refuse a call

    Usage: bulkhead ask deny [OPTIONS] <ID>

    Arguments:
      <ID>  Number of the call

    Options:
      -h, --help  Print help
    ");
    insta::assert_snapshot!(help(&["audit"]), @r"
    Show what was decided about calls

    Usage: bulkhead audit [OPTIONS]

    Options:
      -f, --follow              Go on with what is decided from now on
      -n, --last <COUNT>        How many, counted from the newest; at most 10000 [default: 50]
          --qube <QUBE>         Only where this qube is source or target
          --service <SERVICE>   Only this service
          --decision <OUTCOME>  Only this outcome [possible values: allow, deny]
          --json                Print one JSON object a line
      -h, --help                Print help
    ");
}

#[test]
fn completions_and_man_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = bulkhead(&["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        for word in ["rollback", "allow-destroy", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().join("man").display().to_string();
    let output = bulkhead(&["man", "--out-dir", &shown]).output().unwrap();
    assert!(output.status.success(), "{}", told(&output, None));
    let page = std::fs::read_to_string(folder.path().join("man/bulkhead-run.1")).unwrap();
    for part in [
        "EXIT STATUS",
        "with 125",
        "BULKHEAD_SOCKET",
        "/run/bulkhead/bus",
        "NOTES",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(folder.path().join("man/bulkhead-ask-deny.1").exists());
}

#[test]
fn help_of_policy() {
    insta::assert_snapshot!(help(&["policy"]), @r"
    Ask what policy says

    Usage: bulkhead policy [OPTIONS] <COMMAND>

    Commands:
      eval      Say what policy decides about a call
      explain   Say why policy decides a call as it does, rule by rule
      list      List the sources of the policy, or its rules in the order in which they are tried
      simulate  Show which decisions change between two generations or descriptions
      lint      Find rules that can hardly be meant
      graph     Draw who may call whom
      test      Check what policy is expected to decide
      convert   Turn policy of the older form, one file for each service, into one text of format 5.0

    Options:
      -h, --help  Print help
    ");
    insta::assert_snapshot!(help(&["policy", "eval"]), @r"
    Say what policy decides about a call

    Usage: bulkhead policy eval [OPTIONS] [SOURCE] [SERVICE] [TARGET]

    Arguments:
      [SOURCE]   The qube that calls
      [SERVICE]  The service, with its argument if it has one: `SERVICE+ARGUMENT`
      [TARGET]   The qube that is called, or `@default`, `@dispvm`, `@dispvm:BASE`

    Options:
          --batch          Judge calls from standard input, one JSON object a line, each with its policy
                           and machine
          --system <FILE>  The description whose policy is asked, or the folder of its system.ron
                           [default: the one that `check` takes]
          --json           Print the decision as JSON
      -h, --help           Print help


    Ends with 0 if policy allows the call, 1 if it denies it and 4 if it asks. With --batch it ends with
    0 once every line is answered.
    ");
}
