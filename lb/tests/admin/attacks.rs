//! Attacks on the admin port and on the course's routes.
//!
//! The attacks are requests from other sites, guessed tokens, and idle connections that use all places. Further attacks
//! are addresses that lead back to lb, files that would block a start, and libraries that a group may write.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use lb_test_support::{
    Balancer, PATIENCE, TOKEN, backends, closed_address, command, finish, folder, get, mock, run, send,
};

const STRATEGY: &str = "[strategy]\nname = \"round_robin\"\n";

/// The status of the response to one request on a keep-alive connection. `None` if the connection ends first.
fn ask(stream: &mut TcpStream, head: &str) -> Option<u16> {
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return head.split(' ').nth(1)?.parse().ok();
            }
        }
        match stream.read(&mut chunk) {
            Ok(read @ 1..) => answer.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}

fn guarded() -> Balancer {
    let folder = folder(STRATEGY);
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    Balancer::start_in(folder, &["--set", "admin.token_file=token"])
}

#[test]
fn a_page_of_another_site_changes_nothing_on_the_proxy_port_and_scripts_still_work() {
    let server = mock("1");
    let config = format!("{STRATEGY}[course]\non_proxy_port = true\n{}", backends(&[("b1", server.addr)]));
    let balancer = Balancer::start(&config);
    let address = balancer.proxy;
    let add = format!(r#"{{"backends":[{{"id":"evil","address":"{}"}}]}}"#, server.addr);
    let own = format!("origin: http://{address}");
    let cases: [(&str, &str, &[&str], u16); 9] = [
        ("POST", "/add", &["origin: http://evil.example"], 403),
        ("POST", "/add", &["origin: null"], 403),
        ("DELETE", "/rm", &["origin: http://evil.example"], 403),
        ("POST", "/add", &["sec-fetch-site: cross-site", "sec-fetch-mode: no-cors"], 403),
        ("GET", "/rep", &["sec-fetch-site: cross-site", "sec-fetch-mode: no-cors"], 403),
        ("POST", "/add", &["host: evil.example"], 421),
        ("GET", "/rep", &["host: evil.example:5000"], 421),
        ("POST", "/add", &["host: localhost", "origin: http://localhost.evil.example"], 403),
        ("POST", "/add", &["origin: http://127.0.0.1"], 403),
    ];
    for (method, path, headers, status) in cases {
        let answer = send(address, method, path, headers, &add);
        assert_eq!(
            (answer.status, &answer.json()["status"]),
            (status, &"failure".into()),
            "{method} {path} {headers:?}"
        );
    }
    // Headers of scripts (aiohttp, requests, curl), of a page from this port, and of an address that a user types.
    for headers in [
        &[][..],
        &["accept: */*", "user-agent: python-requests/2.32.3", "accept-encoding: gzip, deflate"],
        &["accept: */*", "user-agent: Python/3.12 aiohttp/3.9", "content-type: application/json"],
        &["user-agent: curl/8.5.0", "content-type: application/x-www-form-urlencoded"],
        &[own.as_str(), "sec-fetch-site: same-origin", "sec-fetch-mode: cors"],
        &["sec-fetch-site: none", "sec-fetch-mode: navigate"],
    ] {
        assert_eq!(send(address, "GET", "/rep", headers, "").status, 200, "{headers:?}");
        assert_eq!(send(address, "POST", "/add", headers, &add).status, 200, "{headers:?}");
        assert_eq!(send(address, "DELETE", "/rm", headers, r#"{"n":1,"hostnames":["evil"]}"#).status, 200);
    }
    assert_eq!(send(address, "GET", "/home", &["host: shop.example", "origin: http://evil.example"], "").status, 200);
}

#[test]
fn a_token_that_can_be_guessed_is_refused_with_the_command_that_makes_one() {
    let token = |text: &str| {
        let folder = folder(STRATEGY);
        std::fs::write(folder.path().join("token"), text).unwrap();
        let output = finish(command(&folder, &["check", "--set", "admin.token_file=token"]));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for weak in
        ["s3cret", "0123456789abcdef0123456789abcde", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "correct-horse-1"]
    {
        let (code, said) = token(weak);
        assert!(code == Some(2) && said.contains("lb token") && said.contains("128 bits"), "{weak}: {said}");
        assert!(said.contains("admin.token_file") && !said.contains(weak), "{said}");
    }
    let made = run(STRATEGY, &["token"]);
    let (code, made) = (made.status.code(), String::from_utf8(made.stdout).unwrap());
    assert!(code == Some(0) && made.trim().len() == 64 && made.ends_with('\n'), "{made:?}");
    assert_ne!(made, String::from_utf8(run(STRATEGY, &["token"]).stdout).unwrap());
    for strong in [&*made, TOKEN, "kT9-x_Qm2vLw8ZpR5sYd1A"] {
        assert_eq!(token(strong).0, Some(0), "{strong}");
    }
}

#[test]
fn wrong_tokens_on_many_connections_are_delayed_and_the_right_token_is_not() {
    let balancer = guarded();
    let login = send(balancer.admin, "POST", "/login", &[], &format!("token={TOKEN}"));
    let session = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let host = balancer.admin;
    let guess = format!("GET /status HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n\r\n", "0".repeat(64));
    let (over, guesses) = (AtomicBool::new(false), AtomicUsize::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(host) else { continue };
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    while !over.load(Relaxed) {
                        match ask(&mut stream, &guess) {
                            Some(status) => assert_eq!(status, 401),
                            None => break,
                        }
                        guesses.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        let bearer = format!("authorization: Bearer {TOKEN}");
        let cookie = format!("cookie: {session}");
        // The loop runs until some guesses have a response. Meanwhile every request with the right token succeeds.
        while guesses.load(Relaxed) < 12 {
            assert!(began.elapsed() < PATIENCE, "no guess got a response");
            for header in [&bearer, &cookie] {
                assert_eq!(send(host, "GET", "/status", &[header], "").status, 200);
            }
            assert_eq!(get(host, "/healthz").status, 200);
        }
        over.store(true, Relaxed);
    });
    // Eight a second, plus the 32 guesses that were waiting at the end.
    let (guesses, seconds) = (guesses.load(Relaxed), began.elapsed().as_secs_f64());
    assert!((guesses as f64) <= 8.0 * seconds + 32.0, "{guesses} guesses in {seconds:.1} s");
}

#[test]
fn idle_connections_block_neither_probes_nor_scrapes() {
    let balancer = guarded();
    let silent: Vec<_> = (0..600).map(|_| TcpStream::connect(balancer.admin).unwrap()).collect();
    let bearer = format!("authorization: Bearer {TOKEN}");
    for _ in 0..3 {
        let began = Instant::now();
        // Without backends, lb is not ready, so /readyz returns 503.
        for (path, status) in [("/healthz", 200), ("/readyz", 503), ("/metrics", 200), ("/status", 200)] {
            assert_eq!(send(balancer.admin, "GET", path, &[&bearer], "").status, status, "{path}");
        }
        assert!(began.elapsed() < PATIENCE / 2, "the requests waited for a place: {:?}", began.elapsed());
    }
    drop(silent);
}

#[test]
fn a_connection_with_an_incomplete_head_is_closed() {
    let balancer = Balancer::start(STRATEGY);
    for sent in ["", "GET /status HTT", "GET /status HTTP/1.1\r\nhost: localhost\r\nx:"] {
        let mut stream = TcpStream::connect(balancer.admin).unwrap();
        stream.write_all(sent.as_bytes()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        // Ends at a close by lb; the read timeout of the test fails it.
        stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("after {sent:?}: {error}"));
    }
}

/// Spellings of the loopback host with the port of `address`. All of them reach a listener on it.
fn spellings(address: SocketAddr) -> Vec<String> {
    let port = address.port();
    ["127.0.0.1", "127.0.0.2", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1]", "[::]", "localhost", "127.1", "0x7f.1", "0"]
        .map(|host| format!("{host}:{port}"))
        .to_vec()
}

#[test]
fn an_address_of_lb_is_refused_as_a_backend_in_every_spelling() {
    let balancer = Balancer::start(STRATEGY);
    for listens in [balancer.proxy, balancer.admin] {
        for address in spellings(listens) {
            let body = format!(r#"{{"backends":[{{"id":"loop","address":"{address}"}}]}}"#);
            let answer = send(balancer.admin, "POST", "/add", &[], &body);
            assert!(
                answer.status == 400 && answer.body.contains("where lb itself listens"),
                "{address}: {}",
                answer.body
            );
        }
    }
    assert_eq!(get(balancer.admin, "/rep").json()["message"]["N"], 0);
    for address in
        ["169.254.169.254:80", "2852039166:80", "[fe80::1]:80", "[::ffff:169.254.169.254]:80", "[fd00:ec2::254]:80"]
    {
        let body = format!(r#"{{"backends":[{{"id":"metadata","address":"{address}"}}]}}"#);
        let answer = send(balancer.admin, "POST", "/add", &[], &body);
        assert!(answer.status == 400 && answer.body.contains("proxy.allow_link_local"), "{address}: {}", answer.body);
    }
    let allowed = Balancer::start(&format!("{STRATEGY}[proxy]\nallow_link_local = true\n[health]\nenabled = false\n"));
    let body = r#"{"backends":[{"id":"metadata","address":"169.254.169.254:80"}]}"#;
    assert_eq!(send(allowed.admin, "POST", "/add", &[], body).status, 200);
}

#[test]
fn an_address_of_lb_is_refused_in_the_file_and_skipped_in_the_stored_overlay() {
    let closed = closed_address();
    let backend = |address: &str| format!("{STRATEGY}[[backends]]\nid = \"loop\"\naddress = \"{address}\"\n");
    for flag in ["--listen", "--admin-listen"] {
        for address in spellings(closed) {
            let folder = folder(&backend(&address));
            let output = finish(command(&folder, &["check", flag, &closed.to_string()]));
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(2) && said.contains("where lb itself listens"), "{address}: {said}");
            assert!(said.contains("lb.toml:5"), "{said}");
        }
    }
    let said = String::from_utf8(run(&backend("169.254.169.254:80"), &["check"]).stderr).unwrap();
    assert!(said.contains("lb.toml:5") && said.contains("proxy.allow_link_local"), "{said}");

    let server = mock("1");
    let folder = folder(STRATEGY);
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let chmod = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&state, chmod).unwrap();
    let added =
        |id: &str, address: &str| format!(r#"{{"id":"{id}","address":"{address}","socket":"{address}","weight":1}}"#);
    let kept = [
        added("loop", &format!("127.0.0.2:{}", closed.port())),
        added("metadata", "169.254.169.254:80"),
        added("fine", &server.addr.to_string()),
    ];
    let overlay = format!(r#"{{"schema":1,"added":[{}]}}"#, kept.join(","));
    std::fs::write(state.join("overlay.json"), overlay).unwrap();
    let mut command = lb_test_support::bare_command(&folder, &["--listen", "127.0.0.1:0"]);
    command.args(["--admin-listen", &closed.to_string(), "--set", "state.dir=state"]);
    let stderr = std::fs::File::create(folder.path().join("stderr")).unwrap();
    let balancer = Balancer::start_command(command, stderr, folder);
    assert_eq!(get(balancer.admin, "/rep").json()["message"]["replicas"], serde_json::json!(["fine"]));
    let log = balancer.printed("stderr");
    assert!(
        log.contains("\"loop\"") && log.contains("where lb itself listens") && log.contains("\"metadata\""),
        "{log}"
    );
}

#[test]
fn a_fifo_or_a_device_in_place_of_a_file_is_not_read() {
    let fifo =
        |path: &std::path::Path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    let said = |output: std::process::Output| (output.status.code(), String::from_utf8(output.stderr).unwrap());

    let place = tempfile::tempdir().unwrap();
    fifo(&place.path().join("lb.toml"));
    let (code, text) = said(finish(command(&place, &["check"])));
    assert!(code == Some(2) && text.contains("lb.toml cannot be read: it is no regular file"), "{text}");
    let place = folder(STRATEGY);
    let (code, text) = said(finish(command(&place, &["check", "--config", "/dev/zero"])));
    assert!(code == Some(2) && text.contains("/dev/zero cannot be read: it is no regular file"), "{text}");
    fifo(&place.path().join("token"));
    let (code, text) = said(finish(command(&place, &["check", "--set", "admin.token_file=token"])));
    assert!(code == Some(2) && text.contains("token cannot be read: it is no regular file"), "{text}");
    fifo(&place.path().join("libpipe.so"));
    for key in ["strategy.path=libpipe.so", "strategy.path=/dev/zero"] {
        let (code, text) = said(finish(command(&place, &["check", "--set", key])));
        assert!(code == Some(2) && text.contains("is not a regular file"), "{text}");
    }
    std::fs::rename(place.path().join("libpipe.so"), place.path().join("libround_robin.so")).unwrap();
    let here = format!("plugin_dirs=[{:?}]", place.path());
    assert_eq!(finish(command(&place, &["strategies", "--set", &here])).status.code(), Some(0));

    let place = folder(STRATEGY);
    let state = place.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for name in ["overlay.json", "overlay.json.tmp", "verdicts.json", "verdicts.json.tmp"] {
        fifo(&state.join(name));
    }
    let balancer = Balancer::start_in(place, &["--set", "state.dir=state"]);
    lb_test_support::wait_for("the warning", || {
        balancer.printed("stderr").contains("overlay.json cannot be read (it is no regular file").then_some(())
    });
    let server = mock("1");
    let body = format!(r#"{{"backends":[{{"id":"b1","address":"{}"}}]}}"#, server.addr);
    assert_eq!(send(balancer.admin, "POST", "/add", &[], &body).status, 200);
    lb_test_support::wait_for("the change to be written", || {
        std::fs::metadata(balancer.path("state/overlay.json")).ok().filter(std::fs::Metadata::is_file)
    });
}

#[test]
fn a_library_that_a_group_may_write_is_run_only_if_the_configuration_allows_it() {
    let place = folder("[strategy]\npath = \"libshared.so\"\n");
    let library = place.path().join("libshared.so");
    std::fs::copy(lb_strategy_built::library("round_robin"), &library).unwrap();
    // A group id that no system is expected to use.
    if let Err(error) = std::os::unix::fs::chown(&library, None, Some(54321)) {
        return println!("not shown here: only root can give a file to another group ({error})");
    }
    std::fs::set_permissions(&library, std::os::unix::fs::PermissionsExt::from_mode(0o775)).unwrap();
    let ends = |arguments: &[&str]| {
        let output = finish(command(&place, arguments));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for arguments in [&["check"][..], &[]] {
        let (code, said) = ends(arguments);
        assert!(code == Some(2) && said.contains("set allow_group_writable = true"), "{arguments:?}: {said}");
    }
    let allowed = ["--set", "allow_group_writable=true"];
    assert_eq!(ends(&[&["check"][..], &allowed].concat()), (Some(0), String::new()));
    let balancer = Balancer::start_in(place, &allowed);
    assert_eq!(send(balancer.admin, "POST", "/reload", &[], "").status, 200);
    assert_eq!(get(balancer.admin, "/status").json()["pools"][0]["strategy"], "round_robin");
}
