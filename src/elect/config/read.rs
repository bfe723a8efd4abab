//! Reads `elect.yaml` with every mistake in one report.

use std::path::PathBuf;
use std::time::Duration;

use super::draft::{Draft, DraftGroup, Etcd};
use super::{Check, Config, Confirm, Health, checks};
use crate::error::{Error, Result};
use crate::spec::checks as values;
use crate::spec::file::decode;
use crate::spec::mistake::Mistake;
use crate::spec::report::{Report, Section, scalar, unique};
use crate::spec::units::duration;
use crate::spec::wire::{self, Node, Value};

type S<'r, 'f, 'n> = Section<'r, 'f, 'n>;

/// What a file (its name and content) says.
///
/// # Errors
/// Every mistake of it, each at `file:line:column`.
pub fn load(name: &str, text: &str) -> Result<Config> {
    let text = decode(name, text.as_bytes())?;
    let mut report = Report::new(name);
    let root = match wire::parse(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        Ok(Some(root)) => root,
        Ok(None) => {
            return Err(Error::usage(format!("{name} is empty")).hint("write at least `etcd:` and `groups:`"));
        }
        Err((place, mistake)) => {
            report.at(place, mistake);
            return Err(report.finish().err().unwrap_or_else(|| Error::usage(format!("{name} is not YAML"))));
        }
    };
    let draft = Section::read(&mut report, "", Some(&root), top);
    let config = draft.resolve(&mut report);
    report.finish()?;
    Ok(config)
}

fn top(s: &mut S<'_, '_, '_>) -> Draft {
    s.value("apiVersion", (), values::exactly("hamaster/v1"));
    s.value("kind", (), values::exactly("Elect"));
    let d = Draft::default();
    Draft {
        id: s.optional("id", checks::id),
        etcd: s.section("etcd", etcd),
        lease: s.value("leaseDuration", d.lease, duration),
        renew: s.optional("renewInterval", duration),
        attempt: s.optional("attemptTimeout", duration),
        watchdog: s.optional("watchdog", duration),
        removal: s.optional("removal", duration),
        stop: s.optional("stopTimeout", duration),
        priority: s.value("priority", d.priority, checks::priority),
        preempt_after: s.optional("preemptAfter", checks::interval),
        min_term: s.value("minTerm", d.min_term, duration),
        runtime_dir: s.value("runtimeDir", d.runtime_dir, checks::absolute),
        listen: s.optional("listen", checks::socket),
        store_timeout: s.optional("storeTimeout", checks::interval),
        once: s.value("once", d.once, values::boolean),
        health: s.section("health", health),
        on_unfenceable: s.value("onUnfenceable", d.on_unfenceable, checks::unfenceable),
        groups: groups(s),
        notes: d.notes,
    }
}

fn etcd(s: &mut S<'_, '_, '_>) -> Etcd {
    let mut seen = vec![];
    let given = has_items(s, "endpoints");
    let endpoints = s.list("endpoints", |report, path, node| {
        let parse = |text: &str| unique(&mut seen, checks::endpoint(text)?, "the endpoint");
        scalar(report, path.to_owned(), node, parse)
    });
    if !given {
        s.report().across(&["etcd.endpoints"], || {
            Mistake::new("`etcd.endpoints` is missing").hint("write e.g. `endpoints: [https://127.0.0.1:2379]`")
        });
    }
    Etcd {
        endpoints,
        ca: s.optional("caFile", checks::file),
        cert: s.optional("certFile", checks::file),
        key: s.optional("keyFile", checks::file),
    }
}

fn health(s: &mut S<'_, '_, '_>) -> Health {
    let d = Draft::default().health;
    Health {
        checks: s.list("checks", |report, path, node| Section::read(report, path, Some(node), |s| check(s, node))),
        every: s.value("every", d.every, checks::interval),
        timeout: s.value("timeout", d.timeout, checks::interval),
        fall: s.value("fall", d.fall, checks::rounds),
        rise: s.value("rise", d.rise, checks::rounds),
        healthy_for: s.value("healthyFor", d.healthy_for, duration),
    }
}

fn check(s: &mut S<'_, '_, '_>, node: &Node) -> Option<Check> {
    let kinds = ["http", "tcp", "exec"].into_iter().filter(|k| s.has(k)).count();
    let ca: Option<PathBuf> = s.optional("caFile", checks::file);
    let url = s.optional("http", checks::url);
    let secure = url.as_ref().is_some_and(|u| u.scheme_str() == Some("https"));
    let http = url.map(|url| Check::Http { url, ca: ca.clone() });
    let tcp = s.optional("tcp", |text| {
        checks::host_port(text, None).map(|(host, port)| match host.contains(':') {
            true => Check::Tcp(format!("[{host}]:{port}")),
            false => Check::Tcp(format!("{host}:{port}")),
        })
    });
    let exec = argv(s, "exec").map(Check::Exec);
    let mut refuse = |mistake: Mistake| s.report().at(node.at, mistake);
    match kinds {
        1 if secure && ca.is_none() => refuse(
            Mistake::new("an https check without `caFile`: nobody's certificate could be trusted")
                .hint("add `caFile: /etc/kubernetes/pki/ca.crt`"),
        ),
        1 if !secure && http.is_some() && ca.is_some() => {
            refuse(
                Mistake::new("`caFile` of a check without TLS").hint("write `http: https://…`, or leave caFile out"),
            );
        }
        1 => {}
        _ => refuse(
            Mistake::new(format!("a check has one of http, tcp, exec; this one has {kinds}"))
                .hint("write e.g. `- tcp: 127.0.0.1:6443`"),
        ),
    }
    http.or(tcp).or(exec)
}

