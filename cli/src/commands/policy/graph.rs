//! `policy graph`.

use bulkhead_policy::{Graph, GraphError};

use super::source::{Policy, Usual};
use crate::args::{Global, GraphArgs, GraphFormat};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::print;

pub(super) fn graph(global: &Global, args: &GraphArgs) -> Result<Exit, Failure> {
    let policy = Policy::find(global, &args.from, Usual::Description)?;
    let view = policy.view()?;
    let graph = Graph::new(
        &policy.engine,
        &policy.description,
        &view,
        args.service.as_deref(),
    );
    let graph = graph.map_err(|error| {
        let failure = Failure::new(format!("{} cannot be drawn", policy.name)).because(&error);
        match error {
            GraphError::TooManyEdges | GraphError::TooManyCalls(_) if args.service.is_none() => {
                failure.hint("Draw one service with `--service SERVICE`.")
            }
            _ => failure,
        }
    })?;
    let text = match args.format {
        GraphFormat::Dot => graph.dot(),
        GraphFormat::Svg => graph.svg(),
    };
    match &args.output {
        None => print(&text)?,
        Some(path) => std::fs::write(path, text).map_err(|error| {
            Failure::io(format!("`{}` cannot be written", path.display()), &error)
        })?,
    }
    Ok(Exit::Done)
}
