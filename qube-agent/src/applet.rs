//! The parts of the program and the names they answer to.

use std::ffi::OsString;
use std::process::ExitCode;

use qube_agent::{filecopy, open};

/// One part.
#[derive(Debug)]
pub(crate) struct Applet {
    /// The name it is called by.
    pub(crate) name: &'static str,
    /// Folder in which `install-root` puts its name; none for parts that are only arguments.
    pub(crate) installed: Option<&'static str>,
    /// Runs it with the arguments after the name.
    pub(crate) run: fn(Vec<OsString>) -> ExitCode,
}

const BIN: Option<&str> = Some("usr/bin");
const LIB: Option<&str> = Some("usr/lib/qubes");
const SERVICE: Option<&str> = Some("etc/qubes-rpc");

/// All parts.
pub(crate) const APPLETS: &[Applet] = &[
    Applet {
        name: "qrexec-agent",
        installed: BIN,
        run: crate::agent::main,
    },
    Applet {
        name: "qrexec-client-vm",
        installed: BIN,
        run: crate::client_vm::main,
    },
    Applet {
        name: "qubes-vmexec",
        installed: BIN,
        run: crate::vmexec::main,
    },
    Applet {
        name: "qubes.VMExec",
        installed: SERVICE,
        run: crate::vmexec::main,
    },
    Applet {
        name: "qubes.VMExecGUI",
        installed: SERVICE,
        run: crate::vmexec::main,
    },
    Applet {
        name: "qubes.WaitForSession",
        installed: SERVICE,
        run: crate::session::wait_main,
    },
    Applet {
        name: "qubes.SetMonitorLayout",
        installed: SERVICE,
        run: crate::session::set_layout,
    },
    Applet {
        name: "qubes.GetAppmenus",
        installed: SERVICE,
        run: crate::applications::get_appmenus,
    },
    Applet {
        name: "qubes.StartApp",
        installed: SERVICE,
        run: crate::applications::start_app,
    },
    Applet {
        name: "qubes-desktop-run",
        installed: BIN,
        run: crate::applications::desktop_run,
    },
    Applet {
        name: "qvm-copy",
        installed: BIN,
        run: filecopy::qvm_copy,
    },
    Applet {
        name: "qvm-move",
        installed: BIN,
        run: filecopy::qvm_move,
    },
    Applet {
        name: "qvm-copy-to-vm",
        installed: BIN,
        run: filecopy::qvm_copy_to_vm,
    },
    Applet {
        name: "qvm-move-to-vm",
        installed: BIN,
        run: filecopy::qvm_move_to_vm,
    },
    Applet {
        name: "qfile-unpacker",
        installed: LIB,
        run: filecopy::filecopy_service,
    },
    Applet {
        name: "qubes.Filecopy",
        installed: SERVICE,
        run: filecopy::filecopy_service,
    },
    Applet {
        name: "bulkhead.Filecopy",
        installed: SERVICE,
        run: filecopy::resuming_service,
    },
    Applet {
        name: "qubesdb-cmd",
        installed: BIN,
        run: crate::qubesdb::cmd,
    },
    Applet {
        name: "qubesdb-list",
        installed: BIN,
        run: crate::qubesdb::list,
    },
    Applet {
        name: "qubesdb-multiread",
        installed: BIN,
        run: crate::qubesdb::multiread,
    },
    Applet {
        name: "qubesdb-read",
        installed: BIN,
        run: crate::qubesdb::read,
    },
    Applet {
        name: "qubesdb-read-bool",
        installed: BIN,
        run: crate::qubesdb::read_bool,
    },
    Applet {
        name: "qubesdb-rm",
        installed: BIN,
        run: crate::qubesdb::rm,
    },
    Applet {
        name: "qubesdb-watch",
        installed: BIN,
        run: crate::qubesdb::watch,
    },
    Applet {
        name: "qubesdb-write",
        installed: BIN,
        run: crate::qubesdb::write,
    },
    Applet {
        name: "qubesdb-daemon",
        installed: LIB,
        run: crate::qubesdb::daemon::main,
    },
    Applet {
        name: "qube-network",
        installed: LIB,
        run: crate::network::main,
    },
    Applet {
        name: "qvm-open-in-vm",
        installed: BIN,
        run: open::qvm_open_in_vm,
    },
    Applet {
        name: "qvm-open-in-dvm",
        installed: BIN,
        run: open::qvm_open_in_dvm,
    },
    Applet {
        name: "qubes.OpenInVM",
        installed: SERVICE,
        run: open::open_in_vm_service,
    },
    Applet {
        name: "qubes.OpenURL",
        installed: SERVICE,
        run: open::open_url_service,
    },
    Applet {
        name: "guard",
        installed: None,
        run: crate::guard::main,
    },
    Applet {
        name: "init",
        installed: None,
        run: crate::init::main,
    },
    Applet {
        name: "install-root",
        installed: None,
        run: crate::install_root::main,
    },
    Applet {
        name: "run-as",
        installed: None,
        run: crate::run_as::main,
    },
    Applet {
        name: "session",
        installed: None,
        run: crate::session::keep_main,
    },
];
