//! The index at `/` for scripts: every route, with example commands.
//!
//! Invariant: it names every route that [`super::api`] serves (a test there checks it).

/// Plain text; browsers get the live page of [`super::page`].
pub(super) const INDEX: &str = "\
lb, admin port. A browser gets a live page here.

read
  GET  /openapi.json                 this list with parameters, bodies and responses, in OpenAPI 3.1
  GET  /rep                          the replicas of the pool default, in the course's format
  GET  /backends                     every backend with its state, as JSON
  GET  /status                       generation, strategies, runtime changes, as JSON
  GET  /explain                      where a request would go, and why, as JSON: ?key=K, ?pool=NAME, ?host=, ?path=,
                                     ?client_ip=, ?header=NAME:VALUE, ?body=TEXT
  GET  /strategies                   the strategies that lb can load by name, and those in charge, as JSON
  GET  /ring                         the ring of the strategy in charge, if it exports one; ?pool=NAME
  GET  /events                       one event a second, as JSON, for the live page at /
  GET  /metrics                      for Prometheus
  GET  /healthz                      200 while lb itself works
  GET  /readyz                       200 while every pool has an eligible backend

change
  POST   /reload                     reads the configuration and plugin files again; ?dry_run=1 only tries
                                     {\"strategy\":{\"name\":\"least_connections\"}} is in force until the next reload
  POST   /rollback                   restores the last proven strategy, of all pools or of ?pool=NAME; ?dry_run=1 only says which
  POST   /add                        {\"n\":2} launches two replicas, {\"n\":1,\"hostnames\":[\"S4\"]} launches S4,
                                     {\"backends\":[{\"id\":\"b1\",\"address\":\"127.0.0.1:5001\",\"weight\":1,
                                     \"labels\":{\"zone\":\"a\"}}]} attaches b1
  DELETE /rm                         {\"n\":1} or {\"n\":1,\"hostnames\":[\"S4\"]}; \"deadline_ms\" as below
  POST   /backends/{id}/drain        no new requests for it; after {\"deadline_ms\":30000} its requests in flight end
  POST   /backends/{id}/ready        it gets requests again
  POST   /backends/{id}/weight       {\"weight\":5}, from 0 to 256
  POST   /login                      for browsers: token=TOKEN gives a session cookie, which replaces the header
  POST   /logout                     ends the session
         /backends/{id}/… takes ?pool=NAME for another pool than default, and %20 for a space in an id

examples
  curl http://HOST/rep
  curl -X POST   -d '{\"n\":1}' http://HOST/add
  curl -X DELETE -d '{\"n\":1}' http://HOST/rm
  curl -X POST http://HOST/backends/Server%201/drain
";
