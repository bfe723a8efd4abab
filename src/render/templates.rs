//! Strict handlebars over the embedded templates, one registry per target syntax.
//!
//! `{{x}}` writes a string as a safe scalar of the file's syntax; `{{value x}}` writes a number, bool or list as such
//! (and, in a unit, a setting that is not an `Exec…=` argument). Unescaped output does not exist: a template with
//! triple braces is refused. The first line of each template names its context struct.

use std::collections::BTreeMap;

use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, JsonTruthy, Output, RenderContext, RenderErrorReason,
    Renderable,
};
use serde::Serialize;
use serde_json::Value;

use super::escape;
use crate::error::{Error, Problem, Result};

macro_rules! embed {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../templates/", $name)))),*]
    };
}

/// Name and text of every template.
const EMBEDDED: &[(&str, &str)] = embed![
    "election/elect.yaml.hbs",
    "kubelet/config.yaml.hbs",
    "kubelet/kubelet.conf.hbs",
    "lb/haproxy.cfg.hbs",
    "lb/keepalived.conf.hbs",
    "lb/nginx.conf.hbs",
    "manifests/kube-apiserver.yaml.hbs",
    "manifests/kube-controller-manager.yaml.hbs",
    "manifests/kube-scheduler.yaml.hbs",
    "manifests/podmaster.yaml.hbs",
    "network/10-flannel.conflist.hbs",
    "network/modules.conf.hbs",
    "network/net-conf.json.hbs",
    "network/sysctl.conf.hbs",
    "policy/admission.yaml.hbs",
    "policy/audit.yaml.hbs",
    "policy/authentication.yaml.hbs",
    "policy/rbac.yaml.hbs",
    "runtime/containerd-1.toml.hbs",
    "runtime/containerd-2.toml.hbs",
    "runtime/daemon.json.hbs",
    "systemd/cri-docker.conf.hbs",
    "systemd/docker-classic.conf.hbs",
    "systemd/etcd.service.hbs",
    "systemd/flanneld.service.hbs",
    "systemd/hamaster-elect.service.hbs",
    "systemd/hamaster-fence.service.hbs",
    "systemd/hamaster-kernel.service.hbs",
    "systemd/hamaster-serve.service.hbs",
    "systemd/hamaster-snapshot.service.hbs",
    "systemd/hamaster-snapshot.timer.hbs",
    "systemd/kubelet.service.hbs",
];

/// What a rendered file is read as; decides how a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Yaml,
    Json,
    Toml,
    Unit,
    /// haproxy, nginx, keepalived, sysctl, modules: bare words only.
    Words,
}

impl Syntax {
    fn of(name: &str) -> Self {
        let file = name.trim_end_matches(".hbs");
        if name.starts_with("systemd/") {
            Syntax::Unit
        } else if file.ends_with(".yaml") || file == "kubelet/kubelet.conf" {
            Syntax::Yaml
        } else if file.ends_with(".json") || file.ends_with(".conflist") {
            Syntax::Json
        } else if file.ends_with(".toml") {
            Syntax::Toml
        } else {
            Syntax::Words
        }
    }

    fn quote(self) -> fn(&str) -> String {
        match self {
            Syntax::Yaml => escape::yaml,
            Syntax::Json => escape::json,
            Syntax::Toml => escape::toml,
            Syntax::Unit => escape::exec_argument,
            Syntax::Words => str::to_owned,
        }
    }

    /// What this syntax has no way to write, if `s` is that.
    fn refuses(self, s: &str) -> bool {
        match self {
            Syntax::Words => !escape::is_word(s),
            Syntax::Unit => s.contains('\0'),
            Syntax::Yaml | Syntax::Json | Syntax::Toml => false,
        }
    }
}

/// The templates of every rendered file: the embedded ones, or an operator's in their place.
pub struct Templates {
    registries: Vec<(Syntax, Handlebars<'static>)>,
}

impl Templates {
    /// The templates this program was built with.
    ///
    /// # Errors
    /// None in practice: a test compiles every embedded template.
    pub fn embedded() -> Result<Self> {
        Self::with_overrides(&BTreeMap::new())
    }

    /// The embedded templates, those named in `overrides` (`systemd/etcd.service.hbs` → text) replaced.
    ///
    /// # Errors
    /// All of them in one report: a name that no template has, a text that does not compile or that would write a
    /// value unescaped.
    pub fn with_overrides(overrides: &BTreeMap<String, String>) -> Result<Self> {
        let mut problems: Vec<Problem> =
            overrides.keys().filter(|n| !EMBEDDED.iter().any(|(e, _)| e == n)).map(|n| unknown(n)).collect();
        let mut registries: Vec<_> = [Syntax::Yaml, Syntax::Json, Syntax::Toml, Syntax::Unit, Syntax::Words]
            .map(|syntax| (syntax, registry(syntax)))
            .into();
        for (name, embedded) in EMBEDDED {
            let text = overrides.get(*name).map_or(*embedded, String::as_str);
            let syntax = Syntax::of(name);
            for (_, registry) in registries.iter_mut().filter(|(s, _)| *s == syntax) {
                problems.extend(compile(registry, name, text));
            }
        }
        if problems.is_empty() {
            Ok(Self { registries })
        } else {
            Err(Error::usage("templates cannot be used").problems(problems))
        }
    }

