use proptest::prelude::*;

use super::tree::{Node, Value};
use super::*;

#[track_caller]
fn accepted(source: &str) -> Value<'_> {
    let (node, errors) = parse(source);
    assert!(errors.list.is_empty(), "{source}: {:?}", errors.list);
    node.value
}

fn accepts(source: &str) -> bool {
    parse(source).1.list.is_empty()
}

fn ron_accepts(source: &str) -> bool {
    ron::from_str::<ron::Value>(source).is_ok()
}

#[track_caller]
fn messages(source: &str) -> Vec<String> {
    let (_, errors) = parse(source);
    let at =
        |error: &SyntaxError| format!("{}..{} {}", error.span.start, error.span.end, error.message);
    errors.list.iter().map(at).collect()
}

#[test]
fn reads_every_kind_of_value() {
    assert_eq!(accepted("()"), Value::Unit);
    assert_eq!(accepted("true"), Value::Bool(true));
    assert_eq!(accepted("-0xff"), Value::Integer(-255));
    assert_eq!(accepted("1_000u16"), Value::Integer(1000));
    assert_eq!(accepted("0b1010"), Value::Integer(10));
    assert_eq!(accepted(".5e1"), Value::Float(5.0));
    assert_eq!(accepted("-inf"), Value::Float(f64::NEG_INFINITY));
    assert_eq!(accepted(r"'\u{1F600}'"), Value::Char('😀'));
    assert_eq!(accepted(r#""a\n\x41\"""#), Value::Text("a\nA\"".into()));
    assert_eq!(accepted("\"a\\\n   b\""), Value::Text("ab".into()));
    assert_eq!(accepted(r###"r#"a"b\n"#"###), Value::Text("a\"b\\n".into()));
    assert_eq!(accepted("b\"\\xff\""), Value::Bytes);
    assert_eq!(accepted("b'a'"), Value::Integer(97));
    assert_eq!(accepted("1..=2"), Value::Range);
    assert_eq!(accepted("None"), Value::None);
    assert_eq!(accepted("r#none-of"), Value::Word("none-of"));
    assert!(matches!(accepted("Some(1,)"), Value::Some(_)));
    assert!(matches!(accepted("[1, /* , */ 2,] // end"), Value::List(items) if items.len() == 2));
    assert!(matches!(accepted("{1: 2, \"a\": b}"), Value::Map(entries) if entries.len() == 2));
    assert!(matches!(
        accepted("A(1, 2)"),
        Value::Tuple { name: Some(_), .. }
    ));
    assert!(matches!(
        accepted("A(a: 1,)"),
        Value::Struct { name: Some(_), .. }
    ));
    assert_eq!(
        accepted("#![enable(implicit_some)] /* /* */ */ ()"),
        Value::Unit
    );
}

#[test]
fn every_node_knows_its_place() {
    let source = "( a : [ 1 , \"x\" ] )";
    let (node, _) = parse(source);
    let Value::Struct { fields, .. } = node.value else {
        panic!("a struct");
    };
    assert_eq!(node.span.text(source), source);
    assert_eq!(fields[0].name.span.text(source), "a");
    assert_eq!(fields[0].value.span.text(source), "[ 1 , \"x\" ]");
    let Value::List(items) = &fields[0].value.value else {
        panic!("a list");
    };
    let texts: Vec<_> = items.iter().map(|item| item.span.text(source)).collect();
    assert_eq!(texts, ["1", "\"x\""]);
}

#[test]
fn goes_on_after_an_error() {
    insta::assert_debug_snapshot!(messages("(a: , b: 1 2, c = 3, d: 'xy', 5: 6, e: @, f: 1)"), @r#"
    [
        "4..5 expected a value, found `,`",
        "10..10 expected `,` or `)` before `2`",
        "11..12 expected a field `name: value`, found `2`",
        "15..15 expected `:` and a value",
        "24..28 a character in `'` is one character",
        "30..31 expected a field `name: value`, found `5`",
        "39..40 unexpected character `@`",
    ]
    "#);
}

#[test]
fn a_bracket_that_is_missing_is_shown_where_it_opens() {
    insta::assert_debug_snapshot!(messages("(a: [1, 2, b: (c: {1: 2)"), @r#"
    [
        "0..1 this `(` is never closed",
        "4..5 this `[` is never closed",
        "12..12 expected `,` or `]` before `:`",
        "12..13 expected a value, found `:`",
        "13..13 expected `,` or `]` before `(`",
        "18..19 this `{` is never closed",
    ]
    "#);
    insta::assert_debug_snapshot!(messages("(a: 1]]})"), @r#"
    [
        "5..6 `]` closes nothing that is open",
        "6..7 `]` closes nothing that is open",
        "7..8 `}` closes nothing that is open",
    ]
    "#);
    insta::assert_debug_snapshot!(messages("(a: \"x)"), @r#"
    [
        "0..1 this `(` is never closed",
        "4..7 this text is never closed",
    ]
    "#);
    insta::assert_debug_snapshot!(messages("() /* x"), @r#"
    [
        "3..7 this comment is never closed",
    ]
    "#);
}

#[test]
fn the_deepest_nesting_is_read_and_one_more_is_refused() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(accepts(&nested(DEPTH_MAX)));
    assert_eq!(
        messages(&nested(DEPTH_MAX + 1)),
        ["64..65 values nest deeper than 64 levels"]
    );
    // Far deeper is no other error, and no stack overflow.
    assert_eq!(messages(&nested(1_000_000)).len(), 1);
    assert_eq!(messages(&"(".repeat(1_000_000)).len(), 65);
}

#[test]
fn a_file_of_garbage_keeps_a_bounded_number_of_errors() {
    for garbage in ["@", ",", "]", "'", "(", ")a", "a:", "#", "\\"] {
        let (_, errors) = parse(&garbage.repeat(300_000));
        assert!(
            (1..=SYNTAX_ERRORS_MAX).contains(&errors.list.len()),
            "{garbage}"
        );
    }
    let (_, errors) = parse(&"@".repeat(SYNTAX_ERRORS_MAX + 7));
    assert_eq!((errors.list.len(), errors.omitted), (SYNTAX_ERRORS_MAX, 7));
}

/// Spellings in which readers of RON could differ.
#[rustfmt::skip]
const BY_HAND: &[&str] = &[
    "", "1", "+1", "-1", "--1", "1.", ".1", ".", "1e5", "1e", "0x", "0xg", "0b2", "1_", "_1", "1u8", "256u8",
    "1x", "'a'", "''", "'ab'", "\"\"", "\"\\q\"", "r\"\"", "r##\"\"#\"##", "b\"a\"", "b'a'", "()", "(,)",
    "(1)", "(1,)", "(1,,)", "[,]", "[1 2]", "{}", "{1}", "{1:2}", "{1:2,}", "(a:1)", "(a:1,)", "(a:1 b:2)",
    "(a)", "(a,b)", "A", "A()", "A(1)", "A(a:1)", "A (1)", "A{}", "Some", "Some(1)", "Some()", "Some(1,2)",
    "None()", "true", "truex", "inf", "-NaN", "nan", "1..2", "..", "..=", "..=1", "1..", "1 ..", "1.. 2", "1../* */2", "1..=2", "0x1..2", "1..b'a'", "inf..", "1..inf", "..inf", "..=NaN", "..x", "1.5..2", "// x", "1 // x",
    "1 /* x", "/**/1", "/*/**/1", "/*/**/*/1", "#![enable(implicit_some)]1", "#![enable(foo)]1",
    "#![enable()]1", "#![x]1", "#![enable(implicit_some,)]1", "#![type = \"a\"]1", "1 2", "[1]]", "r#a", "r#",
    "(r#a: 1)", "(a-b: 1)", "(\"a\": 1)", "\"\\u{41}\"", "\"\\u{}\"", "\"\\u{d800}\"", "\"\\x7\"",
    "\"\\xc3\\xa9\"", "\"\\xc3\"", "'\\x41'", "'\\''", "'''", "b'\\xff'", "b'é'", "\u{feff}1", "1\u{85}", "é",
    "(é: 1)", "1.0f32", "1f64", "1.5e-3", "1e+3", "340282366920938463463374607431768211456",
    "-170141183460469231731687303715884105728", "0x1.5", "0.1.2", "1__0", "1_.0", "0_1", "-0x1", "0b1u8",
    "1i8", "0o17", "\"a\nb\"", "'\n'", "[1,\n2\n]",
];

/// What the `ron` crate says about the same text is the judge.
#[test]
fn agrees_with_ron_on_what_is_written_by_hand() {
    for source in BY_HAND {
        let errors = parse(source).1.list;
        assert_eq!(
            errors.is_empty(),
            ron_accepts(source),
            "{source:?}: {errors:?}"
        );
    }
}

/// Texts that are RON or nearly so.
fn nearly_ron() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "(", ")", "[", "]", "{", "}", ",", ":", " ", "\n", "a", "b1", "A", "Some(", "None", "true",
        "1", "-2", "0xff", "1.5", "\"x\"", "\"\\n\"", "r#\"y\"#", "'c'", "/* c */", "// l\n",
        "(a: 1)", "[1, 2]", "{1: 2}", "()", "inf", "..", "b\"z\"", "#",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// Texts that are RON.
fn valid_ron() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "-7",
        "0x1F",
        "1_000",
        "2.5",
        "\"text\"",
        "\"é\\t\"",
        "r\"raw\"",
        "'c'",
        "true",
        "None",
        "Word",
        "()",
        "inf",
    ])
    .prop_map(str::to_owned);
    let space = || prop::sample::select(vec!["", " ", "\n", "\n\n  ", "/* c */", " // c\n"]);
    leaf.prop_recursive(5, 40, 4, move |inner| {
        let items = prop::collection::vec((space(), inner.clone(), space()), 1..4);
        let joined = |items: &[(&str, String, &str)], prefix: &str| {
            let items: Vec<_> = items
                .iter()
                .map(|(a, item, b)| format!("{a}{prefix}{item}{b}"))
                .collect();
            items.join(",")
        };
        let comma = || prop::sample::select(vec!["", ","]);
        prop_oneof![
            (items.clone(), comma()).prop_map(move |(i, c)| format!("[{}{c}]", joined(&i, ""))),
            (items.clone(), comma())
                .prop_map(move |(i, c)| format!("({}{c})", joined(&i, "field: "))),
            (items.clone(), comma())
                .prop_map(move |(i, c)| format!("{{{}{c}}}", joined(&i, "\"key\" : "))),
            (items, comma()).prop_map(move |(i, c)| format!("Name({}{c})", joined(&i, ""))),
            inner.prop_map(|inner| format!("Some({inner})")),
        ]
    })
}

fn strictly_inside(node: &Node<'_>, outer: Span) -> bool {
    let inside = outer.start <= node.span.start && node.span.end <= outer.end;
    inside
        && match &node.value {
            Value::List(items) | Value::Tuple { items, .. } => {
                items.iter().all(|item| strictly_inside(item, node.span))
            }
            Value::Some(inner) => strictly_inside(inner, node.span),
            Value::Map(entries) => entries.iter().all(|(key, value)| {
                strictly_inside(key, node.span) && strictly_inside(value, node.span)
            }),
            Value::Struct { fields, .. } => fields
                .iter()
                .all(|field| strictly_inside(&field.value, node.span)),
            _ => true,
        }
}

proptest! {
    #[test]
    fn accepts_all_that_is_ron(source in valid_ron()) {
        prop_assert!(ron_accepts(&source), "the generator makes RON: {source}");
        let (node, errors) = parse(&source);
        prop_assert!(errors.list.is_empty(), "{source}: {:?}", errors.list);
        prop_assert!(strictly_inside(&node, Span::new(0, source.len())));
    }

    #[test]
    fn agrees_with_ron_on_what_is_nearly_ron(source in nearly_ron()) {
        prop_assert_eq!(accepts(&source), ron_accepts(&source), "{}", source);
    }

    /// Any text gives a tree whose places lie in the text, and errors that do too.
    #[test]
    fn never_fails_on_any_text(source in "\\PC{0,60}") {
        let (node, errors) = parse(&source);
        prop_assert!(strictly_inside(&node, Span::new(0, source.len())));
        for error in errors.list {
            prop_assert!(source.get(error.span.start as usize..error.span.end as usize).is_some());
        }
    }

    #[test]
    fn texts_mean_what_ron_says(text in "(\\\\n|\\\\x41|\\\\u\\{e9\\}|\\\\\\\\|\\\\\"|[a-z é]){0,8}") {
        let source = format!("\"{text}\"");
        let expected: String = ron::from_str(&source).unwrap();
        prop_assert_eq!(accepted(&source), Value::Text(expected.into()));
    }
}
