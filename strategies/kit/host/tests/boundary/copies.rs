//! Private copies: in memory if the directory permits no execution, made by many threads at once, and made again after
//! tampering.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Barrier;

use lb_strategy_host::{Copies, Loader, Wanted};

use crate::fixture::Bench;

/// `first_eligible` with another version in its bytes, which identifies the image.
fn builds(bench: &Bench) -> impl Fn(u8) -> Vec<u8> + use<> {
    let good = fs::read(bench.compile("first_eligible")).unwrap();
    let at = good.windows(5).position(|window| window == b"1.0.0").expect("its version");
    move |number| {
        let mut bytes = good.clone();
        bytes[at] = b'0' + number;
        bytes
    }
}

#[test]
fn plugins_in_memory_are_distinguished_even_if_descriptor_numbers_are_reused() {
    let bench = Bench::new();
    let (build, path) = (builds(&bench), bench.path("libfirst_eligible.so"));
    let wanted = Wanted { path: &path, name: None, sha256: None };
    let loader = || Loader::new(bench.path("private"), 2).with_copies(Copies::Memory);
    let mut now = loader();
    for number in 2..9 {
        // A copy that is staged but not opened frees its descriptor number, and the next copy gets it.
        fs::write(&path, build(1)).unwrap();
        drop(now.stage(&wanted).unwrap());
        fs::write(&path, build(number)).unwrap();
        let staged = now.stage(&wanted).unwrap();
        assert_eq!(fs::read(staged.copy.path()).unwrap(), build(number));
        assert_eq!(now.open(staged).unwrap().version(), format!("{number}.0.0"));
        if number == 5 {
            now = loader();
        }
    }
    for number in 2..9 {
        fs::write(&path, build(number)).unwrap();
        assert_eq!(now.load(&wanted).unwrap().version(), format!("{number}.0.0"));
    }
    assert!(!bench.path("private").exists(), "nothing was written to the directory");
}

#[test]
fn a_copy_in_memory_can_never_be_changed() {
    let bench = Bench::new();
    let path = bench.compile("first_eligible");
    let loader = Loader::new(bench.path("private"), 2).with_copies(Copies::Memory);
    let staged = loader.stage(&Wanted { path: &path, name: None, sha256: None }).unwrap();
    let mut file = OpenOptions::new().write(true).open(staged.copy.path()).unwrap();
    for refused in [file.write_all(b"x"), file.set_len(0), file.set_len(1 << 20)] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}

#[test]
fn threads_can_load_at_the_same_time() {
    let bench = Bench::new();
    let build = builds(&bench);
    for copies in [Copies::Files, Copies::Memory] {
        let directory = bench.path(&format!("{copies:?}"));
        let loader = Loader::new(directory.clone(), 2).with_copies(copies);
        let paths = [2, 3, 2, 3, 2, 3, 2, 3].map(|number| (number, bench.path(&format!("lib{number}.so"))));
        paths.iter().for_each(|(number, path)| fs::write(path, build(*number)).unwrap());
        let start = Barrier::new(paths.len());
        std::thread::scope(|scope| {
            for (number, path) in &paths {
                let (loader, start) = (&loader, &start);
                scope.spawn(move || {
                    start.wait();
                    let plugin = loader.load(&Wanted { path, name: None, sha256: None }).unwrap();
                    assert_eq!(plugin.version(), format!("{number}.0.0"));
                });
            }
        });
        assert_eq!(loader.images(), 2);
        let left = fs::read_dir(directory).map_or(0, Iterator::count);
        assert_eq!(left, if copies == Copies::Files { 2 } else { 0 }, "no temporary file is left");
    }
}

#[test]
fn the_private_copy_is_private_and_is_made_again_after_tampering() {
    let bench = Bench::new();
    let path = bench.compile("first_eligible");
    let good = fs::read(&path).unwrap();
    let private = bench.path("private");
    let copy = private.join(format!("{}.so", bench.load(&path).unwrap().sha256_hex().unwrap()));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&private), mode(&copy)), (0o700, 0o500));
    let elsewhere = bench.path("elsewhere.so");
    fs::write(&elsewhere, &good).unwrap();
    // A tampered copy is put in place of the removed one. A write to the existing file would change the running image.
    type Tampering<'a> = &'a dyn Fn();
    let ways: [Tampering<'_>; 4] = [
        &|| fs::write(&copy, b"\x7fELF tampered").unwrap(),
        &|| fs::write(&copy, &good[..good.len() - 1]).unwrap(),
        &|| symlink(&elsewhere, &copy).unwrap(),
        &|| {
            fs::write(&copy, &good).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o777)).unwrap();
        },
    ];
    for (number, tamper) in ways.iter().enumerate() {
        fs::remove_file(&copy).unwrap();
        tamper();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o755)).unwrap();
        let plugin = Loader::new(private.clone(), 2).load(&Wanted { path: &path, name: None, sha256: None }).unwrap();
        assert_eq!(plugin.name(), "first_eligible", "way {number}");
        assert_eq!((mode(&private), mode(&copy)), (0o700, 0o500), "way {number}");
        assert!(fs::read(&copy).unwrap() == good && fs::symlink_metadata(&copy).unwrap().is_file(), "way {number}");
    }
    assert_eq!(fs::read(&elsewhere).unwrap(), good);
}
