//! A first description, for `bulkhead init`.

/// A commented `system.ron` that can be applied as it is.
pub const SYSTEM_RON: &str = include_str!("system.ron");

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::diagnostic::Color;
    use crate::load::load;
    use crate::source::MemoryReader;

    #[test]
    fn the_starter_loads_without_a_warning() {
        let reader = MemoryReader::new([("system.ron", SYSTEM_RON)]);
        let loaded = load(Path::new("system.ron"), &reader);
        let loaded = loaded.unwrap_or_else(|found| panic!("{}", found.render(Color::Never)));
        assert!(
            loaded.warnings.is_empty(),
            "{}",
            loaded.warnings.render(Color::Never)
        );
        let names: Vec<_> = loaded
            .description
            .qubes
            .keys()
            .map(|name| name.as_str())
            .collect();
        assert_eq!(names, ["disposable", "personal", "sys-net", "vault"]);
        assert_eq!(loaded.description.policy.len(), 1);
    }
}
