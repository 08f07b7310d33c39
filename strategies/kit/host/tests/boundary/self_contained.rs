//! A plugin shares nothing with other plugins. It is refused before it runs if it needs libraries of its own, a search
//! path, unique symbols, writable code or an executable stack. The reason names the remedy.

use std::path::Path;

use lb_strategy_host::{Decision, Picker, Stage, Strategy};
use serde_json::json;

use crate::fixture::{Bench, HeaderList, list, request, source};

/// Why `path` is refused at stage elf.
#[track_caller]
fn reason(bench: &Bench, path: &Path) -> String {
    let Err(error) = bench.load(path) else { panic!("{} was taken", path.display()) };
    assert_eq!((error.stage, bench.loader.images()), (Stage::Elf, 0), "{error}");
    error.reason
}

#[test]
fn a_library_of_its_own_is_refused_by_name() {
    let bench = Bench::new();
    let fixture = source("examples/broken/private_library.c");
    bench.build("cc", &fixture, "libprivate.so", &["-DLIBRARY=1"]);
    let folder = format!("-L{}", bench.directory.path().display());
    let plugin = bench.build("cc", &fixture, "libx.so", &[&folder, "-lprivate"]);
    assert_eq!(
        reason(&bench, &plugin),
        "needs libprivate.so, which it would share by name with every other plugin: link it statically; only the C library, libm, \
         libgcc_s, libpthread, libdl and librt may be needed"
    );
    // The remedy that the reason names: the same code, linked statically.
    bench.build("cc", &fixture, "private.o", &["-DLIBRARY=1", "-c"]);
    let object = bench.path("private.o");
    let plugin = bench.build("cc", &fixture, "libx.so", &[object.to_str().unwrap()]);
    assert_eq!(bench.load(&plugin).unwrap().name(), "broken");
}

#[test]
fn the_systems_own_libraries_may_be_needed() {
    let bench = Bench::new();
    let flags = ["-Wl,--no-as-needed", "-lc", "-lm", "-lgcc_s", "-lpthread", "-ldl", "-lrt"];
    let plugin = bench.build("cc", &source("examples/first_eligible.c"), "libx.so", &flags);
    assert_eq!(bench.load(&plugin).unwrap().name(), "first_eligible");
}

#[test]
fn a_search_path_for_libraries_is_refused() {
    let bench = Bench::new();
    for tags in ["-Wl,--disable-new-dtags", "-Wl,--enable-new-dtags"] {
        let flags = ["-Wl,-rpath,$ORIGIN/../lib", tags];
        let plugin = bench.build("cc", &source("examples/first_eligible.c"), "libx.so", &flags);
        assert_eq!(
            reason(&bench, &plugin),
            "has a search path for libraries (RPATH $ORIGIN/../lib): link libraries statically, and build it without -rpath"
        );
    }
}

#[test]
fn a_symbol_that_is_unique_in_the_process_is_refused() {
    let bench = Bench::new();
    assert_eq!(
        reason(&bench, &bench.compile("broken/unique_symbol")),
        "defines shared_by_all as unique in the process (STB_GNU_UNIQUE), so all its builds would share it: compile with \
         -fno-gnu-unique, link with -Wl,--exclude-libs,ALL"
    );
}

#[test]
fn code_that_must_be_writable_and_a_stack_that_can_be_run_are_refused() {
    let bench = Bench::new();
    let plugin = bench.build("cc", &source("examples/broken/writable_code.c"), "libx.so", &["-Wl,-z,notext"]);
    assert_eq!(
        reason(&bench, &plugin),
        "has relocations in its code (TEXTREL), which would have to be writable: compile all of it with -fPIC"
    );
    let plugin = bench.build("cc", &source("examples/first_eligible.c"), "libx.so", &["-Wl,-z,execstack"]);
    assert_eq!(reason(&bench, &plugin), "needs an executable stack: link it with -Wl,-z,noexecstack");
}

#[test]
fn a_strategy_in_cpp_loads_when_it_is_built_as_the_refusals_say() {
    let bench = Bench::new();
    let fixture = source("kit/host/tests/fixtures/uses_cpp.cpp");
    if std::process::Command::new("g++").arg("--version").output().is_err() {
        return println!("not shown here: there is no g++");
    }
    let plugin = bench.build("g++", &fixture, "libx.so", &[]);
    assert!(reason(&bench, &plugin).contains("unique in the process"));
    let flags = ["-fno-gnu-unique", "-Wl,--exclude-libs,ALL"];
    let plugin = bench.build("g++", &fixture, "libx.so", &flags);
    assert_eq!(
        reason(&bench, &plugin),
        "needs libstdc++.so.6, which it would share by name with every other plugin: link it statically (-static-libstdc++ \
         -fno-gnu-unique -Wl,--exclude-libs,ALL); only the C library, libm, libgcc_s, libpthread, libdl and librt may be needed"
    );
    // Each flag is needed. Without the last, the plugin contains the unique symbols of libstdc++.
    let plugin = bench.build("g++", &fixture, "libx.so", &["-static-libstdc++", "-fno-gnu-unique"]);
    assert!(reason(&bench, &plugin).contains("unique in the process"));
    let flags = ["-static-libstdc++", "-fno-gnu-unique", "-Wl,--exclude-libs,ALL"];
    let plugin = bench.build("g++", &fixture, "libuses_cpp.so", &flags);
    let strategy = Strategy::new(bench.load(&plugin).unwrap(), &json!({})).unwrap();
    let (picker, none) = (Picker::new(strategy.clone(), list(3, &[1, 2])).unwrap(), HeaderList(&[]));
    let picks = [(); 4].map(|()| picker.pick(&request(&[], &none)));
    let picked = |index| Decision::Backend { index, token: 0 };
    assert_eq!(picks, [picked(1), picked(2), picked(1), picked(2)]);
    // With an empty list the plugin throws an exception, and catches it.
    assert_eq!(Picker::new(strategy, list(0, &[])).unwrap().pick(&request(&[], &none)), Decision::NoBackend);
}
