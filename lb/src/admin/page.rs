//! `/` for browsers: the live page, or the form that asks for the token.
//!
//! Both come from the files in `page/`, which are part of the binary. Invariants: a page loads nothing from another
//! server, which its Content-Security-Policy enforces. Only its own style and script run; a random number, new in each
//! response, marks them. A page never contains the token.

use std::sync::LazyLock;

use http::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY, SET_COOKIE, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{StatusCode, request};

use super::answer::{Answer, HTML};
use super::guard::Guard;
use crate::config::random_digits;

static PAGE: LazyLock<String> = LazyLock::new(|| {
    let page = include_str!("page/page.html").replace("{{style}}", STYLE);
    page.replace("{{script}}", SCRIPT)
});
static LOGIN: LazyLock<String> = LazyLock::new(|| include_str!("page/login.html").replace("{{style}}", STYLE));
const STYLE: &str = include_str!("page/style.css");
/// One script in seven files: helpers, incoming ticks, chart, ring, table of pools, dialogs, and the main part.
const SCRIPT: &str = concat!(
    include_str!("page/base.js"),
    include_str!("page/news.js"),
    include_str!("page/chart.js"),
    include_str!("page/ring.js"),
    include_str!("page/pools.js"),
    include_str!("page/servers.js"),
    include_str!("page/main.js"),
);

/// Whether the client accepts HTML by name. Programs send `*/*` or no Accept header, and get text.
pub(super) fn is_wanted(head: &request::Parts) -> bool {
    let accepted = head.headers.get_all(ACCEPT).into_iter().filter_map(|field| field.to_str().ok());
    accepted.flat_map(|field| field.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        let is_refused = |part: &str| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        is_html && !parts.any(is_refused)
    })
}

/// Tells caches that the response depends on the Accept header.
pub(super) fn vary(mut answer: Answer) -> Answer {
    answer.headers.push((VARY, HeaderValue::from_static("accept")));
    answer
}

/// The live page.
pub(super) fn page() -> Answer {
    html(StatusCode::OK, &PAGE)
}

/// A browser without the token gets the form; any other client gets the refusal.
pub(super) fn or_login(head: &request::Parts, refused: Answer) -> Answer {
    match refused.status == StatusCode::UNAUTHORIZED && head.uri.path() == "/" && is_wanted(head) {
        true => form(""),
        false => refused,
    }
}

/// `POST /login`: a cookie for the token in the form.
pub(super) fn login(guard: &Guard, body: &[u8]) -> Answer {
    if !guard.has_token() {
        return home(None);
    }
    let token = form_urlencoded::parse(body).find_map(|(name, value)| (name == "token").then_some(value));
    match token.and_then(|token| guard.sign_in(&token)) {
        Some(Ok(cookie)) => home(Some(cookie)),
        Some(Err(error)) => no_random(&error),
        None => form("This is not the token."),
    }
}

/// `POST /logout`.
pub(super) fn logout(guard: &Guard, headers: &HeaderMap) -> Answer {
    home(Some(guard.sign_out(headers)))
}

/// 401 with the form and a message.
fn form(message: &str) -> Answer {
    html(StatusCode::UNAUTHORIZED, &LOGIN.replace("{{message}}", message))
}

/// Redirects to the live page with GET. This also serves a reload of `/login` after a refused form.
pub(super) fn home(cookie: Option<HeaderValue>) -> Answer {
    let mut answer = Answer::text(StatusCode::SEE_OTHER, "");
    answer.headers.push((LOCATION, HeaderValue::from_static("/")));
    answer.headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    answer
}

fn html(status: StatusCode, page: &str) -> Answer {
    let nonce = match random_digits() {
        Ok(nonce) => nonce,
        Err(error) => return no_random(&error),
    };
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    let Ok(policy) = HeaderValue::try_from(policy) else {
        return Answer::failure(StatusCode::INTERNAL_SERVER_ERROR, "the page's policy is not a valid header");
    };
    let fixed: [(HeaderName, &str); 2] = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`: browsers would then hide the origin of our forms, and the guard needs it.
        (REFERRER_POLICY, "same-origin"),
    ];
    let mut answer = Answer { content_type: HTML, ..Answer::text(status, page.replace("{{nonce}}", &nonce)) };
    answer.headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
    answer.headers.push((CONTENT_SECURITY_POLICY, policy));
    vary(answer)
}

fn no_random(error: &std::io::Error) -> Answer {
    Answer::failure(StatusCode::INTERNAL_SERVER_ERROR, &format!("the system returned no random bytes: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(accept: &str) -> request::Parts {
        http::Request::get("/").header(ACCEPT, accept).body(()).unwrap().into_parts().0
    }

    #[test]
    fn html_is_for_clients_that_accept_it_by_name() {
        for accept in ["text/html", "text/html,application/xhtml+xml,*/*;q=0.8", "text/plain, TEXT/HTML;q=0.5"] {
            assert!(is_wanted(&head(accept)), "{accept}");
        }
        for accept in ["", "*/*", "text/plain", "text/*", "application/json", "text/html;q=0", "text/html; q=0.0, */*"]
        {
            assert!(!is_wanted(&head(accept)), "{accept}");
        }
    }

    #[test]
    fn a_page_loads_nothing_from_another_server() {
        for page in [page(), form("no")] {
            let text = std::str::from_utf8(&page.body).unwrap();
            assert!(!text.contains("{{"), "a placeholder is left");
            // The namespace of SVG is a name, not an address that a browser loads.
            let outside = text.replace("http://www.w3.org/2000/svg", "");
            for sign in ["//cdn", "http:", "https:", "src=\"", "@import", "url(", "<link rel=\"stylesheet", "import("] {
                assert!(!outside.contains(sign), "{sign}");
            }
            assert!(!text.contains(" style=\"") && !text.contains(" onclick="), "the policy would stop it");
        }
    }

    #[test]
    fn the_policy_names_the_numbers_in_the_page() {
        let policy_of = |answer: &Answer| {
            let policy = answer.headers.iter().find(|(name, _)| name == CONTENT_SECURITY_POLICY).unwrap();
            policy.1.to_str().unwrap().to_owned()
        };
        let [one, other] = [page(), page()];
        let policy = policy_of(&one);
        assert_ne!(policy, policy_of(&other));
        let nonce = policy.split("script-src 'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
        let text = std::str::from_utf8(&one.body).unwrap();
        assert_eq!(text.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "style and script");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
    }
}
