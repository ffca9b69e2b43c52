//! `bulkhead init`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};

use bulkhead_model::starter::SYSTEM_RON;

use crate::args::InitArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::print_line;

pub(crate) fn init(args: &InitArgs) -> Result<Exit, Failure> {
    let path = args.folder.join("system.ron");
    let shown = path.display();
    fs::create_dir_all(&args.folder)
        .map_err(|error| Failure::io(format!("cannot make `{}`", args.folder.display()), &error))?;
    // Never over a file that is there.
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let mut file = file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::new(format!("`{shown}` exists already"))
            .hint("Name another folder, or move that file away first."),
        _ => Failure::io(format!("cannot make `{shown}`"), &error),
    })?;
    if let Err(error) = file
        .write_all(SYSTEM_RON.as_bytes())
        .and_then(|()| file.sync_all())
    {
        // Half a description is worse than none, and this one is ours alone.
        let _ = fs::remove_file(&path);
        return Err(Failure::io(format!("cannot write `{shown}`"), &error));
    }
    print_line(&format!(
        "Wrote `{shown}`. Edit it, then `bulkhead check {shown}` and `bulkhead apply`"
    ))?;
    Ok(Exit::Done)
}
