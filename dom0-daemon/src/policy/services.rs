//! The `policy.*` services that qubes call in dom0 where policy lets them.
//!
//! They need no file in dom0's folders; where there is one of their name, that is called instead.
//! What a caller sends comes here through the pump of its call, and is read within the limits of
//! the sockets of these names, by the same functions of `bulkhead_policy`.

use std::io;

use bulkhead_policy::{ADMIN_SERVICES, EVALUATION_BYTES_MAX, PAYLOAD_BYTES_MAX};
use bulkhead_wire::qrexec::command::ServiceCall;
use tokio::io::AsyncRead;
use tokio::time::timeout;

use super::sockets::{Evaluations, PATIENCE, read_all};
use crate::runtime::Inner;

/// Exit code of a service that could not make sense of what it was sent.
const NO_ANSWER: u8 = 1;

/// One of these services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PolicyService(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Evaluations(Evaluations),
    Admin,
}

/// What a service has to say.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Exit code.
    pub(crate) code: u8,
    /// Standard output.
    pub(crate) output: Vec<u8>,
    /// Standard error.
    pub(crate) errors: Vec<u8>,
}

impl PolicyService {
    /// The service of that name, without its argument.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let evaluations = [Evaluations::All, Evaluations::OfShown];
        let found = evaluations.into_iter().find(|which| which.name() == name);
        let admin = ADMIN_SERVICES.contains(&name).then_some(Kind::Admin);
        found.map(Kind::Evaluations).or(admin).map(Self)
    }
}

impl Inner {
    /// Serves a call that policy has allowed; `input` is what its caller sends.
    ///
    /// # Errors
    /// Where the caller sends too much or takes too long over it.
    pub(crate) async fn serve_policy_call(
        &self,
        service: PolicyService,
        call: &ServiceCall,
        input: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Answer> {
        let most = match service.0 {
            Kind::Evaluations(_) => EVALUATION_BYTES_MAX,
            Kind::Admin => PAYLOAD_BYTES_MAX,
        };
        let bytes = timeout(PATIENCE, read_all(input, most)).await??;
        match service.0 {
            Kind::Evaluations(which) => {
                // As it comes on the socket of that name.
                let bytes = [call.descriptor.as_bytes(), &[0], &bytes].concat();
                Ok(match self.evaluate_policy(which, &bytes, "").await {
                    Ok(output) => Answer {
                        output: output.into_bytes(),
                        ..Answer::default()
                    },
                    Err(error) => Answer {
                        code: NO_ANSWER,
                        errors: format!("{}: {error}\n", call.name).into_bytes(),
                        ..Answer::default()
                    },
                })
            }
            Kind::Admin => {
                let called = call.full_name();
                // The argument is none where there is a `+` and nothing behind it.
                let called = called.strip_suffix('+').unwrap_or(&called);
                let done = self.change_policy(called, &call.source, bytes, "policy");
                let (code, said) = done.await?;
                let (output, errors) = match code {
                    0 => (said, Vec::new()),
                    _ => (Vec::new(), said),
                };
                Ok(Answer {
                    code,
                    output,
                    errors,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_policy_services_are_the_daemons_own() {
        for name in ["policy.EvalSimple", "policy.EvalGUI", "policy.include.Get"] {
            assert!(PolicyService::named(name).is_some(), "{name}");
        }
        for name in ["policy.RegisterArgument", "policy.sock", "policy.admin", ""] {
            assert!(PolicyService::named(name).is_none(), "{name}");
        }
    }
}
