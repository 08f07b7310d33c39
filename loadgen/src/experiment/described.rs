//! The load and the backends of a plan, in the form of the manifest.

use super::calibration::Rated;
use super::plan::{Law, LoadPlan, Plan};
use crate::lab::Balancer;
use crate::load::{self, Arrivals};
use crate::model::{self, BackendsDescription, Load};

/// The load as the plan gives it. The rate may need a calibration first.
pub(super) fn load(plan: &Plan) -> Load {
    match plan.load {
        LoadPlan::Closed { connections, requests, .. } => Load::Closed { connections, requests },
        LoadPlan::Open { law, outstanding, .. } => Load::Open {
            arrivals: match law {
                Law::Poisson => model::Arrivals::Poisson,
                Law::Constant => model::Arrivals::Constant,
            },
            rate_rps: 0.0,
            capacity_rps: None,
            outstanding_max: outstanding,
        },
    }
}

/// An open loop with its rate.
pub(super) fn open_load(rated: &Rated, outstanding: u32) -> Load {
    let arrivals = match rated.arrivals {
        Arrivals::Constant { .. } => model::Arrivals::Constant,
        _ => model::Arrivals::Poisson,
    };
    Load::Open { arrivals, rate_rps: rated.rps, capacity_rps: rated.capacity_rps, outstanding_max: outstanding }
}

pub(super) fn backends(plan: &Plan, balancer: &Balancer) -> BackendsDescription {
    let description = match balancer.is_ours() {
        true => format!("mock-server, {}", service_in_words(plan)),
        false => "servers that ran already".to_owned(),
    };
    BackendsDescription { description, keys: keys_in_words(&plan.requests.keys), target: balancer.host.clone() }
}

/// The backends of a plan in virtual time.
pub(super) fn simulated_backends(plan: &Plan) -> BackendsDescription {
    let own = plan.simulated.clone().unwrap_or_default();
    let description = match own.groups.len() {
        0 => format!("simulated servers, {}", service_in_words(plan)),
        1 => "simulated servers of the plan's group".to_owned(),
        number => format!("simulated servers of {number} groups"),
    };
    let target = match own.balancers {
        1 => "a simulated balancer with the rules of lb".to_owned(),
        number => format!("{number} independent simulated balancers with the rules of lb"),
    };
    BackendsDescription { description, keys: keys_in_words(&plan.requests.keys), target }
}

fn service_in_words(plan: &Plan) -> String {
    let mocks = &plan.mocks;
    let service = match (plan.requests.cost, mocks.service_time.as_str()) {
        (load::Cost::None, "0") => "requests cost nothing".to_owned(),
        (load::Cost::None, law) => format!("requests cost {law}"),
        (cost, _) => format!("requests cost {cost}, and carry their cost with them"),
    };
    let at_a_time = match mocks.concurrency {
        0 => "any number of requests at a time".to_owned(),
        n => format!("{n} requests at a time"),
    };
    format!("{service}, {at_a_time}")
}

pub(crate) fn keys_in_words(keys: &load::Keys) -> String {
    match keys {
        load::Keys::None => "no keys".to_owned(),
        load::Keys::Sequential => "6-digit keys in their order".to_owned(),
        load::Keys::Uniform => "uniform 6-digit ids".to_owned(),
        load::Keys::Zipf { keys, exponent } => format!("{keys} keys, Zipf with exponent {exponent}"),
        load::Keys::Hot { share } => format!("one key with {:.0} % of the requests, the others uniform", share * 100.0),
    }
}
