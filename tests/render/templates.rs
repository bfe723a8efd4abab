//! The template engine: strict about names, about overrides, and never without escaping.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hamaster::render::{self, EtcdStart, Input, Templates};

use crate::samples::{TOKEN, here, spec, this};

/// `context: Name` of a template's first line.
fn context(text: &str) -> &str {
    let first = text.lines().next().unwrap();
    first.strip_prefix("{{!-- context: ").and_then(|l| l.strip_suffix(" --}}")).unwrap_or_else(|| panic!("{first}"))
}

/// Names a template looks up: `x` of `{{x}}`, `{{#if x}}`, `{{value x}}`.
fn names(text: &str) -> BTreeSet<String> {
    let tags = text.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap());
    let looked_up = tags.filter(|t| !t.starts_with(['!', '/'])).map(|t| t.rsplit(' ').next().unwrap());
    looked_up.filter(|n| !n.starts_with('@') && !["this", "else"].contains(n)).map(str::to_owned).collect()
}

/// Fields of a struct in the renderer's sources, and of the structs they hold.
fn fields(sources: &str, name: &str) -> BTreeSet<String> {
    let body = sources.split(&format!("\nstruct {name} {{")).nth(1).unwrap_or_else(|| panic!("no struct {name}"));
    let mut out = BTreeSet::new();
    for line in body.split("\n}").next().unwrap().lines().filter(|l| !l.trim_start().starts_with("//")) {
        let Some((field, kind)) = line.trim().split_once(": ") else { continue };
        out.insert(field.to_owned());
        if let Some(inner) = kind.strip_prefix("Vec<").and_then(|k| k.strip_suffix(">,")).filter(|k| *k != "String")
            && sources.contains(&format!("\nstruct {inner} {{"))
        {
            out.extend(fields(sources, inner));
        }
    }
    out
}

#[test]
fn each_template_uses_only_names_of_the_context_it_declares() {
    let sources: String = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/render"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    for (name, text) in Templates::sources() {
        let known = if context(text) == "Nothing" { BTreeSet::new() } else { fields(&sources, context(text)) };
        let unknown: Vec<_> = names(text).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{name} uses {unknown:?}, which {} lacks", context(text));
    }
}

#[test]
fn every_template_in_the_folder_is_embedded_and_escapes() {
    let mut found = BTreeSet::new();
    let root = here("../../templates");
    for dir in std::fs::read_dir(&root).unwrap() {
        for file in std::fs::read_dir(dir.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            found.insert(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
        }
    }
    let embedded: BTreeSet<_> = Templates::sources().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, embedded);
    for (name, text) in Templates::sources() {
        assert!(!text.contains("{{{") && !text.contains("{{&"), "{name} writes something unescaped");
    }
}

fn with(name: &str, text: &str) -> Result<Templates, String> {
    Templates::with_overrides(&BTreeMap::from([(name.to_owned(), text.to_owned())])).map_err(|e| {
        let problem = &e.all_problems()[0];
        format!("{}: {} ({})", problem.at, problem.message, problem.hint.clone().unwrap_or_default())
    })
}

fn etcd_unit(templates: &Templates) -> Result<String, String> {
    let (spec, tools) = (spec(34), render::assumed_tools(&spec(34)));
    let this = this(&spec);
    let etcd = EtcdStart { sealed: true, token: TOKEN, initial_cluster: None };
    let input = Input {
        spec: &spec,
        this: &this,
        role: hamaster::token::Role::Master,
        tools: &tools,
        etcd,
        external_ca: false,
    };
    let files = render::files(&input, templates).map_err(|e| e.to_string())?;
    let unit = files.into_iter().find(|f| f.path.ends_with("etcd.service")).unwrap();
    Ok(String::from_utf8(unit.bytes).unwrap())
}

#[test]
fn an_override_takes_the_place_of_its_template() {
    let templates =
        with("systemd/etcd.service.hbs", "[Service]\nExecStart={{#each argv}}{{this}} {{/each}}\n").unwrap();
    let unit = etcd_unit(&templates).unwrap();
    assert!(unit.starts_with("[Service]\nExecStart=/usr/bin/etcd --name=m1 "), "{unit}");
    assert!(unit.contains("--initial-cluster-state=existing"));
}

#[test]
fn a_bad_override_is_refused_with_the_way_out() {
    let refusal = |name, text| with(name, text).err().unwrap();
    assert!(refusal("systemd/etcd.servce.hbs", "x").contains("did you mean systemd/etcd.service.hbs?"));
    assert!(refusal("systemd/etcd.service.hbs", "{{#if x}}").starts_with("systemd/etcd.service.hbs: "));
    for unescaped in ["{{{argv}}}", "{{& argv}}", "{{~{argv}~}}"] {
        assert!(refusal("systemd/etcd.service.hbs", unescaped).contains("unescaped"), "{unescaped}");
    }
    let both = [("systemd/nothing".to_owned(), String::new()), ("lb/nginx.conf.hbs".to_owned(), "{{".to_owned())];
    let err = Templates::with_overrides(&BTreeMap::from(both)).err().unwrap();
    assert_eq!(err.all_problems().len(), 2, "both mistakes in one report: {err}");
    assert_eq!(err.kind().exit_code(), 2);
}

#[test]
fn a_misspelt_name_is_an_error_wherever_it_stands() {
    for text in [
        "{{argw}}",
        "{{#if argw}}x{{/if}}",
        "{{#unless argw}}x{{/unless}}",
        "{{#each argw}}x{{/each}}",
        "{{value argw}}",
    ] {
        let err = etcd_unit(&with("systemd/etcd.service.hbs", text).unwrap()).expect_err(text);
        assert!(err.contains("systemd/etcd.service.hbs"), "{text}: {err}");
    }
}