    /// Names and texts of the embedded templates, to copy and change.
    pub fn sources() -> &'static [(&'static str, &'static str)] {
        EMBEDDED
    }

    /// Renders one template.
    ///
    /// # Errors
    /// When the template asks for a name its context lacks, or a value cannot be written in the file's syntax.
    pub fn render(&self, name: &str, context: &impl Serialize) -> Result<String> {
        let fail = |why: String| Error::usage(format!("template {name} does not render")).cause(why);
        let syntax = Syntax::of(name);
        let context = serde_json::to_value(context).map_err(|e| fail(e.to_string()))?;
        if let Some(at) = refused(&context, syntax) {
            return Err(fail(format!("{at} cannot be written in this kind of file")));
        }
        let registry = self.registries.iter().find(|(s, _)| *s == syntax).map(|(_, r)| r);
        let registry = registry.ok_or_else(|| fail("there is no such template".into()))?;
        registry.render(name, &context).map_err(|e| fail(e.to_string()).hint(compare(name)))
    }
}

fn registry(syntax: Syntax) -> Handlebars<'static> {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    registry.register_escape_fn(syntax.quote());
    let value = move |h: &Helper, _: &Handlebars, _: &Context, _: &mut RenderContext, out: &mut dyn Output| {
        write_value(syntax, h, out)
    };
    registry.register_helper("value", Box::new(value));
    registry.register_helper("if", Box::new(StrictIf { when: true }));
    registry.register_helper("unless", Box::new(StrictIf { when: false }));
    registry
}

/// `{{value x}}`
fn write_value(syntax: Syntax, h: &Helper, out: &mut dyn Output) -> HelperResult {
    let param = h.param(0).filter(|p| !p.is_value_missing());
    let value = param.ok_or(RenderErrorReason::ParamNotFoundForIndex("value", 0))?.value();
    let text = match (syntax, value) {
        (Syntax::Unit, Value::String(s)) => escape::unit_setting(s)
            .ok_or_else(|| RenderErrorReason::Other(format!("{s:?} cannot be written in a unit file")))?,
        (_, value) => escape::literal(value, syntax.quote()),
    };
    out.write(&text)?;
    Ok(())
}

/// `{{#if x}}`, as strict as everything else: handlebars' own takes a misspelt name for false.
struct StrictIf {
    when: bool,
}

impl HelperDef for StrictIf {
    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        render: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let param = h.param(0).ok_or(RenderErrorReason::ParamNotFoundForIndex("if", 0))?;
        if param.is_value_missing() {
            return Err(RenderErrorReason::MissingVariable(param.relative_path().cloned()).into());
        }
        let branch = if param.value().is_truthy(false) == self.when { h.template() } else { h.inverse() };
        branch.map_or(Ok(()), |template| template.render(registry, context, render, out))
    }
}

fn compile(registry: &mut Handlebars, name: &str, text: &str) -> Option<Problem> {
    let problem = |message: String, hint| Some(Problem { at: name.to_owned(), message, hint });
    if text.contains("{{{") || text.contains("{{&") || text.contains("{{~{") {
        let hint = "write {{x}}, or {{value x}} for a number, bool or list";
        return problem("would write a value unescaped".into(), Some(hint.to_owned()));
    }
    let error = registry.register_template_string(name, text).err()?;
    let (line, column) = error.pos().unwrap_or((1, 1));
    let message = format!("does not compile: line {line}, column {column}: {}", error.reason());
    problem(message, Some(compare(name)))
}

/// What helps with a template of the operator's.
fn compare(name: &str) -> String {
    format!("compare it with templates/{name} in hamaster's source")
}

fn unknown(name: &str) -> Problem {
    let distance = |known: &str| strsim::levenshtein(name, known);
    let nearest = EMBEDDED.iter().map(|(known, _)| *known).min_by_key(|known| distance(known));
    Problem {
        at: name.to_owned(),
        message: "there is no template of that name".into(),
        hint: nearest.map(|n| format!("did you mean {n}?")),
    }
}

/// The first string in `value` that `syntax` cannot write, as `.path = "text"`.
fn refused(value: &Value, syntax: Syntax) -> Option<String> {
    match value {
        Value::String(s) if syntax.refuses(s) => Some(format!(" = {s:?}")),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, v)| refused(v, syntax).map(|at| format!("[{i}]{at}")))
        }
        Value::Object(map) => map.iter().find_map(|(k, v)| refused(v, syntax).map(|at| format!(".{k}{at}"))),
        _ => None,
    }
}
