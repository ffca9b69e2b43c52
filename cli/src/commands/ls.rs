//! `bulkhead ls`.

use bulkhead_api::qube::{QubeRow, QubeState};

use crate::args::LsArgs;
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::style::{self, Paint};
use crate::output::table::{Align, Cell, Look, Table};
use crate::output::{print, print_json};

pub(crate) async fn ls(client: Client, args: LsArgs) -> Result<Exit, Failure> {
    let mut rows = client.proxy.list().await?;
    let unknown = unknown(&rows, &args.qubes);
    if !args.qubes.is_empty() {
        rows.retain(|row| args.qubes.contains(&row.name));
    }
    if args.running {
        rows.retain(|row| row.state.has_domain());
    }
    if args.json {
        print_json(&rows)?;
    } else if args.names {
        let names: String = rows.iter().map(|row| format!("{}\n", row.name)).collect();
        print(&names)?;
    } else {
        print(&table(&rows, style::stdout()))?;
    }
    match unknown {
        None => Ok(Exit::Done),
        Some(name) => Err(not_declared(&name)),
    }
}

fn unknown(rows: &[QubeRow], asked: &[String]) -> Option<String> {
    let known = |name: &String| rows.iter().any(|row| row.name == *name);
    asked.iter().find(|name| !known(name)).cloned()
}

pub(super) fn not_declared(name: &str) -> Failure {
    Failure::new(format!("qube `{name}` does not exist"))
        .hint("List qubes with `bulkhead ls`; declare new ones and run `bulkhead apply`.")
}

fn table(rows: &[QubeRow], paint: Paint) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("LABEL", Align::Left),
        ("TEMPLATE", Align::Left),
        ("NETVM", Align::Left),
        ("MEMORY", Align::Right),
    ]);
    for row in rows {
        let memory = match row.memory {
            0 => String::new(),
            mib => format!("{mib} MiB"),
        };
        table.row(vec![
            row.name.as_str().into(),
            state(row.state),
            Cell::new(
                crate::output::text::line(&row.label),
                Look::Label(row.color.clone()),
            ),
            Cell::or_dash(&row.template),
            Cell::or_dash(&row.netvm),
            Cell::or_dash(&memory),
        ]);
    }
    table.render(paint)
}

fn state(state: QubeState) -> Cell {
    let look = match state {
        QubeState::Running => Look::Added,
        QubeState::Starting | QubeState::Stopping | QubeState::Paused => Look::Changed,
        QubeState::Failed => Look::Removed,
        QubeState::Stopped | QubeState::Remote => Look::Dim,
    };
    Cell::new(state.as_str(), look)
}
