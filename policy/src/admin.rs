//! The `policy.*` services by which programs read and change policy files.
//!
//! A change is judged before it is made: the folders are read as they would be with it, and an error
//! that was not there before refuses it. What a caller may name is one file in one of two folders.
//! Names of errors and tokens are those that the public clients know.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::error::{PolicyError, PolicyErrorKind};
use crate::folders::{FolderError, Layout, PolicyFolders};
use crate::read::{self, Read, TEXT_BYTES_MAX};

/// The services.
pub const ADMIN_SERVICES: [&str; 9] = [
    "policy.List",
    "policy.Get",
    "policy.Replace",
    "policy.Remove",
    "policy.GetFiles",
    "policy.include.List",
    "policy.include.Get",
    "policy.include.Replace",
    "policy.include.Remove",
];

/// Most bytes of a request's payload: a token and the longest policy.
pub const PAYLOAD_BYTES_MAX: usize = TEXT_BYTES_MAX + 128;

/// Longest argument: a file name without its suffix, or a service.
const ARGUMENT_MAX: usize = 200;

/// Errors of a refused change that are told.
const ERRORS_TOLD_MAX: usize = 8;

/// Files that can be changed.
pub trait PolicyStore: PolicyFolders {
    /// Writes a file, whole or not at all.
    fn replace(&self, path: &Path, text: &[u8]) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Whether `path` itself, and no link that it is, lies where it is named.
    fn is_in_place(&self, path: &Path) -> bool;
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The client should not have asked that.
    #[error("{0}")]
    Protocol(String),
    /// No file can have that name.
    #[error(
        "invalid policy file name: `{0}` has other characters than letters, digits, `_` and `-`"
    )]
    FileName(String),
    /// The name leads out of the folder.
    #[error("`{0}` leads out of the policy folder")]
    FilePath(String),
    /// There is no such file.
    #[error("not found: {0}")]
    NotFound(String),
    /// The file is not as the client knows it.
    #[error("{0}")]
    Token(&'static str),
    /// The policy would have errors.
    #[error("the change was refused: {0}")]
    Syntax(String),
    /// The machine failed.
    #[error("the policy folder cannot be used")]
    Io(#[source] io::Error),
}

impl AdminError {
    /// The name by which clients know it; none for what is no fault of theirs.
    pub fn name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Protocol(_) => "PolicyAdminProtocolException",
            Self::FileName(_) => "PolicyAdminInvalidFileNameException",
            Self::FilePath(_) => "PolicyAdminInvalidFilePathException",
            Self::NotFound(_) => "PolicyAdminFileNotFoundException",
            Self::Token(_) => "PolicyAdminTokenException",
            Self::Syntax(_) => "PolicyAdminSyntaxException",
            Self::Io(_) => return None,
        })
    }

    /// Exit code and what is written to the error stream.
    pub fn told(&self) -> (u8, String) {
        match self.name() {
            Some(name) => (1, format!("{name} {self}")),
            None => (
                2,
                format!("internal error: {self}; the daemon's log says why"),
            ),
        }
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct AdminRequest<'a> {
    /// Service without its argument.
    pub service: &'a str,
    /// Its argument, without `+`; empty for none.
    pub argument: &'a str,
    /// What the client sent.
    pub payload: &'a [u8],
}

/// The token of a file's content.
pub fn token(text: &[u8]) -> String {
    let mut token = "sha256:".to_owned();
    for byte in Sha256::digest(text) {
        token.extend(
            [byte >> 4, byte & 15]
                .map(|half| char::from_digit(half.into(), 16))
                .iter()
                .flatten(),
        );
    }
    token
}

