//! The backend of each of 1,000 keys, from single requests before and after the pool changes.
//!
//! The probe is separate from the load, where counting keys would need memory for each key. It is outside of all
//! accounted stretches.

use std::collections::HashMap;

use super::run::ExperimentError;
use super::stage::Stage;

/// The number of keys: 1,000 give a share to ±1.5 %.
const KEYS: u32 = 1_000;

/// The backend of each key, by `x-server-id`.
pub(super) fn homes(stage: &Stage, path: &str) -> Result<HashMap<u32, String>, ExperimentError> {
    let url = format!("http://{}{path}", stage.balancer.target);
    let mut homes = HashMap::new();
    // the keys are far apart, so that patterns of neighbouring keys do not matter
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
