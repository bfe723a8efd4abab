//! Single laws of writing, removing and looking.

use super::*;

#[test]
fn the_second_write_changes_nothing_at_all() {
    let (dir, mut host) = image();
    assert!(host.write(p("/etc/x"), b"x", 0o640, Owner::Etcd).unwrap());
    let look = || {
        let m = fs::metadata(dir.path().join("etc/x")).unwrap();
        (m.ino(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec())
    };
    let first = look();
    assert!(!host.write(p("/etc/x"), b"x", 0o640, Owner::Etcd).unwrap());
    assert_eq!(look(), first);
    assert!(host.write(p("/etc/x"), b"x", 0o600, Owner::Etcd).unwrap(), "another mode is another file");
    assert!(host.ensure_dir(p("/etc"), 0o755, Owner::Root).unwrap().is_empty());
}

#[test]
fn modes_and_owners_are_as_asked_whatever_the_umask() {
    let (dir, mut host) = image();
    let made = host.ensure_dir(p("/srv/a/b"), 0o2750, Owner::Etcd).unwrap();
    assert_eq!(made, [p("/srv"), p("/srv/a"), p("/srv/a/b")]);
    host.write(p("/srv/a/b/open"), b"", 0o666, Owner::Root).unwrap();
    let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("srv"), mode("srv/a"), mode("srv/a/b"), mode("srv/a/b/open")), (0o755, 0o755, 0o2750, 0o666));
    if is_root() {
        assert_eq!(host.etcd_owner().unwrap(), ETCD);
        let meta = fs::metadata(dir.path().join("srv/a/b")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), ETCD);
    }
}

#[test]
fn leftovers_of_a_killed_run_go_with_the_next_write_and_only_those() {
    let (dir, mut host) = image();
    host.write(p("/etc/x"), b"x", 0o600, Owner::Root).unwrap();
    for name in [".x.hamaster-0badcafe", ".y.hamaster-0badcafe", ".x.swp"] {
        fs::write(dir.path().join("etc").join(name), "half").unwrap();
    }
    assert!(!host.write(p("/etc/x"), b"x", 0o600, Owner::Root).unwrap());
    assert_eq!(host.list(p("/etc")).unwrap().unwrap(), [".x.swp", ".y.hamaster-0badcafe", "passwd", "x"]);
}

#[test]
fn no_path_and_no_symlink_leads_out_of_the_root() {
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("file"), "theirs").unwrap();
    let untouched = tree(outside.path());
    let (dir, mut host) = image();
    symlink(outside.path(), dir.path().join("absolute")).unwrap();
    symlink("../../../../../../../..", dir.path().join("up")).unwrap();
    symlink(outside.path().join("file"), dir.path().join("direct")).unwrap();

    let up = PathBuf::from(format!("/up{}/file", outside.path().display()));
    let dots = PathBuf::from(format!("/../../../..{}/file", outside.path().display()));
    for path in [p("/absolute/file"), p("/direct"), &up, &dots] {
        assert!(!matches!(host.read(path), Ok(Some(_))), "{}", path.display());
        // Refused, or done inside.
        let _ = host.write(path, b"ours", 0o600, Owner::Root);
        let _ = host.ensure_dir(&path.join("sub"), 0o700, Owner::Root);
        let _ = host.remove(path);
    }
    assert_eq!(tree(outside.path()), untouched);
}

#[test]
fn symlinks_inside_an_image_lead_where_the_booted_image_would_go() {
    let (dir, mut host) = image();
    fs::create_dir_all(dir.path().join("run")).unwrap();
    fs::create_dir_all(dir.path().join("var")).unwrap();
    symlink("/run", dir.path().join("var/run")).unwrap();
    symlink("../run/../run/real", dir.path().join("etc/resolv.conf")).unwrap();
    host.write(p("/var/run/real"), b"real", 0o644, Owner::Root).unwrap();
    assert_eq!(fs::read(dir.path().join("run/real")).unwrap(), b"real");
    assert_eq!(host.read(p("/etc/resolv.conf")).unwrap().unwrap(), b"real");

    symlink("loop", dir.path().join("loop")).unwrap();
    let e = host.read(p("/loop")).unwrap_err();
    assert!(e.message().contains("too many symlinks"), "{e}");
}

