//! Access to the admin port over a real socket. Unit tests beside the code cover the rules themselves.

use lb_test_support::{Balancer, TOKEN, exchange, finish, get, send};

const CONFIG: &str = "[strategy]\nname = \"round_robin\"\n";

#[test]
fn a_page_of_another_site_can_neither_read_nor_change() {
    let balancer = Balancer::start(CONFIG);
    let rebound = send(balancer.admin, "GET", "/rep", &["host: evil.example:8081"], "");
    assert_eq!((rebound.status, &rebound.json()["status"]), (421, &"failure".into()));
    let foreign = send(balancer.admin, "POST", "/add", &["origin: http://evil.example"], r#"{"n":1}"#);
    assert_eq!(foreign.status, 403);
    let own = format!("origin: http://{}", balancer.admin);
    assert_eq!(
        send(balancer.admin, "POST", "/add", &[&own], "{}").status,
        400,
        "access is granted, and the body is refused"
    );
    let picture = ["sec-fetch-site: cross-site", "sec-fetch-mode: no-cors"];
    assert_eq!(
        send(balancer.admin, "GET", "/events", &picture, "").status,
        403,
        "the stream would use the place of a viewer"
    );
    let link = ["sec-fetch-site: cross-site", "sec-fetch-mode: navigate"];
    assert_eq!(send(balancer.admin, "GET", "/", &link, "").status, 200);
    let port = balancer.admin.port();
    assert_eq!(send(balancer.admin, "GET", "/rep", &[&format!("host: localhost:{port}")], "").status, 200);
    assert_eq!(exchange(balancer.admin, b"GET /rep HTTP/1.1\r\nconnection: close\r\n\r\n").status, 400);
}

#[test]
fn with_a_token_everything_but_probes_needs_it() {
    let folder = lb_test_support::folder(CONFIG);
    std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
    let balancer = Balancer::start_in(folder, &["--set", "admin.token_file=token"]);
    let refused = get(balancer.admin, "/metrics");
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer realm=\"lb\"")));
    assert_eq!(send(balancer.admin, "GET", "/metrics", &["authorization: Bearer wrong"], "").status, 401);
    assert_eq!(send(balancer.admin, "GET", "/metrics", &[&format!("authorization: Bearer {TOKEN}")], "").status, 200);
    // Many guesses at once: lb refuses most of them with 429, and accepts the right token meanwhile.
    let guesses = std::thread::scope(|scope| {
        let guess = || send(balancer.admin, "POST", "/login", &[], "token=wrong").status;
        let guesses: Vec<_> = (0..40).map(|_| scope.spawn(guess)).collect();
        assert_eq!(send(balancer.admin, "POST", "/login", &[], &format!("token={TOKEN}")).status, 303);
        guesses.into_iter().map(|guess| guess.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(guesses.iter().all(|status| [401, 429].contains(status)) && guesses.contains(&401), "{guesses:?}");
    let log = balancer.printed("stderr");
    assert!(
        log.contains("requests without the right token were refused") && !log.contains("path=\"/login\" status=401"),
        "{log}"
    );
    assert_eq!(get(balancer.admin, "/healthz").status, 200);
    assert_eq!(get(balancer.admin, "/readyz").status, 503, "needs no token; without backends lb is not ready");
    let ask = |words: &[&str], token: Option<&str>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lb"));
        command.env_clear().args(["--config", "none.toml", "--admin-listen", &balancer.admin.to_string()]).args(words);
        if let Some(token) = token {
            command.env("LB_ADMIN_TOKEN", token);
        }
        let output = finish(command);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for words in [&["status"][..], &["reload"], &["explain", "key"]] {
        let (code, said) = ask(words, None);
        assert!(code == Some(2) && said.contains("requires its token") && said.lines().count() == 1, "{said}");
        assert!(said.contains("LB_ADMIN_TOKEN"), "{said}");
    }
    assert_eq!(ask(&["status"], Some(TOKEN)).0, Some(0));
}
