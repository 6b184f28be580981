//! The targets, by the name that `FUZZ_TARGET` has.

mod announcements;
mod circle;
mod claims;
mod functions;
mod reconciliation;
mod signature;
mod subscription;
mod texts;
mod webhook;

use std::cell::OnceCell;
use std::env;

use libfuzzer_sys::Corpus;

use crate::world::World;

type Target = fn(&World, &[u8]) -> Corpus;

const TARGETS: [(&str, Target); 13] = [
    ("create-token", functions::create_token),
    ("create-challenge", functions::create_challenge),
    ("get-challenge", functions::get_challenge),
    ("get-pin", functions::get_pin),
    ("receive-webhook", webhook::event),
    ("signed-webhook", webhook::signed),
    ("announce-challenges", announcements::event),
    ("reconcile-challenges", reconciliation::event),
    ("manage-subscription", subscription::event),
    ("circle-responses", circle::responses),
    ("signature", signature::verify),
    ("claims", claims::claims),
    ("texts", texts::texts),
];

/// Runs the target on an input.
pub(crate) fn run(input: &[u8]) -> Corpus {
    thread_local! {
        static WORLD: OnceCell<(World, Target)> = const { OnceCell::new() };
    }
    WORLD.with(|world| {
        let (world, target) = world.get_or_init(|| {
            let name = env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
            let target = TARGETS.iter().find(|(target, _)| *target == name);
            (World::new(), target.unwrap_or_else(|| panic!("there is no target {name}")).1)
        });
        target(world, input)
    })
}
