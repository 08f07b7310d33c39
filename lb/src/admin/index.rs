//! What scripts get at `/`: what can be asked here, with the commands to ask it.
//!
//! Invariant: it names every route that [`super::api`] serves, and no other (a test holds the two together).

/// Plain text; browsers get the live page of [`super::page`].
pub(super) const INDEX: &str = "\
lb, admin port; a browser gets a live page here

look
  GET  /rep                          the replicas of the pool default, as the course has it
  GET  /backends                     every backend with its state, as JSON
  GET  /status                       generation, strategies, runtime changes, as JSON
  GET  /explain                      where a request would go, and why, as JSON: ?key=K, ?pool=NAME, ?host=, ?path=,
                                     ?client_ip=, ?header=NAME:VALUE
  GET  /strategies                   what can be put in charge by its name, and what is, as JSON
  GET  /ring                         the ring of the strategy in charge, if it tells of one; ?pool=NAME
  GET  /events                       one event a second, as JSON: what browsers draw at /
  GET  /metrics                      for Prometheus
  GET  /healthz                      200 while lb itself is in order
  GET  /readyz                       200 while every pool can serve

change
  POST   /reload                     takes up what configuration and plugin files say now; ?dry_run=1 only tries
                                     {\"strategy\":{\"name\":\"least_connections\"}} is in force until the next reload
  POST   /rollback                   the strategy before the one in charge, of all pools or of ?pool=NAME
  POST   /add                        {\"n\":2} launches, {\"n\":1,\"hostnames\":[\"S4\"]} names them,
                                     {\"backends\":[{\"id\":\"b1\",\"address\":\"127.0.0.1:5001\",\"weight\":1}]} attaches
  DELETE /rm                         {\"n\":1} or {\"n\":1,\"hostnames\":[\"S4\"]}
  POST   /backends/{id}/drain        no new requests for it
  POST   /backends/{id}/ready        it takes requests again
  POST   /backends/{id}/weight       {\"weight\":5}, from 0 to 256
  POST   /login                      token=TOKEN for a cookie in place of the header, for browsers
  POST   /logout                     the cookie stands for nothing more
         /backends/{id}/… takes ?pool=NAME for another pool than default, and %20 for a space in an id

for example
  curl http://HOST/rep
  curl -X POST   -d '{\"n\":1}' http://HOST/add
  curl -X DELETE -d '{\"n\":1}' http://HOST/rm
  curl -X POST http://HOST/backends/Server%201/drain
";
