//! Names by pattern, the same everywhere a name may be given: filters, claims, comparisons.

/// True if `name` matches one of the globs; `*` stands for any run of characters.
pub fn matches_any(globs: &[String], name: &str) -> bool {
    globs.iter().any(|glob| matches_glob(glob, name))
}

/// True if `name` matches `glob`; `*` stands for any run of characters.
pub fn matches_glob(glob: &str, name: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or("")) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, name, want) in [
            ("encode/*", "encode/a", true),
            ("*", "x/y", true),
            ("*/b*-ctx32", "decode/b1-ctx32", true),
            ("encode/*", "decode/a", false),
            ("encode/a", "encode/ab", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches_glob(glob, name), want, "{glob} {name}");
        }
    }
}
