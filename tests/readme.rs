//! Every command that README.md shows is run, in order, in one scratch directory.
//!
//! - A block ```` ```sh ```` or ```` ```console ```` is run line by line with the built binary as `hamaster`. In a
//!   console block `$ ` starts a command, and what follows is its output: line by line, where `…` stands for anything,
//!   and a line of nothing but `…` for any lines. `# exit code N` behind a command says how it ends, 0 otherwise.
//! - `<!-- runs: below a root -->` before a block: it is about a whole host, so `sudo` is dropped and an empty root used.
//! - `<!-- runs: on HOST -->` before a block: it is about several hosts, and `tests/hosts/readme.rs` runs it.
//! - `<!-- runs: by itself -->` before a block: the commands that run these very tests. They exist and can be executed.
//! - A block ```` ```yaml ```` is read as a cluster.yaml, or by its kind as an elect.yaml.
//! - Any other mark or language fails, but for `text`, which is a picture.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods)] // a test acts on files and processes

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../README.md");
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Debug)]
struct Block<'t> {
    /// Line of the opening fence, from 1.
    line: usize,
    mark: Option<&'t str>,
    language: &'t str,
    lines: Vec<&'t str>,
}

/// A command, how it ends, and what it prints.
#[derive(Debug)]
struct Shown<'t> {
    command: &'t str,
    code: i32,
    output: Vec<&'t str>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = vec![];
    let (mut open, mut before) = (false, "");
    for (i, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                let mark = before.strip_prefix("<!-- runs: ").and_then(|m| m.strip_suffix(" -->"));
                blocks.push(Block { line: i + 1, mark, language, lines: vec![] });
                open = true;
            }
            None if open => blocks.last_mut().unwrap().lines.push(line),
            None => {}
        }
        before = line;
    }
    assert!(!open, "a fence is not closed");
    blocks
}

fn shown<'t>(block: &Block<'t>) -> Vec<Shown<'t>> {
    let mut all: Vec<Shown<'t>> = vec![];
    for line in &block.lines {
        let command = if block.language == "sh" { Some(*line) } else { line.strip_prefix("$ ") };
        match command {
            Some(command) => {
                let code = command.split("# exit code ").nth(1).map_or(0, |c| c.trim().parse().unwrap());
                all.push(Shown { command, code, output: vec![] });
            }
            None => all.last_mut().expect("output before any command").output.push(line),
        }
    }
    all
}

/// `wanted` with `…` for anything matches `line`.
fn line_matches(wanted: &str, line: &str) -> bool {
    let mut parts = wanted.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn output_matches(wanted: &[&str], lines: &[&str]) -> bool {
    match (wanted.split_first(), lines.split_first()) {
        (None, _) => lines.is_empty(),
        (Some((&"…", rest)), _) if output_matches(rest, lines) => true,
        (Some((&"…", _)), Some((_, lines))) => output_matches(wanted, lines),
        (Some((want, rest)), Some((line, lines))) => {
            line_matches(want.trim_end(), line.trim_end()) && output_matches(rest, lines)
        }
        (Some(_), None) => false,
    }
}

/// A scratch home with `hamaster` on its PATH.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("bin")).unwrap();
        fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        symlink(env!("CARGO_BIN_EXE_hamaster"), dir.path().join("bin/hamaster")).unwrap();
        Self(dir)
    }

    fn run(&self, shown: &Shown<'_>, command: &str) {
        let path = format!("{}/bin:{}", self.0.path().display(), std::env::var("PATH").unwrap());
        let mut bash = Command::new("bash");
        if command.contains("lab3") {
            // Four masters' apiservers would take the processors of CI for minutes; one master's run in another lab.
            bash.env_remove("KUBEBUILDER_ASSETS").env_remove("KUBE_BIN_DIR");
        }
        let done = bash
            .args(["-c", &format!("exec 2>&1; {command}")])
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env("PATH", path)
            .env_remove("XDG_STATE_HOME")
            .output()
            .unwrap();
        let output = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(shown.code), "{command}\n{output}");
        let lines: Vec<&str> = output.lines().collect();
        let said = shown.output.is_empty() || output_matches(&shown.output, &lines);
        assert!(said, "{command}\nREADME.md shows\n{}\nit prints\n{output}", shown.output.join("\n"));
    }
}

impl Drop for Scratch {
    /// A failed test must not leave a lab running.
    fn drop(&mut self) {
        for lab in ["lab", "lab3"].map(|lab| self.0.path().join(lab)) {
            let _ = Command::new(env!("CARGO_BIN_EXE_hamaster"))
                .args(["lab", "down", "--purge", "--dir"])
                .arg(lab)
                .output();
        }
    }
}

