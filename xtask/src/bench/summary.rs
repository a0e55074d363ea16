//! What the summary of a run says, as JSON on one line.

/// The number that JSON gives for `key`.
pub(super) fn number(json: &str, key: &str) -> Option<u64> {
    let (_, rest) = json.split_once(&format!("\"{key}\":"))?;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The numbers of exits by reason.
pub(super) fn exits(summary: &str) -> Vec<(String, u64)> {
    let all = summary.split_once("\"exits\":{").and_then(|(_, rest)| rest.split_once("}}"));
    let Some((all, _)) = all else { return Vec::new() };
    all.split('}')
        .filter_map(|exit| {
            let (name, numbers) = exit.trim_start_matches([',', '"']).split_once("\":{")?;
            Some((name.to_owned(), number(numbers, "count")?))
        })
        .collect()
}

/// The reasons that any of these runs had, in order: a summary leaves out what there was none of.
pub(super) fn reasons<'a>(runs: impl Iterator<Item = &'a [(String, u64)]>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (name, _) in runs.flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name.as_str());
        }
    }
    names
}

/// Exits for this reason.
pub(super) fn count(exits: &[(String, u64)], reason: &str) -> u64 {
    exits.iter().find(|(name, _)| name == reason).map_or(0, |exit| exit.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found() {
        assert_eq!(number(r#"{"a": 12, "b":3}"#, "b"), Some(3));
        assert_eq!(number(r#"{"a": 12}"#, "a"), Some(12));
        assert_eq!(number(r#"{"a": "x"}"#, "a"), None);
        assert_eq!(number("{}", "a"), None);
    }

    #[test]
    fn exits_are_read() {
        let summary = r#"{"end":"power-off","status":0,"exits":{"mmio read":{"count":12,"ns":0},"of these, unclaimed":{"count":0,"ns":7}},"x":{"count":1}}"#;
        let expected = [("mmio read".to_owned(), 12), ("of these, unclaimed".to_owned(), 0)];
        assert_eq!(exits(summary), expected);
        assert_eq!(exits("{}"), []);
    }

    #[test]
    fn reasons_are_those_of_any_run() {
        let run = |exits: &[(&str, u64)]| -> Vec<_> {
            exits.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let runs = [run(&[("a", 1), ("c", 2)]), run(&[("a", 3), ("b", 4), ("c", 5)])];
        assert_eq!(reasons(runs.iter().map(Vec::as_slice)), ["a", "c", "b"]);
        assert_eq!(runs.each_ref().map(|run| count(run, "b")), [0, 4]);
    }
}