impl AdminRequest<'_> {
    /// Does it, on the last folder of `layout`, its folder `include`, and no other. The caller
    /// sees to it that one request is done at a time.
    ///
    /// # Errors
    /// Where it is refused or fails; then nothing was changed.
    pub fn perform(&self, layout: &Layout, store: &dyn PolicyStore) -> Result<Vec<u8>, AdminError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
        if self.argument.len() > ARGUMENT_MAX || !self.argument.chars().all(allowed) {
            let text = "Invalid argument: it is longer than 200 bytes, or not letters, digits, `.`, \
                        `+`, `-` and `_`";
            return Err(AdminError::Protocol(text.into()));
        }
        let folder = layout.folders.last().cloned().unwrap_or_default();
        let include = folder.join("include");
        let (folder, suffix, method) = match self.service.strip_prefix("policy.") {
            Some(rest) => match rest.strip_prefix("include.") {
                Some(method) => (include, "", method),
                None => (folder, ".policy", rest),
            },
            None => return Err(self.unrecognised()),
        };
        let known = ADMIN_SERVICES.contains(&self.service);
        let place = Place {
            layout,
            store,
            folder,
            suffix,
        };
        match method {
            "List" if known => {
                self.without_argument()?;
                self.without_payload()?;
                place.list()
            }
            "Get" if known => {
                self.without_payload()?;
                place.get(&place.path(self.argument)?)
            }
            "GetFiles" if known => {
                self.without_payload()?;
                place.files_of(self.argument)
            }
            "Replace" if known => place.replace(&place.path(self.argument)?, self.payload),
            "Remove" if known => place.remove(&place.path(self.argument)?, self.payload),
            _ => Err(self.unrecognised()),
        }
    }

    fn unrecognised(&self) -> AdminError {
        AdminError::Protocol(format!("unrecognized method: {}", self.service))
    }

    fn without_argument(&self) -> Result<(), AdminError> {
        if self.argument.is_empty() {
            return Ok(());
        }
        Err(AdminError::Protocol("Unexpected argument".into()))
    }

    fn without_payload(&self) -> Result<(), AdminError> {
        if self.payload.is_empty() {
            return Ok(());
        }
        Err(AdminError::Protocol("Unexpected payload".into()))
    }
}

struct Place<'a> {
    layout: &'a Layout,
    store: &'a dyn PolicyStore,
    folder: PathBuf,
    suffix: &'static str,
}

fn failed(error: FolderError, path: &Path) -> AdminError {
    match error {
        FolderError::NotThere => AdminError::NotFound(path.display().to_string()),
        FolderError::Io(error) => AdminError::Io(error),
    }
}

