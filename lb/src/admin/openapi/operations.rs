//! What each operation of the admin port takes and returns.

use serde_json::{Value, json};

use super::{Schemas, bodies};
use crate::admin::health::NotReady;
use crate::admin::reload::Refusal;
use crate::admin::strategies::Strategies;
use crate::admin::tick::Tick;
use crate::control::{BackendStatus, Explanation, ReloadReport, Ring, Status};
use crate::course::{Failure, Success};

/// One method of one route.
pub(super) struct Operation {
    pub(super) summary: &'static str,
    /// Parameter objects.
    pub(super) parameters: Vec<Value>,
    /// The request body object.
    pub(super) body: Option<Value>,
    pub(super) replies: Vec<Reply>,
}

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) description: &'static str,
    /// By media type; empty without a body. `None`: the JSON of a failure.
    pub(super) content: Option<Value>,
}

/// Any request may break a rule on Host (400, 421) or on the site (403), and may find the port full (503).
const ERRORS_OF_ALL: [u16; 4] = [400, 403, 421, 503];
/// A body may be late or too long.
const ERRORS_OF_BODIES: [u16; 2] = [408, 413];

/// The operation of a method in the list of routes.
///
/// # Panics
/// If the route has no description here. A test calls this for every route.
pub(super) fn operation(route: &str, method: &str, schemas: &mut Schemas) -> Operation {
    let reads = matches!(method, "GET" | "HEAD");
    let operation = match route {
        "/" => index(),
        "/openapi.json" => reading("This document", json_of(&json!({ "type": "object" }))),
        "/metrics" => reading("Metrics for Prometheus", text("text/plain")),
        "/events" => events(schemas),
        "/healthz" => reading("Whether lb itself works", text("text/plain")),
        "/readyz" => readyz(schemas),
        "/status" => reading("Generation, strategies, runtime changes", json_of(&schemas.of::<Status>())),
        "/backends" => {
            let backend = schemas.of::<BackendStatus>();
            reading("Every backend with its state", json_of(&json!({ "type": "array", "items": backend })))
        }
        "/strategies" => {
            let list = schemas.of::<Strategies<'_>>();
            reading("Strategies that lb can load by name, and those in charge", json_of(&list))
        }
        "/ring" => {
            let ring = schemas.of::<Ring>();
            reading("The ring of the strategy in charge, if it exports one", json_of(&ring)).with_pool().or([404])
        }
        "/explain" => explain(schemas),
        "/rep" => reading("The servers of the pool default, in the course's format", replicas(schemas)),
        "/add" => changing("Adds servers to the pool default", replicas(schemas)).taking(&bodies::add()).or([500]),
        "/rm" => changing("Removes servers", replicas(schemas)).taking(&bodies::remove()).or([404, 500]),
        "/reload" => reload(schemas),
        "/rollback" => rollback(schemas),
        "/login" if reads => redirecting("Redirects to the live page"),
        "/login" => login(),
        "/logout" => redirecting("Ends the session").or(ERRORS_OF_BODIES),
        "/backends/{id}/drain" => {
            let mut operation = change("The backend gets no new requests", schemas);
            operation.body = Some(json!({ "required": false, "content": json_of(&bodies::drain()) }));
            operation
        }
        "/backends/{id}/ready" => change("The backend gets requests again", schemas),
        "/backends/{id}/weight" => change("Sets the backend's weight", schemas).taking(&bodies::weight()),
        _ => unreachable!("{route} has no description"),
    };
    operation.or(ERRORS_OF_ALL)
}

/// A failure with this status.
pub(super) fn error(status: u16) -> Reply {
    let description = match status {
        400 => "The request or an argument is not valid.",
        401 => "The admin token is missing or wrong.",
        403 => "A web page of another site sent the request.",
        404 => "There is no such pool or backend.",
        408 => "The body did not arrive in time.",
        409 => "Another reload or rollback runs.",
        413 => "The body is longer than 1 MiB.",
        421 => "The request's host is a name that public DNS could serve.",
        422 => "Refused at a stage, and nothing changed.",
        503 => "lb is stopping, or cannot serve this now.",
        _ => "The change failed and is undone, or the system failed.",
    };
    Reply { status, description, content: None }
}

fn success(description: &'static str, content: Value) -> Reply {
    Reply { status: 200, description, content: Some(content) }
}

fn json_of(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn text(kind: &str) -> Value {
    json!({ kind: { "schema": { "type": "string" } } })
}

fn in_query(name: &str, description: &str, schema: &Value) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": schema })
}

