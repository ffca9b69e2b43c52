//! Which service a call means in dom0, and who runs it. Blocks: it looks at files.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;

use bulkhead_qrexec::lookup::{Folders, LookupError, Service};
use bulkhead_qrexec::serve::session_call;
use bulkhead_wire::causes::chain;
use bulkhead_wire::qrexec::command::ServiceCall;
use bulkhead_wire::qrexec::config::ServiceConfig;
use bulkhead_wire::service::{Address, Identity, Order, What};
use bulkhead_wire::{icons, notify};
use nix::unistd::{Uid, User, getgrouplist};

use crate::policy::PolicyService;

/// What serves a call.
#[derive(Debug)]
pub(super) enum Found {
    /// Something in the folders.
    Service(Box<Order>),
    /// A service of the daemon's own, of which the folders have none.
    Policy(PolicyService),
    /// The same: notifications.
    Notifications,
    /// The same: icons of the caller's windows.
    Icons,
    /// Nothing that can be used: the caller is told this exit code.
    Nothing {
        /// The code.
        code: i32,
        /// Why, for the records.
        why: String,
    },
}

/// Whom the parts of the machine name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Named<'a> {
    /// The rule that allowed the call.
    pub(super) rule: Option<&'a str>,
    /// The service's configuration.
    pub(super) forced: Option<&'a str>,
    /// The description.
    pub(super) declared: Option<&'a str>,
}

/// Who runs a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runner<'a> {
    /// The daemon's own user.
    Own,
    /// Another one; root only if it may be.
    User { name: &'a str, may_be_root: bool },
}

/// Decides who runs a service; `own` is the daemon's user unless that is root.
///
/// # Errors
/// Why nobody may.
fn runner<'a>(own: Option<&str>, named: Named<'a>) -> Result<Runner<'a>, String> {
    // The word of the wire for "as usual".
    let rule = named.rule.filter(|name| *name != "DEFAULT");
    let wanted = named.forced.or(rule);
    match (own, wanted) {
        (Some(_), None) => Ok(Runner::Own),
        (Some(own), Some(name)) if own == name => Ok(Runner::Own),
        (Some(own), Some(name)) => Err(format!(
            "services in dom0 run as `{own}` here and cannot run as `{name}`"
        )),
        (None, wanted) => {
            let name = wanted.or(named.declared).ok_or(
                "nobody is declared to run services in dom0 (`dom0: (service_user: \"...\")`)",
            )?;
            let may_be_root = rule == Some(name);
            Ok(Runner::User { name, may_be_root })
        }
    }
}

fn identity(named: Named<'_>) -> Result<Option<Identity>, String> {
    let own = Uid::effective();
    let own = (!own.is_root()).then(|| {
        let known = User::from_uid(own).ok().flatten();
        known.map_or_else(|| own.to_string(), |user| user.name)
    });
    let Runner::User { name, may_be_root } = runner(own.as_deref(), named)? else {
        return Ok(None);
    };
    let user = User::from_name(name).map_err(|error| format!("user `{name}`: {error}"))?;
    let user = user.ok_or_else(|| format!("there is no user `{name}` in dom0"))?;
    if user.uid.is_root() && !may_be_root {
        return Err(format!(
            "`{name}` is root, which only a rule may say (`user={name}`)"
        ));
    }
    let login = CString::new(name).map_err(|_| "a user name has a NUL in it".to_owned())?;
    let groups = getgrouplist(&login, user.gid);
    let groups = groups.map_err(|error| format!("groups of user `{name}`: {error}"))?;
    Ok(Some(Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
        name: user.name,
        home: user.dir,
        shell: user.shell,
    }))
}

