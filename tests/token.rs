//! The join token: what is not whole is refused without showing it, and nobody gets more than it was made for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use hamaster::state::Digest;
use hamaster::token::{Denied, Role, Stored, Token};
use proptest::prelude::*;

fn token(seed: u8) -> Token {
    let random = std::array::from_fn(|n| seed.wrapping_mul(31).wrapping_add(n as u8));
    Token::new(&random, Digest::of(b"the CA's public key"))
}

fn stored(token: &Token, role: Role) -> Stored {
    Stored { secret_hash: token.secret_hash(), role, node: None, uses: 1, bearers: vec![], expires: NOW + 1 }
}

#[test]
fn a_token_reads_back_as_it_is_shown() {
    let made = token(7);
    let read = Token::parse(&format!("  {}\n", *made.reveal())).unwrap();
    assert_eq!((&read.id, read.ca_pin), (&made.id, made.ca_pin));
    assert_eq!(read.secret().expose(), made.secret().expose());
    assert_eq!(*read.reveal(), *made.reveal());
}

#[test]
fn its_secret_is_in_no_debug_and_no_error() {
    let made = token(9);
    let text = made.reveal().to_string();
    let secret = text.split('.').nth(2).unwrap().to_owned();
    assert!(!format!("{made:?}{:?}", stored(&made, Role::Master)).contains(&secret));
    // Cut off at each place, and with each letter changed for one that cannot be.
    for at in 0..text.len() {
        let mut spoilt = text.clone();
        spoilt.replace_range(at..=at, "!");
        for wrong in [&text[..at], &spoilt] {
            let error = Token::parse(wrong).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains(&secret[..8]), "{said}");
            assert!(error.hints()[0].contains("hamaster token create"));
        }
    }
}

const ATTEMPT: &[u8] = b"what m2 is known by";
/// In seconds since 1970.
const NOW: i64 = 1_800_000_000;

#[test]
fn nobody_gets_more_than_the_token_was_made_for() {
    let made = token(1);
    let secret = made.secret().expose();
    let (master, worker) = (stored(&made, Role::Master), stored(&made, Role::Worker));
    let admit = |of: &Stored, node: &str, role| of.admit(secret, ATTEMPT, node, role, NOW).map(|used| used.is_some());
    assert_eq!(admit(&master, "m2", Role::Master), Ok(true));
    assert_eq!(admit(&worker, "w1", Role::Worker), Ok(true));
    assert_eq!(admit(&worker, "w1", Role::Master), Err(Denied::OtherRole));
    assert_eq!(admit(&master, "w1", Role::Worker), Err(Denied::OtherRole));
    let bound = Stored { node: Some("m2".to_owned()), ..master.clone() };
    assert_eq!(admit(&bound, "m2", Role::Master), Ok(true));
    assert_eq!(admit(&bound, "m3", Role::Master), Err(Denied::OtherNode));
    // Whatever its lease says: etcd lets it begin anew.
    let late = Stored { expires: NOW, ..master.clone() };
    assert_eq!(admit(&late, "m2", Role::Master), Err(Denied::Expired));
    let spent = Stored { uses: 0, ..master.clone() };
    assert_eq!(admit(&spent, "m2", Role::Master), Err(Denied::UsedUp));
    // Whoever does not know the secret learns nothing of the rest.
    for of in [&master, &worker, &bound, &late, &spent] {
        for wrong in [&b""[..], &secret[..31], token(2).secret().expose()] {
            assert_eq!(of.admit(wrong, ATTEMPT, "m3", Role::Master, NOW), Err(Denied::WrongSecret));
        }
    }
}

#[test]
fn a_host_that_was_interrupted_comes_again_and_nobody_in_its_name() {
    let made = token(3);
    let secret = made.secret().expose();
    let used = stored(&made, Role::Master).admit(secret, ATTEMPT, "m2", Role::Master, NOW).unwrap().unwrap();
    assert_eq!(used.uses, 0);
    assert_eq!(used.admit(secret, ATTEMPT, "m2", Role::Master, NOW), Ok(None));
    assert_eq!(used.admit(secret, b"another", "m2", Role::Master, NOW), Err(Denied::OtherBearer));
    assert_eq!(used.admit(secret, ATTEMPT, "m3", Role::Master, NOW), Err(Denied::UsedUp));
    assert!(!serde_json::to_string(&used).unwrap().contains("known by"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let _ = Token::parse(&text);
    }

    #[test]
    fn what_parses_is_a_token(random in prop::array::uniform32(any::<u8>()), id in prop::array::uniform8(any::<u8>())) {
        let mut bytes = [0; 40];
        bytes[..32].copy_from_slice(&random);
        bytes[32..].copy_from_slice(&id);
        let made = Token::new(&bytes, Digest::of(&random));
        prop_assert_eq!(Token::parse(&made.reveal()).unwrap().secret_hash(), made.secret_hash());
    }
}
