//! A plan as text and as JSON.

use serde_json::{Value, json};

use crate::plan::{Action, Phase, diff};
use crate::ui::{Tone, Ui};

/// The plan as text: a line per step, and the diff of public files when `diffs` is set.
pub fn text(ui: &Ui, phases: &[Phase], diffs: bool) -> String {
    let mut text = String::new();
    for phase in phases.iter().filter(|p| !p.steps.is_empty()) {
        text.push_str(&format!("{}\n", ui.paint(Tone::Bold, phase.id.name())));
        for action in &phase.steps {
            text.push_str(&format!("  {} {action}\n", sign(ui, action)));
            if let Some(diff) = diff::of(action).filter(|_| diffs) {
                text.push_str(&painted(ui, &diff));
            }
        }
    }
    text
}

/// The plan as JSON.
pub fn json(phases: &[Phase]) -> Value {
    let phases: Vec<Value> = phases
        .iter()
        .map(|p| {
            let steps: Vec<Value> = p
                .steps
                .iter()
                .map(|a| {
                    json!({
                        "action": a.kind(),
                        "path": a.path().map(|p| p.display().to_string()),
                        "summary": a.to_string(),
                        "diff": diff::of(a),
                    })
                })
                .collect();
            json!({ "phase": p.id.name(), "steps": steps })
        })
        .collect();
    Value::Array(phases)
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
