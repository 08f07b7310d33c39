//! The messages of lb to a service manager, received by the test on a real socket.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Stdio;

use lb_test_support::{Balancer, PATIENCE, backends, command, folder, mock, wait_for};

const STRATEGY: &str = "[strategy]\nname = \"round_robin\"\n";

/// The service manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    fn of(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).expect("a message");
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// The next message that does not feed the watchdog.
    fn next_of_state(&self) -> String {
        let is_state = |message: &String| message != "WATCHDOG=1";
        wait_for("a message about the state", || Some(self.next()).filter(is_state))
    }
}

/// The value of `name` in a message.
fn value<'a>(message: &'a str, name: &str) -> &'a str {
    let lines = message.lines().filter_map(|line| line.split_once('='));
    lines.into_iter().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no {name} in {message:?}")).1
}

#[test]
fn the_service_manager_reads_ready_reloading_refused_and_stopping() {
    let server = mock("1");
    let config = STRATEGY.to_owned() + &backends(&[("b1", server.addr)]);
    // no watcher: the only reloads are those of the test
    let folder = folder(&(config.clone() + "[reload]\nwatch = false\n"));
    let path = folder.path().join("notify");
    let manager = Manager::of(UnixDatagram::bind(&path).unwrap());
    let mut command = command(&folder, &[]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    let mut balancer = Balancer::start_command(command, Stdio::null(), folder);

    let ready = manager.next_of_state();
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    let serving = format!("serving on {}; generation 1; default: round_robin", balancer.proxy);
    assert_eq!(value(&ready, "STATUS"), serving);
    wait_for("a fed watchdog", || (manager.next() == "WATCHDOG=1").then_some(()));

    let mut last = 0;
    for (text, status) in [(config.as_str(), "; generation "), ("no TOML", "; the last reload was refused: ")] {
        std::fs::write(balancer.path("lb.toml"), text).unwrap();
        balancer.signal("HUP");
        let reloading = manager.next_of_state();
        assert!(reloading.starts_with("RELOADING=1\n"), "{reloading}");
        let time: u64 = value(&reloading, "MONOTONIC_USEC").parse().unwrap();
        assert!(time > last, "{time} after {last}");
        last = time;
        let ready = manager.next_of_state();
        assert!(ready.starts_with("READY=1\n") && value(&ready, "STATUS").contains(status), "{ready}");
    }

    balancer.signal("TERM");
    let stopping = manager.next_of_state();
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    let extended: u64 = value(&stopping, "EXTEND_TIMEOUT_USEC").parse().unwrap();
    assert!(extended > 30_000_000, "longer than a drain: {extended}");
    assert_eq!(balancer.end().code(), Some(0));
}

#[test]
fn a_socket_may_have_an_abstract_name() {
    let server = mock("1");
    let folder = folder(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)])));
    // unique on this machine, like the folder
    let name = format!("lb-test{}", folder.path().display());
    let manager = Manager::of(UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap());
    let mut command = command(&folder, &[]);
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let _balancer = Balancer::start_command(command, Stdio::null(), folder);
    assert!(manager.next().starts_with("READY=1\n"));
}

#[test]
fn a_launched_server_does_not_see_the_service_manager() {
    let folder = folder("");
    let (socket, seen) = (folder.path().join("notify"), folder.path().join("seen"));
    let _manager = UnixDatagram::bind(&socket).unwrap();
    let program = format!("env > {0}.new; mv {0}.new {0}; exit 1", seen.display());
    let config =
        format!("{STRATEGY}[launcher]\nkind = \"process\"\nreplicas = 1\ncommand = [\"sh\", \"-c\", {program:?}]\n");
    std::fs::write(folder.path().join("lb.toml"), config).unwrap();
    let mut command = command(&folder, &[]);
    command.env("PATH", "/usr/bin:/bin").env("WATCHDOG_USEC", "1000000").env("NOTIFY_SOCKET", &socket);
    // lb ends with its stdin, which this test holds; waiting until lb is ready would take longer
    let mut lb = command.arg("--exit-with-parent").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let environment = wait_for("the program", || std::fs::read_to_string(&seen).ok());
    drop(lb.stdin.take());
    lb.wait().unwrap();
    assert!(environment.contains("SERVER_ID="), "{environment}");
    assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG_USEC"), "{environment}");
}
