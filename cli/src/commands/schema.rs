//! `bulkhead schema`.

use bulkhead_model::schema::{OptionDoc, options};

use crate::args::SchemaArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::style::{self, Paint};
use crate::output::{print, print_json};

/// Widest line of the meaning of an option.
const WIDTH: usize = 92;

pub(crate) fn schema(args: &SchemaArgs) -> Result<Exit, Failure> {
    let mut options = options();
    if let Some(path) = &args.path {
        options.retain(|option| starts_with(&option.path, path));
        if options.is_empty() {
            return Err(Failure::new(format!("there is no option `{path}`"))
                .hint("List all of them with `bulkhead schema`."));
        }
    }
    if args.json {
        print_json(&options)?;
    } else {
        print(&tell(&options, style::stdout()))?;
    }
    Ok(Exit::Done)
}

/// Whether a path is `prefix` or lies below it. `*` stands for any name.
fn starts_with(path: &str, prefix: &str) -> bool {
    let mut parts = path.split('.');
    prefix.split('.').all(|wanted| {
        parts.next().is_some_and(|part| {
            let plain = part.trim_end_matches("[]");
            wanted == part || wanted == plain || (wanted == "*" && part.starts_with('<'))
        })
    })
}

fn tell(options: &[OptionDoc], paint: Paint) -> String {
    let mut out = String::new();
    for option in options {
        let OptionDoc {
            path,
            type_name,
            default,
            meaning,
            since,
        } = option;
        let path = paint.strong(path);
        out.push_str(&format!("{path}: {type_name}\n"));
        wrap(&mut out, meaning);
        let facts = format!("default: {default}; since {since}");
        out.push_str(&format!("    {}\n", paint.dim(&facts)));
    }
    out
}

fn wrap(out: &mut String, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            out.push_str(&format!("    {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        out.push_str(&format!("    {line}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_by_their_parts() {
        assert!(starts_with("qubes.<name>.memory.initial", "qubes"));
        assert!(starts_with("qubes.<name>.memory.initial", "qubes.*.memory"));
        assert!(starts_with("qubes.<name>", "qubes.<name>"));
        assert!(starts_with("assertions[].where", "assertions.where"));
        assert!(!starts_with("qubes", "qubes.*"));
        assert!(!starts_with("qubes.<name>.netvm", "qubes.*.net"));
    }

    #[test]
    fn an_option_reads_like_a_glossary() {
        let options = [OptionDoc {
            path: "qubes.<name>.netvm".into(),
            type_name: "name of a qube, or none".into(),
            default: "`none`".into(),
            meaning: "The qube that provides its network. ".repeat(4),
            since: "0.1".into(),
        }];
        insta::assert_snapshot!(tell(&options, Paint::NEVER), @r"
        qubes.<name>.netvm: name of a qube, or none
            The qube that provides its network. The qube that provides its network. The qube that
            provides its network. The qube that provides its network.
            default: `none`; since 0.1
        ");
    }
}
