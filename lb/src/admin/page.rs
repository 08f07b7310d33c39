//! What browsers get at `/`: the live page, or the form that asks for the token.
//!
//! Both are made of the files in `page/`, which the binary carries. Invariants: a page asks no other server for anything, and its
//! Content-Security-Policy holds it to that; only its own style and script run, named by a number that is new each time; the token is
//! never in a page.

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
/// One script, divided by ideas: what the parts are made with, what comes in, three pictures of it, and what drives all.
const SCRIPT: &str = concat!(
    include_str!("page/base.js"),
    include_str!("page/news.js"),
    include_str!("page/chart.js"),
    include_str!("page/ring.js"),
    include_str!("page/pools.js"),
    include_str!("page/main.js"),
);

/// Whether the client is one that shows HTML. Programs say `*/*` or nothing, and get text.
pub(super) fn is_wanted(head: &request::Parts) -> bool {
    let accepted = head.headers.get_all(ACCEPT).into_iter().filter_map(|field| field.to_str().ok());
    accepted.flat_map(|field| field.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        let is_refused = |part: &str| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        is_html && !parts.any(is_refused)
    })
}

/// Says that another client gets something else from the same place.
pub(super) fn vary(mut answer: Answer) -> Answer {
    answer.headers.push((VARY, HeaderValue::from_static("accept")));
    answer
}

/// The live page.
pub(super) fn page() -> Answer {
    html(StatusCode::OK, &PAGE)
}

/// A browser that lacks the token is asked for it; everybody else gets the refusal.
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

/// 401 with the form, and why.
fn form(message: &str) -> Answer {
    html(StatusCode::UNAUTHORIZED, &LOGIN.replace("{{message}}", message))
}

/// On to the page, by GET: also from where a form has been refused and somebody loads it again.
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
        return Answer::failure(StatusCode::INTERNAL_SERVER_ERROR, "the page's policy is no header");
    };
    let fixed: [(HeaderName, &str); 2] = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // not `no-referrer`: with that browsers hide the origin of a form, by which we tell our own
        (REFERRER_POLICY, "same-origin"),
    ];
    let mut answer = Answer { content_type: HTML, ..Answer::text(status, page.replace("{{nonce}}", &nonce)) };
    answer.headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
    answer.headers.push((CONTENT_SECURITY_POLICY, policy));
    vary(answer)
}

fn no_random(error: &std::io::Error) -> Answer {
    Answer::failure(StatusCode::INTERNAL_SERVER_ERROR, &format!("the system gives no random bytes: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(accept: &str) -> request::Parts {
        http::Request::get("/").header(ACCEPT, accept).body(()).unwrap().into_parts().0
    }

    #[test]
    fn html_is_for_those_who_ask_for_it() {
        for accept in ["text/html", "text/html,application/xhtml+xml,*/*;q=0.8", "text/plain, TEXT/HTML;q=0.5"] {
            assert!(is_wanted(&head(accept)), "{accept}");
        }
        for accept in ["", "*/*", "text/plain", "text/*", "application/json", "text/html;q=0", "text/html; q=0.0, */*"]
        {
            assert!(!is_wanted(&head(accept)), "{accept}");
        }
    }

    #[test]
    fn a_page_refers_to_nothing_outside() {
        for page in [page(), form("no")] {
            let text = std::str::from_utf8(&page.body).unwrap();
            assert!(!text.contains("{{"), "a place was left empty");
            // the name of SVG is no address that anybody asks
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
