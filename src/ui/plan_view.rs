//! A plan as text and as JSON.

use serde_json::{Value, json};

use crate::plan::{Action, Phase, diff};
use crate::ui::{Tone, Ui};

/// The plan as text: a line per step, and the diff of public files when `diffs` is set.
pub fn text(ui: &Ui, phases: &[Phase], diffs: bool) -> String {
    let mut text = String::new();
    for phase in phases.iter().filter(|p| !p.steps.is_empty() || !p.awaits.is_empty()) {
        text.push_str(&format!("{}\n", ui.paint(Tone::Bold, phase.id.name())));
        for action in &phase.steps {
            text.push_str(&line(ui, action));
            if let Some(diff) = diff::of(action).filter(|_| diffs) {
                text.push_str(&painted(ui, &diff));
            }
        }
        for awaited in &phase.awaits {
            text.push_str(&format!("  {} {}\n", ui.paint(Tone::Warn, "?"), awaited.message));
        }
    }
    text
}

/// One step.
pub fn line(ui: &Ui, action: &Action) -> String {
    format!("  {} {action}\n", sign(ui, action))
}

/// `66 steps: pki 21, kubeconfig 8, …`
pub fn summary(phases: &[Phase]) -> String {
    let counts = phases.iter().filter(|p| !p.steps.is_empty()).map(|p| format!("{} {}", p.id, p.steps.len()));
    let steps: usize = phases.iter().map(|p| p.steps.len()).sum();
    format!("{steps} steps: {}", counts.collect::<Vec<_>>().join(", "))
}

/// The plan as JSON.
pub fn json(phases: &[Phase]) -> Value {
    let phase = |p: &Phase| {
        let awaits: Vec<Value> =
            p.awaits.iter().map(|a| json!({ "path": a.path, "message": a.message, "hint": a.hint })).collect();
        json!({ "phase": p.id.name(), "steps": steps(&p.steps), "awaits": awaits })
    };
    phases.iter().map(phase).collect()
}

/// Steps as JSON.
pub fn steps(actions: &[Action]) -> Value {
    let step = |a: &Action| {
        json!({
            "action": a.kind(),
            "path": a.path().map(|p| p.display().to_string()),
            "summary": a.to_string(),
            "diff": diff::of(a),
        })
    };
    actions.iter().map(step).collect()
}

fn sign(ui: &Ui, action: &Action) -> String {
    match action {
        Action::RemoveFile { .. } | Action::RemoveDir { .. } | Action::RetireData { .. } => ui.paint(Tone::Bad, "-"),
        Action::WriteFile { before: Some(_), .. } | Action::SetMode { .. } => ui.paint(Tone::Warn, "~"),
        _ => ui.paint(Tone::Good, "+"),
    }
}

fn painted(ui: &Ui, diff: &str) -> String {
    diff.lines()
        .map(|line| {
            let tone = match line.as_bytes().first() {
                Some(b'+') => Tone::Good,
                Some(b'-') => Tone::Bad,
                _ => Tone::Dim,
            };
            format!("      {}\n", ui.paint(tone, line))
        })
        .collect()
}
