//! What plain text is called where Wayland and X have different names for it.

/// How applications of Wayland call text, and those of X that know no kinds of MIME.
const TEXT: &str = "text/plain;charset=utf-8";
const TEXT_OF_X: &str = "UTF8_STRING";

/// Kinds of one thing that are told, at most.
pub(crate) const KINDS_MAX: usize = 256;

/// Bytes of the name of a kind, at most. Applications call theirs by less than a hundred.
pub(crate) const KIND_LEN_MAX: usize = 1024;

fn with(kinds: &[String], known: &str, also: &str) -> Vec<String> {
    let fits = kinds.iter().filter(|kind| kind.len() <= KIND_LEN_MAX);
    let mut told: Vec<String> = fits.take(KINDS_MAX).cloned().collect();
    let is = |name: &str| told.iter().any(|kind| kind == name);
    if is(known) && !is(also) && told.len() < KINDS_MAX {
        told.push(also.to_owned());
    }
    told
}

/// What applications of X are offered, of what one of Wayland offers.
pub(crate) fn to_x(kinds: &[String]) -> Vec<String> {
    with(kinds, TEXT, TEXT_OF_X)
}

/// What applications of Wayland are offered, of what one of X offers.
pub(crate) fn to_wayland(kinds: &[String]) -> Vec<String> {
    with(kinds, TEXT_OF_X, TEXT)
}

/// What to ask for that `wanted` is read, of these.
pub(crate) fn asked<'a>(kinds: &[String], wanted: &'a str) -> Option<&'a str> {
    let has = |name: &str| kinds.iter().any(|kind| kind == name);
    match wanted {
        wanted if has(wanted) => Some(wanted),
        TEXT if has(TEXT_OF_X) => Some(TEXT_OF_X),
        TEXT_OF_X if has(TEXT) => Some(TEXT),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn text_has_both_names() {
        assert_eq!(to_x(&names(&["a", TEXT])), names(&["a", TEXT, TEXT_OF_X]));
        assert_eq!(to_wayland(&names(&[TEXT_OF_X])), names(&[TEXT_OF_X, TEXT]));
        let both = names(&[TEXT, TEXT_OF_X]);
        assert_eq!((to_x(&both), to_wayland(&both)), (both.clone(), both));
        assert_eq!(to_x(&names(&["a"])), names(&["a"]));
    }

    #[test]
    fn what_is_wanted_is_asked_for_by_a_name_that_is_offered() {
        let x = names(&["a", TEXT_OF_X]);
        assert_eq!(asked(&x, TEXT), Some(TEXT_OF_X));
        assert_eq!(asked(&x, "a"), Some("a"));
        assert_eq!(asked(&x, "b"), None);
        assert_eq!(asked(&names(&[TEXT]), TEXT_OF_X), Some(TEXT));
        assert_eq!(asked(&names(&["a"]), TEXT), None);
    }

    #[test]
    fn kinds_have_limits() {
        let many: Vec<String> = (0..=KINDS_MAX).map(|n| n.to_string()).collect();
        assert_eq!(to_x(&many), many[..KINDS_MAX]);
        let names = |len| vec!["x".repeat(len)];
        assert_eq!(to_x(&names(KIND_LEN_MAX)).len(), 1);
        assert_eq!(to_x(&names(KIND_LEN_MAX + 1)).len(), 0);
    }
}
