//! `bulkhead-relay [--call|--caller|--notifications] --fd N`: started by bulkheadd with a socket to it as descriptor N.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::ExitCode;

use bulkhead_relay::{Core, call, caller, confinement, notifications, receive_setup, serve};
use bulkhead_sandbox::confine::confine;
use bulkhead_sandbox::inherit::{close_uninvited, take_inherited};
use bulkhead_vchan::seqpacket::send_packet;
use bulkhead_wire::causes::chain;
use bulkhead_wire::qrexec::EXIT_PROBLEM;
use bulkhead_wire::relay::{FromRelay, encode};

const USAGE: &str = "usage: bulkhead-relay [--call|--caller|--notifications] --fd N
One for each running qube, with --call one for each call that dom0 serves, with --caller one for each
that bulkheadd makes, and with --notifications one for each of those that brings notifications;
bulkheadd starts it with N open on a socket to itself.";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse().ok());
    let ended = match &args[..] {
        [flag, fd] if flag == "--fd" => number(fd).map(run),
        [call, flag, fd] if call == "--call" && flag == "--fd" => number(fd).map(run_call),
        [what, flag, fd] if what == "--caller" && flag == "--fd" => {
            return match number(fd).map(run_caller) {
                Some(Ok(code)) => code,
                Some(Err(text)) => {
                    eprintln!("bulkhead-relay: {text}");
                    ExitCode::from(EXIT_PROBLEM)
                }
                None => usage(),
            };
        }
        [what, flag, fd] if what == "--notifications" && flag == "--fd" => {
            number(fd).map(run_notifications)
        }
        _ => None,
    };
    let Some(ended) = ended else {
        return usage();
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("bulkhead-relay: {text}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn run(fd: i32) -> Result<(), String> {
    let daemon = take_inherited(fd).map_err(|e| chain(&e))?;
    close_uninvited().map_err(|e| chain(&e))?;
    let (setup, sockets) = receive_setup(daemon).map_err(|e| chain(&e))?;
    let report = match confine(&confinement(setup.domid, setup.carrier)) {
        Ok(report) => report,
        Err(e) => {
            let reason = chain(&e);
            // The daemon hears why, if it still listens; standard error does in any case.
            if let Ok(packet) = encode(&FromRelay::Failed {
                reason: reason.clone(),
            }) {
                let _ = send_packet(sockets.daemon.as_fd(), &packet, &[]);
            }
            return Err(reason);
        }
    };
    let mut core = Core::new(setup);
    core.tell(&FromRelay::Ready {
        confinement: report.to_string(),
    });
    serve(core, sockets).map_err(|e| chain(&e))
}

fn run_call(fd: i32) -> Result<(), String> {
    let daemon = take_inherited(fd).map_err(|e| chain(&e))?;
    close_uninvited().map_err(|e| chain(&e))?;
    let setup = call::receive_setup(daemon).map_err(|e| chain(&e))?;
    confine(&call::confinement(setup.domid, setup.carrier)).map_err(|e| chain(&e))?;
    call::serve(setup).map_err(|e| chain(&e))
}

fn run_caller(fd: i32) -> Result<ExitCode, String> {
    let daemon = take_inherited(fd).map_err(|e| chain(&e))?;
    close_uninvited().map_err(|e| chain(&e))?;
    let setup = caller::receive_setup(&daemon).map_err(|e| chain(&e))?;
    confine(&setup.confinement()).map_err(|e| chain(&e))?;
    caller::serve(setup).map_err(|e| chain(&e))
}

fn run_notifications(fd: i32) -> Result<(), String> {
    let daemon = take_inherited(fd).map_err(|e| chain(&e))?;
    close_uninvited().map_err(|e| chain(&e))?;
    let setup = notifications::receive_setup(daemon).map_err(|e| chain(&e))?;
    confine(&notifications::confinement(setup.domid)).map_err(|e| chain(&e))?;
    notifications::serve(setup).map_err(|e| chain(&e))
}
