//! `GET /openapi.json`: the document that describes the admin port, in OpenAPI 3.1.
//!
//! Paths and methods come from [`ROUTES`](super::api::ROUTES), and schemas of responses from the types that are
//! serialised. [`operations`] adds the parameters, bodies and statuses of each route. Invariant: the document has every
//! route with every method, and no other.

mod bodies;
mod operations;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use self::operations::{Operation, operation};
use super::answer::Answer;
use super::api::ROUTES;
use super::guard::{Guard, OPEN_ROUTES};
use crate::course::Failure;

/// The document for the lb with this guard. Its security rules are those in force.
pub(super) fn answer(guard: &Guard) -> Answer {
    Answer::json(&document(guard))
}

fn document(guard: &Guard) -> Value {
    let mut schemas = Schemas::new();
    let paths: Map<_, _> = ROUTES.iter().map(|(route, methods)| path(route, methods, guard, &mut schemas)).collect();
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "The admin port of lb",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every error response is JSON with `message` and `status`. Other methods of a route get 405 \
                            with the header Allow.",
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas.definitions(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "The admin token." },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": guard.cookie_name(),
                    "description": "The cookie that POST /login sets, for browsers.",
                },
            },
        },
    })
}

/// The path item of a route.
fn path(route: &str, methods: &str, guard: &Guard, schemas: &mut Schemas) -> (String, Value) {
    let item: Map<_, _> = methods
        .split(", ")
        .map(|method| {
            let is_open = OPEN_ROUTES.contains(&route) || !guard.has_token();
            let operation = operation(route, method, schemas);
            (method.to_ascii_lowercase(), object(operation, route, method, is_open, schemas))
        })
        .collect();
    (route.to_owned(), item.into())
}

/// The operation object. A response to HEAD has the status and headers of that to GET.
fn object(operation: Operation, route: &str, method: &str, is_open: bool, schemas: &mut Schemas) -> Value {
    let Operation { summary, mut parameters, body, mut replies } = operation;
    if route.contains("{id}") {
        parameters.push(json!({
            "name": "id", "in": "path", "required": true, "description": "The backend's id.",
            "schema": { "type": "string", "minLength": 1 },
        }));
    }
    if !is_open && !replies.iter().any(|reply| reply.status == 401) {
        replies.push(operations::error(401));
    }
    let failure = schemas.of::<Failure<'_>>();
    let responses: Map<_, _> = replies
        .into_iter()
        .map(|reply| {
            let mut response = json!({ "description": reply.description });
            let content = reply.content.unwrap_or_else(|| json!({ "application/json": { "schema": failure } }));
            if method != "HEAD" && content.as_object().is_some_and(|content| !content.is_empty()) {
                response["content"] = content;
            }
            (reply.status.to_string(), response)
        })
        .collect();
    let mut object = json!({ "summary": summary, "responses": responses });
    if !parameters.is_empty() {
        object["parameters"] = parameters.into();
    }
    if let Some(body) = body {
        object["requestBody"] = body;
    }
    object["security"] = if is_open { json!([]) } else { json!([{ "token": [] }, { "session": [] }]) };
    object
}

/// The schemas of serialised types. A type is defined once and referenced.
struct Schemas(SchemaGenerator);

// === impl Schemas ===

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self(settings.into_generator())
    }

    fn of<T: JsonSchema>(&mut self) -> Value {
        self.0.subschema_for::<T>().into()
    }

    fn definitions(mut self) -> Map<String, Value> {
        self.0.take_definitions(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn with_token() -> Guard {
        Guard::new(Some(&Secret::new("s3cret".into())), 8081)
    }

    /// Calls `visit` with every object in `value`.
    fn walk(value: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
        match value {
            Value::Object(object) => {
                visit(object);
                object.values().for_each(|value| walk(value, visit));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, visit)),
            _ => {}
        }
    }

    #[test]
    fn the_document_has_every_route_with_every_method_and_no_other() {
        let document = document(&with_token());
        let mut served: Vec<_> = ROUTES
            .iter()
            .flat_map(|(route, methods)| methods.split(", ").map(move |method| (*route, method.to_ascii_lowercase())))
            .collect();
        let paths = document["paths"].as_object().unwrap();
        let methods = |item: &Value| item.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut described: Vec<_> = paths
            .iter()
            .flat_map(|(route, item)| methods(item).into_iter().map(move |method| (route.as_str(), method)))
            .collect();
        served.sort();
        described.sort();
        assert_eq!(described, served);
    }

    #[test]
    fn every_reference_has_its_definition_and_every_operation_a_success() {
        let document = document(&with_token());
        let mut references = 0;
        walk(&document, &mut |object| {
            let Some(reference) = object.get("$ref").and_then(Value::as_str) else { return };
            references += 1;
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        });
        assert!(references > 20, "{references}");
        for (route, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.keys().any(|status| status < &"400".to_owned()), "{method} {route}");
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {route}");
            }
        }
    }

    #[test]
    fn every_route_needs_the_token_but_those_that_the_guard_leaves_open() {
        let security = |guard: &Guard, route: &str, method: &str| document(guard)["paths"][route][method].clone();
        for (route, methods) in ROUTES {
            for method in methods.split(", ").map(str::to_ascii_lowercase) {
                let operation = security(&with_token(), route, &method);
                let is_open = OPEN_ROUTES.contains(&route);
                assert_eq!(operation["security"] == json!([]), is_open, "{method} {route}");
                assert!(is_open || operation["responses"].get("401").is_some(), "{method} {route}");
            }
        }
        let open = security(&Guard::new(None, 8081), "/reload", "post");
        assert!(open["security"] == json!([]) && open["responses"].get("401").is_none(), "without a token");
        let scheme = &document(&with_token())["components"]["securitySchemes"]["session"];
        assert_eq!(scheme["name"], "lb_session_8081");
    }
}
