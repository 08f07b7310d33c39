//! Files from a deployment: Kubernetes changes a link, other tools create a new folder, and some file systems send no
//! events.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use lb_test_support::{Balancer, wait_for};
use tempfile::TempDir;

use super::{EVENTS_ALONE, Watched, reload_section};
use crate::bench::{Bench, bytes, filed, named};

const FILE: &str = "libround_robin.so";

/// A folder as Kubernetes mounts it: `mount/lb.toml` and the plugin are links through `..data` into `mount/..1`.
fn mounted(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("mount");
    fs::create_dir(&mount).unwrap();
    deliver(&mount, "..1", text, "");
    for file in ["lb.toml", FILE] {
        symlink(format!("..data/{file}"), mount.join(file)).unwrap();
        symlink(format!("mount/{file}"), folder.path().join(file)).unwrap();
    }
    folder
}

/// Puts another version of both files in place in one step, as the kubelet does.
fn deliver(mount: &Path, version: &str, text: &str, extra: &str) {
    let data = mount.join(version);
    fs::create_dir(&data).unwrap();
    fs::write(data.join("lb.toml"), text).unwrap();
    fs::write(data.join(FILE), bytes("round_robin", extra)).unwrap();
    symlink(version, mount.join("..data_tmp")).unwrap();
    let old = fs::read_link(mount.join("..data"));
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    if let Ok(old) = old {
        fs::remove_dir_all(mount.join(old)).unwrap();
    }
}

#[test]
fn a_configuration_and_a_plugin_swapped_by_a_link_are_applied_together() {
    let watched = Watched::of(Bench::start_by(&reload_section(EVENTS_ALONE), &filed(FILE), |text| {
        Balancer::start_in(mounted(text), &[])
    }));
    let mount = watched.path("mount");
    let (text, before) = (watched.bench.text(&filed(FILE)), watched.sha256());
    watched.accepted_after(|| deliver(&mount, "..2", &format!("{text}[limits]\nheaders = 99\n"), "new"));
    assert_ne!(watched.sha256(), before);
    // Again, to show that the watch follows the link. The same bytes in other files cause no attempt.
    watched.accepted_after(|| deliver(&mount, "..3", &text, "newer"));
    watched.nothing_after(|| deliver(&mount, "..4", &text, "newer"));
    watched.accepted_after(|| deliver(&mount, "..5", &text, "newest"));
    watched.end(4);
}

#[test]
fn a_folder_that_is_created_again_is_watched_again() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = |extra: &str| bytes("round_robin", extra);
    fs::create_dir(folder.path().join("plugins")).unwrap();
    fs::write(folder.path().join("plugins").join(FILE), plugin("")).unwrap();
    let place = format!("plugins/{FILE}");
    let watched = Watched::start_in(folder, &reload_section(EVENTS_ALONE), &filed(&place), &[]);
    for version in ["second", "third"] {
        watched.accepted_after(|| {
            fs::remove_dir_all(watched.path("plugins")).unwrap();
            fs::create_dir(watched.path("plugins")).unwrap();
            fs::write(watched.path(&place), plugin(version)).unwrap();
        });
    }
    // Removed for long enough to be noticed.
    let settled = watched.settled();
    fs::remove_dir_all(watched.path("plugins")).unwrap();
    wait_for("the watcher to notice the removal", || (watched.settled() > settled).then_some(()));
    watched.accepted_after(|| {
        fs::create_dir(watched.path("plugins")).unwrap();
        fs::write(watched.path(&place), plugin("fourth")).unwrap();
    });
    watched.end(3);
}

#[test]
fn changes_without_events_are_found_by_polling() {
    let folder = tempfile::tempdir().unwrap();
    // Events come only for names in a watched folder. A write through a hard link in another folder sends none, as on
    // NFS.
    fs::create_dir(folder.path().join("server")).unwrap();
    fs::write(folder.path().join("server/lb.toml"), "").unwrap();
    fs::write(folder.path().join("server").join(FILE), bytes("round_robin", "")).unwrap();
    for file in ["lb.toml", FILE] {
        fs::hard_link(folder.path().join("server").join(file), folder.path().join(file)).unwrap();
    }
    let watched = Watched::start_in(folder, &reload_section(20), &filed(FILE), &[]);
    let before = watched.sha256();
    watched.accepted_after(|| fs::write(watched.path("server").join(FILE), bytes("round_robin", "new")).unwrap());
    assert_ne!(watched.sha256(), before);
    let text = watched.bench.text(&named("least_connections"));
    watched.accepted_after(|| fs::write(watched.path("server/lb.toml"), text).unwrap());
    assert_eq!(watched.bench.strategy(), "least_connections");
    watched.end(2);
}
