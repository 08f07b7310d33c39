//! Rules about `packaging/`: archive, Debian package and image have each shipped strategy, and their files agree.
//!
//! The image takes programs and strategies from the archive, so it has no list of its own.

use std::path::Path;

use crate::docs::shipped;
use crate::sources::{named, root};

/// The words of the line `NAME='…'` in a shell script.
fn listed(script: &str, name: &str) -> Vec<String> {
    let start = format!("{name}='");
    let line = script.lines().find_map(|line| line.strip_prefix(&*start)?.strip_suffix('\''));
    line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// The strategies among the assets in `lb/Cargo.toml`.
fn assets(manifest: &str) -> Vec<String> {
    let libraries = manifest.lines().filter_map(|line| line.trim().strip_prefix("[\"target/release/lib"));
    libraries
        .filter_map(|rest| rest.split_once(".so\", \"usr/lib/lb/strategies/\""))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Names in only one of the lists.
fn difference(place: &str, mut listed: Vec<String>, mut shipped: Vec<String>) -> Option<String> {
    listed.sort();
    shipped.sort();
    (listed != shipped).then(|| format!("{place} has {listed:?}, strategies/ has {shipped:?}"))
}

/// Sources of COPY that are missing: in the context, or in the folders that `archive` makes.
fn missing(dockerfile: &str, archive: &str, root: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    for line in dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_archive = words[0] == "--from=archive";
        for source in &words[usize::from(is_archive)..words.len() - 1] {
            let in_archive = source.strip_prefix("/lb-*-linux/").map(|path| path.trim_end_matches('/'));
            let exists = match in_archive {
                Some(folder) if is_archive => archive.contains(&format!("\"$root/{folder}")),
                _ => !is_archive && root.join(source).exists(),
            };
            if !exists {
                missing.push((*source).to_owned());
            }
        }
    }
    missing
}

/// The rest of each line that begins with `start`.
fn after<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.strip_prefix(start))
}

/// The ports in the lines `listen = "0.0.0.0:PORT"`.
fn ports(configuration: &str) -> Vec<&str> {
    after(configuration, "listen = \"0.0.0.0:").filter_map(|rest| rest.strip_suffix('"')).collect()
}

#[test]
fn packages_have_each_shipped_strategy_and_no_other() {
    let archive = listed(&named("packaging/archive.sh").text, "strategies");
    let package = assets(&named("lb/Cargo.toml").text);
    let wrong = [difference("archive.sh", archive, shipped()), difference("lb/Cargo.toml", package, shipped())];
    assert!(wrong.iter().all(Option::is_none), "{wrong:?}");
}

#[test]
fn files_that_the_image_copies_exist() {
    let [dockerfile, archive] = ["packaging/Dockerfile", "packaging/archive.sh"].map(|path| named(path).text);
    assert_eq!(missing(&dockerfile, &archive, &root()), [""; 0]);
}

#[test]
fn the_image_exposes_the_ports_of_its_configuration() {
    let [dockerfile, image, compose] =
        ["Dockerfile", "container/lb.toml", "compose/lb.toml"].map(|path| named(&format!("packaging/{path}")).text);
    let exposed: Vec<_> = after(&dockerfile, "EXPOSE ").flat_map(str::split_whitespace).collect();
    let listening = ports(&image);
    assert_eq!(exposed, listening);
    assert_eq!(ports(&compose), listening);
    assert_eq!(listening.len(), 2, "one for clients and one for the admin port");
}

#[test]
fn the_user_of_the_image_is_one_number() {
    let [dockerfile, compose, configuration] =
        ["Dockerfile", "compose.yaml", "container/lb.toml"].map(|path| named(&format!("packaging/{path}")).text);
    let user = after(&dockerfile, "USER ").next().and_then(|user| user.split(':').next()).unwrap_or_default();
    assert!(user.parse::<u32>().is_ok_and(|user| user > 0), "USER {user}");
    for (text, part) in [
        (&dockerfile, format!("USER {user}:{user}\n")),
        (&dockerfile, format!("--uid {user} ")),
        (&dockerfile, format!("--gid {user} ")),
        (&compose, format!("user: \"{user}\"\n")),
        (&configuration, format!("the user of lb, {user}.")),
    ] {
        assert!(text.contains(&part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn prometheus_in_compose_scrapes_and_evaluates_like_the_one_in_grafana() {
    let [here, there] =
        ["packaging/compose", "grafana/prometheus"].map(|folder| named(&format!("{folder}/prometheus.yml")).text);
    for start in ["  scrape_interval:", "  evaluation_interval:", "  - rules/", "  - job_name:"] {
        let [here, there] = [&here, &there].map(|text| after(text, start).collect::<Vec<_>>());
        assert_eq!((here.len(), &here), (1, &there), "{start}");
    }
}

#[test]
fn a_list_without_a_strategy_and_a_file_that_is_missing_are_caught() {
    let names = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(listed("x=1\nstrategies='a b_c'\n", "strategies"), names(&["a", "b_c"]));
    let manifest = "    [\"target/release/liba.so\", \"usr/lib/lb/strategies/\", \"644\"],\n    [\"target/release/lb\", \"usr/bin/\", \"755\"],";
    assert_eq!(assets(manifest), names(&["a"]));
    assert!(difference("x", names(&["b", "a"]), names(&["a", "b"])).is_none());
    assert!(difference("x", names(&["a"]), names(&["a", "b"])).is_some());
    let copies = "COPY . .\nCOPY Cargo.toml nowhere /x/\nCOPY --from=archive /lb-*-linux/bin/ /usr/bin/\nCOPY --from=archive /lb-*-linux/sbin/ /usr/sbin/";
    assert_eq!(missing(copies, "mkdir \"$root/bin\"", &root()), ["nowhere", "/lb-*-linux/sbin/"]);
}
