//! Streams of one HTTP/2 connection, from hyper's client through the exchange to an HTTP/1.1 backend on a socket.

use std::cell::RefCell;
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::client::conn::http2::{SendRequest, handshake};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Barrier, Notify, mpsc};
use tokio::task::spawn_local;

use super::*;
use crate::config::RetryPolicy;
use crate::http1::{BodyDecoder, Framing, Limits, Scan, of_request, take_request, write};
use crate::proxy::stand::{Stand, round_robin};

const PATIENCE: Duration = Duration::from_secs(60);

/// A request's body, frame by frame.
struct Pieces(mpsc::UnboundedReceiver<HyperFrame<Bytes>>);

/// An HTTP/1.1 backend that responds by the request's path.
struct FakeBackend {
    /// This many requests wait for each other before any gets a response.
    together: Barrier,
    seen: RefCell<Vec<RequestHead>>,
    /// A request that gets no response has arrived.
    is_stuck: Notify,
    /// Its connection was closed.
    is_given_up: Notify,
    /// The client has the available part of a response.
    has_part: Notify,
}

/// One HTTP/2 connection and its backend.
struct World {
    stand: Stand,
    backend: Rc<FakeBackend>,
    client: SendRequest<Pieces>,
    served: tokio::task::JoinHandle<()>,
}

fn run(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test hangs") });
}

fn data(text: &'static str) -> HyperFrame<Bytes> {
    HyperFrame::data(Bytes::from_static(text.as_bytes()))
}

fn request(method: Method, path: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(format!("http://shop.test:81{path}"))
}

/// The whole body, and the trailers.
async fn read(response: http::Response<Incoming>) -> (String, HeaderMap) {
    assert_eq!(response.version(), Version::HTTP_2);
    assert_without_http1(response.headers());
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    (String::from_utf8(body.to_bytes().to_vec()).unwrap(), trailers)
}

// === impl Pieces ===

impl Pieces {
    fn new() -> (mpsc::UnboundedSender<HyperFrame<Bytes>>, Self) {
        #[expect(clippy::disallowed_methods, reason = "a test that sends a few frames")]
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self(receiver))
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Result<HyperFrame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

// === impl FakeBackend ===

impl FakeBackend {
    async fn listen(self: Rc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            spawn_local(self.clone().talk(stream));
        }
    }

    /// Serves one connection.
    async fn talk(self: Rc<Self>, mut stream: TcpStream) {
        let limits = Limits { head_bytes: 8192, fields: 100 };
        let (mut read, mut scan, mut head) = (BytesMut::new(), Scan::default(), RequestHead::default());
        loop {
            while !take_request(&mut read, &mut scan, &limits, &mut head).unwrap() {
                if stream.read_buf(&mut read).await.unwrap() == 0 {
                    return;
                }
            }
            self.seen.borrow_mut().push(head.clone());
            self.together.wait().await;
            let response: &[u8] = match head.target.path() {
                "/hello" => {
                    b"HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\n\
                      content-length: 5\r\n\r\nhello"
                }
                "/trailers" => {
                    b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                      4\r\ndata\r\n0\r\ngrpc-status: 0\r\nset-cookie: a\r\n\r\n"
                }
                "/part" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                "/echo" => {
                    echo(&mut stream, &mut read, of_request(&head).unwrap()).await;
                    continue;
                }
                "/stuck" => {
                    self.is_stuck.notify_one();
                    assert_eq!(stream.read_buf(&mut read).await.unwrap_or(0), 0);
                    return self.is_given_up.notify_one();
                }
                _ => b"",
            };
            stream.write_all(response).await.unwrap();
            match head.target.path() {
                "/breaks" => return,
                // hyper's client drops a head that it has not delivered when a reset arrives.
                "/part" => return self.has_part.notified().await,
                _ => {}
            }
        }
    }
}

/// Sends each piece of the body back when it arrives, and the trailers.
async fn echo(stream: &mut TcpStream, read: &mut BytesMut, framing: Framing) {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let mut body = BodyDecoder::new(framing.body);
    let mut out = Vec::new();
    while !body.is_done() {
        let piece = body.take(read).unwrap();
        if !piece.is_empty() {
            write::chunk_begin(&mut out, piece.len());
            out.extend_from_slice(&piece);
            out.extend_from_slice(b"\r\n");
            stream.write_all(&out).await.unwrap();
            out.clear();
        } else if !body.is_done() {
            assert_ne!(stream.read_buf(read).await.unwrap(), 0, "the request's body broke off");
        }
    }
    write::last_chunk(&mut out, body.take_trailers().as_ref());
    stream.write_all(&out).await.unwrap();
}

// === impl World ===