fn groups(s: &mut S<'_, '_, '_>) -> Vec<DraftGroup> {
    if !has_items(s, "groups") {
        s.report().across(&["groups"], || {
            Mistake::new("`groups` is missing: there is nothing to elect").hint("write `groups:` and `- name: …`")
        });
    }
    s.list("groups", |report, path, node| {
        // Kept whatever is wrong with it: paths count the groups read.
        Some(Section::read(report, path, Some(node), |s| group(s, node)))
    })
}

fn group(s: &mut S<'_, '_, '_>, node: &Node) -> DraftGroup {
    let payloads: Vec<_> = ["sourceFile", "exec", "unit"].into_iter().filter(|k| s.has(k)).collect();
    let name = s.required("name", node.at, checks::name);
    match payloads[..] {
        [] => s.report().at(
            node.at,
            Mistake::new("a group without a payload").hint("write sourceFile and destFile, or exec, or unit"),
        ),
        [_] => {}
        _ => s.report().at(
            node.at,
            Mistake::new(format!("a group has one payload; this one has {}", payloads.join(" and ")))
                .hint("make it two groups, with `together` if need be"),
        ),
    }
    let file = payloads.contains(&"sourceFile");
    for key in ["destFile", "kind", "confirm", "criSocket", "annotateToken", "update"] {
        if !file && s.has(key) {
            let path = s.key(key);
            s.report()
                .at(node.at, Mistake::new(format!("`{path}` says nothing without sourceFile")).hint("leave it out"));
        }
    }
    if file && !s.has("destFile") {
        let mistake = Mistake::new(format!("`{}` is missing", s.key("destFile")));
        s.report().at(node.at, mistake.hint("write where the file takes effect, in the kubelet's staticPodPath"));
    }
    let d = DraftGroup::default();
    DraftGroup {
        name,
        source: s.optional("sourceFile", checks::file),
        dest: s.optional("destFile", checks::file),
        exec: argv(s, "exec"),
        unit: s.optional("unit", checks::unit),
        kind: s.value("kind", d.kind, checks::kind),
        confirm: confirm(s),
        cri_socket: s.optional("criSocket", checks::cri_socket),
        annotate_token: s.value("annotateToken", d.annotate_token, values::boolean),
        update: s.value("update", d.update, checks::update),
        on_start: argv(s, "onStart"),
        on_stop: argv(s, "onStop"),
        stop: s.optional("stopTimeout", duration) as Option<Duration>,
        spread: names(s, "spread"),
        together: names(s, "together"),
    }
}

/// Whether there is more than an empty list; what is no list at all is spoken of elsewhere.
fn has_items(s: &mut S<'_, '_, '_>, key: &'static str) -> bool {
    s.has(key) && !matches!(s.find(key).map(|n| &n.value), Some(Value::List(items)) if items.is_empty())
}

/// `confirm: cri`, or `confirm: {exec: [..]}`.
fn confirm(s: &mut S<'_, '_, '_>) -> Option<Confirm> {
    match s.find("confirm").map(|n| &n.value) {
        Some(Value::Map(_)) => s.section("confirm", |s| argv(s, "exec")).map(Confirm::Exec),
        _ => s.optional("confirm", checks::confirm),
    }
}

fn names(s: &mut S<'_, '_, '_>, key: &'static str) -> Vec<String> {
    let mut seen = vec![];
    s.list(key, |report, path, node| {
        scalar(report, path.to_owned(), node, |text| unique(&mut seen, checks::name(text)?, "the group"))
    })
}

/// A program and its arguments.
fn argv(s: &mut S<'_, '_, '_>, key: &'static str) -> Option<Vec<String>> {
    let at = s.find(key).filter(|n| !matches!(n.value, Value::Null))?.at;
    let path = s.key(key);
    let mut empty = false;
    let argv = s.list(key, |report: &mut Report<'_>, path, node| {
        empty |= matches!(node.value, Value::Null);
        scalar(report, path.to_owned(), node, checks::word)
    });
    let is_list = matches!(s.find(key).map(|n| &n.value), Some(Value::List(_)));
    let program = argv.first().map(String::as_str).unwrap_or_default();
    let mistake = match () {
        () if !is_list => return None,
        () if empty => Mistake::new(format!("`{path}` has an empty word")).hint("write `\"\"` if it is meant"),
        () if program.is_empty() => {
            Mistake::new(format!("`{path}` names no program")).hint("write e.g. `[/usr/local/bin/job, --flag]`")
        }
        () if program.contains('/') && !program.starts_with('/') => {
            Mistake::new(format!("`{program}` is relative to a directory nobody knows")).hint("write its absolute path")
        }
        () => return Some(argv),
    };
    s.report().at(at, mistake);
    None
}
