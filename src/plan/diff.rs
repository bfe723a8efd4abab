//! What changes, as text: unified diffs of public files, fingerprints for secret ones.

use similar::TextDiff;

use crate::plan::Action;
use crate::state::Digest;

/// The diff of a step: a unified diff for a public file, nothing for a step that is said in one line.
pub fn of(action: &Action) -> Option<String> {
    let Action::WriteFile { path, bytes, before, .. } = action else { return None };
    let name = path.display().to_string();
    let (Ok(new), Ok(old)) = (std::str::from_utf8(bytes), std::str::from_utf8(before.as_deref().unwrap_or_default()))
    else {
        return Some(format!("{name}: {} → {}\n", fingerprint(before.as_deref()), fingerprint(Some(bytes))));
    };
    let from = if before.is_some() { name.as_str() } else { "/dev/null" };
    Some(TextDiff::from_lines(old, new).unified_diff().context_radius(3).header(from, &name).to_string())
}

fn fingerprint(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "nothing".to_owned(), |b| format!("sha256:{}", Digest::of(b).short()))
}
