//! Links in the book and in the READMEs: whether what they name is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

/// Checks all of the workspace's pages. Answers what is wrong, a line each.
pub(super) fn check(workspace: &Path) -> Result<Vec<String>> {
    let book = workspace.join("docs/src");
    let mut pages = BTreeMap::new();
    read_pages(&book, &mut pages)?;
    let chapters: BTreeSet<_> = pages.keys().cloned().collect();
    for readme in readmes(workspace)? {
        let text = read(&readme)?;
        pages.insert(readme, text);
    }
    let mut wrong = Vec::new();
    for (page, text) in &pages {
        let mut complain = |line: usize, what: String| {
            let page = page.strip_prefix(workspace).unwrap_or(page).display();
            wrong.push(format!("{page}:{line}: {what}"));
        };
        for (line, target) in targets(text) {
            if into_api(&book, page, &target).is_some() {
                continue; // that is built, and looked at then
            }
            if let Err(what) = resolve(page, &target, &pages) {
                complain(line, format!("`{target}`: {what}"));
            }
        }
        for (line, include) in includes(text) {
            if let Err(what) = resolve_include(page, &include) {
                complain(line, format!("include of `{include}`: {what}"));
            }
        }
    }
    wrong.extend(not_in_summary(&book, &chapters, &pages));
    wrong.extend(crates_without_readme(workspace)?);
    Ok(wrong)
}

/// What of the crates' documentation, which will be in `api` beside the chapters, they lead to and is not there.
pub(super) fn check_api(workspace: &Path, site: &Path) -> Result<Vec<String>> {
    let book = workspace.join("docs/src");
    let mut pages = BTreeMap::new();
    read_pages(&book, &mut pages)?;
    let mut wrong = Vec::new();
    for (page, text) in &pages {
        for (line, target) in targets(text) {
            if into_api(&book, page, &target).is_some_and(|file| !site.join(file).is_file()) {
                let page = page.strip_prefix(workspace).unwrap_or(page).display();
                wrong.push(format!("{page}:{line}: `{target}`: no crate has such a page"));
            }
        }
    }
    Ok(wrong)
}

/// The file of the site that a link of a chapter leads to, if that is of the crates' documentation.
fn into_api(book: &Path, page: &Path, target: &str) -> Option<PathBuf> {
    let file = target.split('#').next()?;
    let file = join(page, file).strip_prefix(book).ok()?.to_owned();
    file.starts_with("api").then_some(file)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Reads all Markdown files below `folder`.
fn read_pages(folder: &Path, pages: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            read_pages(&path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = read(&path)?;
            pages.insert(path, text);
        }
    }
    Ok(())
}

/// The READMEs of the workspace.
fn readmes(workspace: &Path) -> Result<Vec<PathBuf>> {
    Ok(files_in_crates(workspace, "README.md")?.into_iter().collect())
}

/// Crates that nobody is told what they are for.
fn crates_without_readme(workspace: &Path) -> Result<Vec<String>> {
    let mut without = Vec::new();
    for manifest in files_in_crates(workspace, "Cargo.toml")? {
        if !manifest.with_file_name("README.md").is_file() {
            let name = manifest.strip_prefix(workspace).unwrap_or(&manifest).display();
            without.push(format!("{name}: there is no README.md beside it"));
        }
    }
    Ok(without)
}

/// The files called `name` in the workspace's folder and those of its crates, which are at most two folders deep.
fn files_in_crates(workspace: &Path, name: &str) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![(workspace.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let file = folder.join(name);
        if file.is_file() {
            found.insert(file);
        }
        if depth == 2 {
            continue;
        }
        for entry in
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
        {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push((path, depth + 1));
            }
        }
    }
    Ok(found)
}

/// Lines with their numbers, without blocks of code, and with code in lines blanked out.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        if fenced {
            return None;
        }
        let parts = line.split('`').enumerate();
        let kept: String =
            parts.map(|(index, part)| if index % 2 == 0 { part } else { "" }).collect();
        Some((index + 1, kept))
    })
}

/// Where the links of a page lead.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let mut rest = line.as_str();
        while let Some((_, behind)) = rest.split_once("](") {
            let Some((target, behind)) = behind.split_once(')') else { break };
            found.push((number, target.to_owned()));
            rest = behind;
        }
    }
    found
}

/// What a page includes of source files.
fn includes(text: &str) -> Vec<(usize, String)> {
    let include = |line: &str| {
        let (_, rest) = line.split_once("{{#include ")?;
        Some(rest.split_once("}}")?.0.trim().to_owned())
    };
    let lines = text.lines().enumerate();
    lines.filter_map(|(index, line)| Some((index + 1, include(line)?))).collect()
}