/// The same command for an empty root in place of the whole host.
fn below_a_root(command: &str) -> String {
    let rest = command.strip_prefix("sudo hamaster ").unwrap_or_else(|| panic!("not about a host: {command}"));
    let ignore = if rest.starts_with("init") { " --ignore-preflight all" } else { "" };
    // An empty root has findings; that they are printed is enough.
    let end = if rest.starts_with("doctor") { "; test $? = 4" } else { "" };
    format!("hamaster --root root {rest}{ignore}{end}")
}

#[test]
fn every_command_shown_is_run() {
    let scratch = Scratch::new();
    let mut run = 0;
    for block in blocks(README) {
        eprintln!("README.md:{}: {:?} {}", block.line, block.mark, block.language);
        match (block.mark, block.language) {
            (None, "text") => {}
            (None, "yaml") if block.lines.contains(&"kind: Elect") => {
                fs::write(scratch.0.path().join("elect.yaml"), block.lines.join("\n")).unwrap();
                let config = "hamaster elect config -c elect.yaml";
                scratch.run(&Shown { command: config, code: 0, output: vec![] }, config);
            }
            (None, "yaml") => {
                fs::write(scratch.0.path().join("cluster.yaml"), block.lines.join("\n")).unwrap();
                let render = "hamaster render -c cluster.yaml --node m1 --advertise-ip 192.0.2.11 --out yaml";
                scratch.run(&Shown { command: render, code: 0, output: vec![] }, render);
            }
            (None, "sh" | "console") => shown(&block).iter().for_each(|s| {
                scratch.run(s, s.command);
                run += 1;
            }),
            (Some("below a root"), "sh" | "console") => shown(&block).iter().for_each(|s| {
                scratch.run(s, &below_a_root(s.command));
                run += 1;
            }),
            (Some("by itself"), "sh") => shown(&block).iter().for_each(|s| {
                let mode = fs::metadata(Path::new(REPOSITORY).join(s.command)).unwrap().permissions().mode();
                assert_eq!(mode & 0o111, 0o111, "{} cannot be executed", s.command);
            }),
            (Some(mark), "sh") if mark.starts_with("on ") => {}
            (mark, language) => panic!("README.md:{}: no rule for {mark:?} {language:?}", block.line),
        }
    }
    assert!(run > 15, "only {run} commands were found");
}

#[test]
fn what_ci_runs_is_the_test_command_of_the_readme() {
    let by_itself: Vec<&str> =
        blocks(README).into_iter().filter(|b| b.mark == Some("by itself")).flat_map(|b| b.lines).collect();
    assert_eq!(by_itself, ["./examples/quickstart.sh", "./.ci/test"]);
    let ci = fs::read_to_string(Path::new(REPOSITORY).join(".ci/run")).unwrap();
    assert!(ci.lines().any(|l| l.trim_start().starts_with("stage tests") && l.ends_with(" .ci/test")), "{ci}");
}

#[test]
fn the_cluster_file_shown_has_every_key_with_its_default() {
    let shown = blocks(README).into_iter().find(|b| b.language == "yaml").unwrap().lines.join("\n");
    let load = |text| hamaster::spec::file::load(text, &hamaster::spec::file::Overrides::default()).unwrap();
    let (shown_spec, default) = (load(Some(("README.md", &shown))), load(None));
    let resolved = hamaster::spec::file::to_yaml(&default);
    assert_eq!(hamaster::spec::file::to_yaml(&shown_spec), resolved);
    let keys = |text: &str| -> Vec<String> {
        text.lines().filter_map(|l| l.split_once(':').map(|(key, _)| key.to_owned())).collect()
    };
    assert_eq!(keys(&shown), keys(&resolved));
}

#[test]
fn links_lead_somewhere() {
    for link in README.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        if let Some(anchor) = link.strip_prefix('#') {
            let slug = |title: &str| -> String {
                let kept = title.to_lowercase().replace(' ', "-");
                kept.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
            };
            let found =
                README.lines().filter(|l| l.starts_with('#')).any(|l| slug(l.trim_start_matches(['#', ' '])) == anchor);
            assert!(found, "#{anchor}");
        } else if !link.starts_with("https://") {
            assert!(Path::new(REPOSITORY).join(link).exists(), "{link}");
        }
    }
}

#[test]
fn the_matcher_tells_outputs_apart() {
    assert!(output_matches(&["a", "…", "c … e"], &["a", "b", "b", "c d e"]));
    assert!(output_matches(&["…"], &[]));
    assert!(!output_matches(&["a", "…", "c"], &["a", "b"]));
    assert!(!output_matches(&["a"], &["a", "b"]));
    assert!(!line_matches("a … c", "a b d"));
    assert!(!line_matches("abc", "abcd"));
}
