//! The service end to end: each test starts its own local stack on free ports and calls it over HTTP.

mod api_key_check; // a deployment with a wrong API key, before it creates anything
mod audit_trail; // which request, address and login created a challenge, and what changed it
mod authentication; // who may call the API, and what protects it
mod call_limits; // how often one user's requests reach Circle
mod challenge_list; // the list of a user's challenges
mod circle_errors; // Circle rejects calls, fails, is slow, or sends something unreadable
mod clock_jumps; // the wall clock jumps during a request
mod complete_after_failure; // reports of different endings
mod documentation; // the lists in docs/api.md, and the tests that SECURITY.md names
mod e_mail_addresses; // users whose ids are e-mail addresses, which no log line has
mod early_webhooks; // webhooks that arrive before their challenge is recorded
mod event_failures; // events that cannot be published, and records that cannot be read
mod events; // which events are published, and what is in them
mod failure_reasons; // why a challenge failed, as callers see it
mod flow; // sessions, a changed and a restored PIN, and tokens that expire
mod freshness; // how up to date a status is, and when to ask again
mod idempotency; // retried requests
mod ineligible_users; // users for whom no challenge can be created
mod invalid_requests; // mistakes in a request
mod key_rotation; // keys that are replaced while requests are under way
mod local_stack; // the stack that the tests run on
mod lost_responses; // DynamoDB makes a change, and its response is lost
mod misconfiguration; // a wrong secret, a wrong setting, and AWS services that fail
mod one_user_against_many; // a flood of requests by one user, while others change their PIN
mod operator_switches; // a user is blocked, or new challenges are stopped
mod outages; // what happens during an outage, and how the service recovers
mod pin; // the state of a PIN, as apps see it
mod planted_secrets; // the check of every test's log finds what it looks for
mod polling; // status requests that ask Circle
mod rate_limit; // how many challenges a user can create
mod recent_sign_in; // how long ago a user who restores a PIN may have signed in
mod reconcile; // what a reconciliation run checks, stores and abandons
mod reconcile_failures; // runs during an outage, at a rate limit, or with challenges that cannot be checked
mod reconcile_scale; // runs with many challenges
mod republishing; // an operator publishes events again
mod resuming; // an operator has abandoned challenges checked again
mod secrets; // no secret appears in logs, records and errors
mod signatures; // which webhooks are accepted
mod signing_keys; // forged webhooks, and how often Circle is asked for a public key
mod subscription_check; // the check every hour whether the subscription is enabled
mod subscription_failures; // deployments that fail, and stacks that are deleted despite failures
mod subscriptions; // the webhook subscription, created and deleted with the stack
mod table_calls; // how often each request calls DynamoDB
mod unsafe_code; // no package may use unsafe code
mod webhooks; // what each webhook does to its record

mod support;
