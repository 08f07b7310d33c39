//! The same bytes for `lb::http1` and for other parsers. The verdicts are the same, or one of [`DIFFERENCES`] applies.
//!
//! A verdict is "accepted" or not: parsers may refuse the same bytes at different offsets.

use bytes::BytesMut;
use http::HeaderMap;
use lb::http1::{Fields, RequestHead, ResponseHead, Scan, take_request, take_response};

use super::LARGE;
use super::differences::{Case, DIFFERENCES, Oracle};
use super::driver::{End, Message, Pieces, requests};
use super::hyper_server::{self, Accepted};

type Headers<'a> = [httparse::Header<'a>; 100];

/// Panics if the verdicts differ and no listed difference applies, or if the results differ.
pub fn check(oracle: Oracle, data: &[u8]) {
    let Some(case) = compare(oracle, data) else { return };
    let is_listed = DIFFERENCES.iter().any(|one| one.oracles.contains(&oracle) && (one.applies)(&case));
    let (refusal, bytes) = (case.refusal, case.bytes.escape_ascii());
    assert!(is_listed, "{oracle:?} differs without a listed reason. Our refusal: {refusal:?}. Bytes: {bytes}");
}

/// Runs both parsers. Returns the bytes on which the verdicts differ, or `None`. Panics if both accept with different
/// results.
pub fn compare(oracle: Oracle, data: &[u8]) -> Option<Case<'_>> {
    match oracle {
        Oracle::Httparse => request_head(data),
        Oracle::HttparseResponse => response_head(data),
        Oracle::Hyper => connection(data),
    }
}

fn request_head(data: &[u8]) -> Option<Case<'_>> {
    let (mut read, mut head) = (BytesMut::from(data), RequestHead::default());
    let ours = take_request(&mut read, &mut Scan::default(), &LARGE, &mut head);
    let length = (ours == Ok(true)).then(|| data.len() - read.len());
    let mut headers: Headers<'_> = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut headers);
    let theirs = complete(parsed.parse(data));
    if length.is_none() || theirs.is_none() {
        return different(data, length, theirs, ours.err().map(|refusal| refusal.sentence().to_owned()));
    }
    assert_eq!(length, theirs, "the length of the head");
    // httparse keeps the fragment.
    let target = parsed.path.and_then(|path| path.split('#').next());
    assert_eq!((Some(head.method.as_str()), Some(head.target.as_str())), (parsed.method, target));
    same_fields(&head.fields, parsed.headers);
    None
}

fn response_head(data: &[u8]) -> Option<Case<'_>> {
    let (mut read, mut head) = (BytesMut::from(data), ResponseHead::default());
    let ours = take_response(&mut read, &mut Scan::default(), &mut head);
    let length = (ours == Ok(true)).then(|| data.len() - read.len());
    let mut headers: Headers<'_> = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Response::new(&mut headers);
    let theirs = complete(parsed.parse(data));
    if length.is_none() || theirs.is_none() {
        return different(data, length, theirs, ours.err().map(|error| error.0.to_owned()));
    }
    assert_eq!((length, Some(head.status.as_u16())), (theirs, parsed.code), "length and status");
    same_fields(&head.fields, parsed.headers);
    None
}

/// The length of the head, if httparse accepts it.
fn complete(result: httparse::Result<usize>) -> Option<usize> {
    match result {
        Ok(httparse::Status::Complete(length)) => Some(length),
        _ => None,
    }
}

fn different(data: &[u8], ours: Option<usize>, theirs: Option<usize>, refusal: Option<String>) -> Option<Case<'_>> {
    let length = ours.or(theirs)?;
    Some(Case { bytes: &data[..length], refusal })
}

fn same_fields(ours: &Fields, theirs: &[httparse::Header<'_>]) {
    let theirs: Vec<_> = theirs.iter().map(|field| (field.name.to_ascii_lowercase(), field.value)).collect();
    assert!(ours.iter().eq(theirs.iter().map(|(name, value)| (name.as_bytes(), *value))), "{ours:?} and {theirs:?}");
}

/// All requests of a connection with their bodies.
fn connection(data: &[u8]) -> Option<Case<'_>> {
    let ours = requests(data, Pieces::Whole, &LARGE);
    let complete: Vec<_> = ours.messages.iter().filter(|message| message.is_complete).collect();
    let theirs = hyper_server::serve(data);
    let mut begin = 0;
    for (message, accepted) in complete.iter().zip(&theirs) {
        same_request(message, accepted);
        begin = message.end;
    }
    let refusal = match ours.end {
        End::Refused(refusal) if complete.len() < theirs.len() => Some(refusal),
        _ => None,
    };
    let end = complete.get(theirs.len()).map_or(data.len(), |message| message.end);
    (complete.len() != theirs.len()).then(|| Case { bytes: &data[begin..end], refusal })
}

fn same_request(ours: &Message<RequestHead>, theirs: &Accepted) {
    let (head, uri) = (&ours.head, &theirs.uri);
    assert_eq!(head.method, theirs.method);
    assert_eq!((head.target.path(), head.target.query()), (uri.path(), uri.query()));
    let authority = uri.authority().map(|authority| authority.as_str());
    assert_eq!(head.target.authority(), authority.map(|text| text.rsplit_once('@').map_or(text, |(_, host)| host)));
    // hyper keeps one of several equal lengths, and none beside chunks.
    let without_length = |mut map: HeaderMap| {
        map.remove("content-length");
        map
    };
    assert_eq!(without_length(head.fields.to_header_map()), without_length(theirs.fields.clone()));
    assert_eq!(ours.body, theirs.body);
    assert_eq!(ours.trailers.as_ref().map(Fields::to_header_map), theirs.trailers);
}
