//! The CA keys live elsewhere: hamaster writes signing requests, openssl signs them, the next run takes them.

use crate::sandbox::{Run, Sandbox};

const CSR: &str = "b/etc/kubernetes/pki/csr";
const NODE: [&str; 6] = ["--name", "m1", "--advertise-ip", "192.0.2.11", "--lb-ip", "192.0.2.10"];

/// The three CAs of a bundle in `b`, their keys in `keys`.
fn cas() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.sh("mkdir -p keys b/etc/kubernetes/pki b/etc/etcd/pki
         for ca in kubernetes/pki/ca kubernetes/pki/front-proxy-ca etcd/pki/ca; do
             key=keys/${ca//\\//-}.key
             openssl ecparam -name prime256v1 -genkey -noout -out $key
             openssl req -x509 -new -key $key -subj /CN=${ca//\\//-} -days 3650 -out b/etc/$ca.crt \
                 -addext keyUsage=critical,keyCertSign,cRLSign
         done");
    sandbox
}

fn generate(sandbox: &Sandbox) -> Run {
    sandbox.run(["certs", "generate", "--out", "b"].iter().chain(&NODE))
}

/// Signs every request by running its hint; only the key is not where hamaster could know.
fn sign(sandbox: &Sandbox, said: &str) {
    for hint in said.lines().filter_map(|l| l.trim().strip_prefix("hint: openssl ")) {
        let ca = hint.split_whitespace().skip_while(|w| *w != "-CA").nth(1).unwrap();
        let name = ca.rsplit_once("/etc/").unwrap().1.trim_end_matches(".crt").replace('/', "-");
        sandbox.sh(&format!("openssl {} 2>/dev/null", hint.replace("CA.key", &format!("keys/{name}.key"))));
    }
}

#[test]
fn requests_are_written_signed_elsewhere_and_taken() {
    let sandbox = cas();
    let first = generate(&sandbox).expect(4);
    assert!(first.stderr.contains("certificates wait for an external CA"), "{}", first.stderr);
    let requests = sandbox.sh(&format!("ls {CSR}/*.csr")).lines().count();
    assert_eq!(first.stderr.matches("has yet to be signed").count(), requests, "{}", first.stderr);

    // Nothing has come back: the same is missing, nothing is made anew.
    let before = sandbox.tree();
    let again = generate(&sandbox).expect(4);
    assert_eq!(again.stderr.matches("has yet to be signed").count(), requests);
    assert_eq!(sandbox.tree(), before);

    sign(&sandbox, &first.stderr);
    generate(&sandbox).expect(0);
    sandbox.run(["certs", "verify", "b"].iter().chain(&NODE)).expect(0);
    assert!(generate(&sandbox).expect(0).stdout.contains("nothing to do"));
}

#[test]
fn what_comes_back_is_judged_before_it_is_taken() {
    let sandbox = cas();
    let first = generate(&sandbox).expect(4);
    sign(&sandbox, &first.stderr);
    // Signed without copying the extensions: no names in it.
    sandbox.sh(&format!(
        "openssl x509 -req -in {CSR}/server.csr -CA b/etc/kubernetes/pki/ca.crt -CAkey keys/kubernetes-pki-ca.key \
             -days 365 -out {CSR}/server.crt 2>/dev/null"
    ));
    let args: Vec<&str> = ["certs", "generate", "--out", "b"].into_iter().chain(NODE).collect();
    let again = format!("rm {}", sandbox.path(CSR).join("server.crt").display());
    sandbox.refuses(&args, 4, "csr/server.crt: was signed, but cannot be used", &again);
}

#[test]
fn init_stops_before_anything_that_needs_the_certificates() {
    let sandbox = cas();
    let args = ["init", "--root", "b", "--yes", "--ignore-preflight", "all"];
    let first = sandbox.run(args.iter().chain(&NODE)).expect(4);
    assert!(!sandbox.path("b/etc/systemd").exists(), "units before certificates");
    sign(&sandbox, &first.stderr);
    sandbox.run(args.iter().chain(&NODE)).expect(0);
    assert!(sandbox.path("b/etc/systemd/system/etcd.service").exists());
}
