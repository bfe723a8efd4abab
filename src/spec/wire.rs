//! YAML text as a tree in which everything knows its line and column, duplicate keys included: what a report of all
//! mistakes needs and a derived deserializer, which stops at the first, cannot give.

use serde_yaml::granit_parser::{Event, Marker, Parser, ScalarStyle, Span, options};

use super::mistake::Mistake;

/// A line and a column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl From<&Marker> for Place {
    fn from(m: &Marker) -> Self {
        Self { line: m.line(), column: m.col() + 1 }
    }
}

/// A value and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) value: Value,
}

/// A scalar is kept as it is spelled: `1.30` is not `1.3`, `off` is not `false`. What it means is up to its key.
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

impl Value {
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// A key of a mapping.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) at: Place,
    pub(crate) name: String,
}

/// Reads the one document of `text`. `Ok(None)`: there is none, or it says nothing.
///
/// # Errors
/// It is not YAML: the parser cannot go on, so there is one mistake.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, (Place, Mistake)> {
    // Nothing of ours is deep; the limit keeps the recursion below on any stack.
    let options = options! { emit_comments: false, flow_nesting_limit: 32, block_nesting_limit: 32 };
    let mut reader = Reader { parser: Parser::new_from_str_with_options(text, options), text };
    reader.document()
}

struct Reader<'t> {
    parser: Parser<'t, serde_yaml::granit_parser::StrInput<'t>>,
    text: &'t str,
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Option<Node>, (Place, Mistake)> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd | Event::StreamEnd => {}
                _ if root.is_some() => {
                    let mistake = Mistake::new("a second document starts here");
                    return Err(((&span.start).into(), mistake.hint("keep one document in one file")));
                }
                event => root = Some(self.node(event, &span)?),
            }
        }
        Ok(root.filter(|n| !matches!(n.value, Value::Null)))
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, (Place, Mistake)> {
        self.parser.next_event().transpose().map_err(|e| {
            let place = Place::from(e.marker());
            let said = e.info();
            let mistake = Mistake::new(format!("not valid YAML: {said}"));
            let line = self.text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
            let tab = said.contains("tab") || line.trim_start_matches(' ').starts_with('\t');
            (place, if tab { mistake.hint("indent with spaces: YAML takes no tabs") } else { mistake })
        })
    }

    fn node(&mut self, event: Event<'t>, span: &Span) -> Result<Node, (Place, Mistake)> {
        let at = Place::from(&span.start);
        if event.tag().is_some() {
            return Err((at, Mistake::new("tags are not taken").hint("write the plain value, in quotes if need be")));
        }
        // Without aliases a small file cannot stand for a huge one.
        if event.is_alias() || event.anchor_id().is_some() {
            return Err((at, Mistake::new("anchors and aliases are not taken").hint("write the value out")));
        }
        let value = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") => {
                Value::Null
            }
            Event::Scalar(text, ..) => Value::Scalar(text.into_owned()),
            Event::SequenceStart(..) => {
                let mut items = vec![];
                while let Some((event, span)) = self.next()? {
                    if event == Event::SequenceEnd {
                        break;
                    }
                    items.push(self.node(event, &span)?);
                }
                Value::List(items)
            }
            Event::MappingStart(..) => Value::Map(self.entries()?),
            _ => Value::Null,
        };
        Ok(Node { at, value })
    }

    fn entries(&mut self) -> Result<Vec<(Key, Node)>, (Place, Mistake)> {
        let mut entries = vec![];
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, &span)?;
            let name = match key.value {
                Value::Scalar(name) => name,
                Value::Null => String::new(),
                other => return Err((key.at, Mistake::new(format!("a key cannot be {}", other.describe())))),
            };
            let Some((event, span)) = self.next()? else { break };
            entries.push((Key { at: key.at, name }, self.node(event, &span)?));
        }
        Ok(entries)
    }
}
