//! The functions that callers reach, from the raw event.

use std::convert::Infallible;

use create_challenge::CreateChallenge;
use get_challenge::GetChallenge;
use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use lambda_runtime::{Context, LambdaEvent};
use libfuzzer_sys::Corpus;
use serde_json::Value;
use shared::api::Api;
use shared::lambda::respond;
use shared::platform::Platform;

use crate::api;
use crate::script::Script;
use crate::world::World;

type Response = Result<ApiGatewayV2httpResponse, Infallible>;

pub(crate) fn create_token(world: &World, input: &[u8]) -> Corpus {
    run(
        world,
        input,
        "post",
        |_| "/session-tokens",
        async |platform, event| {
            let api = Api::new(&platform).expect("complete settings");
            respond(&|request| create_token::handle(&api, request), event).await
        },
    )
}

pub(crate) fn create_challenge(world: &World, input: &[u8]) -> Corpus {
    run(
        world,
        input,
        "post",
        |_| "/challenges",
        async |platform, event| {
            let function = CreateChallenge::new(&platform).expect("complete settings");
            respond(&|request| create_challenge::handle(&function, request), event).await
        },
    )
}

pub(crate) fn get_challenge(world: &World, input: &[u8]) -> Corpus {
    let path = |event: &Value| match &event["pathParameters"]["challengeId"] {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => "/challenges/{challengeId}",
        _ => "/challenges",
    };
    run(world, input, "get", path, async |platform, event| {
        let function = GetChallenge::new(&platform).expect("complete settings");
        respond(&|request| get_challenge::handle(&function, request), event).await
    })
}

pub(crate) fn get_pin(world: &World, input: &[u8]) -> Corpus {
    run(
        world,
        input,
        "get",
        |_| "/pin",
        async |platform, event| {
            let api = Api::new(&platform).expect("complete settings");
            respond(&|request| get_pin::handle(&api, request), event).await
        },
    )
}

fn run(
    world: &World,
    input: &[u8],
    method: &str,
    path: impl Fn(&Value) -> &'static str,
    function: impl AsyncFnOnce(Platform, LambdaEvent<Value>) -> Response,
) -> Corpus {
    let script = Script::parse(input);
    let Some(event) = script.event() else { return Corpus::Reject };
    let invocation = LambdaEvent::new(event.clone(), Context::default());
    let outcome = world.run(script.replies, |platform| function(platform, invocation));
    let outcome = outcome.map(|response| response.unwrap_or_else(|never| match never {}));
    api::check(method, path(&event), &event, &outcome);
    Corpus::Keep
}