/// What a link's target lacks, if anything.
fn resolve(
    page: &Path,
    target: &str,
    pages: &BTreeMap<PathBuf, String>,
) -> Result<(), &'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (file, anchor) = match target.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (target, None),
    };
    let file = if file.is_empty() { page.to_owned() } else { join(page, file) };
    if !file.exists() {
        return Err("there is no such file");
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let text = pages.get(&file).ok_or("a place in something that is no page")?;
    if headings(text).contains(anchor) { Ok(()) } else { Err("there is no such heading") }
}

/// What an `{{#include}}` lacks, if anything.
fn resolve_include(page: &Path, include: &str) -> Result<(), &'static str> {
    let (file, anchor) = match include.split_once(':') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (include, None),
    };
    let text = fs::read_to_string(join(page, file)).map_err(|_| "there is no such file")?;
    let Some(anchor) = anchor else { return Ok(()) };
    let ends_with = |what: &str| {
        let mark = format!("{what}: {anchor}");
        text.lines().any(|line| line.trim_end().ends_with(&mark))
    };
    if ends_with("ANCHOR") && ends_with("ANCHOR_END") {
        Ok(())
    } else {
        Err("there is no such anchor")
    }
}

/// `target` as seen from the folder of `page`, without dots.
fn join(page: &Path, target: &str) -> PathBuf {
    let mut path = page.parent().unwrap_or(page).to_owned();
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

/// The names that mdBook gives the headings of a page.
fn headings(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut names = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let title = line.trim_start_matches('#');
        if fenced || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let name = slug(title.trim());
        let copies = (1..).map(|count| format!("{name}-{count}"));
        let mut free = std::iter::once(name.clone()).chain(copies);
        names.extend(free.find(|name| !names.contains(name)));
    }
    names
}

/// The name of a heading: letters, digits, dashes; a space is a dash.
fn slug(title: &str) -> String {
    let kept = title.chars().filter_map(|c| match c {
        _ if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
        _ if c.is_whitespace() => Some('-'),
        _ => None,
    });
    kept.collect()
}

/// Pages that no reader would find.
fn not_in_summary(
    book: &Path,
    chapters: &BTreeSet<PathBuf>,
    pages: &BTreeMap<PathBuf, String>,
) -> Vec<String> {
    let summary = book.join("SUMMARY.md");
    let text = pages.get(&summary).map_or("", String::as_str);
    let listed: BTreeSet<_> =
        targets(text).into_iter().map(|(_, target)| join(&summary, &target)).collect();
    let missing = chapters.iter().filter(|page| **page != summary && !listed.contains(*page));
    let name = |page: &PathBuf| page.strip_prefix(book).unwrap_or(page).display().to_string();
    missing.map(|page| format!("docs/src/SUMMARY.md: `{}` is not in it", name(page))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_crates_are_told_from_links_to_chapters() {
        let book = Path::new("/w/docs/src");
        let page = book.join("guide/suite.md");
        let file = |target| into_api(book, &page, target);
        assert_eq!(file("../api/axvcpu/index.html#x"), Some("api/axvcpu/index.html".into()));
        for other in
            ["api/axvcpu/index.html", "../testing.md", "#api", "../../api/x", "https://api/"]
        {
            assert_eq!(file(other), None, "{other}");
        }
    }

    #[test]
    fn links_in_code_are_none() {
        let text = "a [b](c.md#d), `[e](f.md)`\n```\n[g](h.md)\n```\n[i](j.md) [k](https://l)\n";
        let found = targets(text);
        let expected = [(1, "c.md#d"), (5, "j.md"), (5, "https://l")];
        assert_eq!(found, expected.map(|(line, target)| (line, target.to_owned())));
    }

    #[test]
    fn headings_are_named_as_mdbook_names_them() {
        let text = "# The `a_b` trait, v2.0\n## One\n```\n# no heading\n```\n## One\n#[x]\n";
        let expected = ["the-a_b-trait-v20", "one", "one-1"].map(String::from);
        assert_eq!(headings(text), BTreeSet::from(expected));
    }

    #[test]
    fn targets_are_found_or_not() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let page = here.join("page.md");
        let pages = BTreeMap::from([(page.clone(), "# A title\n".to_owned())]);
        let found = |target: &str| resolve(&page, target, &pages).is_ok();
        assert!(
            found("https://example.org/x") && found("Cargo.toml") && found("./src/../Cargo.toml")
        );
        assert!(!found("nowhere.md") && !found("../nowhere.md#x"));
        assert!(!found("#another") && !found("Cargo.toml#x"));
    }

    #[test]
    fn includes_are_looked_up_with_their_anchors() {
        let text = "```rs\n{{#include ../a.rs:b}}\n```\n";
        assert_eq!(includes(text), [(2, "../a.rs:b".to_owned())]);
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("page.md");
        assert!(resolve_include(&page, "Cargo.toml").is_ok());
        assert!(resolve_include(&page, "Cargo.toml:nothing").is_err());
        assert!(resolve_include(&page, "nowhere.rs").is_err());
    }
}