impl World {
    async fn start(together: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // A second attempt would wait for the others.
        let mut once = RetryPolicy::default();
        once.rules.attempts = 1;
        let stand = Stand::with(&round_robin(), listener.local_addr().unwrap(), once);
        let backend = Rc::new(FakeBackend {
            together: Barrier::new(together),
            seen: RefCell::default(),
            is_stuck: Notify::new(),
            is_given_up: Notify::new(),
            has_part: Notify::new(),
        });
        spawn_local(backend.clone().listen(listener));
        let (near, far) = duplex(64 * 1024);
        let peer = Peer::new("192.0.2.7:4000".parse().unwrap(), Stand::LISTENER);
        let served = spawn_local(serve(stand.local.clone(), peer, far));
        let (client, connection) = handshake(SameThread, TokioIo::new(near)).await.unwrap();
        spawn_local(connection);
        Self { stand, backend, client, served }
    }

    async fn get(&self, path: &str) -> http::Response<Incoming> {
        let (_, nothing) = Pieces::new();
        let request = request(Method::GET, path).header("cookie", "a=1").header("cookie", "b=2");
        self.client.clone().send_request(request.body(nothing).unwrap()).await.unwrap()
    }

    /// Sends a second piece only after the first was sent back.
    async fn talk_both_ways(&self) {
        let (sender, pieces) = Pieces::new();
        let posted = self.client.clone().send_request(request(Method::POST, "/echo").body(pieces).unwrap());
        sender.send(data("one ")).unwrap();
        let mut response = posted.await.unwrap();
        let first = response.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "one ");
        sender.send(data("two")).unwrap();
        let sum: Fields = [("x-sum", "7"), ("host", "other")].into_iter().collect();
        sender.send(HyperFrame::trailers(sum.to_header_map())).unwrap();
        drop(sender);
        let (rest, trailers) = read(response).await;
        assert_eq!((rest.as_str(), trailers.len(), &trailers["x-sum"]), ("two", 1, &"7".parse().unwrap()));
    }

    /// Ends the connection. Nothing is left of its streams.
    async fn end(self) -> Stand {
        drop(self.client);
        self.served.await.unwrap();
        assert_eq!(self.stand.in_flight(), 0);
        self.stand
    }
}

#[test]
fn streams_of_one_connection_go_through_exchanges_at_the_same_time() {
    run(async {
        let world = World::start(4).await;
        let hello = async { read(world.get("/hello").await).await };
        let trailers = async { read(world.get("/trailers").await).await };
        let breaks = async {
            let response = world.get("/breaks").await;
            assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
            assert_eq!(response.headers()["x-lb-error"], "reset");
            read(response).await.0
        };
        let (hello, (), trailers, breaks) = tokio::join!(hello, world.talk_both_ways(), trailers, breaks);
        assert_eq!(hello, ("hello".to_owned(), HeaderMap::new()));
        let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        assert_eq!(trailers, ("data".to_owned(), status), "set-cookie may not pass as a trailer");
        assert!(breaks.contains("<Error> the backend closed the connection"), "{breaks}");
        for head in world.backend.seen.take() {
            let field = |name: &[u8]| head.fields.get(name).map(String::from_utf8_lossy).unwrap_or_default();
            assert_eq!(field(b"host"), "shop.test:81");
            assert_eq!(field(b"x-forwarded-for"), "192.0.2.7");
            assert_eq!(head.version, Version::HTTP_11);
            assert!(head.method == Method::POST || field(b"cookie") == "a=1; b=2", "{head:?}");
        }
        let stand = world.end().await;
        assert_eq!((stand.ended_with(200), stand.ended_with(502)), (3, 1));
    });
}

#[test]
fn a_stream_that_its_client_resets_ends_its_exchange() {
    run(async {
        let world = World::start(1).await;
        tokio::select! {
            response = world.get("/stuck") => panic!("{response:?}"),
            () = world.backend.is_stuck.notified() => {}
        }
        world.backend.is_given_up.notified().await;
        assert_eq!(world.stand.in_flight(), 0);
        assert_eq!(read(world.get("/hello").await).await.0, "hello", "the connection goes on");
        let stand = world.end().await;
        assert_eq!((stand.ended_with(499), stand.ended_with(200)), (1, 1));
    });
}

#[test]
fn a_response_that_breaks_off_resets_its_stream_alone() {
    run(async {
        let world = World::start(1).await;
        let mut response = world.get("/part").await;
        assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        world.backend.has_part.notify_one();
        let error = response.frame().await.expect("a part is not the whole").unwrap_err();
        assert!(error.to_string().contains("body"), "{error:?}");
        // hyper's client keeps the connection open while a body exists.
        drop(response);
        assert_eq!(read(world.get("/hello").await).await.0, "hello", "the connection goes on");
        world.end().await;
    });
}
