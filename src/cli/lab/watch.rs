//! `hamaster lab watch`: who leads, as it changes.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use time::format_description::well_known::Rfc3339;

use crate::error::Result;
use crate::host::clock;
use crate::lab::{self, Leadership};
use crate::ui::{Format, Ui, table};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(100);

/// Until it is interrupted: a table that is redrawn on a terminal, elsewhere a line for each change.
///
/// # Errors
/// When there is no lab, or a supervisor does not answer.
pub(super) fn watch(dir: &Path, ui: &Ui) -> Result<()> {
    clock::watch_interrupts()?;
    let redraw = ui.format == Format::Text && std::io::stdout().is_terminal();
    let (mut known, mut drawn) = (vec![], 0);
    while !clock::interrupted() {
        let now: Vec<Leadership> = lab::leaders(dir)?.into_iter().map(|group| remember(group, &known)).collect();
        if redraw {
            let table = table(&now);
            ui.out(&format!("{}{table}", up(drawn)));
            drawn = table.lines().count();
        } else {
            now.iter().filter(|group| !known.contains(*group)).for_each(|group| line(group, ui));
        }
        known = now;
        clock::sleep(EVERY);
    }
    Ok(())
}

/// A candidate that was started anew and goes on leading says nothing of how it came to lead.
fn remember(mut group: Leadership, known: &[Leadership]) -> Leadership {
    let same = |before: &&Leadership| before.group == group.group && before.leader == group.leader;
    if let Some(before) = known.iter().find(same).filter(|_| group.cause.is_none()) {
        (group.cause, group.handover_ms) = (before.cause.clone(), before.handover_ms);
    }
    group
}

/// Back over what was drawn, which is cleared.
fn up(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}A\x1b[J") }
}

/// Who leads, as a table.
pub(super) fn table(groups: &[Leadership]) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let rows = groups.iter().map(|group| {
        vec![
            group.group.clone(),
            or_none(&group.leader),
            or_none(&group.token),
            group.since.map_or_else(|| "-".to_owned(), |at| format!("{} s", clock::boottime().since(at).as_secs())),
            handover(group).unwrap_or_else(|| "-".to_owned()),
            group.manifests.join(" "),
        ]
    });
    table::render(&["GROUP", "LEADER", "TOKEN", "SINCE", "LAST HANDOVER", "MANIFEST AT"], rows)
}

fn handover(group: &Leadership) -> Option<String> {
    let took = group.handover_ms.map(|ms| format!("{ms} ms"));
    match (took, &group.cause) {
        (Some(took), Some(cause)) => Some(format!("{took} ({cause})")),
        (took, cause) => took.or_else(|| cause.clone()),
    }
}

fn line(group: &Leadership, ui: &Ui) {
    let at = clock::now().format(&Rfc3339).unwrap_or_default();
    if ui.format == Format::Json {
        let mut change = serde_json::json!({ "schema": "hamaster/v1/lab-leader", "at": at });
        if let (Some(all), Ok(serde_json::Value::Object(group))) = (change.as_object_mut(), serde_json::to_value(group))
        {
            all.extend(group);
        }
        return ui.out(&format!("{change}\n"));
    }
    let leader = match (&group.leader, &group.token) {
        (Some(leader), Some(token)) => format!("{leader} leads, token {token}"),
        (Some(leader), None) => format!("{leader} leads"),
        (None, _) => "nobody leads".to_owned(),
    };
    let handover = handover(group).map(|took| format!(", handover {took}")).unwrap_or_default();
    let manifests = if group.manifests.is_empty() { "nowhere".to_owned() } else { group.manifests.join(" ") };
    ui.out(&format!("{at} {}: {leader}{handover}; manifest at {manifests}\n", group.group));
}