#[test]
fn what_is_not_a_plain_file_or_directory_is_never_replaced() {
    let (dir, mut host) = image();
    symlink("/etc/passwd", dir.path().join("etc/link")).unwrap();
    let fifo = dir.path().join("etc/fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    fs::create_dir(dir.path().join("etc/dir")).unwrap();
    let before = tree(dir.path());
    for path in ["/etc/link", "/etc/fifo", "/etc/dir"] {
        let path = p(path);
        assert_eq!(host.write(path, b"", 0o600, Owner::Root).unwrap_err().kind(), Kind::Conflict);
        assert_eq!(host.remove(path).unwrap_err().kind(), Kind::Conflict);
    }
    assert_eq!(host.ensure_dir(p("/etc/link"), 0o700, Owner::Root).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(host.ensure_dir(p("/etc/passwd/sub"), 0o700, Owner::Root).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(host.stat(p("/etc/link")).unwrap().unwrap().kind, PathKind::Other);
    assert!(host.read(p("/etc/fifo")).is_err(), "must neither hang nor read");
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn a_backup_is_a_copy_with_mode_and_owner_where_nobody_else_can_look() {
    let (dir, mut host) = image();
    host.write(p("/etc/x"), b"x", 0o644, Owner::Etcd).unwrap();
    let copy = host.backup(p("/etc/x"), p("/var/backup/20300101T000000Z")).unwrap().unwrap();
    assert_eq!(copy, p("/var/backup/20300101T000000Z/etc/x"));
    let copied = tree(dir.path());
    assert_eq!(copied[copy.strip_prefix("/").unwrap()], copied[p("etc/x")]);
    assert_eq!(fs::metadata(dir.path().join("var/backup")).unwrap().mode() & 0o777, 0o700);
    assert_eq!(host.backup(p("/etc/absent"), p("/var/backup/1")).unwrap(), None);
}

// ---- looking --------------------------------------------------------------------------------------------------------

#[test]
fn observe_sees_what_is_there_and_keeps_no_secret() {
    let (dir, mut host) = image();
    host.write(p("/etc/public.conf"), b"public", 0o644, Owner::Root).unwrap();
    let secrets = [
        ("/etc/kubernetes/pki/ca.key", "key"),
        ("/etc/kubernetes/pki/encryption-config.yaml", "secret: abc"),
        ("/etc/kubernetes/admin.conf", "token: abc"),
        ("/etc/elsewhere.yaml", "-----BEGIN PRIVATE KEY-----\nabc"),
        ("/etc/elsewhere.conf", "users:\n- user: {client-key-data: abc}"),
    ];
    host.ensure_dir(p("/etc/kubernetes/pki"), 0o755, Owner::Root).unwrap();
    for (path, text) in secrets {
        host.write(p(path), text.as_bytes(), 0o644, Owner::Root).unwrap();
    }
    symlink("public.conf", dir.path().join("etc/link")).unwrap();
    let paths: Vec<PathBuf> = ["/etc", "/etc/public.conf", "/etc/link", "/etc/absent", "/etc/public.conf/absent"]
        .into_iter()
        .chain(secrets.map(|(path, _)| path))
        .map(PathBuf::from)
        .collect();
    let before = tree(dir.path());
    let seen = observe(&host, &paths, &["etcd.service".to_owned()], p("/var/lib/hamaster/record.json")).unwrap();
    assert_eq!(tree(dir.path()), before);

    let kind = |path: &str| seen.at(p(path)).map(|f| f.kind);
    assert_eq!(kind("/etc"), Some(PathKind::Dir));
    assert_eq!(kind("/etc/link"), Some(PathKind::Other));
    assert_eq!((kind("/etc/absent"), kind("/etc/public.conf/absent")), (None, None));
    assert_eq!(seen.digest(p("/etc/link")), None);
    let public = seen.at(p("/etc/public.conf")).unwrap();
    assert_eq!((public.digest, public.mode), (Some(Digest::of(b"public")), 0o644));
    assert_eq!(public.content, ContentFact::Public(b"public".to_vec()));
    for (path, text) in secrets {
        assert_eq!(seen.digest(p(path)), Some(Digest::of(text.as_bytes())));
        assert!(
            !matches!(seen.at(p(path)).unwrap().content, ContentFact::Public(_)),
            "{path} would be shown in a diff"
        );
    }
    assert_eq!(seen.units["etcd.service"], UnitFact::default());
    assert_eq!(seen.record, Record::default());
    if is_root() {
        assert_eq!((seen.owners.root, seen.owners.etcd), ((0, 0), ETCD));
    }
}

#[test]
fn a_record_reads_back_and_a_damaged_one_is_never_taken_for_empty() {
    let (_dir, mut host) = image();
    let path = p("/etc/record.json");
    let record = Record { schema: "any".to_owned(), dirs: vec!["/etc/x".into()], ..Record::default() };
    let json = serde_json::to_vec(&record).unwrap();
    host.write(path, &json, 0o600, Owner::Root).unwrap();
    assert_eq!(observe(&host, &[], &[], path).unwrap().record, record);
    for cut in 0..json.len() {
        host.write(path, &json[..cut], 0o600, Owner::Root).unwrap();
        let e = observe(&host, &[], &[], path).unwrap_err();
        assert_eq!(e.kind(), Kind::Conflict, "cut at {cut}");
        assert!(!e.hints().is_empty());
    }
}
