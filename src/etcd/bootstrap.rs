//! Which masters form the first etcd cluster together, decided from what was named or found. Nothing is asked here.

use crate::error::{Error, Problem, Result};
use crate::spec::Node;

/// The founders in the order every host puts them in: by name. The same list, whoever wrote it, is the same cluster.
///
/// # Errors
/// `this` is not one of them, or is named with another address; two have the same name or address: all in one report.
pub fn founders(named: &[Node], this: &Node) -> Result<Vec<Node>> {
    let mut founders = named.to_vec();
    founders.sort_by(|a, b| a.name.cmp(&b.name).then(a.ip.cmp(&b.ip)));
    let mut problems = twice(&founders);
    problems.extend(stranger(&founders, this));
    match problems.is_empty() {
        true => Ok(founders),
        false => {
            Err(Error::refused("these masters cannot form an etcd cluster; nothing was touched").problems(problems))
        }
    }
}

/// Why an even number is no better than one less; `None` for an odd one.
pub fn even(founders: usize) -> Option<String> {
    let lost = founders.saturating_sub(1) / 2;
    (founders > 0 && founders.is_multiple_of(2))
        .then(|| format!("{founders} masters survive the loss of {lost}, as {} do: take an odd number", founders - 1))
}

pub(super) fn twice(founders: &[Node]) -> Vec<Problem> {
    let mut problems = vec![];
    for (n, one) in founders.iter().enumerate() {
        for other in &founders[..n] {
            let what = match () {
                () if one.name == other.name => format!("is named twice: {} and {}", other.ip, one.ip),
                () if one.ip == other.ip => format!("has the address of {}: {}", other.name, one.ip),
                () => continue,
            };
            let hint = Some("give each master a name and an address of its own".to_owned());
            problems.push(Problem { at: one.name.clone(), message: what, hint });
        }
    }
    problems
}

fn stranger(founders: &[Node], this: &Node) -> Option<Problem> {
    let say = |message: String, hint: String| Some(Problem { at: this.name.clone(), message, hint: Some(hint) });
    if founders.contains(this) {
        return None;
    }
    if let Some(named) = founders.iter().find(|m| m.name == this.name) {
        let message = format!("is named with the address {}, but this host would advertise {}", named.ip, this.ip);
        return say(message, format!("--advertise-ip {}", named.ip));
    }
    if let Some(named) = founders.iter().find(|m| m.ip == this.ip) {
        let message = format!("has the address {}, which is named {}", this.ip, named.name);
        return say(message, format!("--name {}", named.name));
    }
    let names = founders.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
    let hint = "--name NAME    # or, for one more master once the cluster is there: hamaster join";
    say(format!("is not one of the masters that form the cluster: {names}"), hint.to_owned())
}
