//! The checks of the two ports: `[proxy]`, which clients reach, and `[admin]`.
//!
//! Invariants: no address is listened on twice; an admin port that other machines can reach has a token.

use std::net::SocketAddr;

use super::error::Fault;
use super::file;
use super::key_path::KeyPath;
use super::validate::{Surroundings, size, within};
use super::validated::{Admin, Proxy};
use super::values::check_upgrade;

const LISTENERS_MAX: usize = 64;
const WORKERS_MAX: i64 = 1_024;

pub(super) fn check_proxy(form: &file::Proxy, around: &Surroundings) -> Result<Proxy, Fault> {
    let file::Proxy {
        listen: file::OneOrMany(listen),
        workers,
        trusted_proxies,
        request_id,
        explain_header,
        upgrades,
        allow_trace,
        allow_link_local,
    } = form;
    let section = KeyPath::of(&["proxy"]);
    let key = section.key("listen");
    if listen.is_empty() || listen.len() > LISTENERS_MAX {
        let what = format!("must be 1 to {LISTENERS_MAX} addresses, not {}", listen.len());
        return Err(Fault::new(key, what));
    }
    let mut sockets: Vec<SocketAddr> = Vec::with_capacity(listen.len());
    for (index, address) in listen.iter().enumerate() {
        let key = if listen.len() == 1 { key.clone() } else { key.index(index) };
        let socket = check_listen(key.clone(), address)?;
        if socket.port() != 0 && sockets.contains(&socket) {
            return Err(Fault::new(key, format!("{socket} is listed twice")));
        }
        sockets.push(socket);
    }
    let workers = match within(section.key("workers"), *workers, 0, WORKERS_MAX)? {
        0 => around.cores.max(1),
        workers => size(workers),
    };
    let key = section.key("trusted_proxies");
    let trusted_proxies = trusted_proxies
        .iter()
        .enumerate()
        .map(|(index, text)| text.parse().map_err(|what: String| Fault::new(key.index(index), what)))
        .collect::<Result<_, _>>()?;
    let key = section.key("upgrades");
    let upgrades = upgrades
        .iter()
        .enumerate()
        .map(|(index, name)| check_upgrade(name).map_err(|what| Fault::new(key.index(index), what)))
        .collect::<Result<_, _>>()?;
    Ok(Proxy {
        listen: sockets,
        workers,
        trusted_proxies,
        request_id: *request_id,
        explain_header: *explain_header,
        upgrades,
        allow_trace: *allow_trace,
        allow_link_local: *allow_link_local,
    })
}

fn check_listen(key: KeyPath, address: &str) -> Result<SocketAddr, Fault> {
    let what = || format!("{address:?} is not IP:port, such as \"127.0.0.1:8080\" or \"[::]:8080\"");
    address.parse().map_err(|_| Fault::new(key, what()))
}

pub(super) fn check_admin(form: &file::Admin, around: &Surroundings, proxy: &Proxy) -> Result<Admin, Fault> {
    // The token file was read before, because reading is not checking.
    let file::Admin { listen, token_file: _ } = form;
    let key = KeyPath::of(&["admin", "listen"]);
    let listen = check_listen(key.clone(), listen)?;
    if listen.port() != 0 && proxy.listen.contains(&listen) {
        return Err(Fault::new(key, format!("{listen} is taken by proxy.listen")));
    }
    let token = around.admin_token.clone();
    if token.is_none() && !listen.ip().to_canonical().is_loopback() {
        let what = format!(
            "{} can be reached from other machines, so a token is needed: set admin.token_file or \
             LB_ADMIN_TOKEN, or listen on 127.0.0.1",
            listen.ip()
        );
        return Err(Fault::new(key, what));
    }
    Ok(Admin { listen, token })
}
