//! The paths of the server, and the methods that each allows.
//!
//! It is an enum so that counters, routing and 405 responses use one list, and no request's path becomes a label.

use http::Method;

/// The target of a request. `as usize` is its place in [`ENDPOINTS`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Endpoint {
    Home,
    Upload,
    Stream,
    Echo,
    Status,
    Headers,
    Close,
    /// Everything else: 404.
    Other,
    Heartbeat,
    Stats,
    Metrics,
    Control,
    /// [`crate::Options::probe_path`].
    Probe,
}

/// All endpoints and their names in `/stats` and `/metrics`.
pub(crate) const ENDPOINTS: [(Endpoint, &str); 13] = [
    (Endpoint::Home, "/home"),
    (Endpoint::Upload, "/upload"),
    (Endpoint::Stream, "/stream"),
    (Endpoint::Echo, "/echo"),
    (Endpoint::Status, "/status"),
    (Endpoint::Headers, "/headers"),
    (Endpoint::Close, "/close"),
    (Endpoint::Other, "other"),
    (Endpoint::Heartbeat, "/heartbeat"),
    (Endpoint::Stats, "/stats"),
    (Endpoint::Metrics, "/metrics"),
    (Endpoint::Control, "/control"),
    (Endpoint::Probe, "probe"),
];

// === impl Endpoint ===

impl Endpoint {
    /// `probe` is the path of probes, if there is one.
    pub(crate) fn of(path: &str, probe: Option<&str>) -> Self {
        match path {
            "/home" => Self::Home,
            "/heartbeat" => Self::Heartbeat,
            "/upload" => Self::Upload,
            "/stream" => Self::Stream,
            "/echo" => Self::Echo,
            "/headers" => Self::Headers,
            "/close" => Self::Close,
            "/stats" => Self::Stats,
            "/metrics" => Self::Metrics,
            "/control" => Self::Control,
            _ if path.starts_with("/status/") => Self::Status,
            _ if probe == Some(path) => Self::Probe,
            _ => Self::Other,
        }
    }

    /// The methods in the form of an `Allow` header; `None` means any method.
    pub(crate) fn allow(self) -> Option<&'static str> {
        match self {
            Self::Home | Self::Stream | Self::Heartbeat | Self::Stats | Self::Metrics | Self::Probe => {
                Some("GET, HEAD")
            }
            Self::Echo => Some("GET"),
            Self::Control => Some("GET, HEAD, POST"),
            Self::Upload | Self::Status | Self::Headers | Self::Close | Self::Other => None,
        }
    }

    pub(crate) fn allows(self, method: &Method) -> bool {
        self.allow().is_none_or(|allow| allow.split(", ").any(|allowed| allowed == method.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_is_at_its_own_place_in_the_list_and_is_found_by_its_name() {
        for (place, (endpoint, name)) in ENDPOINTS.into_iter().enumerate() {
            assert_eq!(endpoint as usize, place, "{name}");
            let path = if endpoint == Endpoint::Status { "/status/200" } else { name };
            assert_eq!(Endpoint::of(path, Some("probe")), endpoint, "{name}");
        }
    }

    #[test]
    fn a_path_that_is_only_similar_does_not_match() {
        for path in ["", "/", "/home/", "/Home", "/homes", "*", "/status", "/control/x", "/probe/"] {
            assert_eq!(Endpoint::of(path, Some("/probe")), Endpoint::Other, "{path}");
        }
    }

    #[test]
    fn only_the_listed_methods_are_allowed() {
        assert!(Endpoint::Home.allows(&Method::HEAD));
        assert!(!Endpoint::Home.allows(&Method::POST));
        assert!(!Endpoint::Home.allows(&Method::from_bytes(b"GE").unwrap()));
        assert!(Endpoint::Control.allows(&Method::POST));
        assert!(Endpoint::Upload.allows(&Method::from_bytes(b"PURGE").unwrap()));
    }
}
