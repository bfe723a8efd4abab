//! Tables, drawn by comfy-table without borders.

use comfy_table::{ContentArrangement, Table, presets};

/// A table with a header row.
pub fn render(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    let text: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
    format!("{}\n", text.join("\n"))
}
