use bulkhead_model::qube::PolicyText;
use proptest::prelude::*;

use super::*;
use crate::folders::MemoryFolders;
use crate::request::Request;
use crate::testing;

fn folder(files: &[(String, String)]) -> MemoryFolders {
    let mut folders = MemoryFolders::default();
    assert!(folders.add_folder("old"));
    for (name, text) in files {
        assert!(folders.add(Path::new("old").join(name), text.as_bytes()));
    }
    folders
}

fn converted(files: &[(&str, &str)]) -> Converted {
    let owned: Vec<(String, String)> = (files.iter())
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    convert(&folder(&owned), Path::new("old"), Path::new("old")).unwrap()
}

#[test]
fn order_comments_includes_and_implied_denies_are_kept() {
    let found = converted(&[
        (
            "b.B",
            "## Note\n# two\n$anyvm $dispvm allow,target=$dispvm:fresh,user=u\n# last\n",
        ),
        (
            "a.A",
            "work vault ask\n$include:include/more\n# after\nmail vault deny\n",
        ),
        ("a.A+x", "$tag:office $default ask,default_target=vault\n"),
        ("include/more", "# from more\n$dispvm:fresh work allow\n"),
        ("b.B.rpmsave", "work vault allow\n"),
        ("c.C", "$include:include/more\n"),
    ]);
    insta::assert_snapshot!(found.text, @r"
    # From a.A+x
    a.A +x @tag:office @default ask default_target=vault
    # Implied: what the file for this argument does not list is denied.
    a.A +x @anyvm @anyvm deny
    # Implied: what the file for this argument does not list is denied.
    a.A +x @anyvm @adminvm deny

    # From a.A
    a.A * work vault ask

    # From include/more
    # from more
    a.A * @dispvm:fresh work allow

    # From a.A
    # after
    a.A * mail vault deny

    # From b.B
    ## Note
    # two
    b.B * @anyvm @dispvm allow target=@dispvm:fresh user=u
    # last

    # From include/more
    # from more
    c.C * @dispvm:fresh work allow
    ");
    insta::assert_snapshot!(found.warnings.join("\n"), @r"
    `b.B.rpmsave` is no file for a service and is left out
    include/more:2: no caller is ever `@dispvm:fresh`, so the rule does nothing
    what `include/more` says is in the text more than once
    ");
}

#[test]
fn errors_are_those_of_the_files() {
    let files = [("a.A".to_owned(), "work vault alow\nwork\n".to_owned())];
    let errors = convert(&folder(&files), Path::new("old"), Path::new("")).unwrap_err();
    let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    old/a.A:1:12: unknown action `alow`
    old/a.A:2:1: rule has 1 of the three fields it needs
    ");
}

const SOURCES: &[&str] = &[
    "work",
    "mail",
    "vault",
    "$anyvm",
    "$tag:office",
    "$type:AppVM",
    "dom0",
    "$adminvm",
    "*",
    "$dispvm:fresh",
];
const TARGETS: &[&str] = &[
    "work",
    "vault",
    "$anyvm",
    "$tag:office",
    "$dispvm",
    "$dispvm:fresh",
    "$adminvm",
    "*",
    "$dispvm:$tag:office",
];
const ENDS: &[&str] = &[
    "allow",
    "ask",
    "deny",
    "allow,target=mail",
    "ask,default_target=vault",
    "deny,notify=no",
    "allow,user=root,autostart=no",
    "ask target=vault,user=u",
    "allow,target=$dispvm",
];

prop_compose! {
    fn line()(
        source in prop::sample::select(SOURCES),
        target in prop::sample::select(TARGETS),
        end in prop::sample::select(ENDS),
        comment in prop::option::weighted(0.2, "# [a-z!$@ ]{0,8}"),
    ) -> String {
        comment.map(|comment| comment + "\n").unwrap_or_default() + &format!("{source} {target} {end}\n")
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    })]

    #[test]
    fn the_text_decides_as_the_files_do(
        files in prop::collection::btree_map(
            prop::sample::select(vec!["s.A", "s.A+x", "s.A+", "s.B", "s.B+x", "s.C.rpmnew"]),
            prop::collection::vec(line(), 0..5),
            0..5,
        ),
        included in prop::option::of(0..5usize),
    ) {
        let mut files: Vec<(String, String)> = (files.into_iter())
            .map(|(name, lines)| (name.to_owned(), lines.concat()))
            .collect();
        if let Some((_, text)) = included.and_then(|at| files.get_mut(at)) {
            text.push_str("$include:include/more\nwork vault deny\n");
            files.push(("include/more".to_owned(), "mail $anyvm ask\n# more\n".to_owned()));
        }
        let folders = folder(&files);
        let found = convert(&folders, Path::new("old"), Path::new("")).unwrap();
        let new = Engine::parse(&[PolicyText {
            origin: "new.policy".to_owned(),
            first_line: 1,
            text: found.text.clone(),
        }]).unwrap();
        let layout = Layout {
            folders: vec!["made".into()],
            legacy: "old".into(),
            shown_from: PathBuf::new(),
        };
        let mut folders = folders;
        folders.add("made/a.policy", b"!compat-4.0".as_slice());
        let old = Engine::read(&folders, &layout).unwrap();
        prop_assert_eq!(found.rules, old.rules().len());
        let (_, _, view) = testing::desktop("");
        for service in ["s.A", "s.A+x", "s.A+y", "s.B", "s.B+x", "s.C"] {
            for source in ["work", "mail", "vault", "dom0"] {
                for target in ["work", "mail", "vault", "", "@dispvm", "@dispvm:fresh", "@adminvm"] {
                    let request = Request::new(service, source, target);
                    let (was, is) = (old.decide(&request, &view), new.decide(&request, &view));
                    prop_assert!(was.lets_the_same_happen(&is), "{:?}: {} and {}", request, was, is);
                    prop_assert_eq!(was.number(), is.number());
                }
            }
        }
    }
}
