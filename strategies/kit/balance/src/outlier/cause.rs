//! Why a backend is ejected, returns or stays: the closed sets, with their words for metrics and logs.

use std::fmt;

use crate::{InRow, Thresholds};

/// Why a backend is an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    GatewayFailures {
        in_row: u32,
    },
    ServerErrors {
        in_row: u32,
    },
    /// In thousandths of the requests of the last interval.
    SuccessRate {
        own: u16,
        mean: u16,
    },
}

/// Why a backend is in service again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnReason {
    /// The time of its ejection is over.
    TimeIsOver,
    /// It was started again; or, in its first ejection, checks found it not up and then up.
    Recovered,
    /// Outlier detection was switched off.
    SwitchedOff,
}

/// Why an outlier is not ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SparedBy {
    /// No other member is usable.
    Last,
    /// Fewer primaries would be left than the panic threshold.
    Panic,
    /// The largest share is ejected.
    Share,
}

// === impl Cause ===

impl Cause {
    /// The name of the rule in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GatewayFailures { .. } => "gateway_failures",
            Self::ServerErrors { .. } => "server_errors",
            Self::SuccessRate { .. } => "success_rate",
        }
    }

    pub(super) fn in_row(in_row: InRow, thresholds: Thresholds) -> Option<Self> {
        let gateway = Thresholds { errors: 0, ..thresholds };
        if gateway.are_reached(in_row) {
            Some(Self::GatewayFailures { in_row: in_row.gateway })
        } else {
            thresholds.are_reached(in_row).then_some(Self::ServerErrors { in_row: in_row.errors })
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GatewayFailures { in_row } => write!(f, "{in_row} gateway failures in a row"),
            Self::ServerErrors { in_row } => write!(f, "{in_row} server errors in a row"),
            Self::SuccessRate { own, mean } => {
                let percent = |thousandths: &u16| f64::from(*thousandths) / 10.0;
                write!(f, "{:.1} % of requests succeeded, {:.1} % in the pool", percent(own), percent(mean))
            }
        }
    }
}

// === impl SparedBy ===

impl SparedBy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Panic => "panic",
            Self::Share => "share",
        }
    }
}

// === impl ReturnReason ===

impl ReturnReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimeIsOver => "time_is_over",
            Self::Recovered => "recovered",
            Self::SwitchedOff => "switched_off",
        }
    }
}
