use super::*;
use crate::testing;

const RULES: &str = "\
a.B * work vault ask default_target=vault
a.B * work mail ask
a.C * @anyvm mail allow
a.D * work @dispvm allow
a.E +x mail @adminvm ask
a.E * work @default allow target=dom0
";

fn graph(only: Option<&str>) -> Graph {
    let (description, engine, view) = testing::desktop(RULES);
    Graph::new(&engine, &description, &view, only).unwrap()
}

#[test]
fn each_pair_has_a_line_for_each_way() {
    let shown: Vec<String> = (graph(None).edges.iter())
        .map(|edge| {
            let (from, to) = (edge.from.shown(), edge.to.shown());
            format!(
                "{from} -{:?}-> {to}: {}",
                edge.how,
                edge.services.join(", ")
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    fresh -Allow-> mail: a.C
    mail -Ask-> dom0: a.E+x
    vault -Allow-> mail: a.C
    work -Allow-> mail: a.C
    work -Ask-> mail: a.B
    work -Ask-> vault: a.B
    work -Allow-> new fresh: a.D
    work -Allow-> dom0: a.E with any other argument, a.E+x
    ");
    assert_eq!(graph(None).alone, Vec::<String>::new());
}

#[test]
fn one_service_leaves_the_others_out() {
    let found = graph(Some("a.B"));
    assert_eq!(found.edges.len(), 2);
    assert_eq!(found.alone, ["fresh"]);
    assert!(graph(Some("a.Unnamed")).edges.is_empty());
}

#[test]
fn dot_sets_dom0_and_disposables_apart() {
    insta::assert_snapshot!(graph(Some("a.E")).dot(), @r##"
    digraph policy {
      rankdir=LR;
      node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif"];
      edge [fontname="sans-serif", fontsize=10];
      "mail" [label="mail", color="#edd400", penwidth=2];
      "work" [label="work", color="#3465a4", penwidth=2];
      "fresh" [label="fresh", color="#cc0000", penwidth=2, fontcolor=gray];
      "vault" [label="vault", color="#000000", penwidth=2, fontcolor=gray];
      subgraph cluster_dom0 {
        label="dom0";
        "@adminvm" [label="dom0", color="#555753", penwidth=2, shape=doubleoctagon];
      }
      "mail" -> "@adminvm" [style=dashed, color="#edd400", label="a.E+x"];
      "work" -> "@adminvm" [style=solid, color="#3465a4", label="a.E with any other argument\na.E+x"];
    }
    "##);
    let whole = graph(None).dot();
    assert!(whole.contains("subgraph cluster_disposables"), "{whole}");
}

#[test]
fn names_are_quoted_in_each_format() {
    let mut found = graph(Some("a.B"));
    found.edges[0].to = Node::Nothing("<a&\"b\\".to_owned());
    assert!(found.svg().contains("&lt;a&amp;&quot;b\\"));
    assert!(
        found.dot().contains(r#"label="<a&\"b\\""#),
        "{}",
        found.dot()
    );
}

/// The rectangles and texts of a picture, by what stands in a tag.
fn numbers(svg: &str, tag: &str, name: &str) -> Vec<f64> {
    let tags = svg.split('<').filter(|part| part.starts_with(tag));
    let value = |part: &str| {
        let (_, rest) = part.split_once(&format!(" {name}=\""))?;
        rest.split('"').next()?.parse().ok()
    };
    tags.filter_map(value).collect()
}

#[test]
fn nothing_in_the_picture_overlaps_or_leaves_it() {
    let found = graph(None);
    let svg = found.svg();
    let height = numbers(&svg, "svg", "height")[0];
    let texts: Vec<f64> = numbers(&svg, "text", "y");
    assert!(texts.iter().all(|y| *y > 0.0 && *y < height));
    // Of services over lines, no two are nearer than a line of text.
    let start = LABELS_AT.to_string();
    let labels = svg
        .split("<text ")
        .filter(|part| part.starts_with(&format!("x=\"{start}\"")));
    let mut heights: Vec<f64> = labels
        .filter_map(|part| part.split("y=\"").nth(1)?.split('"').next()?.parse().ok())
        .collect();
    assert_eq!(heights.len(), found.edges.len());
    heights.sort_by(f64::total_cmp);
    assert!(
        heights.windows(2).all(|pair| pair[1] - pair[0] >= 21.0),
        "{heights:?}"
    );
    assert_eq!(svg.matches("stroke-dasharray=\"7 4\"").count(), 1 + 3);
}

/// Where services are written.
const LABELS_AT: f64 = 24.0 + 170.0 + 8.0;

#[test]
fn a_graph_that_nobody_can_read_is_refused() {
    let qube = |number: usize| {
        let uuid = uuid::Uuid::from_u128(number as u128 + 1);
        crate::QubeView::new(&format!("q{number}"), uuid, "AppVM")
    };
    let (description, engine, _) = testing::desktop("a.B * @anyvm @anyvm allow\n");
    // dom0 is called by nobody, and no qube calls itself.
    let few = SystemView::new((0..45).map(qube)).unwrap();
    let found = Graph::new(&engine, &description, &few, None).unwrap();
    assert_eq!(found.edges.len(), 45 * 44);
    let many = SystemView::new((0..46).map(qube)).unwrap();
    let refused = Graph::new(&engine, &description, &many, None);
    assert_eq!(refused.unwrap_err(), GraphError::TooManyEdges);
}
