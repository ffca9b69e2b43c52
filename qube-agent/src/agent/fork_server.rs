//! Handing calls to a user's session, where one listens.
//!
//! Request: four 32-bit words in native order (kind, domain, port, length), then the command
//! without its user and with its NUL. The connection stays open until the service has ended.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use bulkhead_qrexec::serve::Host;
use bulkhead_wire::qrexec::Kind;
use bulkhead_wire::qrexec::command::{Command, What};

use super::calls::Order;
use super::host::GuestHost;

/// The sessions of a system.
#[derive(Debug, Clone)]
pub(super) struct ForkServer {
    /// With `%s` for the user.
    pattern: String,
}

impl ForkServer {
    pub(super) fn new(pattern: String) -> Self {
        Self { pattern }
    }

    /// Lets the user's session run an order; false if there is none, or the call is not one for
    /// sessions. Returns when the service has ended.
    pub(super) fn run(&self, host: &GuestHost, command: &Command, order: &Order) -> bool {
        let Some(user) = self.user(host, command) else {
            return false;
        };
        let path = self.pattern.replace("%s", &user);
        let Ok(mut stream) = UnixStream::connect(path) else {
            return false;
        };
        let Some(at) = order.cmdline.iter().position(|&b| b == b':') else {
            return false;
        };
        let rest = order.cmdline.get(at + 1..).unwrap_or_default();
        let kind = if order.just_exec {
            Kind::JustExec
        } else {
            Kind::ExecCmdline
        };
        let len = u32::try_from(rest.len() + 1).unwrap_or(u32::MAX);
        let mut request = Vec::with_capacity(rest.len() + 17);
        for word in [
            kind.number(),
            order.endpoint.domain,
            order.endpoint.port,
            len,
        ] {
            request.extend_from_slice(&word.to_ne_bytes());
        }
        request.extend_from_slice(rest);
        request.push(0);
        if stream.write_all(&request).is_err() {
            return false;
        }
        // Nothing is ever sent back: the end of the connection is the message.
        let mut byte = [0];
        while matches!(stream.read(&mut byte), Ok(n) if n > 0) {}
        true
    }

    /// The user whose session is to be asked.
    fn user(&self, host: &GuestHost, command: &Command) -> Option<String> {
        if command.nogui {
            return None;
        }
        let user = command.user.clone()?;
        let What::Service(call) = &command.what else {
            return Some(user);
        };
        // What is wrong with a configuration is reported where the call is served.
        let config = host.folders().config(call).ok()?;
        let for_sockets = [
            config.skip_service_descriptor,
            config.exit_on_client_eof,
            config.exit_on_service_eof,
        ];
        if for_sockets.contains(&Some(true)) {
            return None;
        }
        if config.wait_for_session {
            host.wait_for_session(call, Some(&user));
        }
        Some(config.force_user.unwrap_or(user))
    }
}
