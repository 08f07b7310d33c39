//! Changes of the plugin's file: replaced in the ways of people and tools, overwritten, and emptied while it serves.
//! Also the limit of images, and permissions that are too wide.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use sha2::{Digest, Sha256};

use crate::bench::{Bench, bytes, compiled, filed, post};

const FILE: &str = "libround_robin.so";

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn in_charge(bench: &Bench) -> String {
    bench.status()["pools"][0]["strategy_sha256"].as_str().unwrap().to_owned()
}

#[test]
fn in_every_way_of_replacing_a_file_its_new_bytes_run() {
    let bench = Bench::start_with(&filed(FILE), &[(FILE, &bytes("round_robin", ""))]);
    let file = bench.lb.path(FILE);
    let beside = bench.lb.path("beside.so");
    let by_link = |target: &std::path::Path| {
        let link = bench.lb.path("link.so");
        symlink(target, &link).unwrap();
        fs::rename(link, &file).unwrap();
    };
    type Way<'a> = (&'a str, &'a dyn Fn(&[u8]));
    let ways: [Way<'_>; 5] = [
        ("written over, as cp does", &|bytes| fs::write(&file, bytes).unwrap()),
        ("another file renamed to its name", &|bytes| {
            fs::write(&beside, bytes).unwrap();
            fs::rename(&beside, &file).unwrap();
        }),
        ("removed and created again", &|bytes| {
            fs::remove_file(&file).unwrap();
            fs::write(&file, bytes).unwrap();
        }),
        ("a link to the first of two files", &|bytes| {
            fs::write(bench.lb.path("one.so"), bytes).unwrap();
            by_link(&bench.lb.path("one.so"));
        }),
        ("the link changed to the other file", &|bytes| {
            fs::write(bench.lb.path("two.so"), bytes).unwrap();
            by_link(&bench.lb.path("two.so"));
        }),
    ];
    for (number, (way, replace)) in ways.iter().enumerate() {
        let new = bytes("round_robin", &format!("build {number}"));
        replace(&new);
        let report = bench.reloaded();
        assert_eq!(report["pools"][0]["change"], "plugin", "{way}");
        assert_eq!(in_charge(&bench), hex(&new), "{way}");
        bench.server();
    }
    assert_eq!(bench.status()["images"], 1 + ways.len());
}

#[test]
fn a_file_that_is_overwritten_and_emptied_while_it_serves_fails_no_request() {
    let good = bytes("round_robin", "");
    let bench = Bench::start_with(&filed(FILE), &[(FILE, &good)]);
    let other = bytes("least_connections", "");
    let answered = bench.under_load(4, |more| {
        for round in 0..20 {
            for content in [&vec![0x90; good.len()][..], &other, b"", &good[..good.len() / 2], &good] {
                fs::write(bench.lb.path(FILE), content).unwrap();
            }
            if round % 5 == 0 {
                more();
            }
        }
    });
    assert_eq!((in_charge(&bench), bench.seen()), (hex(&good), answered));
    assert_eq!(bench.reloaded()["result"], "no_change");
}

#[test]
fn an_image_over_the_limit_is_refused_until_a_restart_and_known_images_still_load() {
    let (file, good) = ("libbroken.so", compiled("proud_heir.c", &[]));
    let build = |number: u8| [&good[..], &[number]].concat();
    let few = "[reload]\nwatch = false\nmax_images = 3\n";
    let bench = Bench::start_in(tempfile::tempdir().unwrap(), few, &filed(file), &[(file, &build(0))]);
    for number in 1..3 {
        fs::write(bench.lb.path(file), build(number)).unwrap();
        bench.reloaded();
    }
    fs::write(bench.lb.path(file), build(3)).unwrap();
    let refused = bench.reload();
    let (status, told) = (refused.status, refused.json());
    assert_eq!((status, &told["stage"]), (422, &"images".into()), "{told}");
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains("would be image 4 of this process and 3 is the limit: restart lb"), "{reason}");
    assert_eq!(in_charge(&bench), hex(&build(2)));
    fs::write(bench.lb.path(file), build(0)).unwrap();
    bench.reloaded();
    assert_eq!((in_charge(&bench), bench.status()["images"].clone()), (hex(&build(0)), 3.into()));
}

#[test]
fn a_reload_uses_the_image_of_its_dry_run() {
    let bench = Bench::start_with(&filed(FILE), &[(FILE, &bytes("round_robin", ""))]);
    fs::write(bench.lb.path(FILE), bytes("round_robin", "new")).unwrap();
    for _ in 0..2 {
        let answer = post(bench.lb.admin, "/reload?dry_run=1", "");
        assert_eq!((answer.status, &answer.json()["result"]), (200, &"would_work".into()), "{}", answer.body);
    }
    bench.reloaded();
    assert_eq!(bench.status()["images"], 2);
}

#[test]
fn a_file_that_every_user_may_change_is_refused() {
    let bench = Bench::start_with(&filed(FILE), &[(FILE, &bytes("round_robin", ""))]);
    fs::write(bench.lb.path(FILE), bytes("round_robin", "new")).unwrap();
    fs::set_permissions(bench.lb.path(FILE), fs::Permissions::from_mode(0o666)).unwrap();
    let refused = bench.reload();
    let told = refused.json();
    assert_eq!((refused.status, &told["stage"]), (422, &"permissions".into()), "{told}");
    fs::set_permissions(bench.lb.path(FILE), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(bench.reloaded()["pools"][0]["change"], "plugin");
}