impl Place<'_> {
    fn path(&self, name: &str) -> Result<PathBuf, AdminError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(allowed) {
            return Err(AdminError::FileName(name.to_owned()));
        }
        let path = self.folder.join(format!("{name}{}", self.suffix));
        if !self.store.is_in_place(&path) {
            return Err(AdminError::FilePath(path.display().to_string()));
        }
        Ok(path)
    }

    fn list(&self) -> Result<Vec<u8>, AdminError> {
        let names = self.store.files(&self.folder);
        let mut names = names.map_err(|error| failed(error, &self.folder))?;
        names.retain(|name| name.ends_with(self.suffix));
        names.sort();
        let lines = names
            .iter()
            .map(|name| name.strip_suffix(self.suffix).unwrap_or(name));
        Ok(lines
            .flat_map(|name| [name, "\n"])
            .collect::<String>()
            .into_bytes())
    }

    /// The content; none if there is no such file.
    fn content(&self, path: &Path) -> Result<Option<Arc<[u8]>>, AdminError> {
        match self.store.read(path) {
            Ok(text) => Ok(Some(text)),
            Err(FolderError::NotThere) => Ok(None),
            Err(FolderError::Io(error)) => Err(AdminError::Io(error)),
        }
    }

    fn get(&self, path: &Path) -> Result<Vec<u8>, AdminError> {
        let text = self.store.read(path).map_err(|error| failed(error, path))?;
        let mut told = token(&text).into_bytes();
        told.push(b'\n');
        told.extend_from_slice(&text);
        Ok(told)
    }

    fn check_token(&self, given: &[u8], path: &Path) -> Result<(), AdminError> {
        let now = self.content(path)?;
        match (given, now) {
            (b"any", _) | (b"new", None) => Ok(()),
            (b"new", Some(_)) => Err(AdminError::Token("File exists but token is 'new'")),
            (given, _) if !given.starts_with(b"sha256:") => {
                Err(AdminError::Protocol("Unrecognized token".into()))
            }
            (_, None) => Err(AdminError::Token(
                "File doesn't exist, but token isn't 'new'",
            )),
            (given, Some(text)) if token(&text).as_bytes() == given => Ok(()),
            _ => Err(AdminError::Token("Token mismatch")),
        }
    }

    fn replace(&self, path: &Path, payload: &[u8]) -> Result<Vec<u8>, AdminError> {
        let line = payload.iter().position(|byte| *byte == b'\n');
        let (given, text) = line
            .and_then(|end| payload.split_at_checked(end))
            .ok_or_else(|| {
                let text = "Payload needs to include first line with token";
                AdminError::Protocol(text.into())
            })?;
        let text = text.get(1..).unwrap_or_default();
        self.check_token(given, path)?;
        self.check_change(path, Some(text))?;
        self.store.replace(path, text).map_err(AdminError::Io)?;
        Ok(Vec::new())
    }

    fn remove(&self, path: &Path, payload: &[u8]) -> Result<Vec<u8>, AdminError> {
        self.check_token(payload, path)?;
        if self.content(path)?.is_none() {
            return Err(AdminError::NotFound(path.display().to_string()));
        }
        self.check_change(path, None)?;
        self.store.remove(path).map_err(AdminError::Io)?;
        Ok(Vec::new())
    }

    /// Refuses what would bring an error that is not there yet: who mends one of two files must be
    /// able to.
    fn check_change(&self, path: &Path, text: Option<&[u8]>) -> Result<(), AdminError> {
        let changed = Changed {
            folders: self.store,
            path,
            text: text.map(Into::into),
        };
        let Err(after) = read::folders(&changed, self.layout) else {
            return Ok(());
        };
        let before = read::folders(self.store, self.layout)
            .err()
            .unwrap_or_default();
        let shown = path.strip_prefix(&self.layout.shown_from).unwrap_or(path);
        let own = |error: &PolicyError| text.is_some() && Path::new(&*error.origin.file) == shown;
        let mut new = after
            .iter()
            .filter(|error| own(error) || !before.contains(error));
        let told: Vec<String> = (new.by_ref().take(ERRORS_TOLD_MAX))
            .map(|error| match (&error.kind, text) {
                (PolicyErrorKind::NoFile(file), None) => {
                    format!(
                        "{}: including a file that will be removed: {file}",
                        error.origin
                    )
                }
                _ => format!("{error} ({})", error.remedy()),
            })
            .collect();
        if told.is_empty() {
            return Ok(());
        }
        let more = match new.count() {
            0 => String::new(),
            count => format!("; and {count} more"),
        };
        Err(AdminError::Syntax(told.join("; ") + &more))
    }

    /// The files whose rules speak of a service, in the order in which they are tried: those of the
    /// folder by name, others by path.
    fn files_of(&self, service: &str) -> Result<Vec<u8>, AdminError> {
        if service.is_empty() {
            return Err(AdminError::Protocol("Service cannot be empty.".into()));
        }
        if service.contains('+') {
            let text = format!("Service '{service}' contains invalid characters: '+'");
            return Err(AdminError::Protocol(text));
        }
        let layout = Layout {
            shown_from: PathBuf::new(),
            ..self.layout.clone()
        };
        let Read { rules, .. } = read::folders(self.store, &layout).map_err(|errors| {
            let first = errors.first().map(ToString::to_string);
            AdminError::Syntax(first.unwrap_or_default())
        })?;
        let mut files: Vec<String> = Vec::new();
        let speaking = rules
            .iter()
            .filter(|rule| rule.service.as_deref().is_none_or(|s| s == service));
        for rule in speaking {
            let path = Path::new(&*rule.origin.file);
            let name = match path.file_stem().and_then(|stem| stem.to_str()) {
                Some(stem) if path.starts_with(&self.folder) => stem,
                _ => &rule.origin.file,
            };
            if !files.iter().any(|file| file == name) {
                files.push(name.to_owned());
            }
        }
        Ok(files
            .iter()
            .flat_map(|name| [name, "\n"])
            .collect::<String>()
            .into_bytes())
    }
}

/// The folders as they would be with one file changed.
#[derive(Debug)]
struct Changed<'a> {
    folders: &'a dyn PolicyStore,
    path: &'a Path,
    /// None for a file that would be removed.
    text: Option<Arc<[u8]>>,
}

