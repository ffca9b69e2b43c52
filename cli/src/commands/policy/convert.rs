//! `policy convert`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_policy::{DiskFolders, FolderError, PolicyFolders};

use crate::args::ConvertArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{note, print, style, text};

/// A folder of which only some files are seen in a listing.
#[derive(Debug)]
struct Chosen {
    folder: PathBuf,
    names: Vec<String>,
}

impl PolicyFolders for Chosen {
    fn read(&self, path: &Path) -> Result<Arc<[u8]>, FolderError> {
        DiskFolders.read(path)
    }

    fn files(&self, folder: &Path) -> Result<Vec<String>, FolderError> {
        if folder == self.folder {
            return Ok(self.names.clone());
        }
        DiskFolders.files(folder)
    }
}

pub(super) fn convert(args: &ConvertArgs) -> Result<Exit, Failure> {
    let converted = match args.paths.as_slice() {
        [folder] if folder.is_dir() => {
            bulkhead_policy::convert(&DiskFolders, folder, Path::new(""))
        }
        files => {
            let some = some(files)?;
            bulkhead_policy::convert(&some, &some.folder, Path::new(""))
        }
    };
    let converted = converted.map_err(|errors| {
        let failure = Failure::new("the files cannot be converted");
        errors.iter().fold(failure, |failure, error| {
            failure.cause(format!("{error}; {}", error.remedy()))
        })
    })?;
    for warning in &converted.warnings {
        let head = style::stderr().warning("warning:");
        note(&format!("{head} {}\n", text::line(warning)));
    }
    match &args.output {
        None => print(&converted.text)?,
        Some(path) => std::fs::write(path, &converted.text).map_err(|error| {
            Failure::io(format!("`{}` cannot be written", path.display()), &error)
        })?,
    }
    Ok(Exit::Done)
}

/// Files that lie in one folder, from where what they include is counted.
fn some(files: &[PathBuf]) -> Result<Chosen, Failure> {
    let mut folder = None;
    let mut names = Vec::new();
    for path in files {
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        if !path.is_file() {
            let message = format!("`{}` is not a file", path.display());
            return Err(Failure::new(message).hint("Name one folder, or files of one folder."));
        }
        if *folder.get_or_insert_with(|| parent.clone()) != parent {
            let message = "the files lie in more than one folder";
            return Err(Failure::new(message).hint("Convert each folder by itself."));
        }
        names.extend(
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    Ok(Chosen {
        folder: folder.unwrap_or_default(),
        names,
    })
}
