use proptest::prelude::*;

use super::*;
use crate::syntax::SyntaxErrors;
use crate::syntax::lexer::{TokenKind, tokenize};

#[track_caller]
fn formatted(text: &str) -> String {
    format("system.ron", text)
        .unwrap_or_else(|found| panic!("{}", found.render(crate::diagnostic::Color::Never)))
}

#[test]
fn lays_out_what_was_written_in_a_hurry() {
    let text = r##"#![enable( implicit_some , )]
// head
( imports:["a.ron" ,"b.ron",],


  // about qubes

  qubes:{"work":(label:"blue",tags:["a"],), // mine
  "a":(label : "red",memory:(initial:400,maximum:"4000 MiB"),services:{"one":true,"two":false},features:{"x":true}),
    /* last */
  "empty": (
  ), "kind": ( kind: Debian ( suite : "x" ) ) },
  policy: [r#"
   x  *  a b ask
  "#], assertions: [ // why
   (name: /* said */ "x", must: Not ( (netvm:None) )
   // behind
   )],
)
// foot
"##;
    insta::assert_snapshot!(formatted(text), @r##"
    #![enable(implicit_some)]
    // head
    (
        imports: ["a.ron", "b.ron"],

        // about qubes

        qubes: {
            "work": (label: "blue", tags: ["a"]), // mine
            "a": (
                label: "red",
                memory: (initial: 400, maximum: "4000 MiB"),
                services: {"one": true, "two": false},
                features: {"x": true},
            ),
            /* last */
            "empty": (),
            "kind": (kind: Debian(suite: "x")),
        },
        policy: [
            r#"
       x  *  a b ask
      "#,
        ],
        assertions: [
            // why
            (
                name: /* said */ "x",
                must: Not((netvm: None)),
                // behind
            ),
        ],
    )
    // foot
    "##);
}

#[test]
fn what_fits_exactly_stays_on_one_line_and_one_more_does_not() {
    let list = |length: usize| format!("[\"{}\"]", "x".repeat(length));
    // Brackets, quotes, a comma that may follow, and the final line break.
    let fits = WIDTH_MAX - 5;
    assert_eq!(formatted(&list(fits)), format!("{}\n", list(fits)));
    assert_eq!(formatted(&list(fits + 1)).lines().count(), 3);
}

#[test]
fn a_file_with_errors_is_not_touched() {
    let found = format("x.ron", "(a: [1, 2)").unwrap_err();
    insta::assert_snapshot!(found.render(crate::diagnostic::Color::Never), @r#"
    error: this `[` is never closed
     --> x.ron:1:5
      |
    1 | (a: [1, 2)
      |     ^
      |
     ::: x.ron:1:10
      |
    1 | (a: [1, 2)
      |          - this closes something further out

    1 error
    "#);
}

#[test]
fn the_starter_and_the_examples_are_formatted() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/**/*.ron");
    let mut texts = vec![crate::starter::SYSTEM_RON.to_owned()];
    for path in glob::glob(examples).unwrap() {
        texts.push(std::fs::read_to_string(path.unwrap()).unwrap());
    }
    assert!(texts.len() > 3);
    for text in texts {
        assert_eq!(formatted(&text), text);
    }
}

/// The tokens that mean something, and the comments in any order.
fn content(text: &str) -> (Vec<String>, Vec<String>) {
    let tokens = tokenize(text, &mut SyntaxErrors::default());
    let word = |span: syntax::Span| span.text(text).trim_end().to_owned();
    let (comments, rest): (Vec<_>, Vec<_>) =
        tokens.into_iter().partition(|token| token.is_comment());
    let rest = rest.iter().filter(|token| token.kind != TokenKind::Comma);
    let mut comments: Vec<_> = comments.iter().map(|token| word(token.span)).collect();
    comments.sort();
    (rest.map(|token| word(token.span)).collect(), comments)
}

/// RON with comments, blank lines and line breaks in every place where they may stand.
fn text() -> impl Strategy<Value = String> {
    let space = || {
        prop::sample::select(vec![
            "",
            " ",
            "\n",
            "\n\n\n",
            "/* c */",
            " // l\n",
            "/* a\n b */",
            "\n// own\n",
            "// x\n/* y */ // z\n",
            "/* 1 *//* 2 */",
        ])
    };
    let leaf = prop::sample::select(vec![
        "1",
        "\"text\"",
        "None",
        "Word",
        "()",
        "1..2",
        "r#\"a\nb\"#",
        "\"a long text that fills a line\"",
    ])
    .prop_map(str::to_owned);
    let spaced = move |inner: BoxedStrategy<String>| {
        (space(), inner, space()).prop_map(|(a, b, c)| format!("{a}{b}{c}"))
    };
    let values = leaf.prop_recursive(4, 30, 4, move |inner| {
        let value = spaced(inner.boxed()).boxed();
        let field = (space(), value.clone()).prop_map(|(a, value)| format!("field{a}:{value}"));
        let entry = (space(), value.clone()).prop_map(|(a, value)| format!("\"k\"{a}:{value}"));
        let list = |item: BoxedStrategy<String>| {
            prop::collection::vec(item, 1..4).prop_map(|items| items.join(","))
        };
        let comma = (prop::sample::select(vec!["", ","]), space());
        prop_oneof![
            (list(value.clone()), comma.clone()).prop_map(|(i, (c, s))| format!("[{i}{c}{s}]")),
            (list(spaced(field.boxed()).boxed()), comma.clone())
                .prop_map(|(i, (c, s))| format!("({i}{c}{s})")),
            (list(spaced(entry.boxed()).boxed()), comma.clone())
                .prop_map(|(i, (c, s))| format!("{{{i}{c}{s}}}")),
            (list(value.clone()), comma).prop_map(|(i, (c, s))| format!("Name({i}{c}{s})")),
            value.prop_map(|inner| format!("Some({inner})")),
        ]
    });
    let space = prop::sample::select(vec![
        "",
        "// head\n",
        "\n\n",
        "#![enable(implicit_some)]\n",
        "// a\n#![type=\"x\"]// b\n",
    ]);
    (space, values).prop_map(|(space, values)| format!("{space}{values}"))
}

proptest! {
    #[test]
    fn keeps_every_token_and_comment_and_changes_nothing_the_second_time(text in text()) {
        let once = formatted(&text);
        prop_assert_eq!(content(&once), content(&text), "{}", once);
        prop_assert_eq!(&formatted(&once), &once);
        prop_assert!(!once.contains("\n\n\n"));
    }
}
