//! What the files say about dom0.

use crate::check::USER_NAME_MAX;
use crate::decode::Located;
use crate::diagnostic::{Problem, Problems};
use crate::load::SourceUnit;
use crate::qube::Dom0;
use crate::written::Dom0Options;

/// The managed fragment wins over a file that is written by hand; two of those must not both speak.
pub(super) fn dom0(units: &[SourceUnit], problems: &mut Problems) -> Dom0 {
    let user = one(
        units,
        "service_user",
        |dom0| dom0.service_user.as_ref(),
        problems,
    );
    let confirm = one(
        units,
        "confirm_paste",
        |dom0| dom0.confirm_paste.as_ref(),
        problems,
    );
    if let Some(user) = user {
        check(user, problems);
    }
    Dom0 {
        service_user: user.map(|user| user.value.clone()),
        confirm_paste: confirm.is_some_and(|confirm| confirm.value),
    }
}

/// What the files say of one option.
fn one<'a, T>(
    units: &'a [SourceUnit],
    name: &str,
    of: impl Fn(&'a Dom0Options) -> Option<&'a Located<T>>,
    problems: &mut Problems,
) -> Option<&'a Located<T>> {
    let mut found: Option<&Located<T>> = None;
    for unit in units {
        let options = unit.options.dom0.as_ref();
        let Some(said) = options.and_then(|dom0| of(&dom0.value)) else {
            continue;
        };
        if let Some(earlier) = found.filter(|_| !unit.managed) {
            let message = format!("`dom0.{name}` is written in two files");
            let problem = Problem::error(said.at, message);
            let problem = problem.related(earlier.at, "first written here");
            problems.push(problem.help("leave one of them"));
            continue;
        }
        found = Some(said);
    }
    found
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
