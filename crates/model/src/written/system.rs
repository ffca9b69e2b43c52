//! A file of the description.

use super::{Assertion, PolicyEntry, QubeOptions, RemoteOptions, TemplateOptions, TestEntry};
use crate::decode::{Decode, Decoder, Table, section};
use crate::diagnostic::Problem;
use crate::name::QubeName;
use crate::syntax::tree::{Node, Value};

section! {
    /// A file of the description: every part may be absent.
    pub(crate) struct SystemOptions as "System" {
        /// Other files that belong to the description, as paths or patterns (`*`, `?`, `**`)
        /// relative to this file. Each file is read once.
        imports: Vec<crate::decode::Located<String>> = "none", "0.1";
        /// Properties of every qube that does not say otherwise. A qube's own value wins, then
        /// its profiles, then these.
        defaults: QubeOptions = "the built-in defaults", "0.1";
        /// Named sets of properties that qubes list in `profiles`.
        profiles: Table<String, QubeOptions> = "none", "0.1";
        /// Labels beside the eight that always exist: red, orange, yellow, green, gray, blue,
        /// purple and black. One of these may be given another colour.
        labels: Table<String, LabelOptions> = "none", "0.1";
        /// Template images. They share the names of qubes.
        templates: Table<QubeName, TemplateOptions> = "none", "0.1";
        /// The qubes.
        qubes: Table<QubeName, QubeOptions> = "none", "0.1";
        /// Qubes of other machines (`RemoteVM` of Qubes R4.3), which take part in calls through a
        /// qube of this one. They share the names of qubes.
        remotes: Table<QubeName, RemoteOptions> = "none", "0.1";
        /// What dom0 does for qubes.
        dom0: Dom0Options = "none", "0.1";
        /// Call policy, in order: the first rule that matches decides. Each entry is a text of
        /// rules in policy format 5.0 (`Text("…")` is the same), `File("path or pattern")`
        /// relative to this file, one `Rule(service: …, source: …, target: …, action: Ask)`, or
        /// `Live()`: the folders of the Qubes tools, read again whenever a file in them changes.
        /// Other folders are `Live(folder: "policy.d")`, with `runtime` and `legacy` if need be.
        /// The rules of imported files come after those of the file that imports them.
        policy: Vec<PolicyEntry> = "none, so every call is denied", "0.1";
        /// What policy must decide, one call a line: `work -> vault qubes.Filecopy is ask`, or
        /// `is deny`, `is allow`, `is allow to PLACE`. Each entry is a text of such lines, or
        /// `File("path or pattern")` relative to this file. All must hold before anything is
        /// planned.
        policy_tests: Vec<TestEntry> = "none", "0.1";
        /// Rules that must hold for the description as a whole; checked before anything is
        /// planned.
        assertions: Vec<crate::decode::Located<Assertion>> = "none", "0.1";
    }
}

section! {
    /// What dom0 does for qubes.
    pub(crate) struct Dom0Options as "Dom0" {
        /// The user in dom0 who runs services that qubes call there, where neither the rule nor
        /// the service names one. For a daemon of root, which refuses such calls otherwise; a
        /// daemon of an ordinary user runs them as that user and does not look at this. Not root:
        /// only a rule can say `user=root`.
        service_user: String = "nobody", "0.1";
        /// Whether a person is asked about a paste from one qube into another where policy says
        /// `ask`. Otherwise the keys that they pressed for it are the answer, as in Qubes.
        confirm_paste: bool = "false", "0.1";
    }
}

section! {
    /// A label.
    pub(crate) struct LabelOptions as "Label" {
        /// Its colour: a number such as `0xcc0000`, or the same as a text.
        color: ColorValue = "must be given", "0.1";
        /// Name of its icon.
        icon: String = "`appvm-` and the label's name", "0.1";
    }
}

/// A colour, as `0xRRGGBB`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColorValue(pub(crate) String);

impl Decode for ColorValue {
    fn type_name() -> String {
        "colour".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        const WHITE: u32 = 0x00ff_ffff;
        let number = match &node.value {
            Value::Integer(number) => u32::try_from(*number).ok(),
            Value::Text(text) => (text.strip_prefix("0x"))
                .filter(|digits| digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|digits| u32::from_str_radix(digits, 16).ok()),
            _ => {
                decoder.wrong(node, "a colour");
                return None;
            }
        };
        let color = number.filter(|number| *number <= WHITE);
        if color.is_none() {
            let problem = Problem::error(decoder.at(node.span), "this is not a colour");
            decoder.push(
                problem.help("write red, green and blue as `0xRRGGBB`, for example 0xcc0000"),
            );
        }
        color.map(|color| Self(format!("0x{color:06x}")))
    }
}