/// Looks a service up. What is there but cannot be used is [`Found::Nothing`]: policy has allowed
/// the call, and the caller hears the exit code of it.
///
/// # Errors
/// Why nobody may run it; then the call is refused.
pub(super) fn find(
    folders: &Folders,
    call: &ServiceCall,
    named: Named<'_>,
) -> Result<Found, String> {
    match try_find(folders, call) {
        Ok((service, config)) => {
            let forced = config.force_user.as_deref();
            let user = identity(Named { forced, ..named })?;
            Ok(Found::Service(Box::new(order(
                folders, call, service, &config, user,
            ))))
        }
        Err(error) => {
            let ours = matches!(error, LookupError::NotFound(_)).then(|| own(&call.name));
            Ok(ours.flatten().unwrap_or_else(|| Found::Nothing {
                code: error.exit_code().into(),
                why: chain(&error),
            }))
        }
    }
}

/// The daemon's own service of that name.
fn own(name: &str) -> Option<Found> {
    match name {
        notify::SERVICE => Some(Found::Notifications),
        icons::SERVICE => Some(Found::Icons),
        _ => PolicyService::named(name).map(Found::Policy),
    }
}

fn try_find(
    folders: &Folders,
    call: &ServiceCall,
) -> Result<(Service, ServiceConfig), LookupError> {
    let service = folders.service(call)?;
    let config = folders.config(call)?;
    if !matches!(service, Service::Program(_)) && config.user_conflicts_with_socket() {
        return Err(LookupError::UserOfSocket(call.name.clone()));
    }
    Ok((service, config))
}

fn order(
    folders: &Folders,
    call: &ServiceCall,
    service: Service,
    config: &ServiceConfig,
    user: Option<Identity>,
) -> Order {
    let socket = |at| What::Socket {
        at,
        introduce: config.skip_service_descriptor != Some(true),
        exit_on_client_eof: config.exit_on_client_eof == Some(true),
        exit_on_service_eof: config.exit_on_service_eof == Some(true),
    };
    let what = match service {
        Service::Program(path) => What::Program(path),
        Service::Socket(path) => socket(Address::Unix(path)),
        Service::Tcp(at) => socket(Address::Tcp(at)),
    };
    let session = config.wait_for_session.then(|| {
        let Ok(Service::Program(path)) = folders.service(&session_call(call)) else {
            // Where nothing can be waited for, nothing is.
            return None;
        };
        let own = std::env::var_os("USER").unwrap_or_default();
        let own = || String::from_utf8_lossy(own.as_bytes()).into_owned();
        Some((
            path,
            user.as_ref().map_or_else(own, |user| user.name.clone()),
        ))
    });
    Order {
        user,
        descriptor: call.descriptor.clone(),
        session: session.flatten(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Named<'_> = Named {
        rule: None,
        forced: None,
        declared: None,
    };

    #[test]
    fn an_ordinary_users_daemon_runs_services_as_that_user_alone() {
        let run = |rule, forced| {
            let declared = Some("svc");
            runner(
                Some("ann"),
                Named {
                    rule,
                    forced,
                    declared,
                },
            )
        };
        assert_eq!(run(None, None), Ok(Runner::Own));
        assert_eq!(run(Some("DEFAULT"), None), Ok(Runner::Own));
        assert_eq!(run(Some("ann"), None), Ok(Runner::Own));
        for refused in [run(Some("root"), None), run(None, Some("bob"))] {
            assert!(refused.unwrap_err().contains("run as `ann` here"));
        }
    }

    #[test]
    fn a_daemon_of_root_runs_services_as_who_is_named_and_as_root_only_by_a_rule() {
        let user = |name, may_be_root| Ok(Runner::User { name, may_be_root });
        let error = runner(None, NOBODY).unwrap_err();
        assert!(error.contains("nobody is declared"), "{error}");
        let declared = Named {
            declared: Some("svc"),
            ..NOBODY
        };
        assert_eq!(runner(None, declared), user("svc", false));
        let rule = Some("root");
        assert_eq!(runner(None, Named { rule, ..declared }), user("root", true));
        let rule = Some("DEFAULT");
        assert_eq!(runner(None, Named { rule, ..declared }), user("svc", false));
        let (rule, forced) = (Some("ann"), Some("root"));
        let both = Named {
            rule,
            forced,
            ..declared
        };
        assert_eq!(runner(None, both), user("root", false));
        let root = Named {
            declared: Some("root"),
            ..NOBODY
        };
        assert_eq!(runner(None, root), user("root", false));
    }
}
