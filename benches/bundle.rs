//! The whole bundle of a master beside the bare key generation and signing it cannot do without.
//!
//! The aim is at most 1.5 times the bare work; `benches/process.sh` compares whole processes with openssl.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // A benchmark reads the clock.

#[path = "../tests/pki/common.rs"]
#[allow(dead_code)]
mod common;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use common::{Made, node, now, spec};
use hamaster::pki::catalog;
use hamaster::spec::KeyAlgorithm;
use hamaster::spec::layout::Layout;

fn main() {
    divan::main();
}

/// CAs, leaves, kubeconfigs, tokens: every byte but the writing.
#[divan::bench]
fn bundle() -> Made {
    Made::new(&spec(KeyAlgorithm::EcdsaP256), &node(Layout::host()), now())
}

/// As many keys made and as many signatures, with nothing around them.
#[divan::bench]
fn bare() -> Vec<Vec<u8>> {
    let (spec, this) = (spec(KeyAlgorithm::EcdsaP256), node(Layout::host()));
    let signed = catalog::cas(&spec, &this).len() + catalog::certs(&spec, &this).len();
    let make = || EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let sign = |_| make().sign(&SystemRandom::new(), &[0; 600]).unwrap().as_ref().to_vec();
    make(); // sa.key signs nothing yet
    (0..signed).map(sign).collect()
}
