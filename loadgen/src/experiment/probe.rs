//! Which backend has which key: a few hundred keys asked for one by one, before and after the pool changes.
//!
//! Apart from the load, because counting keys there would cost memory for each; and outside of every accounted stretch.

use std::collections::HashMap;

use super::run::ExperimentError;
use super::stage::Stage;

/// Keys asked for: 1,000 tell a share to ±1.5 %.
const KEYS: u32 = 1_000;

/// The backend of each key, by `x-server-id`.
pub(super) fn homes(stage: &Stage, path: &str) -> Result<HashMap<u32, String>, ExperimentError> {
    let url = format!("http://{}{path}", stage.balancer.target);
    let mut homes = HashMap::new();
    // far apart, so that no pattern of neighbours helps or harms
    for number in 0..KEYS {
        let key = 100_000 + number * 899;
        if stage.interrupt.is_raised() {
            break;
        }
        if let Some(id) = stage.balancer.admin.web().header(&url, ("x-key", &key.to_string()), "x-server-id")? {
            homes.insert(key, id);
        }
    }
    Ok(homes)
}
