//! What the files say about dom0.

use crate::check::USER_NAME_MAX;
use crate::decode::Located;
use crate::diagnostic::{Problem, Problems};
use crate::load::SourceUnit;
use crate::qube::Dom0;

/// The managed fragment wins over a file that is written by hand; two of those must not both speak.
pub(super) fn dom0(units: &[SourceUnit], problems: &mut Problems) -> Dom0 {
    let mut found: Option<&Located<String>> = None;
    for unit in units {
        let options = unit.options.dom0.as_ref();
        let Some(user) = options.and_then(|dom0| dom0.value.service_user.as_ref()) else {
            continue;
        };
        if let Some(earlier) = found.filter(|_| !unit.managed) {
            let problem = Problem::error(user.at, "`dom0.service_user` is written in two files");
            let problem = problem.related(earlier.at, "first written here");
            problems.push(problem.help("leave one of them"));
            continue;
        }
        check(user, problems);
        found = Some(user);
    }
    Dom0 {
        service_user: found.map(|user| user.value.clone()),
    }
}

fn check(user: &Located<String>, problems: &mut Problems) {
    let name = user.value.as_str();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let start = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !start || name.len() > USER_NAME_MAX || !name.bytes().all(allowed) {
        let message = format!("`{name}` cannot be the user of dom0's services");
        let help = format!(
            "letters, digits, `_`, `-` and `.` are allowed, not `-` or `.` first, at most {USER_NAME_MAX}"
        );
        problems.push(Problem::error(user.at, message).help(help));
    } else if name == "root" {
        let message = "root cannot be the user of dom0's services";
        let help =
            "name an ordinary user here, and write `user=root` into the rules that need root";
        problems.push(Problem::error(user.at, message).help(help));
    }
}