impl PolicyFolders for Changed<'_> {
    fn read(&self, path: &Path) -> Result<Arc<[u8]>, FolderError> {
        if path != self.path {
            return self.folders.read(path);
        }
        self.text.clone().ok_or(FolderError::NotThere)
    }

    fn files(&self, folder: &Path) -> Result<Vec<String>, FolderError> {
        let mut names = self.folders.files(folder)?;
        if self.path.parent() == Some(folder)
            && let Some(name) = self.path.file_name().and_then(|name| name.to_str())
        {
            names.retain(|other| other != name);
            if self.text.is_some() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::folders::MemoryFolders;

    #[derive(Debug, Default)]
    struct Memory(RefCell<MemoryFolders>);

    impl PolicyFolders for Memory {
        fn read(&self, path: &Path) -> Result<Arc<[u8]>, FolderError> {
            self.0.borrow().read(path)
        }

        fn files(&self, folder: &Path) -> Result<Vec<String>, FolderError> {
            self.0.borrow().files(folder)
        }
    }

    impl PolicyStore for Memory {
        fn replace(&self, path: &Path, text: &[u8]) -> io::Result<()> {
            assert!(self.0.borrow_mut().add(path, text));
            Ok(())
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            assert!(self.0.borrow_mut().remove(path));
            Ok(())
        }

        fn is_in_place(&self, path: &Path) -> bool {
            !path.ends_with("link.policy")
        }
    }

    fn store(files: &[(&str, &str)]) -> Memory {
        let store = Memory::default();
        for folder in ["run", "etc", "etc/include", "compat"] {
            assert!(
                store
                    .0
                    .borrow_mut()
                    .add_folder(Path::new("/p").join(folder))
            );
        }
        for (path, text) in files {
            assert!(
                store
                    .0
                    .borrow_mut()
                    .add(Path::new("/p").join(path), text.as_bytes())
            );
        }
        store
    }

    fn ask(store: &Memory, call: &str, payload: &str) -> String {
        let (service, argument) = call.split_once('+').unwrap_or((call, ""));
        let request = AdminRequest {
            service,
            argument,
            payload: payload.as_bytes(),
        };
        match request.perform(&Layout::under(Path::new("/p")), store) {
            Ok(said) => String::from_utf8(said).unwrap(),
            Err(error) => error.told().1,
        }
    }

    #[test]
    fn files_are_listed_read_written_and_removed() {
        let store = store(&[
            ("etc/b.policy", "a.B * * * deny\n"),
            ("etc/a.policy", ""),
            ("etc/other", ""),
        ]);
        assert_eq!(ask(&store, "policy.List", ""), "a\nb\n");
        assert_eq!(ask(&store, "policy.include.List", ""), "");
        let said = ask(&store, "policy.Get+b", "");
        let (token, text) = said.split_once('\n').unwrap();
        assert_eq!(text, "a.B * * * deny\n");
        assert_eq!(token, self::token(text.as_bytes()));
        assert_eq!(
            self::token(b""),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            ask(&store, "policy.include.Replace+inc", "new\na.C * * * deny"),
            ""
        );
        assert_eq!(
            ask(
                &store,
                "policy.Replace+b",
                &format!("{token}\n!include include/inc\n")
            ),
            ""
        );
        assert_eq!(ask(&store, "policy.include.List", ""), "inc\n");
        assert_eq!(ask(&store, "policy.Replace+c", "any\na.C * * * deny"), "");
        assert_eq!(ask(&store, "policy.GetFiles+a.C", ""), "inc\nc\n");
        assert_eq!(ask(&store, "policy.Remove+b", "any"), "");
        assert_eq!(ask(&store, "policy.include.Remove+inc", "any"), "");
        assert_eq!(ask(&store, "policy.List", ""), "a\nc\n");
    }

    #[test]
    fn what_is_refused_is_told_by_its_name_and_changes_nothing() {
        let store = store(&[
            ("etc/a.policy", "!include include/inc\n"),
            ("etc/include/inc", ""),
        ]);
        let text = "a.B * * * deny\n";
        let said: Vec<String> = [
            ("policy.Nothing", ""),
            ("policy.include.GetFiles+x", ""),
            ("policy.List+x", ""),
            ("policy.List", "payload"),
            ("policy.Get+none", ""),
            ("policy.Get", ""),
            ("policy.Get+..", ""),
            ("policy.Get+a/b", ""),
            ("policy.Get+link", ""),
            ("policy.Replace+a", "any"),
            ("policy.Replace+a", &format!("oops\n{text}")),
            ("policy.Replace+a", &format!("new\n{text}")),
            ("policy.Replace+a", &format!("sha256:00\n{text}")),
            ("policy.Replace+b", &format!("sha256:00\n{text}")),
            ("policy.Replace+b", "new\na.B * * * alow\nx"),
            ("policy.Replace+Bad", &format!("new\n{text}")),
            ("policy.Remove+none", "any"),
            ("policy.include.Remove+inc", "any"),
            ("policy.GetFiles", ""),
            ("policy.GetFiles+a+b", ""),
        ]
        .into_iter()
        .map(|(call, payload)| format!("{call}: {}", ask(&store, call, payload)))
        .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        policy.Nothing: PolicyAdminProtocolException unrecognized method: policy.Nothing
        policy.include.GetFiles+x: PolicyAdminProtocolException unrecognized method: policy.include.GetFiles
        policy.List+x: PolicyAdminProtocolException Unexpected argument
        policy.List: PolicyAdminProtocolException Unexpected payload
        policy.Get+none: PolicyAdminFileNotFoundException not found: /p/etc/none.policy
        policy.Get: PolicyAdminInvalidFileNameException invalid policy file name: `` has other characters than letters, digits, `_` and `-`
        policy.Get+..: PolicyAdminInvalidFileNameException invalid policy file name: `..` has other characters than letters, digits, `_` and `-`
        policy.Get+a/b: PolicyAdminProtocolException Invalid argument: it is longer than 200 bytes, or not letters, digits, `.`, `+`, `-` and `_`
        policy.Get+link: PolicyAdminInvalidFilePathException `/p/etc/link.policy` leads out of the policy folder
        policy.Replace+a: PolicyAdminProtocolException Payload needs to include first line with token
        policy.Replace+a: PolicyAdminProtocolException Unrecognized token
        policy.Replace+a: PolicyAdminTokenException File exists but token is 'new'
        policy.Replace+a: PolicyAdminTokenException Token mismatch
        policy.Replace+b: PolicyAdminTokenException File doesn't exist, but token isn't 'new'
        policy.Replace+b: PolicyAdminSyntaxException the change was refused: etc/b.policy:1:11: unknown action `alow` (did you mean `allow`?); etc/b.policy:2:1: rule has 1 of the five fields it needs (write `SERVICE ARGUMENT SOURCE TARGET ACTION`, with `*` for any argument)
        policy.Replace+Bad: PolicyAdminSyntaxException the change was refused: etc/Bad.policy: the name of the file contains `B` (use lower-case letters, digits, `-`, `.` and `_`, or another suffix)
        policy.Remove+none: PolicyAdminFileNotFoundException not found: /p/etc/none.policy
        policy.include.Remove+inc: PolicyAdminSyntaxException the change was refused: etc/a.policy:1: including a file that will be removed: etc/include/inc
        policy.GetFiles: PolicyAdminProtocolException Service cannot be empty.
        policy.GetFiles+a+b: PolicyAdminProtocolException Service 'a+b' contains invalid characters: '+'
        ");
        assert_eq!(ask(&store, "policy.List", ""), "a\n");
        let long = "x".repeat(ARGUMENT_MAX);
        assert!(ask(&store, &format!("policy.Get+{long}"), "").contains("not found"));
        assert!(ask(&store, &format!("policy.Get+{long}x"), "").contains("Invalid argument"));
    }

    #[test]
    fn one_of_two_files_with_errors_can_be_mended() {
        let store = store(&[("etc/a.policy", "bad\n"), ("etc/b.policy", "bad\n")]);
        assert_eq!(ask(&store, "policy.Replace+a", "any\na.B * * * deny\n"), "");
        assert!(ask(&store, "policy.Replace+b", "any\nbad\n").contains("Syntax"));
        assert!(ask(&store, "policy.Replace+a", "any\nworse\n").contains("Syntax"));
        assert_eq!(ask(&store, "policy.Remove+b", "any"), "");
    }
}
