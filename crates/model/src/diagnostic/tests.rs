use super::*;
use crate::syntax::Span;

fn report(text: &str, spans: &[(usize, usize)]) -> Diagnostics {
    let mut sources = SourceMap::default();
    let file = sources.add("a.ron".to_owned(), text.to_owned());
    let mut problems = Problems::default();
    for (start, end) in spans {
        let span = Span::new(*start, *end);
        problems.push(Problem::error(At { file, span }, "wrong").help("right"));
    }
    problems.finish(&sources)
}

fn place(text: &str, start: usize, end: usize) -> Place {
    report(text, &[(start, end)]).list.remove(0).place.unwrap()
}

#[test]
fn lines_and_columns_count_characters_from_one() {
    let text = "ab\né🦀x\n\tz";
    let shown = |start, end| {
        let place = place(text, start, end);
        (place.line, place.column, place.end_column)
    };
    assert_eq!(shown(0, 2), (1, 1, 3));
    assert_eq!(shown(9, 10), (2, 3, 4));
    assert_eq!(shown(11, 13), (3, 1, 3));
    assert_eq!(shown(13, 13), (3, 3, 3));
    // Over several lines: the first is shown.
    assert_eq!(shown(1, 12), (1, 2, 3));
    // Windows line ends are not part of the line.
    assert_eq!(place("a\r\nb", 0, 3).excerpt, "a");
}

#[test]
fn a_very_long_line_is_shown_around_the_place() {
    let text = format!("{}X{}", "é".repeat(5000), "y".repeat(5000));
    let place = place(&text, 10_000, 10_001);
    assert_eq!((place.line, place.column), (1, 5001));
    assert!(place.excerpt.len() <= EXCERPT_BYTES_MAX && place.excerpt.contains('X'));
    let shown = report(&text, &[(10_000, 10_001)]).render(Color::Never);
    assert!(shown.lines().all(|line| line.len() < 1000), "{shown}");
}

#[test]
fn they_come_in_the_order_of_the_file() {
    let found = report("one two", &[(4, 7), (0, 3)]);
    let columns: Vec<_> = found
        .list
        .iter()
        .map(|d| d.place.as_ref().unwrap().column)
        .collect();
    assert_eq!(columns, [1, 5]);
}

#[test]
fn colour_is_escape_sequences_and_nothing_else() {
    let found = report("one two", &[(0, 3)]);
    let (plain, colored) = (found.render(Color::Never), found.render(Color::Always));
    assert!(!plain.contains('\u{1b}') && colored.contains('\u{1b}'));
    let mut stripped = String::new();
    let mut parts = colored.split('\u{1b}');
    stripped.push_str(parts.next().unwrap());
    for part in parts {
        stripped.push_str(part.split_once('m').unwrap().1);
    }
    assert_eq!(stripped, plain);
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let text = "\u{1b}[31mred\u{7}\u{202e}";
    let mut sources = SourceMap::default();
    let file = sources.add("a.ron".to_owned(), text.to_owned());
    let mut problems = Problems::default();
    let at = At {
        file,
        span: Span::new(0, text.len()),
    };
    problems.push(
        Problem::error(at, format!("`{text}`"))
            .help(text)
            .note(text)
            .related(at, text),
    );
    let shown = problems.finish(&sources).render(Color::Never);
    assert!(
        !shown.contains(['\u{1b}', '\u{7}', '\u{202e}']),
        "{shown:?}"
    );
}

#[test]
fn errors_are_kept_before_warnings() {
    let mut problems = Problems::default();
    for _ in 0..DIAGNOSTICS_MAX {
        problems.push(Problem::warning(None, "perhaps"));
    }
    problems.push(Problem::error(None, "wrong"));
    let found = problems.finish(&SourceMap::default());
    assert_eq!(
        (found.errors(), found.list.len(), found.omitted),
        (1, DIAGNOSTICS_MAX, 1)
    );
}

#[test]
fn json_carries_all_that_is_needed_to_show_it() {
    let found = report("one two", &[(4, 7)]);
    let json = serde_json::to_string(&found).unwrap();
    insta::assert_snapshot!(json, @r#"{"list":[{"severity":"error","message":"wrong","place":{"file":"a.ron","line":1,"column":5,"end_column":8,"span":[4,7],"excerpt":"one two","excerpt_column":1},"related":[],"help":["right"],"notes":[]}],"omitted":0}"#);
    let back: Diagnostics = serde_json::from_str(&json).unwrap();
    assert_eq!(back.render(Color::Never), found.render(Color::Never));
}

#[test]
fn a_place_in_another_text_is_found_by_line_and_column() {
    let text = "# head\nx.A * a b alow\n";
    let place = Place::in_text("a.policy", text, 2, 11..15);
    assert_eq!(&text[place.span.0 as usize..place.span.1 as usize], "alow");
    assert_eq!(place.to_string(), "a.policy:2:11");
    assert_eq!(Place::in_text("a.policy", text, 99, 1..2).excerpt, "");
}
