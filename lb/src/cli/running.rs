//! `lb status`, `lb backends` and `lb health`: ask the running lb, and print its response as text.
//!
//! Invariants: with `--json` the response is printed unchanged, as compact JSON. A key that this version does not know
//! is ignored, because the running lb may be newer.

use std::fmt::Write as _;

use serde_json::Value;

use super::inspect::print;
use super::shadows::shadow_line;
use super::{CliError, client};
use crate::config::Admin;

pub(super) fn status(admin: &Admin, as_json: bool) -> Result<(), CliError> {
    let answer = asked(admin, "/status")?;
    print(&if as_json { answer.to_string() } else { status_page(&answer) })
}

pub(super) fn backends(admin: &Admin, with_labels: bool, as_json: bool) -> Result<(), CliError> {
    if as_json {
        return print(&asked(admin, "/backends")?.to_string());
    }
    print(&backends_page(&asked(admin, "/status")?, with_labels))
}

/// Any failure is "not healthy": a caller, such as Docker, knows no other.
pub(super) fn health(admin: &Admin, ready: bool, as_json: bool) -> Result<(), CliError> {
    let path = if ready { "/readyz" } else { "/healthz" };
    let answer = client::probe(admin, path).map_err(|error| CliError::Refused(error.to_string()))?;
    if answer.status == 200 {
        return print(if as_json { r#"{"ok":true}"# } else { "ok\n" });
    }
    let said = client::message(&answer.body).unwrap_or_else(|| format!("{path} returned {}", answer.status));
    Err(CliError::Refused(said))
}

pub(super) fn asked(admin: &Admin, path: &str) -> Result<Value, CliError> {
    checked(&client::get(admin, path)?)
}

/// The JSON of a success.
pub(super) fn checked(answer: &client::Answer) -> Result<Value, CliError> {
    let value: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    if answer.status == 200 && !value.is_null() {
        return Ok(value);
    }
    let said = client::message(&answer.body).unwrap_or_else(|| format!("the admin port returned {}", answer.status));
    // 400 and 404: the operator can correct the request.
    Err(if matches!(answer.status, 400 | 404) { CliError::Usage(said) } else { CliError::Refused(said) })
}

/// What the strategy of a pool still needs to be proven.
fn probation(pool: &Value) -> String {
    let number = |key: &str| pool[key].as_u64().unwrap_or_default();
    let left = number("probation_left_ms") as f64 / 1e3;
    let left = if left > 0.0 { format!(", {left:.1} s left") } else { String::new() };
    let (picks, least) = (number("probation_picks"), number("probation_picks_min"));
    let few = if picks < least { format!(", {picks} picks so far, {least} needed") } else { String::new() };
    format!("{left}{few}")
}

fn status_page(status: &Value) -> String {
    let number = |key: &str| status[key].as_u64().unwrap_or_default();
    let mut page = format!(
        "lb {}, up {}, generation {}, {}\n",
        text(&status["version"]),
        duration(status["uptime_s"].as_f64().unwrap_or_default()),
        number("generation"),
        counted(number("workers"), "worker"),
    );
    for pool in list(&status["pools"]) {
        let sha256 = pool["strategy_sha256"].as_str().and_then(|digits| digits.get(..12)).unwrap_or("-");
        let (name, strategy, version) = (text(&pool["name"]), text(&pool["strategy"]), text(&pool["strategy_version"]));
        let standing = text(&pool["strategy_standing"]).replace('_', " ");
        let probation = probation(pool);
        let _ = writeln!(page, "pool {name:14} {strategy} {version} (sha256 {sha256}), {standing}{probation}");
        if let Some(back) = pool["rollback_to"].as_str() {
            let _ = writeln!(page, "{:19} lb rollback restores {back}", "");
        }
        if let Some(crash) = pool["crash"]["message"].as_str() {
            let _ = writeln!(page, "crash               {crash}");
        }
        let _ = writeln!(page, "{:19} {}", "", summary(list(&pool["backends"])));
        if let Some(queue) = queue(pool) {
            let _ = writeln!(page, "{:19} {queue}", "");
        }
        for shadow in list(&pool["shadows"]) {
            let _ = writeln!(page, "{:19} {}", "", shadow_line(shadow));
        }
    }
    let reload = &status["reload"];
    let last = &reload["last"];
    if last.is_object() {
        let outcome = last["result"].as_str().map_or_else(|| "refused".to_owned(), |word| word.replace('_', " "));
        let stage = last["stage"].as_str().map(|stage| format!(" [{stage}]")).unwrap_or_default();
        let reason = last["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
        let _ = writeln!(page, "last reload         {outcome} (triggered by {}){stage}{reason}", text(&last["by"]));
    }
    for difference in list(&reload["differs"]) {
        // The line above has the reason of the last reload.
        let (difference, reason) = (text(difference), last["reason"].as_str().unwrap_or_default());
        let once = difference.strip_suffix(reason).and_then(|start| start.strip_suffix(": "));
        let _ = writeln!(page, "differs from file   {}", once.unwrap_or(difference));
    }
    for file in list(&status["watch"]["missing"]) {
        let file = text(file);
        let _ = writeln!(page, "file missing        {file} is gone, empty or unreadable: the running state stays");
    }
    let overlay = &status["overlay"];
    let changes = ["added", "removed", "changed"].map(|key| (key, overlay[key].as_u64().unwrap_or_default()));
    if changes.iter().any(|(_, count)| *count > 0) || overlay["replicas"].is_u64() {
        let words: Vec<String> = changes.iter().map(|(key, count)| format!("{count} {key}")).collect();
        let replicas = overlay["replicas"].as_u64().map(|n| format!(", {n} replicas wanted")).unwrap_or_default();
        let _ = writeln!(page, "runtime changes     backends: {}{replicas}", words.join(", "));
    }
    let log = &status["access_log"];
    if let Some(path) = log["path"].as_str() {
        let path = if path == "-" { "stdout" } else { path };
        let lines = counted(log["written"].as_u64().unwrap_or_default(), "line");
        let _ = writeln!(page, "access log          {path}: {lines}, {} dropped", log["dropped"]);
    }
    if let Some(stuck @ 1..) = status["stuck_workers"].as_u64() {
        let stuck = counted(stuck, "worker");
        let _ = writeln!(page, "problem             {stuck} not responding, requests hang: restart lb");
    }
    if status["builder_stuck"] == true {
        page.push_str("problem             a strategy keeps the builder busy: changes wait for it\n");
    }
    page
}

/// The backends of a pool in a few words. Backups that stand by are counted apart.
fn summary(backends: &[Value]) -> String {
    let eligible = backends.iter().filter(|backend| backend["eligible"] == true).count();
    let standby = backends.iter().filter(|backend| could_serve(backend)).count();
    let others = backends.len() - standby;
    let standby = match standby {
        0 => String::new(),
        1 => ", 1 backup stands by".to_owned(),
        _ => format!(", {standby} backups stand by"),
    };
    let in_flight: u64 = backends.iter().filter_map(|backend| backend["in_flight"].as_u64()).sum();
    format!("{eligible} of {others} backends eligible{standby}, {in_flight} in flight")
}

/// The requests that wait in a pool, if any may.
fn queue(pool: &Value) -> Option<String> {
    let waiting = pool["queue"]["waiting"].as_u64()?;
    let s = if waiting == 1 { "s" } else { "" };
    let limit = pool["queue"]["adaptive_limit"].as_u64();
    let limit = limit.map(|limit| format!(", adaptive limit {limit}")).unwrap_or_default();
    let is_held = pool["queue"]["held"].as_u64().is_some_and(|held| held > 0);
    let until = if is_held { "until the strategy picks a backend" } else { "for a backend with room" };
    Some(format!("{} wait{s} {until}{limit}", counted(waiting, "request")))
}

/// The backends of all pools as a table, and below it the requests that wait.
fn backends_page(status: &Value, with_labels: bool) -> String {
    let pools = list(&status["pools"]);
    let waiting = pools.iter().filter_map(|pool| Some(format!("\npool {}: {}", text(&pool["name"]), queue(pool)?)));
    let backends: Vec<_> = pools.iter().flat_map(|pool| list(&pool["backends"])).collect();
    backends_table(&backends, with_labels) + &waiting.collect::<String>()
}

fn backends_table(backends: &[&Value], with_labels: bool) -> String {
    let head = ["POOL", "BACKEND", "ADDRESS", "WEIGHT", "FROM", "STATE", "IN FLIGHT", "LABELS"].map(str::to_owned);
    let rows = backends.iter().map(|backend| {
        let state = match () {
            () if backend["draining"] == true => draining(&backend["drain"]),
            () if backend["healthy"] != true => {
                let reason = backend["reason"].as_str().map(|reason| format!(": {reason}"));
                format!("down{}", reason.unwrap_or_default())
            }
            () if backend["ejection"].is_object() => ejected(&backend["ejection"], backend["eligible"] == true),
            () if stands_by(backend) => "up, backup stands by".to_owned(),
            () if backend["eligible"] != true => "no new requests".to_owned(),
            () if backend["backup"] == true => "up, backup in use".to_owned(),
            () if backend["slow_start"].is_object() => starting(&backend["slow_start"]),
            () if backend["checked"] == false => "unchecked".to_owned(),
            () => "up".to_owned(),
        };
        let state = state + &reported(&backend["load_report"]);
        let (weight, in_flight) = (&backend["weight"], &backend["in_flight"]);
        let [pool, id, address, origin] = ["pool", "id", "address", "origin"].map(|key| text(&backend[key]).to_owned());
        [pool, id, address, weight.to_string(), origin, state, in_flight.to_string(), labels(&backend["labels"])]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let columns = rows[0].len() - usize::from(!with_labels);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Such as `priority=1 zone=a`. A text with a space or a control character keeps its quotes.
fn labels(labels: &Value) -> String {
    let word = |(key, value): (&String, &Value)| match value.as_str() {
        Some(text) if text.chars().all(|c| !c.is_whitespace() && !c.is_control()) => format!("{key}={text}"),
        _ => format!("{key}={value}"),
    };
    labels.as_object().into_iter().flatten().map(word).collect::<Vec<_>>().join(" ")
}

/// An ejection is suspended if its pool cannot do without the backend.
fn ejected(ejection: &Value, is_eligible: bool) -> String {
    let reason = text(&ejection["reason"]);
    let seconds = ejection["left_ms"].as_u64().unwrap_or_default().div_ceil(1_000);
    match is_eligible {
        false => format!("ejected for {seconds} s: {reason}"),
        true => format!("up, ejection suspended: {reason}"),
    }
}

/// Whether it is a backup that waits until no other backend can serve.
fn stands_by(backend: &Value) -> bool {
    backend["backup"] == true && backend["eligible"] != true && backend["weight"] != 0
}

/// Whether it stands by, and would serve at once.
fn could_serve(backend: &Value) -> bool {
    let is_usable = backend["healthy"] == true && backend["draining"] != true && !backend["ejection"].is_object();
    stands_by(backend) && is_usable
}

/// The column beside it has the requests in flight.
fn draining(drain: &Value) -> String {
    let seconds = |key: &str| drain[key].as_u64().map(|ms| ms.div_ceil(1_000));
    let since = seconds("for_ms").map(|since| format!(" for {since} s")).unwrap_or_default();
    let end = match (drain["cut"].as_u64(), seconds("left_ms")) {
        (Some(cut), _) => format!(", {cut} ended by the deadline"),
        (None, Some(left)) => format!(", deadline in {left} s"),
        (None, None) => String::new(),
    };
    format!("draining{since}{end}")
}

fn starting(slow_start: &Value) -> String {
    let seconds = slow_start["left_ms"].as_u64().unwrap_or_default().div_ceil(1_000);
    format!("up, {} % of its share, slow start ends in {seconds} s", slow_start["percent"])
}

/// The load that the backend reported; "" if its pool reads no reports.
fn reported(report: &Value) -> String {
    match (report["utilization"].as_f64(), report["age_ms"].as_u64()) {
        (Some(used), Some(age_ms)) => format!(", {:.0} % in use {} s ago", used * 100.0, age_ms / 1_000),
        _ if report.is_object() => ", load never reported".to_owned(),
        _ => String::new(),
    }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

pub(super) fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The two largest units that are not zero.
fn duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{} {hours} h", counted(days, "day")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_shows_the_strategy_in_charge_and_differences_from_the_file() {
        let page = status_page(&json!({
            "version": "1", "uptime_s": 7384.2, "generation": 12, "workers": 1, "builder_stuck": false,
            "overlay": { "added": 1, "removed": 0, "changed": 0, "replicas": 4 },
            "pools": [{
                "name": "default", "strategy": "ring", "strategy_version": "2", "strategy_sha256": "0123456789abcdef",
                "strategy_standing": "on_probation", "probation_left_ms": 4500, "probation_picks": 12, "probation_picks_min": 1000, "rollback_to": "round_robin 1",
                "crash": { "message": "pool default: strategy late 1 crashed" },
                "backends": [
                    { "eligible": true, "in_flight": 3 },
                    { "eligible": false, "in_flight": 1 },
                    { "eligible": false, "in_flight": 0, "backup": true, "healthy": true },
                    { "eligible": false, "in_flight": 0, "backup": true, "healthy": false },
                ],
                "queue": { "waiting": 0, "adaptive_limit": 20 },
            }],
            "reload": {
                "last": { "by": "signal", "result": null, "stage": "elf", "reason": "is text" },
                "differs": ["the files were refused at stage elf: is text", "launcher needs a restart"],
            },
            "watch": { "missing": ["/etc/lb/lb.toml"] },
            "access_log": { "path": "-", "written": 1, "dropped": 0 },
        }));
        let wanted = "\
lb 1, up 2 h 3 min, generation 12, 1 worker
pool default        ring 2 (sha256 0123456789ab), on probation, 4.5 s left, 12 picks so far, 1000 needed
                    lb rollback restores round_robin 1
crash               pool default: strategy late 1 crashed
                    1 of 3 backends eligible, 1 backup stands by, 4 in flight
                    0 requests wait for a backend with room, adaptive limit 20
last reload         refused (triggered by signal) [elf]: is text
differs from file   the files were refused at stage elf
differs from file   launcher needs a restart
file missing        /etc/lb/lb.toml is gone, empty or unreadable: the running state stays
runtime changes     backends: 1 added, 0 removed, 0 changed, 4 replicas wanted
access log          stdout: 1 line, 0 dropped
";
        assert_eq!(page, wanted);
    }

    #[test]
    fn backends_are_a_table_with_their_state_as_words() {
        let backend = |id: &str, healthy: bool, draining: bool, weight: u16| {
            json!({
                "pool": "default", "id": id, "address": "127.0.0.1:1", "weight": weight, "origin": "file", "in_flight": 0,
                "eligible": healthy && !draining && weight > 0, "healthy": healthy, "draining": draining,
                "reason": if healthy { Value::Null } else { "connection refused".into() },
            })
        };
        let mut rows = [
            backend("a", true, false, 1),
            backend("b2", false, false, 1),
            backend("c", true, true, 1),
            backend("d", true, false, 0),
            backend("e", true, false, 3),
            backend("f", true, false, 1),
            backend("g", true, false, 1),
        ];
        [5, 6].into_iter().for_each(|row| rows[row]["backup"] = true.into());
        rows[5]["eligible"] = false.into();
        rows[2]["drain"] = json!({ "for_ms": 2_000, "left_ms": 28_000 });
        rows[4]["slow_start"] = json!({ "percent": 40, "left_ms": 5_800 });
        rows[3]["load_report"] = json!({ "age_ms": null });
        rows[0]["load_report"] = json!({ "age_ms": 2_900, "utilization": 1.256, "qps": 3.0, "eps": 0.0 });
        let page = backends_page(&json!({ "pools": [{ "name": "default", "backends": rows.to_vec() }] }), false);
        let wanted = "\
POOL     BACKEND  ADDRESS      WEIGHT  FROM  STATE                                          IN FLIGHT
default  a        127.0.0.1:1  1       file  up, 126 % in use 2 s ago                       0
default  b2       127.0.0.1:1  1       file  down: connection refused                       0
default  c        127.0.0.1:1  1       file  draining for 2 s, deadline in 28 s             0
default  d        127.0.0.1:1  0       file  no new requests, load never reported           0
default  e        127.0.0.1:1  3       file  up, 40 % of its share, slow start ends in 6 s  0
default  f        127.0.0.1:1  1       file  up, backup stands by                           0
default  g        127.0.0.1:1  1       file  up, backup in use                              0";
        assert_eq!(page, wanted);
        assert_eq!(backends_page(&json!({ "pools": [{ "backends": [] }] }), true).lines().count(), 1);
        let queues = json!({ "pools": [
            { "name": "default", "queue": { "waiting": 2, "adaptive_limit": 37 }, "backends": [rows[0]] },
            { "name": "api", "queue": { "waiting": 1, "held": 0 }, "backends": [] },
            { "name": "own", "queue": { "waiting": 3, "held": 1 }, "backends": [] },
            { "name": "off", "backends": [rows[1]] },
        ]});
        let page = backends_page(&queues, false);
        let below: Vec<_> = page.lines().skip(3).collect();
        let wanted = [
            "pool default: 2 requests wait for a backend with room, adaptive limit 37",
            "pool api: 1 request waits for a backend with room",
            "pool own: 3 requests wait until the strategy picks a backend",
        ];
        assert_eq!(below, wanted, "{page}");
    }

    #[test]
    fn labels_are_the_last_column_if_asked_for() {
        let backend = |id: &str, labels: Value| json!({ "pool": "p", "id": id, "healthy": true, "labels": labels });
        let backends =
            [backend("a", json!({ "zone": "a", "n": 1, "spot": true })), backend("b", json!({ "in": "x y" }))];
        let page = backends_page(&json!({ "pools": [{ "name": "p", "backends": backends, "queue": {} }] }), true);
        let lines: Vec<_> = page.lines().collect();
        assert!(lines[0].ends_with("  IN FLIGHT  LABELS"), "{page}");
        assert!(lines[1].ends_with("  n=1 spot=true zone=a") && lines[2].ends_with("  in=\"x y\""), "{page}");
        let older = json!({ "pools": [{ "backends": [{ "id": "a" }] }] });
        assert!(backends_page(&older, true).lines().all(|line| !line.ends_with(' ')), "an lb without labels");
    }

    #[test]
    fn a_duration_has_its_two_largest_units() {
        let said = [0.4, 59.9, 61.0, 3_600.0, 90_061.0, 200_000.0].map(duration);
        assert_eq!(said, ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 day 1 h", "2 days 7 h"]);
    }
}
