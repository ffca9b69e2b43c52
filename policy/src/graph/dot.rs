//! The graph for Graphviz.

use std::fmt::Write;

use super::{Graph, How, Node};

/// Text in a quoted string of DOT.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn id(node: &Node) -> String {
    match node {
        Node::Qube(name) => quoted(name),
        Node::Disposable(base) => quoted(&format!("@dispvm:{base}")),
        Node::Dom0 => quoted("@adminvm"),
        Node::Nothing(text) => quoted(&format!("no such: {text}")),
    }
}

impl Graph {
    /// The graph in DOT, to be laid out by `dot -Tsvg` and the like.
    pub fn dot(&self) -> String {
        let mut out = String::from("digraph policy {\n  rankdir=LR;\n");
        out.push_str("  node [shape=box, style=\"rounded,filled\", fillcolor=white, ");
        out.push_str("fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n");
        let mut nodes: Vec<&Node> = (self.edges.iter())
            .flat_map(|edge| [&edge.from, &edge.to])
            .collect();
        nodes.sort();
        nodes.dedup();
        let line = |node: &Node, more: &str| {
            let (id, colour) = (id(node), quoted(self.colour(node)));
            let label = quoted(&node.shown());
            format!("{id} [label={label}, color={colour}, penwidth=2{more}];\n")
        };
        for node in nodes.iter().filter(|node| matches!(node, Node::Qube(_))) {
            let _ = write!(out, "  {}", line(node, ""));
        }
        for name in &self.alone {
            let _ = write!(
                out,
                "  {}",
                line(&Node::Qube(name.clone()), ", fontcolor=gray")
            );
        }
        let mut cluster = |name: &str, title: &str, more: &str, fits: fn(&Node) -> bool| {
            let inside: Vec<_> = nodes.iter().filter(|node| fits(node)).collect();
            if inside.is_empty() {
                return;
            }
            let _ = writeln!(
                out,
                "  subgraph cluster_{name} {{\n    label={};",
                quoted(title)
            );
            for node in inside {
                let _ = write!(out, "    {}", line(node, more));
            }
            out.push_str("  }\n");
        };
        let is_disposable = |node: &Node| matches!(node, Node::Disposable(_));
        cluster(
            "disposables",
            "new disposables",
            ", style=\"rounded,dashed\"",
            is_disposable,
        );
        cluster("dom0", "dom0", ", shape=doubleoctagon", |node| {
            matches!(node, Node::Dom0)
        });
        cluster("nothing", "not there", ", fontcolor=red", |node| {
            matches!(node, Node::Nothing(_))
        });
        for edge in &self.edges {
            let style = match edge.how {
                How::Allow => "solid",
                How::Ask => "dashed",
            };
            let (from, to) = (id(&edge.from), id(&edge.to));
            let label = quoted(&edge.services.join("\n")).replace('\n', "\\n");
            let colour = quoted(self.colour(&edge.from));
            let _ = writeln!(
                out,
                "  {from} -> {to} [style={style}, color={colour}, label={label}];"
            );
        }
        out.push_str("}\n");
        out
    }
}