fn replicas(schemas: &mut Schemas) -> Value {
    json_of(&schemas.of::<Success<'_>>())
}

fn reading(summary: &'static str, content: Value) -> Operation {
    Operation { summary, parameters: Vec::new(), body: None, replies: vec![success("It is so now.", content)] }
}

fn changing(summary: &'static str, content: Value) -> Operation {
    let done = success("The change is in force.", content);
    Operation { summary, parameters: Vec::new(), body: None, replies: vec![done] }.or(ERRORS_OF_BODIES)
}

fn redirecting(summary: &'static str) -> Operation {
    let content = Some(text("text/plain"));
    let reply = Reply { status: 303, description: "Redirects to the live page with GET.", content };
    Operation { summary, parameters: Vec::new(), body: None, replies: vec![reply] }
}

fn change(summary: &'static str, schemas: &mut Schemas) -> Operation {
    changing(summary, json_of(&schemas.of::<BackendStatus>())).with_pool().or([404, 500])
}

fn index() -> Operation {
    let page =
        json!({ "text/html": { "schema": { "type": "string" } }, "text/plain": { "schema": { "type": "string" } } });
    let mut operation = reading("The live page for browsers, a list of routes for other clients", page).or([500]);
    let content = json!({
        "text/html": { "schema": { "type": "string" } },
        "application/json": { "schema": { "$ref": "#/components/schemas/Failure" } },
    });
    operation.replies.push(Reply { content: Some(content), ..error(401) });
    operation
}

/// The schema is of one event, as libraries return it.
fn events(schemas: &mut Schemas) -> Operation {
    let data =
        json!({ "type": "string", "contentMediaType": "application/json", "contentSchema": schemas.of::<Tick<'_>>() });
    let stream = json!({ "text/event-stream": { "schema": {
        "title": "Event",
        "description": "One event of a stream without end; one a second.",
        "type": "object",
        "properties": { "id": { "type": "string", "pattern": "^[0-9]+$" }, "event": { "const": "tick" }, "data": data },
        "required": ["id", "event", "data"],
    } } });
    let mut operation = reading("Events for the live page", stream);
    operation.parameters.push(json!({
        "name": "Last-Event-ID", "in": "header", "schema": { "type": "integer", "minimum": 0 },
        "description": "The number of the last event that the client got. Only later ones are sent.",
    }));
    operation
}

fn readyz(schemas: &mut Schemas) -> Operation {
    let mut operation = reading("Whether every pool has an eligible backend", text("text/plain"));
    let content = json_of(&json!({ "anyOf": [schemas.of::<NotReady<'_>>(), schemas.of::<Failure<'_>>()] }));
    operation.replies.push(Reply { content: Some(content), ..error(503) });
    operation
}

fn explain(schemas: &mut Schemas) -> Operation {
    let string = json!({ "type": "string" });
    let ip = json!({ "type": "string", "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] });
    let headers = json!({ "type": "array", "items": { "type": "string", "pattern": "^[A-Za-z0-9-]+:" } });
    let mut operation = reading("Where a request would go, and why", json_of(&schemas.of::<Explanation>())).with_pool();
    operation.parameters.extend([
        in_query("key", "The key, in place of the one that hash_on finds.", &string),
        in_query("host", "The request's Host.", &string),
        in_query("path", "The request's path and query.", &json!({ "type": "string", "pattern": "^/" })),
        in_query("body", "The request's body.", &string),
        in_query("client_ip", "The client's address.", &ip),
        in_query("header", "A header of the request, NAME:VALUE; may be repeated.", &headers),
    ]);
    operation.or([404])
}

fn reload(schemas: &mut Schemas) -> Operation {
    let report = json_of(&schemas.of::<ReloadReport>());
    let mut operation = changing("Reads the configuration and plugin files again", report);
    operation.parameters.push(in_query("dry_run", "1: only tries.", &is_dry()));
    let content = json!({ "application/json": { "schema": bodies::overriding() } });
    operation.body = Some(json!({
        "required": false, "content": content,
        "description": "Another strategy, in force until the next reload. Without a body, the files are in force.",
    }));
    operation.refusing(schemas)
}

fn is_dry() -> Value {
    json!({ "type": "string", "enum": ["1", "0", "true", "false", ""] })
}

fn rollback(schemas: &mut Schemas) -> Operation {
    let report = json_of(&schemas.of::<ReloadReport>());
    let mut operation = changing("Restores the last proven strategy", report);
    let name = json!({ "type": "string", "minLength": 1 });
    operation.parameters.push(in_query("pool", "The pool; without it, all pools.", &name));
    operation.parameters.push(in_query("dry_run", "1: only says which strategies come back.", &is_dry()));
    operation.refusing(schemas)
}

fn login() -> Operation {
    let mut operation = redirecting("Gives a browser a session cookie for the token").or([500]).or(ERRORS_OF_BODIES);
    let content = Some(text("text/html"));
    operation.replies.push(Reply { content, ..error(401) });
    operation.body = Some(json!({
        "required": true,
        "content": { "application/x-www-form-urlencoded": { "schema": bodies::sign_in() } },
    }));
    operation
}

// === impl Operation ===

impl Operation {
    /// With failures of these statuses, besides those that it has.
    fn or(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        for status in statuses {
            if !self.replies.iter().any(|reply| reply.status == status) {
                self.replies.push(error(status));
            }
        }
        self
    }

    fn with_pool(mut self) -> Self {
        let name = json!({ "type": "string", "default": "default" });
        self.parameters.push(in_query("pool", "The pool.", &name));
        self
    }

    fn taking(mut self, schema: &Value) -> Self {
        self.body = Some(json!({ "required": true, "content": json_of(schema) }));
        self
    }

    /// With the refusals of a reload, which name the stage.
    fn refusing(mut self, schemas: &mut Schemas) -> Self {
        let content = json_of(&schemas.of::<Refusal<'_>>());
        self.replies.extend([409, 422].map(|status| Reply { content: Some(content.clone()), ..error(status) }));
        self
    }
}
