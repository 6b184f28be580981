use serde_json::Value;

use super::*;

#[tokio::test]
async fn each_request_leaves_a_line() {
    let fixture = Fixture::new(in_process(|_| async { ok("") })).await;
    let response = fixture.signed_in("GET", "/challenges/1?limit=5").send().await.unwrap();
    let request_id = response.headers()["apigw-requestid"].to_str().unwrap().to_owned();
    fixture.request("POST", "/challenges").send().await.unwrap();
    fixture.request("GET", "/nothing").send().await.unwrap();
    let origin = ("origin", "https://app.example.com");
    let preflight = fixture.request("OPTIONS", "/pin").header(origin.0, origin.1);
    preflight.header("access-control-request-method", "GET").send().await.unwrap();

    let lines: Vec<Value> = fixture.log.after(0).into_iter().map(|line| line.json).collect();
    let members = |line: &Value| ["method", "path", "route", "status", "user"].map(|name| line[name].clone());
    let found: Vec<_> = lines.iter().map(members).collect();
    let expected = json!([
        ["GET", "/challenges/1", "/challenges/{challengeId}", 200, "user-12345"],
        ["POST", "/challenges", "/challenges", 401, null],
        ["GET", "/nothing", null, 404, null],
    ]);
    assert_eq!(json!(found), expected, "a preflight request leaves none");
    assert_eq!(lines[0]["request_id"], request_id);
    assert!(lines.iter().all(|line| line["duration_ms"].is_u64() && line["target"] == ACCESS_LOG));
}
