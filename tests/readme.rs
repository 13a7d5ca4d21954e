//! The README's programs are those of the crate's front page, which run as doctests.

/// The fenced programs of a page, without the lines that rustdoc hides.
fn programs(page: &str) -> Vec<String> {
    let mut programs = Vec::new();
    let mut lines = page.lines();
    while lines.by_ref().any(|line| line.starts_with("```")) {
        let program = lines.by_ref().take_while(|line| *line != "```");
        let shown: Vec<_> = program.filter(|line| !line.starts_with("# ")).collect();
        programs.push(shown.join("\n").trim().to_string());
    }
    programs
}

#[test]
fn the_readme_shows_what_the_front_page_runs() {
    let docs: Vec<_> = include_str!("../src/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let docs = programs(&docs.join("\n"));
    let readme = include_str!("../README.md");
    let shown: Vec<_> =
        programs(readme).into_iter().filter(|program| program.starts_with("use bptt")).collect();
    assert_eq!(shown.len(), 2, "programs in the README");
    for program in shown {
        assert!(docs.contains(&program), "not on the front page:\n{program}");
    }
}

#[test]
fn the_readme_fits_the_first_screens() {
    assert!(include_str!("../README.md").lines().count() <= 130);
}
