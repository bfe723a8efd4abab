//! What `render` makes, held against the programs that will read it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests run the real readers")]
#![allow(clippy::print_stderr, reason = "says what could not be checked")]
#![allow(unreachable_pub, reason = "modules of one test")]

/// Structs that refuse a field they do not have.
macro_rules! strict {
    ($($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            #[derive(Debug, Deserialize)]
            #[serde(rename_all = "camelCase", deny_unknown_fields)]
            #[allow(dead_code, reason = "decoding is the test")]
            pub struct $name { $($(#[$attribute])* pub $field: $type),* }
        )*
    };
}

mod balancer;
mod cis;
mod configs;
mod flags;
mod golden;
mod hostile;
mod pods;
mod samples;
mod templates;
mod units;
mod worker;
