//! Colours, quiet, pipes, help, completions, man pages, diffs.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::sandbox::{HAMASTER, INIT, Run, Sandbox};

const COMMANDS: [&str; 24] = [
    "",
    "init",
    "reset",
    "certs",
    "certs generate",
    "certs check",
    "certs verify",
    "render",
    "status",
    "doctor",
    "lab",
    "lab up",
    "lab add",
    "lab remove",
    "lab status",
    "lab down",
    "lab kill",
    "lab start",
    "lab pause",
    "lab resume",
    "lab partition",
    "lab heal",
    "lab watch",
    "man",
];

#[test]
fn help_fits_a_terminal_and_every_option_says_what_it_does() {
    let sandbox = Sandbox::new();
    for command in COMMANDS {
        for flag in ["-h", "--help"] {
            let run = sandbox.run(command.split_whitespace().chain([flag])).expect(0);
            assert!(run.stdout.contains("Usage: hamaster"), "{command}");
            for line in run.stdout.lines() {
                assert!(line.chars().count() <= 110, "{command} {flag}: {line}");
            }
        }
    }
}

#[test]
fn the_version_is_said_quickly() {
    let sandbox = Sandbox::new();
    let best = (0..20)
        .map(|_| {
            let started = Instant::now();
            assert_eq!(sandbox.run(["--version"]).stdout, concat!("hamaster ", env!("CARGO_PKG_VERSION"), "\n"));
            started.elapsed()
        })
        .min()
        .unwrap();
    // 5 ms is what is promised of a release build on an idle machine; this is neither.
    assert!(best < Duration::from_millis(50), "{best:?}");
}

#[test]
fn colour_is_for_terminals_or_who_asks() {
    let sandbox = Sandbox::new();
    let dry = [&INIT[..], &["--dry-run"]].concat();
    assert!(!sandbox.run(&dry).expect(0).stdout.contains('\x1b'));
    assert!(sandbox.run([&dry[..], &["--color", "always"]].concat()).expect(0).stdout.contains("\x1b[32m"));
    // What is asked for outright wins over the environment.
    let coloured = |args: &[&str], no_color: &str| {
        let output = sandbox.command(HAMASTER).args(args).env("NO_COLOR", no_color).output().unwrap();
        Run::of(output).expect(0).stdout.contains('\x1b')
    };
    assert!(coloured(&[&dry[..], &["--color", "always"]].concat(), "1"));
    assert!(!coloured(&[&dry[..], &["--color", "never"]].concat(), ""));
    let on_a_terminal = |environment: &str| {
        let line = format!("{environment} $HAMASTER {}", dry.join(" "));
        sandbox.sh(&format!("script -qec '{line}' /dev/null")).contains("\x1b[32m")
    };
    assert!(on_a_terminal(""));
    assert!(!on_a_terminal("NO_COLOR=1"));
}

#[test]
fn quiet_prints_errors_and_results_only() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.run(INIT.iter().chain(&["-q"])).expect(0).stderr, "");
    let run = sandbox.run(["-q", "init", "--root", "nowhere"]).expect(2);
    assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = Sandbox::new();
    let line = format!("$HAMASTER {} --dry-run", INIT.join(" "));
    let run = sandbox.sh(&format!("set -o pipefail; {line} 2>err | head -1; test ! -s <(grep -v ^warning err)"));
    assert!(run.starts_with("master m1"), "{run}");
    sandbox.sh("set -o pipefail; $HAMASTER --help | head -1; $HAMASTER completions bash | head -1");
}

#[test]
fn completions_parse_in_their_shells() {
    let sandbox = Sandbox::new();
    for (shell, check) in [("bash", "bash -n"), ("zsh", "zsh -n"), ("fish", "fish -n")] {
        let script = sandbox.run(["completions", shell]).expect(0).stdout;
        assert!(script.contains("advertise-ip"), "{shell}");
        sandbox.write(shell, script);
        sandbox.sh(&format!("if command -v {shell} >/dev/null; then {check} {shell}; fi"));
    }
    let words = sandbox.sh(
        "source ./bash; COMP_WORDS=(hamaster certs ''); COMP_CWORD=2; _hamaster hamaster '' certs; echo ${COMPREPLY[@]}",
    );
    assert!(["generate", "check", "verify"].iter().all(|w| words.contains(w)), "{words}");
}

#[test]
fn man_pages_render_without_a_complaint() {
    let sandbox = Sandbox::new();
    let pages = sandbox.run(["man", "--out", "man"]).expect(0).stdout;
    assert!(pages.lines().any(|p| p.ends_with("man/hamaster-certs-generate.1")), "{pages}");
    assert!(!pages.contains("supervise"), "hidden commands have no page: {pages}");
    sandbox.sh("if command -v groff >/dev/null; then
             for page in man/*.1; do test -z \"$(groff -man -Tutf8 -ww -z $page 2>&1)\" || { echo $page; exit 1; }; done
         fi");
}

#[test]
fn a_dry_run_shows_the_bytes_that_would_be_written_and_touches_nothing() {
    let sandbox = Sandbox::new();
    let before = sandbox.tree();
    let plan = sandbox.run(INIT.iter().chain(&["--dry-run"])).expect(0).stdout;
    assert_eq!(sandbox.tree(), before);
    // The diffs, without their indentation, are a patch; applied to nothing they give what init writes.
    let patch: String = plan.lines().filter_map(|l| l.strip_prefix("      ")).map(|l| format!("{l}\n")).collect();
    sandbox.write("plan.patch", patch);
    sandbox.sh("mkdir patched; cd patched; sed -i 's|^+++ /|+++ |' ../plan.patch; patch -s -p0 <../plan.patch");
    sandbox.init(&[]);
    let known_only_later =
        ["kube-apiserver.yaml", "kube-controller-manager.yaml", "kube-scheduler.yaml", "etcd.service"];
    let mut compared = 0;
    for path in
        sandbox.sh("cd patched; find . -type f").lines().filter(|p| !known_only_later.iter().any(|k| p.ends_with(k)))
    {
        assert_eq!(sandbox.read(&format!("patched/{path}")), sandbox.read(&format!("img/{path}")), "{path}");
        compared += 1;
    }
    assert!(compared > 15, "{compared}: {plan}");
    assert!(!plan.contains("PRIVATE KEY") && !plan.contains("secret:"), "a secret is shown");
}

#[test]
fn progress_on_a_terminal_is_redrawn_and_elsewhere_plain() {
    let sandbox = Sandbox::new();
    let run = sandbox.init(&[]);
    assert!(run.stderr.contains("          pki  make CA /etc/kubernetes/pki/ca.crt"), "{}", run.stderr);
    assert!(!run.stderr.contains('\r'), "{}", run.stderr);
    let mut shell = sandbox.command("bash");
    shell.args(["-c", "$HAMASTER status --root img"]).env("HAMASTER", HAMASTER).stdin(Stdio::null());
    let status = Run::of(shell.output().unwrap()).expect(0);
    assert!(status.stdout.contains("master  m1 at 192.0.2.11"), "{}", status.stdout);
}
