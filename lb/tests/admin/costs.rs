//! The example `by_cost`, in C and in Rust: it balances by what responses say of their cost.

use lb_test_support::{Balancer, Client, Hostile, backends, compile, folder};

/// No check decides during a test.
const QUIET: &str = "[health]\nenabled = false\n";

/// A backend whose responses say that they cost this.
fn server(cost: &'static str) -> Hostile {
    Hostile::start(move |_, wire| {
        while wire.head().is_some() {
            wire.write(format!("HTTP/1.1 200 OK\r\nx-cost: {cost}\r\ncontent-length: 0\r\n\r\n").as_bytes());
        }
    })
}

#[test]
fn a_backend_with_dear_responses_gets_fewer_requests_in_c_and_in_rust() {
    for strategy in ["path = \"c.so\"\n", "name = \"by_cost\"\n"] {
        let [cheap, dear] = ["1", "9"].map(server);
        let list = backends(&[("b1", cheap.addr), ("b2", dear.addr)]);
        let folder = folder(&format!("[strategy]\n{strategy}{QUIET}{list}"));
        compile("examples/by_cost.c", &[], &folder.path().join("c.so"));
        let lb = Balancer::start_in(folder, &[]);
        let mut client = Client::connect(lb.proxy);
        (0..500).for_each(|_| assert_eq!(client.get("/home").status(), 200));
        // Nine of ten, whatever the second is in which they come.
        let counts = [&cheap, &dear].map(|server| server.heads().len());
        assert!((420..=480).contains(&counts[0]) && counts[0] + counts[1] == 500, "{counts:?} by {strategy}");
    }
}
