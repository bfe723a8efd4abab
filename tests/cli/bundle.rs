//! Bundles that cannot be used: refused before anything is written.

use crate::sandbox::{INIT, Sandbox};

const PKI: &str = "img/etc/kubernetes/pki";

/// A CA made by openssl, of this name and life, as `ca.crt` and `ca.key` of an image.
fn with_ca(subject: &str, days: i32) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.sh(&format!(
        "mkdir -p {PKI}; cd {PKI}; openssl ecparam -name prime256v1 -genkey -noout -out ca.key
         openssl req -x509 -new -key ca.key -subj /CN={subject} -days {days} -out ca.crt \
             -addext keyUsage=critical,keyCertSign,cRLSign"
    ));
    sandbox
}

#[test]
fn a_good_ca_of_the_operators_is_used_and_kept() {
    let sandbox = with_ca("mine", 3650);
    let before = (sandbox.read(&format!("{PKI}/ca.crt")), sandbox.read(&format!("{PKI}/ca.key")));
    sandbox.init(&[]);
    assert_eq!((sandbox.read(&format!("{PKI}/ca.crt")), sandbox.read(&format!("{PKI}/ca.key"))), before);
    sandbox.sh(&format!("openssl verify -CAfile {PKI}/ca.crt {PKI}/server.cert {PKI}/kubecfg.crt"));
}

#[test]
fn a_key_of_another_ca_is_refused() {
    let sandbox = with_ca("mine", 3650);
    sandbox.sh(&format!("openssl ecparam -name prime256v1 -genkey -noout -out {PKI}/ca.key"));
    let message = format!("ca.key does not match {}", sandbox.path(PKI).join("ca.crt").display());
    sandbox.refuses(&INIT, 4, &message, "move");
}

#[test]
fn an_expired_ca_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.sh(&format!(
        "mkdir -p {PKI} ca; touch ca/index; cd {PKI}; openssl ecparam -name prime256v1 -genkey -noout -out ca.key
         openssl req -new -key ca.key -subj /CN=old -out $HOME/ca/csr
         printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=%s/index\\nnew_certs_dir=%s\\nrand_serial=yes\\ndefault_md=sha256\\n\
policy=p\\nx509_extensions=x\\n[p]\\ncommonName=supplied\\n[x]\\nbasicConstraints=critical,CA:TRUE\\n\
keyUsage=critical,keyCertSign,cRLSign\\n' $HOME/ca $HOME/ca >$HOME/ca/conf
         openssl ca -batch -selfsign -config $HOME/ca/conf -keyfile ca.key -in $HOME/ca/csr -out ca.crt -notext \
             -startdate 20100101000000Z -enddate 20200101000000Z 2>/dev/null"
    ));
    sandbox.refuses(&INIT, 4, "ca.crt expired on 2020-01-01", "move");
}

#[test]
fn a_torn_pem_is_refused() {
    for file in ["ca.crt", "ca.key"] {
        let sandbox = with_ca("mine", 3650);
        let whole = sandbox.read(&format!("{PKI}/{file}"));
        sandbox.write(&format!("{PKI}/{file}"), &whole[..whole.len() / 2]);
        sandbox.refuses(&INIT, 4, file, "restore");
    }
}

#[test]
fn what_is_no_bundle_is_said_to_be_none() {
    let sandbox = Sandbox::new();
    sandbox.refuses(&["certs", "check", "img"], 2, "no certificate bundle in img", "hamaster certs generate");
    sandbox.refuses(&["certs", "verify", "nowhere"], 2, "nowhere", "");
}

#[test]
fn a_bundle_is_verified_against_the_node_it_is_for() {
    let sandbox = Sandbox::new();
    let node = ["--name", "m1", "--advertise-ip", "192.0.2.11", "--lb-ip", "192.0.2.10"];
    sandbox.run(["certs", "generate", "--out", "b"].iter().chain(&node)).expect(0);
    sandbox.run(["certs", "check", "b"]).expect(0);
    sandbox.run(["certs", "verify", "b"].iter().chain(&node)).expect(0);
    let other = ["--name", "m1", "--advertise-ip", "192.0.2.12", "--lb-ip", "192.0.2.10"];
    let run = sandbox.run(["certs", "verify", "b"].iter().chain(&other)).expect(4);
    assert!(run.stdout.contains("lacks SAN 192.0.2.12"), "{}", run.stdout);
    let again = sandbox.run(["certs", "generate", "--out", "b"].iter().chain(&node)).expect(0);
    assert!(again.stdout.contains("nothing to do"), "{again:#?}");
}
